// The clock of gemm.py: products timed on spinning threads, as the compiled core runs them, and the machine's own limits.
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "gemm_exports.h"

namespace {

using namespace ramify;

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// All threads wait here for each other.
class Barrier {
 public:
  explicit Barrier(int threads) : threads_(threads) {}
  void wait() {
    const int round = round_.load();
    if (arrived_.fetch_add(1) + 1 == threads_) {
      arrived_ = 0;
      round_.fetch_add(1);
    } else {
      for (int spins = 0; round_.load() == round; ++spins)
        if (spins > 5000) std::this_thread::yield();  // on a busy machine the one we wait for may need this core
    }
  }

 private:
  const int threads_;
  std::atomic<int> arrived_{0}, round_{0};
};

// Keeps the calling thread on the processor number `index` of those it may use, until it goes out of scope: two threads
// that the system puts on one core would measure one core.
class Pinned {
 public:
  explicit Pinned(int index) {
    sched_getaffinity(0, sizeof before_, &before_);
    cpu_set_t one;
    CPU_ZERO(&one);
    for (int cpu = 0, seen = 0; cpu < CPU_SETSIZE; ++cpu)
      if (CPU_ISSET(cpu, &before_) && seen++ == index) CPU_SET(cpu, &one);
    if (CPU_COUNT(&one) > 0) sched_setaffinity(0, sizeof one, &one);
  }
  ~Pinned() { sched_setaffinity(0, sizeof before_, &before_); }

 private:
  cpu_set_t before_;
};

template <class Work>
double shortest(int threads, int repeats, Work work) {
  Barrier barrier(threads);
  double best = 1e9;
  const auto body = [&](int thread) {
    const Pinned pinned(thread);
    for (int repeat = 0; repeat < repeats; ++repeat) {
      barrier.wait();
      const double start = now();
      work(thread, repeat, barrier);
      barrier.wait();
      if (thread == 0) best = std::min(best, now() - start);
    }
  };
  std::vector<std::thread> others;
  for (int thread = 1; thread < threads; ++thread) others.emplace_back(body, thread);
  body(0);
  for (std::thread& other : others) other.join();
  return best;
}

}  // namespace

extern "C" {

// Seconds of one product of `rows` rows, the shortest of `repeats`; the matrices (same shape) take turns, so that
// enough of them keep each other out of the caches.
double bench_product(const Matrix* const* matrices, int count, const float* x, int rows, void* scratch, float* y,
                     int threads, int repeats) {
  return shortest(threads, repeats, [&](int thread, int repeat, Barrier& barrier) {
    const Matrix& matrix = *matrices[repeat % count];
    prepare_rows(matrix, x, matrix.k, rows * thread / threads, rows * (thread + 1) / threads, rows, scratch);
    barrier.wait();
    const int all = panels(matrix);
    gemm_panels(matrix, scratch, rows, all * thread / threads, all * (thread + 1) / threads, y, matrix.n, nullptr);
  });
}

// Bytes a second read from `memory` by all threads.
double bench_read(const char* memory, int64_t bytes, int threads) {
  std::atomic<int32_t> sink{0};
  const double seconds = shortest(threads, 5, [&](int thread, int, Barrier&) {
    const int64_t part = bytes / threads / 256 * 256;
    const char* from = memory + part * thread;
    Ints sums[4] = {};
    for (int64_t at = 0; at < part; at += 4 * kVectorBytes)
      for (int i = 0; i < 4; ++i) sums[i] ^= load<Ints>(from + at + i * kVectorBytes);
    sink += (sums[0] ^ sums[1] ^ sums[2] ^ sums[3])[0];
  });
  return bytes / seconds;
}

// Operations a second of a kind's inner step in registers, with no memory: nothing can be faster.
#define PEAK(Step, threads)                                                                                     \
  shortest(threads, 20, [&](int, int, Barrier&) {                                                               \
    typename Step::Sum sums[12] = {};                                                                           \
    typename Step::Weight weight = load<typename Step::Weight>(start), other = load<typename Step::Weight>(start); \
    for (int i = 0; i < 20000; ++i) {                                                                           \
      for (int j = 0; j < 12; ++j) sums[j] = Step::add(sums[j], weight, other);                                  \
      asm volatile("" : "+x"(weight), "+x"(other));                                                              \
    }                                                                                                           \
    for (int j = 0; j < 12; ++j) asm volatile("" ::"x"(sums[j]));                                                \
  })

double bench_peak(int kind, int threads) {
  alignas(64) const char start[64] = {};
  const double steps = 20000.0 * 12 * kLanes * 2 * threads;
  if (kind == static_cast<int>(Kind::F32)) return steps * F32Step::kDepth / PEAK(F32Step, threads);
  if (kind == static_cast<int>(Kind::BF16)) return steps * BF16Step::kDepth / PEAK(BF16Step, threads);
  return steps * I8Step::kDepth / PEAK(I8Step, threads);
}

}  // extern "C"
