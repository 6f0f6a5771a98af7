// Part of the driver's double: modules, launches, events, and the recording and replay of graphs.
//
// The kernels are those of kernels.cpp, in the library at $DOUBLE_KERNELS.
#include <dlfcn.h>

#include <cstdio>

#include "api.h"

namespace {

constexpr double NEWEST_PTX = 8.5;

using RunKernel = int (*)(const char*, const unsigned*, unsigned, const void*, std::size_t,
                          std::size_t (*)(const void*), char*, std::size_t);

struct Module {
    std::map<std::string, std::string> functions;  // CUfunction points at the name
};

struct Event {
    long at = -1;  // the pieces of work that were done before it; negative: it was not reached
};

struct Graph {
    std::vector<Work> work;
};

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

API cuLaunchHostFunc(CUstream stream, CUhostFn function, void* data) {
    BEGIN(cuLaunchHostFunc);
    return machine.send(as_stream(stream), [=] {
        function(data);
        return CUDA_SUCCESS;
    });
}

API cuModuleLoadDataEx(CUmodule* module, const void* image, unsigned count, CUjit_option* options, void** values) {
    BEGIN_UNRECORDED(cuModuleLoadDataEx);
    for (unsigned i = 0; i < count; ++i)  // the logs are empty
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

// pycuda calls it, and the launch has the shape again.
API cuFuncSetBlockShape(CUfunction, int, int, int) { return CUDA_SUCCESS; }

API cuLaunchKernel(CUfunction function, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned, unsigned,
                   unsigned, CUstream stream, void**, void** extra) {
    BEGIN(cuLaunchKernel);
    if (!run_kernel()) return CUDA_ERROR_NOT_FOUND;
    if (!extra || extra[0] != CU_LAUNCH_PARAM_BUFFER_POINTER) return CUDA_ERROR_NOT_SUPPORTED;
    const std::string name = *reinterpret_cast<std::string*>(function);
    const std::string argument(static_cast<const char*>(extra[1]), *static_cast<std::size_t*>(extra[3]));
    return machine.send(as_stream(stream), [=] {
        const unsigned grid[] = {x, y, z};
        const auto bytes_at = [](const void* address) { return Machine::allocated_bytes(machine.device, address); };
        char message[256] = "";
        ++machine.counts["kernels"];
        if (!run_kernel()(name.c_str(), grid, threads, argument.data(), argument.size(), bytes_at, message,
                          sizeof message))
            return CUDA_SUCCESS;
        std::fprintf(stderr, "driver double: %s: %s\n", name.c_str(), message);
        return CUDA_ERROR_LAUNCH_FAILED;
    });
}

API cuEventCreate(CUevent* event, unsigned) {
    BEGIN(cuEventCreate);
    *event = reinterpret_cast<CUevent>(new Event);
    ++machine.counts["events"];
    return CUDA_SUCCESS;
}

API cuEventDestroy(CUevent event) {
    delete reinterpret_cast<Event*>(event);
    --machine.counts["events"];
    return CUDA_SUCCESS;
}

API cuEventRecord(CUevent handle, CUstream stream) {
    BEGIN(cuEventRecord);
    auto* event = reinterpret_cast<Event*>(handle);
    event->at = -1;
    return machine.send(as_stream(stream), [=] {
        event->at = machine.counts["work"]--;  // the event itself is no work
        return CUDA_SUCCESS;
    });
}

API cuEventSynchronize(CUevent event) {
    BEGIN_UNRECORDED(cuEventSynchronize);
    if (reinterpret_cast<Event*>(event)->at < 0) machine.finish_all();
    return machine.lost;
}

// The GPU of the double needs a millisecond for every piece of work: a copy, a kernel, a function of the host.
API cuEventElapsedTime(float* milliseconds, CUevent start, CUevent end) {
    BEGIN(cuEventElapsedTime);
    const long from = reinterpret_cast<Event*>(start)->at, to = reinterpret_cast<Event*>(end)->at;
    if (from < 0 || to < 0) return CUDA_ERROR_NOT_READY;
    *milliseconds = to - from;
    return CUDA_SUCCESS;
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
