// Two steps of a frame that stays on the GPU: from YuNet's outputs to faces, and from faces to the network's input.
//
// `rows_of_faces` equals runtime/faces/yunet_rows.py, `crop_faces_*` samples as runtime/imaging/preprocess.py does.
// Counts stay on the device, so both can be recorded in one CUDA graph: a launch is the same for any number of faces.
// Neither adds floating point numbers in an order that depends on the schedule: the same input gives the same bits.
#include <cuda_fp16.h>

#include "frame.h"

namespace {

constexpr int WARP = 32, WARPS = ROWS_THREADS / WARP;
constexpr int STRIDES = 3;
constexpr float NONE = -1;  // the score of a cell that sees no face, or one that was dropped or written

__device__ inline float clamped(float value, float least, float most) {  // of NaN: the least
    return fminf(fmaxf(value, least), most);
}

// The square of a face: its centre, and the way from one sample to the next, in pixels of the frame.
struct Square {
    float x, y, cos, sin;
    int samples;  // along a side
};

// The similarity z -> a z + b of the mean face onto the landmarks with the least squared error (Umeyama 1991). With
// points as complex numbers a is a ratio of sums, so the turn needs no angle.
__device__ inline Square square_of(const Crop& crop, const float* landmarks) {
    float mean_x = 0, mean_y = 0, found_x = 0, found_y = 0;
    for (int k = 0; k < 5; ++k) {
        mean_x += crop.mean_face[2 * k] / 5;
        mean_y += crop.mean_face[2 * k + 1] / 5;
        found_x += landmarks[2 * k] * crop.scale_x / 5;
        found_y += landmarks[2 * k + 1] * crop.scale_y / 5;
    }
    float real = 0, imaginary = 0, spread = 0;
    for (int k = 0; k < 5; ++k) {
        const float u = crop.mean_face[2 * k] - mean_x, v = crop.mean_face[2 * k + 1] - mean_y;
        const float x = landmarks[2 * k] * crop.scale_x - found_x, y = landmarks[2 * k + 1] * crop.scale_y - found_y;
        real += u * x + v * y;
        imaginary += u * y - v * x;
        spread += u * u + v * v;
    }
    real /= spread;
    imaginary /= spread;
    const float face = sqrtf(real * real + imaginary * imaginary);
    const float side = crop.margin * fmaxf(face, 1);  // landmarks on one point have no size
    const float samples = clamped(rintf(side), 2, OVERSAMPLING * crop.size);
    const float step = side / samples;
    return {found_x - (real * mean_x - imaginary * mean_y),
            found_y - (imaginary * mean_x + real * mean_y),
            face > 0 ? step * real / face : step,
            face > 0 ? step * imaginary / face : 0,
            int(samples)};
}

// The samples along one axis that make pixel i of `size`, and their weights.
struct Taps {
    int i, samples, size, first, last;
    float place;  // of the pixel's centre among the samples, to enlarge

    __device__ Taps(int i, int samples, int size) : i(i), samples(samples), size(size) {
        place = (i + 0.5f) * samples / size - 0.5f;
        if (samples >= size) {
            first = i * samples / size;
            last = ((i + 1) * samples - 1) / size;
        } else {
            first = int(floorf(place)) - 1;
            last = first + 3;
        }
    }

    // To shrink: the share of sample k in the area of the pixel. To enlarge: Keys' cubic with -0.75, as in OpenCV.
    __device__ float weight(int k) const {
        if (samples >= size) {
            const int start = max(i * samples, k * size), stop = min((i + 1) * samples, (k + 1) * size);
            return float(stop - start) / samples;
        }
        constexpr float A = -0.75f;
        const float d = fabsf(place - k);
        if (d <= 1) return ((A + 2) * d - (A + 3)) * d * d + 1;
        return d < 2 ? ((A * d - 5 * A) * d + 8 * A) * d - 4 * A : 0;
    }
};

// Adds weight times the colour between four pixels. Beyond the frame its border pixels are repeated.
__device__ inline void add_sample(const Crop& crop, float x, float y, float weight, float (&bgr)[3]) {
    x = clamped(x, 0, crop.width - 1);
    y = clamped(y, 0, crop.height - 1);
    const int left = int(x), right = min(left + 1, crop.width - 1);
    const int top = int(y), bottom = min(top + 1, crop.height - 1);
    const unsigned char* above = crop.frame + size_t(top) * crop.row_bytes;
    const unsigned char* below = crop.frame + size_t(bottom) * crop.row_bytes;
    const float u = x - left, v = y - top;
#pragma unroll
    for (int c = 0; c < 3; ++c) {
        const float upper = (1 - u) * above[3 * left + c] + u * above[3 * right + c];
        const float lower = (1 - u) * below[3 * left + c] + u * below[3 * right + c];
        bgr[c] += weight * ((1 - v) * upper + v * lower);
    }
}

// The grey levels of one pixel of a crop, whole numbers.
__device__ inline void crop_pixel(const Crop& crop, const Square& square, int column, int row, float (&bgr)[3]) {
    const Taps across(column, square.samples, crop.size), down(row, square.samples, crop.size);
    const float half = 0.5f * (square.samples - 1);
    for (int j = down.first; j <= down.last; ++j) {
        const float v = min(max(j, 0), square.samples - 1) - half, weight = down.weight(j);
        for (int i = across.first; i <= across.last; ++i) {
            const float u = min(max(i, 0), square.samples - 1) - half;
            // Pixel centres are at integers, and a square from 0 to w covers the pixels 0 to w - 1: hence the halves.
            add_sample(crop, square.x - 0.5f + square.cos * u - square.sin * v,
                       square.y - 0.5f + square.sin * u + square.cos * v, weight * across.weight(i), bgr);
        }
    }
#pragma unroll
    for (float& level : bgr) level = clamped(rintf(level), 0, 255);
}

__device__ inline void store(const Crop& crop, unsigned char* faces, int face, int pixel, const float (&bgr)[3]) {
    unsigned char* place = faces + (size_t(face) * crop.size * crop.size + pixel) * 3;
    for (int c = 0; c < 3; ++c) place[c] = static_cast<unsigned char>(bgr[c]);
}

__device__ inline void store(const Crop& crop, __half* faces, int face, int pixel, const float (&bgr)[3]) {
    const size_t plane = size_t(crop.size) * crop.size;
    for (int c = 0; c < 3; ++c)
        faces[(size_t(face) * 3 + c) * plane + pixel] = __float2half_rn((bgr[2 - c] - crop.mean[c]) / crop.deviation[c]);
}

template <typename Number>
__device__ inline void crop_face(const Crop& crop) {
    const int face = blockIdx.y, pixel = blockIdx.x * CROP_THREADS + threadIdx.x;
    if (face >= *crop.count || pixel >= crop.size * crop.size) return;
    float bgr[3] = {};
    const Square square = square_of(crop, crop.landmarks + size_t(face) * crop.stride);
    crop_pixel(crop, square, pixel % crop.size, pixel / crop.size, bgr);
    store(crop, static_cast<Number*>(crop.faces), face, pixel, bgr);
}

// A cell of one of the grids. Cells count through the grids of all strides, each row by row.
struct Cell {
    int index, stride, column, row;
    size_t place;  // in the outputs of its stride

    __device__ Cell(const Rows& rows, int picture, int number) {
        for (index = 0, stride = 8; index < STRIDES - 1; ++index, stride *= 2) {
            const int cells = rows.width / stride * (rows.height / stride);
            if (number < cells) break;
            number -= cells;
        }
        const int columns = rows.width / stride;
        column = number % columns;
        row = number / columns;
        place = size_t(picture) * columns * (rows.height / stride) + number;
    }
};

__device__ inline int cells_of(const Rows& rows) {
    int cells = 0;
    for (int stride = 8; stride <= 32; stride *= 2) cells += rows.width / stride * (rows.height / stride);
    return cells;
}

// x, y, width and height, in pixels of the picture
struct Box {
    float x, y, width, height;
};

__device__ inline Box box_of(const Rows& rows, const Cell& cell) {
    const float* box = rows.outputs[2 * STRIDES + cell.index] + cell.place * 4;
    const float width = expf(box[2]), height = expf(box[3]);
    return {cell.stride * (cell.column + box[0] - width / 2), cell.stride * (cell.row + box[1] - height / 2),
            cell.stride * width, cell.stride * height};
}

// Boxes are compared in whole pixels, as OpenCV does.
__device__ inline Box whole(const Box& box) {
    return {truncf(box.x), truncf(box.y), truncf(box.width), truncf(box.height)};
}

// The area of both boxes over the area of either.
__device__ inline float iou(const Box& a, const Box& b) {
    const float width = fminf(a.x + a.width, b.x + b.width) - fmaxf(a.x, b.x);
    const float height = fminf(a.y + a.height, b.y + b.height) - fmaxf(a.y, b.y);
    const float shared = fmaxf(width, 0) * fmaxf(height, 0);
    return shared / fmaxf(a.width * a.height + b.width * b.height - shared, 1);
}

__device__ inline float score_of(const Rows& rows, const Cell& cell) {
    const float score = sqrtf(clamped(rows.outputs[cell.index][cell.place], 0, 1) *
                              clamped(rows.outputs[STRIDES + cell.index][cell.place], 0, 1));
    return score >= rows.score ? score : NONE;
}

// The best cell so far. Of equal scores the first cell's is better, in any order of comparing.
struct Best {
    float score = NONE;
    int cell = 0;

    __device__ void meet(float other_score, int other_cell) {
        if (other_score > score || (other_score == score && other_cell < cell)) {
            score = other_score;
            cell = other_cell;
        }
    }
};

// The best of all threads, for all threads. `scores` and `cells` have a place for each warp.
__device__ inline Best best_of_block(Best best, float* scores, int* cells) {
#pragma unroll
    for (int step = WARP / 2; step > 0; step /= 2) {
        const float score = __shfl_xor_sync(0xffffffffu, best.score, step);
        const int cell = __shfl_xor_sync(0xffffffffu, best.cell, step);
        best.meet(score, cell);
    }
    if (threadIdx.x % WARP == 0) {
        scores[threadIdx.x / WARP] = best.score;
        cells[threadIdx.x / WARP] = best.cell;
    }
    __syncthreads();
    for (int warp = 0; warp < WARPS; ++warp) best.meet(scores[warp], cells[warp]);
    __syncthreads();  // the next call writes there
    return best;
}

__device__ inline void write_row(const Rows& rows, const Cell& cell, const Box& box, float score, float* row) {
    const float* points = rows.outputs[3 * STRIDES + cell.index] + cell.place * 10;
    row[0] = box.x, row[1] = box.y, row[2] = box.width, row[3] = box.height;
    for (int k = 0; k < 10; ++k) row[4 + k] = cell.stride * (points[k] + (k % 2 ? cell.row : cell.column));
    row[14] = score;
}

}  // namespace

// Grid (pictures), ROWS_THREADS threads a block, no dynamic shared memory.
//
// Greedy suppression without a sort: the best cell that is left becomes the next row, and drops the cells that overlap
// it, as often as there are faces. A thread alone reads and writes its cells' scores.
extern "C" __global__ void __launch_bounds__(ROWS_THREADS, 1) rows_of_faces(const Rows rows) {
    __shared__ float warp_scores[WARPS];
    __shared__ int warp_cells[WARPS];
    const int picture = blockIdx.x, cells = cells_of(rows);
    float* scores = rows.scores + size_t(picture) * cells;
    Best best;
    for (int number = threadIdx.x; number < cells; number += ROWS_THREADS) {
        scores[number] = score_of(rows, Cell(rows, picture, number));
        best.meet(scores[number], number);
    }
    int found = 0;
    for (; found < rows.most; ++found) {
        best = best_of_block(best, warp_scores, warp_cells);
        if (best.score < 0) break;
        const Cell cell(rows, picture, best.cell);
        const Box box = box_of(rows, cell);
        if (threadIdx.x == 0)
            write_row(rows, cell, box, best.score, rows.rows + (size_t(picture) * rows.most + found) * VALUES);
        Best next;
        for (int number = threadIdx.x; number < cells; number += ROWS_THREADS) {
            if (scores[number] < 0) continue;
            const Box other = box_of(rows, Cell(rows, picture, number));
            if (number == best.cell || !(iou(whole(box), whole(other)) <= rows.overlap))
                scores[number] = NONE;
            else
                next.meet(scores[number], number);
        }
        best = next;
    }
    if (threadIdx.x == 0) rows.counts[picture] = found;
}

// Grid (ceil(size * size / CROP_THREADS), most), CROP_THREADS threads a block, no dynamic shared memory.
extern "C" __global__ void __launch_bounds__(CROP_THREADS, 8) crop_faces_bytes(const Crop crop) {
    crop_face<unsigned char>(crop);
}
extern "C" __global__ void __launch_bounds__(CROP_THREADS, 8) crop_faces_half(const Crop crop) {
    crop_face<__half>(crop);
}
