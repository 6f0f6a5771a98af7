// The averaging tail on the GPU, in one launch: from the maps around the last ReLU to the answer.
//
//     stratum_logits = bias + sum over channels of weight[0] sum(u) + sum_k weight[1 + k] windowsum_k(h)
//     logits         = mean of stratum_logits over the strata
//     probabilities  = softmax(logits / T), or the mean over the strata of softmax(stratum_logits / T)
//
// reference.py has the algebra, strata_tail.h the arguments. Maps in half or float, all sums in float.
//
// A block takes 16 channels of one stratum of one face, so the grid is (ceil(d / 16), N, B): 320 blocks at batch 1 with
// d = 512 and N = 10. It sums each channel's map, multiplies by the classifier, and leaves E partial logits. The block
// that finds itself the last one of its face adds the partial logits up, in their order and not in that of arrival:
// no floating point number is added atomically, so the same input gives the same bits.
//
// Each map is read once: 2 B N d H W values, then 40 B N d E bytes of weights (from memory once, 40 d E) and twice
// 4 B N E ceil(d / 16) bytes of partial logits. docs/kernel.md compares this with the tail as plain layers.
#include <cuda_fp16.h>

#include "strata_tail.h"

namespace {

constexpr int WARP = 32;
constexpr int BLOCKS = 8;  // on a multiprocessor: 64 registers a thread; left to itself the compiler spills to have 12

__device__ inline float as_float(float value) { return value; }
__device__ inline float as_float(__half value) { return __half2float(value); }

// Every thread of the warp must come here, with or without something to add: the mask says so. All get the sum.
template <int GROUP>
__device__ inline float sum_over(float value) {
#pragma unroll
    for (int step = GROUP / 2; step > 0; step /= 2) value += __shfl_xor_sync(0xffffffffu, value, step);
    return value;
}

// Adds one row to the sums of its channel.
template <int SUMS, typename Number>
__device__ inline void add_row(const Number* u, const Number* h, int y, int height, int width, float (&sums)[SUMS]) {
    float met[3] = {};  // of h, by the left taps: all columns but the last; by the middle ones; by the right ones
#pragma unroll 4
    for (int x = 0; x < width; ++x) {
        sums[0] += as_float(u[x]);
        if constexpr (SUMS == WINDOWED) {
            const float value = as_float(h[x]);
            if (x < width - 1) met[0] += value;
            met[1] += value;
            if (x > 0) met[2] += value;
        }
    }
    if constexpr (SUMS == WINDOWED) {
#pragma unroll
        for (int k = 0; k < 3; ++k) {
            if (y < height - 1) sums[1 + k] += met[k];
            sums[4 + k] += met[k];
            if (y > 0) sums[7 + k] += met[k];
        }
    }
}

// (channels of the block, SUMS). Channels behind the last get zeros.
template <int SUMS, typename Number>
__device__ inline void sum_maps(const Tail& tail, float* channel_sums) {
    const int lane = threadIdx.x % LANES, slot = threadIdx.x / LANES, channel = blockIdx.x * CHANNELS + slot;
    float sums[SUMS] = {};
    if (channel < tail.channels) {
        const size_t map = (size_t(blockIdx.z) * tail.strata + blockIdx.y) * tail.channels + channel;
        for (int y = lane; y < tail.height; y += LANES) {
            const size_t row = (map * tail.height + y) * tail.width;
            const Number* h = SUMS == WINDOWED ? static_cast<const Number*>(tail.h) + row : nullptr;
            add_row<SUMS>(static_cast<const Number*>(tail.u) + row, h, y, tail.height, tail.width, sums);
        }
    }
#pragma unroll
    for (int k = 0; k < SUMS; ++k) {
        sums[k] = sum_over<LANES>(sums[k]);
        if (lane == 0) channel_sums[slot * SUMS + k] = sums[k];
    }
}

// The block's share of the logits: a warp takes an expression, its threads the sums and weights, which lie alike.
template <int SUMS>
__device__ inline void classify(const Tail& tail, const float* channel_sums, float* partial) {
    const int lane = threadIdx.x % WARP, first = blockIdx.x * CHANNELS;
    const int terms = SUMS * min(CHANNELS, tail.channels - first);
    for (int e = threadIdx.x / WARP; e < tail.expressions; e += THREADS / WARP) {
        const float* weight = tail.weight + (size_t(e) * tail.channels + first) * SUMS;
        float logit = 0;
        for (int i = lane; i < terms; i += WARP) logit += weight[i] * channel_sums[i];
        logit = sum_over<WARP>(logit);
        if (lane == 0) partial[e] = logit;
    }
}

// Whether all other blocks of the face have left their partial logits, which may then be read. Exactly one block hears
// yes. The first fence lets the others see what this block wrote before they see it counted, the second keeps this
// block from reading before it has counted. At the last block the counter wraps to zero, ready for the next launch.
__device__ inline bool is_last(unsigned* done) {
    __shared__ bool last;
    __syncthreads();
    if (threadIdx.x == 0) {
        const unsigned others = gridDim.x * gridDim.y - 1;
        __threadfence();
        last = atomicInc(done, others) == others;
        __threadfence();
    }
    __syncthreads();
    return last;
}

// softmax(logits / temperature)[e]
__device__ inline float softmax(const float* logits, int expressions, int e, float temperature) {
    float largest = logits[0], total = 0;
    for (int i = 1; i < expressions; ++i) largest = fmaxf(largest, logits[i]);
    for (int i = 0; i < expressions; ++i) total += expf((logits[i] - largest) / temperature);
    return expf((logits[e] - largest) / temperature) / total;
}

// Partial logits -> the three outputs of a face, by one block.
__device__ inline void answer(const Tail& tail, int face) {
    const int strata = tail.strata, expressions = tail.expressions, row = strata * expressions;
    const int chunks = gridDim.x;
    const float* partials = tail.partials + size_t(face) * chunks * row;
    float* stratum_logits = tail.stratum_logits + size_t(face) * row;
    float* logits = tail.logits + size_t(face) * expressions;

    for (int i = threadIdx.x; i < row; i += THREADS) {
        float sum = tail.bias[i % expressions];
#pragma unroll 8
        for (int chunk = 0; chunk < chunks; ++chunk) sum += partials[size_t(chunk) * row + i];
        stratum_logits[i] = sum;
    }
    __syncthreads();
    for (int e = threadIdx.x; e < expressions; e += THREADS) {
        float sum = 0;
        for (int n = 0; n < strata; ++n) sum += stratum_logits[n * expressions + e];
        logits[e] = sum / strata;
    }
    __syncthreads();
    // Every thread repeats the softmax of its rows: with a handful of expressions that is cheaper than sharing it.
    const float* rows = tail.mean_of_softmax ? stratum_logits : logits;
    const int count = tail.mean_of_softmax ? strata : 1;
    for (int e = threadIdx.x; e < expressions; e += THREADS) {
        float sum = 0;
        for (int n = 0; n < count; ++n) sum += softmax(rows + n * expressions, expressions, e, tail.temperature);
        tail.probabilities[size_t(face) * expressions + e] = sum / count;
    }
}

template <int SUMS, typename Number>
__device__ inline void run(const Tail& tail, float* channel_sums) {
    const int face = blockIdx.z;
    sum_maps<SUMS, Number>(tail, channel_sums);
    __syncthreads();
    const size_t block = (size_t(face) * gridDim.x + blockIdx.x) * tail.strata + blockIdx.y;
    classify<SUMS>(tail, channel_sums, tail.partials + block * tail.expressions);
    if (is_last(tail.done + face)) answer(tail, face);
}

}  // namespace

// Grid (ceil(channels / CHANNELS), strata, faces), THREADS threads a block, no dynamic shared memory.
#define KERNEL(name, sums, number)                                                \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) name(const Tail tail) { \
        __shared__ float channel_sums[CHANNELS * sums];                           \
        run<sums, number>(tail, channel_sums);                                    \
    }

KERNEL(strata_tail_windowed_half, WINDOWED, __half)
KERNEL(strata_tail_windowed_float, WINDOWED, float)
KERNEL(strata_tail_pooled_half, POOLED, __half)
KERNEL(strata_tail_pooled_float, POOLED, float)
