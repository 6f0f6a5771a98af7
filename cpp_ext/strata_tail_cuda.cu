// A C function that launches the kernels on the caller's stream.
#include "strata_tail.cu"

// Returns 0, or an error code for `strata_tail_error`. Does not wait. Launches that may overlap need workspaces of their
// own.
extern "C" int strata_tail_cuda(const Tail* tail, int half, cudaStream_t stream) {
    const dim3 grid((tail->channels + CHANNELS - 1) / CHANNELS, tail->strata, tail->faces);
    const auto windowed = half ? strata_tail_windowed_half : strata_tail_windowed_float;
    const auto pooled = half ? strata_tail_pooled_half : strata_tail_pooled_float;
    (tail->h ? windowed : pooled)<<<grid, THREADS, 0, stream>>>(*tail);
    return cudaGetLastError();
}

extern "C" const char* strata_tail_error(int code) { return cudaGetErrorString(static_cast<cudaError_t>(code)); }
