// The threads of the compiled core: started once, asleep between steps, in lockstep by barriers within one.
//
// The machine may be shared: a waiting thread spins a little, then yields to whoever wants the core, and after a
// millisecond sleeps in the kernel. Being woken takes up to a tenth of one, so the pause between two steps should not
// put the threads to sleep.
#pragma once

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <climits>
#include <cstdint>
#include <thread>
#include <vector>

namespace ramify::core {

inline void pause_briefly() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

inline int64_t microseconds() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * int64_t{1000000} + now.tv_nsec / 1000;
}

// A number that only changes; threads wait for it to differ from what they saw.
class Signal {
 public:
  uint32_t now() const { return value_.load(std::memory_order_acquire); }

  void raise() {
    value_.fetch_add(1, std::memory_order_seq_cst);
    if (sleepers_.load(std::memory_order_seq_cst) > 0)
      syscall(SYS_futex, reinterpret_cast<uint32_t*>(&value_), FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
  }

  void wait_past(uint32_t seen) {
    for (int i = 0; i < kSpins; ++i) {
      if (now() != seen) return;
      pause_briefly();
    }
    const int64_t enough = microseconds() + kPatience;
    do {
      if (now() != seen) return;
      sched_yield();
    } while (microseconds() < enough);
    sleepers_.fetch_add(1, std::memory_order_seq_cst);
    while (value_.load(std::memory_order_seq_cst) == seen)
      syscall(SYS_futex, reinterpret_cast<uint32_t*>(&value_), FUTEX_WAIT_PRIVATE, seen, nullptr, nullptr, 0);
    sleepers_.fetch_sub(1, std::memory_order_seq_cst);
  }

 private:
  static constexpr int kSpins = 2000;  // some tens of microseconds
  static constexpr int64_t kPatience = 1000;  // microseconds
  std::atomic<uint32_t> value_{0};
  std::atomic<int> sleepers_{0};
};

// What the pool runs: `run(thread)` on every thread at once.
class Job {
 public:
  virtual void run(int thread) = 0;

 protected:
  ~Job() = default;
};

class Pool {
 public:
  explicit Pool(int threads) : threads_(threads), owner_(getpid()) { start(); }

  ~Pool() {
    if (getpid() != owner_) return;  // a fork's copy: the threads are not here
    stopping_ = true;
    begin_.raise();
    for (std::thread& worker : *workers_) worker.join();
    delete workers_;
  }

  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  int threads() const { return threads_; }

  // The caller is thread 0; returns when all are done.
  void run(Job& job) {
    if (getpid() != owner_) restart();
    job_ = &job;
    begin_.raise();
    job.run(0);
    barrier();
  }

  // Every thread of the running job must call it; none goes on before all have.
  void barrier() {
    if (threads_ == 1) return;
    const uint32_t seen = turn_.now();
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == threads_) {
      arrived_.store(0, std::memory_order_relaxed);
      turn_.raise();
    } else {
      turn_.wait_past(seen);
    }
  }

 private:
  void start() {
    const uint32_t seen = begin_.now();
    workers_ = new std::vector<std::thread>;
    for (int thread = 1; thread < threads_; ++thread)
      workers_->emplace_back([this, thread, seen] { work(thread, seen); });
  }

  void restart() {  // after a fork the child has none of the threads; their old handles can only be leaked
    arrived_ = 0;
    owner_ = getpid();
    start();
  }

  void work(int thread, uint32_t seen) {
    for (;;) {
      begin_.wait_past(seen);
      if (stopping_) return;
      ++seen;
      job_->run(thread);
      barrier();
    }
  }

  int threads_;
  pid_t owner_;
  Job* job_ = nullptr;
  std::atomic<bool> stopping_{false};
  alignas(64) Signal begin_;
  alignas(64) Signal turn_;
  alignas(64) std::atomic<int> arrived_{0};
  std::vector<std::thread>* workers_ = nullptr;
};

}  // namespace ramify::core
