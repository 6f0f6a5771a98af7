// Runs the kernels of KERNEL_SOURCE, frame.cu, on the CPU: reads one case from standard input, writes its outputs to
// standard output.
//
// Input: what (0 rows, 1 crop to bytes, 2 crop to half) and a seed, then sizes, settings and arrays as in `rows` and
// `crop`. Two launches under two schedules must give the same bits. All memory has the exact size.
#include <cstdio>
#include <limits>

#include "cuda_on_cpu.h"

#include KERNEL_SOURCE

namespace {

template <typename Value>
std::vector<Value> read(std::size_t count) {
    std::vector<Value> values(count);
    if (std::fread(values.data(), sizeof(Value), count, stdin) != count) throw std::runtime_error("input ends early");
    return values;
}

template <typename Value>
void write(const std::vector<Value>& values) {
    std::fwrite(values.data(), sizeof(Value), values.size(), stdout);
}

void rows(unsigned seed) {
    const auto sizes = read<int>(4);
    const auto settings = read<float>(2);
    Rows argument = {};
    argument.pictures = sizes[0], argument.height = sizes[1], argument.width = sizes[2], argument.most = sizes[3];
    argument.score = settings[0], argument.overlap = settings[1];
    std::vector<std::vector<float>> outputs;
    std::size_t cells = 0;
    for (int i = 0; i < 12; ++i) {
        const int stride = 8 << i % 3, values[] = {1, 1, 4, 10};
        const std::size_t grid = std::size_t(argument.height / stride) * (argument.width / stride);
        cells += i < 3 ? grid : 0;
        outputs.push_back(read<float>(argument.pictures * grid * values[i / 3]));
        argument.outputs[i] = outputs.back().data();
    }
    std::vector<float> scores(argument.pictures * cells), found(std::size_t(argument.pictures) * argument.most * VALUES);
    std::vector<int> counts(argument.pictures);
    argument.scores = scores.data(), argument.rows = found.data(), argument.counts = counts.data();
    std::vector<float> first;
    for (unsigned each : {seed, seed + 1}) {
        std::fill(scores.begin(), scores.end(), std::numeric_limits<float>::quiet_NaN());
        std::fill(found.begin(), found.end(), -7.0f);  // rows behind the count must stay like this
        std::fill(counts.begin(), counts.end(), -7);
        cuda_on_cpu::launch(rows_of_faces, {unsigned(argument.pictures), 1, 1}, ROWS_THREADS, argument, each);
        if (each == seed) first = found;
    }
    if (std::memcmp(first.data(), found.data(), found.size() * sizeof(float)))
        throw std::runtime_error("two launches give different bits");
    write(counts);
    write(found);
}

template <typename Number>
void crop(void (*kernel)(Crop), unsigned seed) {
    const auto sizes = read<int>(7);
    const auto settings = read<float>(19);
    Crop argument = {};
    argument.height = sizes[0], argument.width = sizes[1], argument.row_bytes = sizes[2], argument.stride = sizes[3];
    argument.most = sizes[4], argument.size = sizes[5];
    argument.margin = settings[0], argument.scale_x = settings[1], argument.scale_y = settings[2];
    std::copy_n(settings.begin() + 3, 10, argument.mean_face);
    std::copy_n(settings.begin() + 13, 3, argument.mean);
    std::copy_n(settings.begin() + 16, 3, argument.deviation);
    const std::vector<int> count = {sizes[6]};
    const auto frame = read<unsigned char>(std::size_t(argument.row_bytes) * (argument.height - 1) + 3 * argument.width);
    const auto landmarks = read<float>(count[0] ? std::size_t(argument.stride) * (count[0] - 1) + 10 : 0);
    const std::size_t pixels = std::size_t(argument.size) * argument.size;
    std::vector<unsigned char> faces(argument.most * pixels * 3 * sizeof(Number)), first;
    argument.frame = frame.data(), argument.landmarks = landmarks.data();
    argument.count = count.data(), argument.faces = faces.data();
    const dim3 grid = {unsigned((pixels + CROP_THREADS - 1) / CROP_THREADS), unsigned(argument.most), 1};
    for (unsigned each : {seed, seed + 1}) {
        std::fill(faces.begin(), faces.end(), 77);
        cuda_on_cpu::launch(kernel, grid, CROP_THREADS, argument, each);
        if (each == seed) first = faces;
    }
    if (first != faces) throw std::runtime_error("two launches give different bits");
    write(faces);
}

}  // namespace

// Launches the kernel that native.KERNELS names, for a caller that loads this file as a library. 0, or 1 if it fails.
extern "C" int launch_on_cpu(int what, unsigned x, unsigned y, unsigned threads, const void* argument) try {
    const dim3 grid = {x, y, 1};
    if (what == 0) {
        cuda_on_cpu::launch(rows_of_faces, grid, threads, *static_cast<const Rows*>(argument), 2);
    } else {
        const auto kernel = what == 1 ? crop_faces_bytes : crop_faces_half;
        cuda_on_cpu::launch(kernel, grid, threads, *static_cast<const Crop*>(argument), 2);
    }
    return 0;
} catch (const std::exception&) {
    return 1;
}

int main() try {
    const auto what = read<int>(2);
    if (what[0] == 0) rows(what[1]);
    if (what[0] == 1) crop<unsigned char>(crop_faces_bytes, what[1]);
    if (what[0] == 2) crop<__half>(crop_faces_half, what[1]);
} catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
}
