// The GPU of the driver's double in libcuda.cpp: its memory is the host's memory, and its work waits in queues.
//
// Work runs as late as CUDA allows: when a caller waits for it. So a test fails if code reads a result without waiting,
// or overwrites an input too early. New and freed memory contains bytes of 0xFF, which are NaN as a number.
// Only one thread at a time may use it.
#pragma once

#include <cuda.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <vector>

using Work = std::function<CUresult()>;

struct Stream {
    bool with_default = true;  // it keeps the order with the default stream
    enum { NO, YES, SPOILT } recording = NO;
    std::thread::id recorder;
    std::vector<Work> recorded;
    std::deque<Work> queue;
};

struct Machine {
    std::map<std::uintptr_t, std::size_t> device, pinned;
    std::set<Stream*> streams;
    Stream default_stream;
    CUresult lost = CUDA_SUCCESS;  // the result of every call after a kernel or copy has failed
    std::map<std::string, long> counts;
    std::map<std::string, std::pair<int, CUresult>> failures;  // function -> calls until it fails, and the error

    static std::size_t allocated_bytes(const std::map<std::uintptr_t, std::size_t>& memory, const void* address) {
        const auto place = std::uintptr_t(address);
        auto block = memory.upper_bound(place);
        if (block == memory.begin()) return 0;
        --block;
        const std::size_t offset = place - block->first;
        return offset < block->second ? block->second - offset : 0;
    }

    void* allocate(std::map<std::uintptr_t, std::size_t>& memory, std::size_t size) {
        constexpr std::size_t PAGE = 4096;
        void* address = std::aligned_alloc(PAGE, (size + PAGE - 1) / PAGE * PAGE);
        std::memset(address, 0xFF, size);
        memory[std::uintptr_t(address)] = size;
        return address;
    }

    bool release(std::map<std::uintptr_t, std::size_t>& memory, void* address) {
        const auto block = memory.find(std::uintptr_t(address));
        if (block == memory.end()) return false;
        std::memset(address, 0xFF, block->second);
        std::free(address);
        memory.erase(block);
        return true;
    }

    void finish(Stream& stream) {
        if (stream.with_default && &stream != &default_stream) finish(default_stream);
        while (!stream.queue.empty()) {
            const Work work = std::move(stream.queue.front());
            stream.queue.pop_front();
            if (lost == CUDA_SUCCESS) lost = work();
            ++counts["work"];
        }
    }

    void finish_all() {
        finish(default_stream);
        for (Stream* stream : streams) finish(*stream);
    }

    CUresult send(Stream& stream, Work work) {
        if (stream.recording != Stream::NO) {
            stream.recorded.push_back(std::move(work));
            return CUDA_SUCCESS;
        }
        if (&stream == &default_stream) {
            bool spoilt = spoil_recording();
            for (Stream* other : streams)
                if (other->with_default && other->recording != Stream::NO) {
                    other->recording = Stream::SPOILT;
                    spoilt = true;
                }
            if (spoilt) return CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
            for (Stream* other : streams)
                if (other->with_default) finish(*other);
        }
        stream.queue.push_back(std::move(work));
        return CUDA_SUCCESS;
    }

    // A call that cannot be recorded, by the thread that records, spoils the recording. Returns whether there was one.
    bool spoil_recording() {
        for (Stream* stream : streams)
            if (stream->recording != Stream::NO && stream->recorder == std::this_thread::get_id()) {
                stream->recording = Stream::SPOILT;
                return true;
            }
        return false;
    }
};
