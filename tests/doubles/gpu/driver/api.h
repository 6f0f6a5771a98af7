// Shared by the files of the driver's double: the machine, and the first lines of each function.
#pragma once

#include "machine.h"

#define EXPORT extern "C" __attribute__((visibility("default")))
#define API EXPORT CUresult
// Returns an error if the call must fail or is not allowed. The name is as written, before cuda.h makes it `.._v2`.
#define BEGIN(function) \
    if (const CUresult code = begin(#function)) return code
#define BEGIN_UNRECORDED(function)                           \
    if (const CUresult code = begin(#function)) return code; \
    if (machine.spoil_recording()) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED

constexpr int ARCHITECTURE = 87, DRIVER = 12060;

extern Machine machine;

CUresult begin(const char* function);

inline Stream& as_stream(CUstream stream) {
    return stream ? *reinterpret_cast<Stream*>(stream) : machine.default_stream;
}
