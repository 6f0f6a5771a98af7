// Runs a CUDA kernel on the CPU, to find the mistakes that show without a GPU.
//
// Each thread is a fiber that runs until it waits: at __syncthreads, or in a shuffle until all lanes of the mask have
// arrived. A few blocks run at a time. A schedule selects the thread that runs next, so a kernel that relies on an
// order without synchronising fails under some schedule. Shared memory begins as NaN. Behaviour that CUDA leaves
// undefined, or on which a GPU hangs, throws: threads at different barriers, lanes that disagree on the mask or are not
// in it.
//
// Schedules by their seed: 0 runs threads in order, 1 in reverse. Other even seeds select any thread. Other odd seeds
// give each warp a new urgency at every barrier, so that some warps wait while whole blocks overtake them.
//
// Delayed visibility of writes is not modelled. Instead, an atomic operation, by which blocks announce their writes,
// must be between two fences.
#pragma once

#include <math.h>
#include <ucontext.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <functional>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

#define __global__
#define __device__
#define __launch_bounds__(threads, blocks)
// Only in functions that are not templates: in a template GCC ignores the section, and all blocks would share the
// variable.
#define __shared__ static __attribute__((section("shared_memory")))
#define __syncthreads() cuda_on_cpu::block->barrier(__LINE__)

extern char __start_shared_memory[], __stop_shared_memory[];  // made by the linker

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};
inline dim3 threadIdx, blockIdx, blockDim, gridDim;

using std::max;
using std::min;

namespace cuda_on_cpu {

struct Error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// A stack that can be left and entered again.
struct Context {
    ucontext_t machine;
    const void* bottom = nullptr;
    std::size_t size = 0;

    // Switches from this context to another, until one switches back. AddressSanitizer is notified.
    void jump(Context& to, [[maybe_unused]] bool for_good = false) {
#ifdef __SANITIZE_ADDRESS__
        void* kept = nullptr;
        __sanitizer_start_switch_fiber(for_good ? nullptr : &kept, to.bottom, to.size);
        swapcontext(&machine, &to.machine);
        __sanitizer_finish_switch_fiber(kept, nullptr, nullptr);
#else
        swapcontext(&machine, &to.machine);
#endif
    }
};

struct Thread : Context {
    static constexpr std::size_t STACK = 64 << 10;
    std::unique_ptr<char[]> stack = std::unique_ptr<char[]>(new char[STACK]);  // not filled: most is never touched
    unsigned index = 0;
    const unsigned* awaited = nullptr;  // the thread waits while this is equal to `seen`
    unsigned seen = 0;
    bool done = false;
    bool fenced = false;       // no barrier since the last fence
    bool must_fence = false;   // an atomic operation, and no fence since

    bool ready() const { return !done && (!awaited || *awaited != seen); }
};

// Lanes that wait for each other in a shuffle. There are two rounds of values, because a fast lane may reach the next
// shuffle before a slow one has read its value in this one.
struct Warp {
    std::uint32_t mask = 0, arrived = 0;
    unsigned round = 0, urgency = 1;  // 0: runs last
    float values[2][32];
};

class Block {
  public:
    Block(dim3 index, unsigned size, const std::function<void()>& kernel, std::mt19937* urgencies)
        : index_(index), kernel_(kernel), urgencies_(urgencies), threads_(size), warps_((size + 31) / 32), left_(size) {
        for (unsigned i = 0; i < size; ++i) prepare(threads_[i], i);
    }

    bool finished() const { return left_ == 0; }

    // The urgency of the most urgent warp that has a ready thread.
    unsigned urgency() const {
        unsigned most = 0;
        for (const Thread& thread : threads_)
            if (thread.ready()) most = std::max(most, urgency(thread));
        return most;
    }

    // Runs one thread until it waits.
    void step(unsigned seed, std::mt19937& random);

    void barrier(int line) {
        if (current_->must_fence) throw Error("a barrier before the fence that must follow an atomic operation");
        if (arrived_ == 0) line_ = line;
        if (line != line_) throw Error("threads wait at different barriers");
        current_->fenced = false;
        if (++arrived_ < threads_.size()) return wait(rounds_);
        if (urgencies_)
            for (Warp& warp : warps_) warp.urgency = (*urgencies_)() % 8 ? (*urgencies_)() : 0;
        arrived_ = 0;
        ++rounds_;
    }

    float exchange(std::uint32_t mask, float value, unsigned distance) {
        const unsigned lane = current_->index % 32, source = lane ^ distance;
        Warp& warp = warps_[current_->index / 32];
        if (!(mask >> lane & 1) || !(mask >> source & 1)) throw Error("a lane is not in the mask of its shuffle");
        if (warp.arrived == 0) warp.mask = mask;
        if (warp.mask != mask) throw Error("lanes disagree on the mask of a shuffle");
        const float* values = warp.values[warp.round % 2];
        warp.values[warp.round % 2][lane] = value;
        warp.arrived |= 1u << lane;
        if (warp.arrived != mask) {
            wait(warp.round);
        } else {
            warp.arrived = 0;
            ++warp.round;
        }
        return values[source];
    }

    void fence() {
        current_->fenced = true;
        current_->must_fence = false;
    }

    unsigned atomic_increment(unsigned* counter, unsigned limit) {
        if (!current_->fenced) throw Error("an atomic operation without a fence before it");
        current_->must_fence = true;
        const unsigned old = *counter;
        *counter = old >= limit ? 0 : old + 1;
        return old;
    }

  private:
    void prepare(Thread& thread, unsigned index) {
        thread.index = index;
        thread.bottom = thread.stack.get();
        thread.size = Thread::STACK;
        getcontext(&thread.machine);
        thread.machine.uc_stack.ss_sp = thread.stack.get();
        thread.machine.uc_stack.ss_size = Thread::STACK;
        makecontext(&thread.machine, enter, 0);
    }

    static void enter();

    void wait(const unsigned& round) {
        Thread* self = current_;
        self->awaited = &round;
        self->seen = round;
        self->jump(scheduler_);
        self->awaited = nullptr;
    }

    unsigned urgency(const Thread& thread) const { return warps_[thread.index / 32].urgency; }

    Thread& next(unsigned seed, std::mt19937& random) {
        const std::size_t count = threads_.size(), start = seed < 2 ? 0 : random() % count;
        const unsigned most = urgency();
        for (std::size_t i = 0; i < count; ++i) {
            Thread& thread = threads_[seed == 1 ? count - 1 - i : (start + i) % count];
            if (thread.ready() && urgency(thread) == most) return thread;
        }
        throw Error("no thread can go on");
    }

    // Copies this block's shared memory to the addresses that the kernel uses. Byte by byte: AddressSanitizer has
    // guards between the variables, which memcpy must not touch.
    __attribute__((no_sanitize("address"))) void enter_shared_memory();

    dim3 index_;
    std::function<void()> kernel_;
    std::mt19937* urgencies_;  // null if all warps have the same urgency
    std::vector<Thread> threads_;
    std::vector<Warp> warps_;
    Context scheduler_;
    Thread* current_ = nullptr;
    std::exception_ptr error_;
    std::size_t left_;
    unsigned arrived_ = 0, rounds_ = 0;
    int line_ = 0;
    std::vector<char> shared_ = std::vector<char>(__stop_shared_memory - __start_shared_memory, '\xff');
};

inline Block* block;  // the block whose thread runs

inline void Block::step(unsigned seed, std::mt19937& random) {
    enter_shared_memory();
    current_ = &next(seed, random);
    blockIdx = index_;
    threadIdx = {current_->index, 0, 0};
    scheduler_.jump(*current_);
    if (error_) std::rethrow_exception(error_);
    left_ -= current_->done;
}

inline void Block::enter_shared_memory() {
    if (block == this) return;
    volatile char* place = __start_shared_memory;
    for (std::size_t i = 0; block && i < shared_.size(); ++i) block->shared_.data()[i] = place[i];
    for (std::size_t i = 0; i < shared_.size(); ++i) place[i] = shared_.data()[i];
    block = this;
}

inline void Block::enter() {
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(nullptr, &block->scheduler_.bottom, &block->scheduler_.size);
#endif
    try {
        block->kernel_();
    } catch (...) {
        block->error_ = std::current_exception();
    }
    block->current_->done = true;
    block->current_->jump(block->scheduler_, true);
}

// Runs kernel<<<grid, threads>>>(argument) under the schedule of a seed.
template <typename Argument>
void launch(void (*kernel)(Argument), dim3 grid, unsigned threads, Argument argument, unsigned seed) {
    constexpr std::size_t AT_A_TIME = 3;
    const bool any = seed > 1 && seed % 2 == 0, by_urgency = seed > 1 && seed % 2 == 1;
    std::mt19937 random(seed);
    std::vector<unsigned> waiting(grid.x * grid.y * grid.z);  // blocks start from its end
    std::iota(waiting.begin(), waiting.end(), 0);
    if (seed == 0) std::reverse(waiting.begin(), waiting.end());
    if (seed > 1) std::shuffle(waiting.begin(), waiting.end(), random);
    gridDim = grid;
    blockDim = {threads, 1, 1};
    std::vector<std::unique_ptr<Block>> running;
    std::size_t selected = 0;
    while (!waiting.empty() || !running.empty()) {
        while (running.size() < AT_A_TIME && !waiting.empty()) {
            const unsigned i = waiting.back();
            const dim3 index = {i % grid.x, i / grid.x % grid.y, i / (grid.x * grid.y)};
            const auto start = [=] { kernel(argument); };
            running.push_back(std::make_unique<Block>(index, threads, start, by_urgency ? &random : nullptr));
            waiting.pop_back();
        }
        if (any && random() % 8 == 0) selected = random();
        auto turn = running.begin() + selected % running.size();
        if (by_urgency)
            turn = std::max_element(running.begin(), running.end(),
                                    [](const auto& a, const auto& b) { return a->urgency() < b->urgency(); });
        (*turn)->step(seed, random);
        if ((*turn)->finished()) {
            block = nullptr;
            running.erase(turn);
        }
    }
}

}  // namespace cuda_on_cpu

inline float __shfl_xor_sync(std::uint32_t mask, float value, unsigned distance) {
    return cuda_on_cpu::block->exchange(mask, value, distance);
}
inline int __shfl_xor_sync(std::uint32_t mask, int value, unsigned distance) {
    float bits;
    std::memcpy(&bits, &value, sizeof bits);
    bits = cuda_on_cpu::block->exchange(mask, bits, distance);
    std::memcpy(&value, &bits, sizeof value);
    return value;
}
inline void __threadfence() { cuda_on_cpu::block->fence(); }
inline unsigned atomicInc(unsigned* counter, unsigned limit) {
    return cuda_on_cpu::block->atomic_increment(counter, limit);
}
