// The CUDA driver's double: those functions of libcuda that pycuda and our session call, over a machine without a GPU.
//
// It refuses what a driver refuses: calls without a current context; copies out of bounds; binaries for another GPU;
// while a stream is recorded, to allocate, to free, to wait, or to touch the default stream; and the recording of the
// default stream. Kernels are those of kernels.cpp, found in the library that DOUBLE_KERNELS names.
#include "machine.h"

#include <dlfcn.h>

#include <cstdio>

#define EXPORT extern "C" __attribute__((visibility("default")))
#define API EXPORT CUresult
// First of all: whether the call fails, or may not be made. A name as it is written, before cuda.h makes it `.._v2`.
#define BEGIN(function) \
    if (const CUresult code = begin(#function)) return code
#define BEGIN_UNRECORDED(function)                           \
    if (const CUresult code = begin(#function)) return code; \
    if (machine.spoil_recording()) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED

namespace {

Machine machine;
thread_local long pushed = 0;
int primary_context;  // only its address matters

constexpr int ARCHITECTURE = 87, DRIVER = 12060;
constexpr double NEWEST_PTX = 8.5;

using RunKernel = int (*)(const char*, const unsigned*, unsigned, const void*, std::size_t,
                          std::size_t (*)(const void*), char*, std::size_t);

struct Module {
    std::map<std::string, std::string> functions;  // CUfunction points at the name
};

struct Graph {
    std::vector<Work> work;
};

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

Stream& as_stream(CUstream stream) {
    return stream ? *reinterpret_cast<Stream*>(stream) : machine.default_stream;
}

void* as_host(CUdeviceptr address) { return reinterpret_cast<void*>(address); }

bool on_device(const void* address, std::size_t size) { return Machine::held(machine.device, address) >= size; }

bool is_pinned(const void* address, std::size_t size) { return Machine::held(machine.pinned, address) >= size; }

// Checked again when it happens, since a recording may outlive the memory.
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
    // Memory that may be paged out is read at once, and arrives when it arrives.
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

// A cubin is an ELF file for a machine of type 190 with its architecture in the flags; PTX is text with a version.
CUresult accepts(const char* image) {
    if (std::memcmp(image, "\177ELF", 4) == 0) {
        std::uint16_t type;
        std::uint32_t flags;
        std::memcpy(&type, image + 18, sizeof(type));
        std::memcpy(&flags, image + 48, sizeof(flags));
        const bool ours = (flags & 0xFF) == ARCHITECTURE || (flags >> 8 & 0xFF) == ARCHITECTURE;
        return type == 190 && ours ? CUDA_SUCCESS : CUDA_ERROR_NO_BINARY_FOR_GPU;
    }
    const char* version = std::strstr(image, ".version ");
    if (!version) return CUDA_ERROR_INVALID_IMAGE;
    return std::atof(version + 9) <= NEWEST_PTX ? CUDA_SUCCESS : CUDA_ERROR_UNSUPPORTED_PTX_VERSION;
}

RunKernel run_kernel() {
    static void* kernels = dlopen(std::getenv("DOUBLE_KERNELS"), RTLD_NOW);
    return kernels ? reinterpret_cast<RunKernel>(dlsym(kernels, "run_kernel")) : nullptr;
}

}  // namespace

// For the tests: what is alive, or how often something was done; and a function that fails after so many calls.
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

// As if a kernel had crashed: every call fails from here on.
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

API cuLaunchHostFunc(CUstream stream, CUhostFn function, void* data) {
    BEGIN(cuLaunchHostFunc);
    return machine.send(as_stream(stream), [=] {
        function(data);
        return CUDA_SUCCESS;
    });
}

API cuModuleLoadDataEx(CUmodule* module, const void* image, unsigned count, CUjit_option* options, void** values) {
    BEGIN_UNRECORDED(cuModuleLoadDataEx);
    for (unsigned i = 0; i < count; ++i)  // logs that hold nothing
        if (options[i] == CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES || options[i] == CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES)
            values[i] = nullptr;
    if (const CUresult code = accepts(static_cast<const char*>(image))) return code;
    *module = reinterpret_cast<CUmodule>(new Module);
    ++machine.counts["modules"];
    return CUDA_SUCCESS;
}

API cuModuleUnload(CUmodule module) {
    BEGIN_UNRECORDED(cuModuleUnload);
    delete reinterpret_cast<Module*>(module);
    --machine.counts["modules"];
    return CUDA_SUCCESS;
}

API cuModuleGetFunction(CUfunction* function, CUmodule module, const char* name) {
    BEGIN(cuModuleGetFunction);
    auto& known = reinterpret_cast<Module*>(module)->functions[name];
    known = name;
    *function = reinterpret_cast<CUfunction>(&known);
    return CUDA_SUCCESS;
}

API cuFuncSetBlockShape(CUfunction, int, int, int) { return CUDA_SUCCESS; }  // pycuda asks, and the launch says it again

API cuLaunchKernel(CUfunction function, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned, unsigned,
                   unsigned, CUstream stream, void**, void** extra) {
    BEGIN(cuLaunchKernel);
    if (!run_kernel()) return CUDA_ERROR_NOT_FOUND;
    if (!extra || extra[0] != CU_LAUNCH_PARAM_BUFFER_POINTER) return CUDA_ERROR_NOT_SUPPORTED;
    const std::string name = *reinterpret_cast<std::string*>(function);
    const std::string argument(static_cast<const char*>(extra[1]), *static_cast<std::size_t*>(extra[3]));
    return machine.send(as_stream(stream), [=] {
        const unsigned grid[] = {x, y, z};
        const auto held = [](const void* address) { return Machine::held(machine.device, address); };
        char message[256] = "";
        ++machine.counts["kernels"];
        if (!run_kernel()(name.c_str(), grid, threads, argument.data(), argument.size(), held, message, sizeof message))
            return CUDA_SUCCESS;
        std::fprintf(stderr, "driver double: %s: %s\n", name.c_str(), message);
        return CUDA_ERROR_LAUNCH_FAILED;
    });
}

API cuStreamBeginCapture(CUstream handle, CUstreamCaptureMode mode) {
    BEGIN(cuStreamBeginCapture);
    Stream& stream = as_stream(handle);
    if (&stream == &machine.default_stream || mode != CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)
        return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    if (stream.recording != Stream::NO) return CUDA_ERROR_ILLEGAL_STATE;
    stream.recording = Stream::YES;
    stream.recorder = std::this_thread::get_id();
    stream.recorded.clear();
    return CUDA_SUCCESS;
}

API cuStreamEndCapture(CUstream handle, CUgraph* graph) {
    BEGIN(cuStreamEndCapture);
    Stream& stream = as_stream(handle);
    *graph = nullptr;
    if (stream.recording == Stream::NO) return CUDA_ERROR_ILLEGAL_STATE;
    if (stream.recorder != std::this_thread::get_id()) return CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
    const bool spoilt = stream.recording == Stream::SPOILT;
    stream.recording = Stream::NO;
    if (spoilt) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    *graph = reinterpret_cast<CUgraph>(new Graph{stream.recorded});
    ++machine.counts["graphs"];
    return CUDA_SUCCESS;
}

API cuGraphInstantiateWithFlags(CUgraphExec* ready, CUgraph graph, unsigned long long) {
    BEGIN(cuGraphInstantiateWithFlags);
    *ready = reinterpret_cast<CUgraphExec>(new Graph(*reinterpret_cast<Graph*>(graph)));
    ++machine.counts["graphs"];
    return CUDA_SUCCESS;
}

API cuGraphLaunch(CUgraphExec ready, CUstream stream) {
    BEGIN(cuGraphLaunch);
    const auto* graph = reinterpret_cast<Graph*>(ready);
    ++machine.counts["replays"];
    for (const Work& work : graph->work)
        if (const CUresult code = machine.send(as_stream(stream), work)) return code;
    return CUDA_SUCCESS;
}

API cuGraphDestroy(CUgraph graph) {
    delete reinterpret_cast<Graph*>(graph);
    --machine.counts["graphs"];
    return CUDA_SUCCESS;
}

API cuGraphExecDestroy(CUgraphExec ready) {
    delete reinterpret_cast<Graph*>(ready);
    --machine.counts["graphs"];
    return CUDA_SUCCESS;
}
