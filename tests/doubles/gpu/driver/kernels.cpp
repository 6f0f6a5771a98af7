// The kernels of strata_tail.cu for the driver's double, compiled for the CPU. The double finds them by name.
#include <cstdio>

#include "cuda_on_cpu.h"

#include "strata_tail.cu"

namespace {

using AllocatedBytes = std::size_t (*)(const void*);  // bytes of allocated GPU memory from an address on

void check(const Tail& tail, bool windowed, bool half, AllocatedBytes bytes_at) {
    const std::size_t faces = tail.faces, rows = faces * tail.strata, chunks = (tail.channels + CHANNELS - 1) / CHANNELS;
    const std::size_t maps = rows * tail.channels * tail.height * tail.width * (half ? 2 : 4);
    const std::size_t table = std::size_t(tail.expressions) * tail.channels * (windowed ? WINDOWED : POOLED);
    const struct {
        const void* address;
        std::size_t bytes;
        const char* name;
    } arrays[] = {
        {tail.u, maps, "u"},
        {tail.h, windowed ? maps : 0, "h"},
        {tail.weight, 4 * table, "weight"},
        {tail.bias, 4ul * tail.expressions, "bias"},
        {tail.partials, 4 * rows * chunks * tail.expressions, "partials"},
        {tail.done, 4 * faces, "done"},
        {tail.stratum_logits, 4 * rows * tail.expressions, "stratum_logits"},
        {tail.logits, 4 * faces * tail.expressions, "logits"},
        {tail.probabilities, 4 * faces * tail.expressions, "probabilities"},
    };
    for (const auto& array : arrays)
        if (bytes_at(array.address) < array.bytes)
            throw cuda_on_cpu::Error(std::string(array.name) + " is out of bounds");
}

void run(const std::string& name, dim3 grid, unsigned threads, const Tail& tail, AllocatedBytes bytes_at) {
    const std::pair<const char*, void (*)(Tail)> kernels[] = {
        {"strata_tail_windowed_half", strata_tail_windowed_half},
        {"strata_tail_windowed_float", strata_tail_windowed_float},
        {"strata_tail_pooled_half", strata_tail_pooled_half},
        {"strata_tail_pooled_float", strata_tail_pooled_float},
    };
    static unsigned seed = 0;  // another schedule for each launch
    check(tail, name.find("windowed") != name.npos, name.find("half") != name.npos, bytes_at);
    for (const auto& [known, kernel] : kernels)
        if (name == known) return cuda_on_cpu::launch(kernel, grid, threads, tail, seed++);
    throw cuda_on_cpu::Error("there is no such kernel");
}

}  // namespace

// Returns 0, or 1 with a message.
extern "C" int run_kernel(const char* name, const unsigned* grid, unsigned threads, const void* argument,
                          std::size_t size, AllocatedBytes bytes_at, char* message, std::size_t length) try {
    if (size != sizeof(Tail)) throw cuda_on_cpu::Error("the argument has another size");
    Tail tail;
    std::memcpy(&tail, argument, size);
    run(name, {grid[0], grid[1], grid[2]}, threads, tail, bytes_at);
    return 0;
} catch (const std::exception& error) {
    std::snprintf(message, length, "%s", error.what());
    return 1;
}
