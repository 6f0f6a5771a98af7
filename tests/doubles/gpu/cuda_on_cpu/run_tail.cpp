// Runs the kernels of KERNEL_SOURCE on the CPU: reads one case from standard input, writes its outputs to standard
// output.
//
// Input: the ten int32 of Case, the temperature, then u, h (if windowed), weight and bias. Output: the three outputs.
// Two launches under two schedules must give the same bits. All memory has the exact size. Before a launch, the memory
// that the kernel must write holds NaN.
#include <cstdio>
#include <limits>

#include "cuda_on_cpu.h"

#include KERNEL_SOURCE

namespace {

struct Case {
    int faces, strata, channels, height, width, expressions, mean_of_softmax, windowed, half, seed;
};

template <typename Value>
std::vector<Value> read(std::size_t count) {
    std::vector<Value> values(count);
    if (std::fread(values.data(), sizeof(Value), count, stdin) != count) throw std::runtime_error("input ends early");
    return values;
}

bool same_bits(const std::vector<float>& first, const std::vector<float>& second) {
    return std::memcmp(first.data(), second.data(), first.size() * sizeof(float)) == 0;
}

void run() {
    const Case c = read<Case>(1)[0];
    const float temperature = read<float>(1)[0];
    const std::size_t rows = std::size_t(c.faces) * c.strata, chunks = (c.channels + CHANNELS - 1) / CHANNELS;
    const std::size_t bytes = rows * c.channels * c.height * c.width * (c.half ? 2 : 4);
    const auto u = read<char>(bytes), h = read<char>(c.windowed ? bytes : 0);
    const auto weight = read<float>(std::size_t(c.expressions) * c.channels * (c.windowed ? WINDOWED : POOLED));
    const auto bias = read<float>(c.expressions);
    std::vector<unsigned> done(c.faces);
    std::vector<float> partials(rows * chunks * c.expressions), by_stratum(rows * c.expressions);
    std::vector<float> logits(std::size_t(c.faces) * c.expressions), probabilities(logits.size());
    const Tail tail = {u.data(),          c.windowed ? h.data() : nullptr,
                       weight.data(),     bias.data(),
                       partials.data(),   done.data(),
                       by_stratum.data(), logits.data(),
                       probabilities.data(),
                       c.faces,           c.strata,
                       c.channels,        c.height,
                       c.width,           c.expressions,
                       temperature,       c.mean_of_softmax};
    const auto windowed = c.half ? strata_tail_windowed_half : strata_tail_windowed_float;
    const auto pooled = c.half ? strata_tail_pooled_half : strata_tail_pooled_float;
    const dim3 grid = {unsigned(chunks), unsigned(c.strata), unsigned(c.faces)};
    std::vector<std::vector<float>> first;
    for (int seed : {c.seed, c.seed + 1}) {
        for (auto* values : {&partials, &by_stratum, &logits, &probabilities})
            std::fill(values->begin(), values->end(), std::numeric_limits<float>::quiet_NaN());
        cuda_on_cpu::launch(c.windowed ? windowed : pooled, grid, THREADS, tail, seed);
        for (unsigned count : done)
            if (count != 0) throw std::runtime_error("a counter is not back at zero");
        if (first.empty()) first = {probabilities, logits, by_stratum};
    }
    if (!same_bits(first[0], probabilities) || !same_bits(first[1], logits) || !same_bits(first[2], by_stratum))
        throw std::runtime_error("two launches give different bits");
    for (const auto& values : first) std::fwrite(values.data(), sizeof(float), values.size(), stdout);
}

}  // namespace

int main() try {
    run();
} catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
}
