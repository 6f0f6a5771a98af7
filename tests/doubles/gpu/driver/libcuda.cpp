// The double of the CUDA driver: the functions of libcuda that pycuda and the session call, on a machine without a GPU.
//
// It refuses what a driver refuses: calls without a current context, copies out of bounds, binaries for another GPU and
// the recording of the default stream. While a stream is recorded, it refuses to allocate, to free, to wait and to use
// the default stream. This file has the GPU, its context, memory and streams; launches.cpp has kernels and graphs.
#include <cstdio>

#include "api.h"

Machine machine;

namespace {

thread_local long pushed = 0;
int primary_context;  // only its address matters

void* as_host(CUdeviceptr address) { return reinterpret_cast<void*>(address); }

bool on_device(const void* address, std::size_t size) {
    return Machine::allocated_bytes(machine.device, address) >= size;
}

bool is_pinned(const void* address, std::size_t size) {
    return Machine::allocated_bytes(machine.pinned, address) >= size;
}

// The check is repeated when the copy runs, since a recording may outlive the memory.
Work copy(void* to, const void* from, std::size_t size, const void* on_the_device) {
    return [=] {
        if (!on_device(on_the_device, size)) return CUDA_ERROR_ILLEGAL_ADDRESS;
        const void* other = on_the_device == to ? from : to;
        if (!is_pinned(other, size)) return CUDA_ERROR_ILLEGAL_ADDRESS;
        std::memcpy(to, from, size);
        return CUDA_SUCCESS;
    };
}

CUresult upload(CUdeviceptr to, const void* from, std::size_t size, Stream& stream) {
    if (!on_device(as_host(to), size)) return CUDA_ERROR_INVALID_VALUE;
    if (is_pinned(from, size)) return machine.send(stream, copy(as_host(to), from, size, as_host(to)));
    if (stream.recording != Stream::NO) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    // Pageable memory is read at once, and arrives later.
    const std::string staged(static_cast<const char*>(from), size);
    return machine.send(stream, [=] {
        if (!on_device(as_host(to), size)) return CUDA_ERROR_ILLEGAL_ADDRESS;
        std::memcpy(as_host(to), staged.data(), size);
        return CUDA_SUCCESS;
    });
}

CUresult download(void* to, CUdeviceptr from, std::size_t size, Stream& stream) {
    if (!on_device(as_host(from), size)) return CUDA_ERROR_INVALID_VALUE;
    if (is_pinned(to, size)) return machine.send(stream, copy(to, as_host(from), size, as_host(from)));
    if (stream.recording != Stream::NO) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    machine.finish(stream);
    std::memcpy(to, as_host(from), size);
    return machine.lost;
}

}  // namespace

CUresult begin(const char* function) {
    const auto failure = machine.failures.find(function);
    if (failure != machine.failures.end() && failure->second.first-- == 0) {
        const CUresult code = failure->second.second;
        machine.failures.erase(failure);
        return code;
    }
    if (machine.lost != CUDA_SUCCESS) return machine.lost;
    return pushed > 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}

// For the tests: the number of existing objects or of finished work, and a function that fails after `after` calls.
EXPORT long double_count(const char* what) {
    const std::string name = what;
    if (name == "device") return machine.device.size();
    if (name == "pinned") return machine.pinned.size();
    if (name == "streams") return machine.streams.size();
    if (name == "pushed") return pushed;
    return machine.counts[name];
}

EXPORT void double_fail(const char* function, int after, int code) {
    machine.failures[function] = {after, CUresult(code)};
}

// As after the crash of a kernel: every further call fails.
EXPORT void double_lose(int code) { machine.lost = CUresult(code); }

API cuInit(unsigned) { return std::getenv("DOUBLE_NO_GPU") ? CUDA_ERROR_NO_DEVICE : CUDA_SUCCESS; }

API cuDriverGetVersion(int* version) {
    *version = DRIVER;
    return CUDA_SUCCESS;
}

API cuGetErrorString(CUresult code, const char** text) {
    static std::map<CUresult, std::string> texts = {
        {CUDA_SUCCESS, "no error"},
        {CUDA_ERROR_OUT_OF_MEMORY, "out of memory"},
        {CUDA_ERROR_NO_DEVICE, "no CUDA-capable device is detected"},
        {CUDA_ERROR_INVALID_CONTEXT, "invalid device context"},
        {CUDA_ERROR_INVALID_VALUE, "invalid argument"},
        {CUDA_ERROR_NO_BINARY_FOR_GPU, "no kernel image is available for execution on the device"},
        {CUDA_ERROR_UNSUPPORTED_PTX_VERSION, "the provided PTX was compiled with an unsupported toolchain."},
        {CUDA_ERROR_ILLEGAL_ADDRESS, "an illegal memory access was encountered"},
        {CUDA_ERROR_LAUNCH_FAILED, "unspecified launch failure"},
        {CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "operation not permitted when stream is capturing"},
        {CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "operation failed due to a previous error during capture"},
        {CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, "operation would make the legacy stream depend on a capturing one"},
    };
    auto& known = texts[code];
    if (known.empty()) known = "error " + std::to_string(code);
    *text = known.c_str();
    return CUDA_SUCCESS;
}

API cuDeviceGetCount(int* count) {
    *count = 1;
    return CUDA_SUCCESS;
}

API cuDeviceGet(CUdevice* device, int) {
    *device = 0;
    return CUDA_SUCCESS;
}

API cuDeviceGetName(char* name, int length, CUdevice) {
    std::snprintf(name, length, "driver double");
    return CUDA_SUCCESS;
}

API cuDeviceComputeCapability(int* major, int* minor, CUdevice) {
    *major = ARCHITECTURE / 10;
    *minor = ARCHITECTURE % 10;
    return CUDA_SUCCESS;
}

API cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice) {
    *context = reinterpret_cast<CUcontext>(&primary_context);
    ++machine.counts["retained"];
    return CUDA_SUCCESS;
}

API cuDevicePrimaryCtxRelease(CUdevice) {
    --machine.counts["retained"];
    return CUDA_SUCCESS;
}

API cuCtxPushCurrent(CUcontext) {
    ++pushed;
    return CUDA_SUCCESS;
}

API cuCtxPopCurrent(CUcontext* context) {
    if (pushed == 0) return CUDA_ERROR_INVALID_CONTEXT;
    --pushed;
    *context = reinterpret_cast<CUcontext>(&primary_context);
    return CUDA_SUCCESS;
}

API cuCtxSynchronize() {
    BEGIN_UNRECORDED(cuCtxSynchronize);
    machine.finish_all();
    return machine.lost;
}

API cuMemAlloc(CUdeviceptr* address, std::size_t size) {
    BEGIN_UNRECORDED(cuMemAlloc);
    if (size == 0) return CUDA_ERROR_INVALID_VALUE;
    *address = reinterpret_cast<CUdeviceptr>(machine.allocate(machine.device, size));
    return CUDA_SUCCESS;
}

API cuMemFree(CUdeviceptr address) {
    BEGIN_UNRECORDED(cuMemFree);
    machine.finish_all();
    return machine.release(machine.device, as_host(address)) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

API cuMemHostAlloc(void** address, std::size_t size, unsigned) {
    BEGIN_UNRECORDED(cuMemHostAlloc);
    *address = machine.allocate(machine.pinned, size);
    return CUDA_SUCCESS;
}

API cuMemFreeHost(void* address) {
    BEGIN_UNRECORDED(cuMemFreeHost);
    machine.finish_all();
    return machine.release(machine.pinned, address) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

API cuMemcpyHtoD(CUdeviceptr to, const void* from, std::size_t size) {
    BEGIN(cuMemcpyHtoD);
    const CUresult code = upload(to, from, size, machine.default_stream);
    if (code == CUDA_SUCCESS && is_pinned(from, size)) machine.finish(machine.default_stream);
    return code;
}

API cuMemcpyDtoH(void* to, CUdeviceptr from, std::size_t size) {
    BEGIN(cuMemcpyDtoH);
    const CUresult code = download(to, from, size, machine.default_stream);
    machine.finish(machine.default_stream);
    return code;
}

API cuMemcpyHtoDAsync(CUdeviceptr to, const void* from, std::size_t size, CUstream stream) {
    BEGIN(cuMemcpyHtoDAsync);
    return upload(to, from, size, as_stream(stream));
}

API cuMemcpyDtoHAsync(void* to, CUdeviceptr from, std::size_t size, CUstream stream) {
    BEGIN(cuMemcpyDtoHAsync);
    return download(to, from, size, as_stream(stream));
}

API cuMemsetD32Async(CUdeviceptr to, unsigned value, std::size_t count, CUstream stream) {
    BEGIN(cuMemsetD32Async);
    if (!on_device(as_host(to), 4 * count)) return CUDA_ERROR_INVALID_VALUE;
    return machine.send(as_stream(stream), [=] {
        if (!on_device(as_host(to), 4 * count)) return CUDA_ERROR_ILLEGAL_ADDRESS;
        std::fill_n(static_cast<unsigned*>(as_host(to)), count, value);
        return CUDA_SUCCESS;
    });
}

API cuStreamCreate(CUstream* stream, unsigned flags) {
    BEGIN(cuStreamCreate);
    auto* made = new Stream;
    made->with_default = !(flags & CU_STREAM_NON_BLOCKING);
    machine.streams.insert(made);
    *stream = reinterpret_cast<CUstream>(made);
    return CUDA_SUCCESS;
}

API cuStreamDestroy(CUstream stream) {
    BEGIN(cuStreamDestroy);
    machine.finish(as_stream(stream));
    machine.streams.erase(&as_stream(stream));
    delete &as_stream(stream);
    return CUDA_SUCCESS;
}

API cuStreamSynchronize(CUstream stream) {
    BEGIN_UNRECORDED(cuStreamSynchronize);
    machine.finish(as_stream(stream));
    return machine.lost;
}
