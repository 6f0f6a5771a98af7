// Runs a CUDA kernel on the CPU, to find the mistakes that do not need a GPU to be made.
//
// Each thread is a fiber that runs until it waits: at __syncthreads, or in a shuffle until all lanes of the mask have
// come. A few blocks are under way at a time. Which of their threads goes on is up to a schedule, so that an order that
// the kernel relies on without asking for it does not last. Shared memory begins as NaN. What a GPU leaves undefined or
// hangs on throws: threads at different barriers, lanes that disagree on the mask or miss in it.
//
// Schedules by their seed: 0 in order; 1 in reverse; even ones take any thread; odd ones give each warp an urgency anew
// behind every barrier, which leaves some behind while whole blocks pass them by.
//
// Memory that is slow to show what was written is not modelled. Instead an atomic operation, by which blocks tell each
// other of what they wrote, must stand between two fences.
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
// In a function that is no template: GCC forgets the section in one, and all blocks would share the variable.
#define __shared__ static __attribute__((section("shared_memory")))
#define __syncthreads() cuda_on_cpu::block->barrier(__LINE__)

extern char __start_shared_memory[], __stop_shared_memory[];  // made by the linker

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};
inline dim3 threadIdx, blockIdx, blockDim, gridDim;

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

    // From this one to another, until somebody jumps back; AddressSanitizer must be told.
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
    const unsigned* awaited = nullptr;  // goes on when this is no longer `seen`
    unsigned seen = 0;
    bool done = false;
    bool fenced = false;   // nothing came between the last fence and now
    bool believes = false; // read another block's news and has not fenced since

    bool ready() const { return !done && (!awaited || *awaited != seen); }
};

// Lanes that wait for each other in a shuffle. Two rounds of values, since a fast lane may come to the next shuffle
// before a slow one has read from this.
struct Warp {
    std::uint32_t mask = 0, arrived = 0;
    unsigned round = 0, urgency = 1;  // 0: left behind
    float values[2][32];
};

class Block {
  public:
    Block(dim3 index, unsigned size, const std::function<void()>& kernel, std::mt19937* urgencies)
        : index_(index), kernel_(kernel), urgencies_(urgencies), threads_(size), warps_((size + 31) / 32), left_(size) {
        for (unsigned i = 0; i < size; ++i) prepare(threads_[i], i);
    }

    bool finished() const { return left_ == 0; }

    // Of the most urgent warp that has a thread to run.
    unsigned urgency() const {
        unsigned most = 0;
        for (const Thread& thread : threads_)
            if (thread.ready()) most = std::max(most, urgency(thread));
        return most;
    }

    // Lets one thread run until it waits.
    void step(unsigned seed, std::mt19937& random);

    void barrier(int line) {
        if (current_->believes) throw Error("a barrier before the fence behind an atomic operation");
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
        current_->believes = false;
    }

    unsigned atomic_increment(unsigned* counter, unsigned limit) {
        if (!current_->fenced) throw Error("an atomic operation without a fence before it");
        current_->believes = true;
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

    // This block's shared memory into the one place that the kernel knows. Byte by byte: AddressSanitizer keeps guards
    // between the variables, which memcpy may not touch.
    __attribute__((no_sanitize("address"))) void enter_shared_memory();

    dim3 index_;
    std::function<void()> kernel_;
    std::mt19937* urgencies_;  // null where all are alike
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

inline Block* block;  // the one whose thread runs

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

// kernel<<<grid, threads>>>(argument) under the schedule of a seed.
template <typename Argument>
void launch(void (*kernel)(Argument), dim3 grid, unsigned threads, Argument argument, unsigned seed) {
    constexpr std::size_t AT_A_TIME = 3;
    const bool any = seed > 1 && seed % 2 == 0, by_urgency = seed > 1 && seed % 2 == 1;
    std::mt19937 random(seed);
    std::vector<unsigned> waiting(grid.x * grid.y * grid.z);  // taken from the end
    std::iota(waiting.begin(), waiting.end(), 0);
    if (seed == 0) std::reverse(waiting.begin(), waiting.end());
    if (seed > 1) std::shuffle(waiting.begin(), waiting.end(), random);
    gridDim = grid;
    blockDim = {threads, 1, 1};
    std::vector<std::unique_ptr<Block>> under_way;
    std::size_t chosen = 0;
    while (!waiting.empty() || !under_way.empty()) {
        while (under_way.size() < AT_A_TIME && !waiting.empty()) {
            const unsigned i = waiting.back();
            const dim3 index = {i % grid.x, i / grid.x % grid.y, i / (grid.x * grid.y)};
            const auto start = [=] { kernel(argument); };
            under_way.push_back(std::make_unique<Block>(index, threads, start, by_urgency ? &random : nullptr));
            waiting.pop_back();
        }
        if (any && random() % 8 == 0) chosen = random();
        auto turn = under_way.begin() + chosen % under_way.size();
        if (by_urgency)
            turn = std::max_element(under_way.begin(), under_way.end(),
                                    [](const auto& a, const auto& b) { return a->urgency() < b->urgency(); });
        (*turn)->step(seed, random);
        if ((*turn)->finished()) {
            block = nullptr;
            under_way.erase(turn);
        }
    }
}

}  // namespace cuda_on_cpu

inline float __shfl_xor_sync(std::uint32_t mask, float value, unsigned distance) {
    return cuda_on_cpu::block->exchange(mask, value, distance);
}
inline void __threadfence() { cuda_on_cpu::block->fence(); }
inline unsigned atomicInc(unsigned* counter, unsigned limit) {
    return cuda_on_cpu::block->atomic_increment(counter, limit);
}
