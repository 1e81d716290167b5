// One layer's attention: walks the tasks of a plan, each on one thread and one kv head.
#pragma once

#include <atomic>
#include <cstdlib>
#include <new>

#include "attention_plan.h"

namespace ramify::core {

struct AttentionLayer {  // mirrored in native.py
  int32_t layer, heads, kv_heads, head_dim, window, half;  // half: dimensions of each rotated half
  float scale, softcap, norm_eps;
  const float *cos, *sin, *q_norm, *k_norm;  // cos, sin: [positions, half]; norms: [head_dim] or null
};

// Memory that only grows, aligned to cache lines; its content is lost when it grows.
class Scratchpad {
 public:
  template <class Element>
  Element* at_least(size_t count) {
    const size_t bytes = (count * sizeof(Element) + 4095) / 4096 * 4096;
    if (bytes > bytes_) {
      std::free(memory_);
      memory_ = std::aligned_alloc(4096, bytes);
      bytes_ = memory_ != nullptr ? bytes : 0;
      if (memory_ == nullptr) throw std::bad_alloc();
    }
    return static_cast<Element*>(memory_);
  }
  template <class Element>
  Element* data() const {
    return static_cast<Element*>(memory_);
  }
  Scratchpad() = default;
  Scratchpad(const Scratchpad&) = delete;
  Scratchpad& operator=(const Scratchpad&) = delete;
  ~Scratchpad() { std::free(memory_); }

 private:
  void* memory_ = nullptr;
  size_t bytes_ = 0;
};

// What one thread needs for the largest task.
struct Workspace {
  Scratchpad floats, elements, integers;
  std::vector<float> head;
  uint64_t bytes_read = 0;  // of the cache, since the core was made
};

// Where the partial softmaxes of the stacked members lie, and how many splits of each are still being computed.
struct Partials {
  Scratchpad memory;
  std::vector<std::atomic<int32_t>> waiting;  // [members, kv heads]
};

struct AttentionStep {
  const CacheLayout& layout;
  char* cache;
  const AttentionLayer& layer;
  const StepView& step;
  const Plan& plan;
  Partials& partials;
  const float* qkv;  // [T, (H + 2 Hkv) D]
  float* out;        // [T, H D]
};

template <class T>
class AttentionTask {
  using Element = typename T::Element;

 public:
  AttentionTask(const AttentionStep& context, Workspace& workspace)
      : a_(context), layer_(context.layer), plan_(context.plan), workspace_(workspace),
        padded_(context.layout.padded()), group_(layer_.heads / layer_.kv_heads) {
    rule_.cap = layer_.softcap;
    rule_.scale = layer_.scale;
    rule_.factor = (rule_.cap > 0 ? 1.f : layer_.scale) * kLog2e;
    workspace_.head.resize(static_cast<size_t>(padded_));
    const size_t rows = static_cast<size_t>(plan_.largest_task) * group_;
    const size_t state = rows * (padded_ + kLanes + 16);
    float* floats = workspace_.floats.at_least<float>(2 * state + rows * (kTile + 16) + 64);
    now_ = carve(floats, rows);
    merged_ = carve(floats, rows);
    scores_ = floats, floats += rows * kTile;
    decay_ = floats;
    Element* elements = workspace_.elements.at_least<Element>(rows * (padded_ + kTile) + 2 * kSubtile * padded_ + 64);
    tail_ = elements, elements += kSubtile * padded_;
    q_ = elements, elements += rows * padded_;
    weights_ = elements;
    int32_t* integers = workspace_.integers.at_least<int32_t>(2 * rows + 64);
    low_ = integers, high_ = integers + rows;
  }

  // Keys and values of one row of the plan's step (all kv heads, or one).
  static void write_row(const AttentionStep& a, int token, int sequence, int head, float* scratch) {
    const AttentionLayer& layer = a.layer;
    const int position = a.step.positions[token], dim = layer.head_dim, padded = a.layout.padded();
    const int page = a.step.pages[a.step.page_start[sequence] + position / a.layout.page_size];
    const int slot = position % a.layout.page_size;
    const float* row = a.qkv + static_cast<size_t>(token) * (layer.heads + 2 * layer.kv_heads) * dim;
    prepare_head(layer, row + (layer.heads + head) * dim, layer.k_norm, position, scratch);
    Element* tile = reinterpret_cast<Element*>(a.cache + a.layout.offset(layer.layer, page, head, slot));
    write_key<T>(tile, slot % kSubtile, Converted<T>(scratch, dim, padded), padded);
    const float* value = row + (layer.heads + layer.kv_heads + head) * dim;
    write_value<T>(tile + kSubtile * padded, slot % kSubtile, Converted<T>(value, dim, padded), padded);
  }

  void run(const Task& task, int head) {
    head_ = head;
    const Member& first = plan_.members[task.member0];
    row0_ = first.row0;
    rows_ = (plan_.members[task.member1 - 1].row1 - row0_) * group_;
    if (plan_.writes_own) write_own(task);
    load_queries();
    clear(now_, rows_, padded_);
    if (task.split < 0) {
      run_all_splits(task);
    } else {
      walk(task.segment0, task.segment1);
      hand_over(task);
    }
  }

 private:
  Rows carve(float*& floats, size_t rows) const {
    Rows state;
    state.out = floats, floats += rows * padded_;
    state.total = floats, floats += rows * kLanes;
    state.best = floats, floats += rows * 16;
    return state;
  }

  static void prepare_head(const AttentionLayer& layer, const float* x, const float* norm, int position, float* y) {
    if (norm != nullptr) norm_row(x, norm, layer.norm_eps, layer.head_dim, y);
    else std::memcpy(y, x, static_cast<size_t>(layer.head_dim) * sizeof(float));
    const size_t at = static_cast<size_t>(position) * layer.half;
    rotate(y, layer.cos + at, layer.sin + at, layer.half);
  }

  void write_own(const Task& task) {
    for (int i = task.member0; i < task.member1; ++i)
      for (int row = plan_.members[i].row0; row < plan_.members[i].row1; ++row)
        if ((plan_.high[row] - 1) / kSplit == task.split)
          write_row(a_, plan_.token[row], plan_.sequence[row], head_, workspace_.head.data());
  }

  void load_queries() {
    const int dim = layer_.head_dim;
    float* one = workspace_.head.data();
    for (int i = 0; i < rows_; ++i) {
      const int row = row0_ + i / group_, token = plan_.token[row];
      low_[i] = plan_.low[row];
      high_[i] = plan_.high[row];
      const float* from = a_.qkv + (static_cast<size_t>(token) * (layer_.heads + 2 * layer_.kv_heads) +
                                    head_ * group_ + i % group_) * dim;
      prepare_head(layer_, from, layer_.q_norm, a_.step.positions[token], one);
      std::memcpy(q_ + i * padded_, Converted<T>(one, dim, padded_).numbers, padded_ * sizeof(Element));
    }
  }

  void run_all_splits(const Task& task) {
    for (int i = task.segment0; i < task.segment1; ++i) {
      walk(i, i + 1);
      if (task.segment1 - task.segment0 == 1) break;
      if (i == task.segment0) {
        std::swap(now_, merged_);
      } else {
        for (int r = 0; r < rows_; ++r) merge(merged_, r, now_.best[r], total(now_, r), out(now_, r));
      }
      clear(now_, rows_, padded_);
    }
    if (task.segment1 - task.segment0 > 1) std::swap(now_, merged_);
    for (int r = 0; r < rows_; ++r) finish(row0_ + r / group_, r % group_, total(now_, r), out(now_, r));
  }

  // -- the keys ---------------------------------------------------------------------------------------------------

  void walk(int segment, int end) {
    while (segment < end) {
      const Segment& first = plan_.segments[segment];
      if (!first.mixed) {
        whole_tiles(first);
        ++segment;
        continue;
      }
      int last = segment + 1;
      const int tile = first.key0 / kTile;
      while (last < end && plan_.segments[last].mixed && plan_.segments[last].key0 / kTile == tile &&
             plan_.segments[last].row1 <= first.row1)
        ++last;
      mixed_tile(segment, last);
      segment = last;
    }
  }

  // Points keys_ and values_ at the subtiles of [key0, key1): at most a tile. Keys from `valid` on hold anything at all:
  // scores of such keys are masked, but 0 * NaN is NaN, so their values are replaced by zeros.
  int find_tiles(const Segment& segment, int key0, int key1) {
    int parts = 0;
    for (int key = key0; key < key1; key += kSubtile, ++parts) {
      const int page = segment.pages[key / a_.layout.page_size];
      const char* at = a_.cache + a_.layout.offset(layer_.layer, page, head_, key % a_.layout.page_size);
      keys_[parts] = reinterpret_cast<const Element*>(at);
      values_[parts] = keys_[parts] + kSubtile * padded_;
      if (key + kSubtile > segment.valid) values_[parts] = clean_tail(values_[parts], segment.valid - key);
    }
    workspace_.bytes_read += static_cast<uint64_t>(parts) * a_.layout.tile_bytes();
    return parts;
  }

  const Element* clean_tail(const Element* values, int valid) {
    std::memcpy(tail_, values, a_.layout.half_bytes());
    for (int slot = valid; slot < kSubtile; ++slot)
      for (int d = 0; d < padded_; ++d) tail_[((slot / T::kPair) * padded_ + d) * T::kPair + slot % T::kPair] = 0;
    return tail_;
  }

  // Query rows [from, from + count) of the task, as blocks of up to 6 of nearly equal size.
  template <class Visit>
  void for_blocks(int from, int count, const Visit& visit) const {
    const int blocks = (count + kBlock - 1) / kBlock;
    for (int i = 0; i < blocks; ++i) {
      const int begin = static_cast<int>(static_cast<int64_t>(count) * i / blocks);
      const int end = static_cast<int>(static_cast<int64_t>(count) * (i + 1) / blocks);
      visit(from + begin, end - begin);
    }
  }

  void whole_tiles(const Segment& segment) {
    const int from = (segment.row0 - row0_) * group_, count = (segment.row1 - segment.row0) * group_;
    const int lowest = *std::min_element(low_ + from, low_ + from + count);
    const int key_end = std::min(segment.key1, segment.valid);
    for (int key = std::max(segment.key0, lowest / kTile * kTile); key < key_end; key += kTile) {
      const int parts = find_tiles(segment, key, std::min(key + kTile, key_end));
      for_blocks(from, count, [&](int row, int rows) {
        const int high = *std::max_element(high_ + row, high_ + row + rows) - key;
        const int low = *std::min_element(low_ + row, low_ + row + rows) - key;
        if (high <= 0 || low >= kTile) return;
        const int needed = std::min(parts, (high + kSubtile - 1) / kSubtile);
        with_rows(rows, [&](auto r) {
          constexpr int R = decltype(r)::value;
          score_rows<T, R>(needed, q_ + row * padded_, padded_, keys_, scores_);
          soften_rows<T>(needed, rule_, now_, row, R, scores_, key, low_, high_, weights_, decay_);
          mix_rows<T, R>(weights_, values_, needed, padded_, decay_, now_.out + row * padded_);
        });
      });
    }
  }

  // A tile whose first subtiles are shared by more rows than its last: the same three phases, each over all the rows.
  void mixed_tile(int segment, int end) {
    const Segment& root = plan_.segments[segment];
    const int from = (root.row0 - row0_) * group_, count = (root.row1 - root.row0) * group_;
    const int key = root.key0 / kTile * kTile;
    for (int s = segment; s < end; ++s)
      pieces(plan_.segments[s], key, true, [&](auto r, int row, int parts, int part) {
        score_rows<T, decltype(r)::value>(parts, q_ + row * padded_, padded_, keys_,
                                          scores_ + row * kTile + part * kSubtile);
      });
    soften_rows<T>(kParts, rule_, now_, from, count, scores_ + from * kTile, key, low_, high_, weights_ + from * kTile,
                   decay_ + from);
    for (int s = segment; s < end; ++s) {
      pieces(plan_.segments[s], key, false, [&](auto r, int row, int parts, int part) {
        float* decay = decay_ + row;
        mix_rows<T, decltype(r)::value>(weights_ + row * kTile + part * kSubtile, values_, parts, padded_, decay,
                                        now_.out + row * padded_);
        for (int i = 0; i < decltype(r)::value; ++i) decay[i] = 1;  // once for a tile
      });
    }
  }

  template <class Visit>
  void pieces(const Segment& segment, int tile, bool counted, const Visit& visit) {
    const int part = (segment.key0 - tile) / kSubtile;
    const uint64_t before = workspace_.bytes_read;
    const int parts = find_tiles(segment, segment.key0, std::min(segment.key1, segment.valid));
    if (!counted) workspace_.bytes_read = before;  // the same bytes a moment later: still in the first-level cache
    if (parts == 0) return;
    for_blocks((segment.row0 - row0_) * group_, (segment.row1 - segment.row0) * group_, [&](int row, int rows) {
      with_rows(rows, [&](auto r) { visit(r, row, parts, part); });
    });
  }

  // -- the end of a split -------------------------------------------------------------------------------------------

  float* total(const Rows& rows, int r) const { return rows.total + r * kLanes; }
  float* out(const Rows& rows, int r) const { return rows.out + r * padded_; }

  void merge(const Rows& into, int r, float best, const float* from_total, const float* from_out) const {
    merge_row(into.best[r], total(into, r), out(into, r), best, from_total, from_out, padded_);
  }

  void finish(int row, int query_head, const float* total, const float* mixture) const {
    float* to = a_.out + (static_cast<size_t>(plan_.token[row]) * layer_.heads + head_ * group_ + query_head) *
                             layer_.head_dim;
    finish_row(total, mixture, layer_.head_dim, to);
  }

  // [best, 15 unused, total (16), mixture (padded)] of one query row in one split.
  float* partial(const Member& member, int split, int row, int query_head) const {
    const size_t index = member.partial + static_cast<size_t>(split - member.split0) * (member.row1 - member.row0) +
                         (row - member.row0);
    return a_.partials.memory.template data<float>() + ((index * layer_.kv_heads + head_) * group_ + query_head) * (2 * kLanes + padded_);
  }

  void hand_over(const Task& task) {
    for (int i = task.member0; i < task.member1; ++i) {
      const Member& member = plan_.members[i];
      for (int row = member.row0; row < member.row1; ++row)
        for (int h = 0; h < group_; ++h) {
          const int r = (row - row0_) * group_ + h;
          if (member.splits == 1) {
            finish(row, h, total(now_, r), out(now_, r));
            continue;
          }
          float* kept = partial(member, task.split, row, h);
          kept[0] = now_.best[r];
          std::memcpy(kept + kLanes, total(now_, r), kLanes * sizeof(float));
          std::memcpy(kept + 2 * kLanes, out(now_, r), static_cast<size_t>(padded_) * sizeof(float));
        }
      if (member.splits > 1) {
        std::atomic<int32_t>& waiting = a_.partials.waiting[static_cast<size_t>(i) * layer_.kv_heads + head_];
        if (waiting.fetch_sub(1, std::memory_order_acq_rel) == 1) {
          waiting.store(member.splits, std::memory_order_relaxed);  // for the next layer
          merge_splits(member);
        }
      }
    }
  }

  void merge_splits(const Member& member) {
    for (int row = member.row0; row < member.row1; ++row)
      for (int h = 0; h < group_; ++h) {
        float* first = partial(member, member.split0, row, h);
        for (int split = member.split0 + 1; split < member.split0 + member.splits; ++split) {
          const float* next = partial(member, split, row, h);
          merge_row(first[0], first + kLanes, first + 2 * kLanes, next[0], next + kLanes, next + 2 * kLanes, padded_);
        }
        finish(row, h, first + kLanes, first + 2 * kLanes);
      }
  }

  const AttentionStep& a_;
  const AttentionLayer& layer_;
  const Plan& plan_;
  Workspace& workspace_;
  const int padded_, group_;
  SoftmaxRule rule_;
  int head_ = 0, row0_ = 0, rows_ = 0;
  Rows now_, merged_;
  float *scores_, *decay_;
  Element *tail_, *q_, *weights_;
  int32_t *low_, *high_;
  const Element* keys_[kParts];
  const Element* values_[kParts];
};

}  // namespace ramify::core
