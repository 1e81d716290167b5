// The compiled core's C interface: a pool of threads, the cache's memory, and programs that run steps. See native.py.
#include <sys/mman.h>

#include <algorithm>

#include "mask.h"
#include "tape.h"
// after it, for it opens names of its own
#include "gemm_exports.h"

using namespace ramify::core;

namespace {

constexpr size_t kReadyBytes = size_t{384} << 20;  // of the cache: some 16,000 tokens of a small model
constexpr int kPopulateWrite = 23;                 // MADV_POPULATE_WRITE, which older headers do not name

struct Core {
  explicit Core(int threads) : pool(threads) {}
  ~Core() { release(); }
  void release() {
    if (memory.cache != nullptr) munmap(memory.cache, memory.cache_bytes);
    memory.cache = nullptr;
  }
  Memory memory;
  Pool pool;
};

}  // namespace

extern "C" {

void* ramify_open(int32_t threads) {
  try {
    return new Core(threads);
  } catch (...) {
    return nullptr;
  }
}

void ramify_close(void* core) { delete static_cast<Core*>(core); }

int64_t ramify_page_bytes(const CacheLayout* layout) {
  return static_cast<int64_t>(layout->page_bytes() * layout->layers);
}

// Takes the cache's memory (pages beyond the first cost nothing until they are used); false: there is not so much.
int32_t ramify_allocate(void* core, const CacheLayout* layout) {
  Core& it = *static_cast<Core*>(core);
  it.release();
  const size_t bytes = layout->bytes();
  void* cache = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (cache == MAP_FAILED) return 0;
  // Small pages: clearing a huge one on its first use can stall a step for milliseconds, and they read no slower. What
  // the first requests will use is made ready now, at about 3 GB/s; where the system cannot, it comes with the use.
  madvise(cache, bytes, MADV_NOHUGEPAGE);
  madvise(cache, std::min(bytes, kReadyBytes), kPopulateWrite);
  it.memory.layout = *layout;
  it.memory.cache = static_cast<char*>(cache);
  it.memory.cache_bytes = bytes;
  return 1;
}

// The cache's memory, for tests that poison it.
void* ramify_cache(void* core) { return static_cast<Core*>(core)->memory.cache; }

void* ramify_program(void* core, const Instruction* tape, int32_t length, const AttentionLayer* layers,
                     int32_t layer_count, const int32_t* widths, int32_t buffers, int32_t vocabulary, int32_t positions) {
  Core& it = *static_cast<Core*>(core);
  try {
    return new Program(it.memory, it.pool, tape, length, layers, layer_count, widths, buffers, vocabulary, positions);
  } catch (...) {
    return nullptr;
  }
}

void ramify_program_close(void* program) { delete static_cast<Program*>(program); }

int32_t ramify_step(void* program, const StepView* step, float* logits) {
  return static_cast<Program*>(program)->step(*step, logits);
}

// Rows rows[i] of logits [?, columns] under masks[i], in place.
void ramify_mask(float* logits, int32_t columns, const int32_t* rows, const uint32_t* const* masks, int32_t count) {
  for (int32_t i = 0; i < count; ++i) mask_row(masks[i], columns, logits + static_cast<size_t>(columns) * rows[i]);
}

// 0: off; 1: by the wall; 2: by the calling thread's own time, which a busy machine does not blur.
void ramify_profile(void* core, int32_t how) {
  static_cast<Core*>(core)->memory.profile = how == 0 ? -1 : how == 1 ? CLOCK_MONOTONIC : CLOCK_THREAD_CPUTIME_ID;
}

void ramify_counters(void* core, Counters* counters) { *counters = static_cast<Core*>(core)->memory.counters; }

}  // extern "C"
