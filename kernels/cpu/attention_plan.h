// Who reads which keys: a step's attention laid out as tasks, once a step for each window, the same for all layers.
//
// Keys are cut into splits of 512 at absolute positions, always, and the partial softmaxes of a row's splits are merged
// in order: so one long sequence keeps every thread busy, and the arithmetic of a row never depends on the load.
// Rows of sequences that share leading pages are stacked (a cascade): sorted by page table, neighbours share prefixes,
// and a task walks the tree that they form, reading each shared tile once for all the rows below it.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "attention_tile.h"

namespace ramify::core {

constexpr int kSplit = 512;        // keys in a split
constexpr int kStackedRows = 512;  // most query rows in a task: their state must stay in the second-level cache
constexpr int kSmallRows = 64;     // a sequence with more query rows than this gains nothing from a cascade

struct StepView {  // mirrored in native.py
  const int32_t *tokens, *positions, *query_start, *context, *pages, *page_start, *logit_rows;
  const int32_t *column_start, *columns;  // null: all columns of all logit rows
  int32_t rows, sequences, page_count, logit_count;
};

struct Shape {
  int group;      // query heads of a kv head
  int kv_heads;
  int window;     // 0: none
  int page_size;
  int threads;
};

struct Segment {   // rows [row0, row1) of the plan against keys [key0, key1) of one page table
  int32_t row0, row1, key0, key1;
  int32_t valid;     // keys from here on were never written
  bool mixed;        // part of a tile that is shared only in part: goes with its mixed neighbours of the same tile
  const int32_t* pages;
};

struct Member {    // a sequence's rows, or some of them
  int32_t row0, row1;
  int32_t split0, splits;  // which splits its rows look at
  int32_t partial;         // where its partial softmaxes are kept, when there are several splits
};

struct Task {      // done by one thread, once for each kv head
  int32_t segment0, segment1, member0, member1;
  int32_t split;   // or -1: all splits, one after the other
  float cost;
};

struct Plan {
  std::vector<int32_t> token, low, high, sequence;  // by row: its token; it sees the keys [low, high)
  std::vector<Member> members;
  std::vector<Segment> segments;
  std::vector<Task> tasks;
  int partial_rows = 0;
  int stacked = 0;      // members that keep their splits apart: the first ones
  int largest_task = 0; // rows
  bool writes_own = false;  // each task can write its members' new keys itself: no other task reads them
};

class Planner {
 public:
  Planner(const StepView& step, const Shape& shape, Plan& plan) : step_(step), shape_(shape), plan_(plan) {}

  void build() {
    plan_ = Plan{};
    std::vector<int32_t> small, large;
    for (int s = 0; s < step_.sequences; ++s)
      if (rows_of(s) > 0) (rows_of(s) * shape_.group <= kSmallRows ? small : large).push_back(s);
    std::sort(small.begin(), small.end(), [this](int a, int b) { return table_less(a, b); });
    for (int s : small) add_member(s, 0, rows_of(s));
    plan_.stacked = static_cast<int>(small.size());
    plan_.writes_own = large.empty();
    find_shared(small);
    stack_splits();
    for (int s : large) add_large(s);
    std::sort(plan_.tasks.begin(), plan_.tasks.end(), [](const Task& a, const Task& b) { return a.cost > b.cost; });
  }

 private:
  int rows_of(int s) const { return step_.query_start[s + 1] - step_.query_start[s]; }
  int pages_of(int s) const { return step_.page_start[s + 1] - step_.page_start[s]; }
  const int32_t* table(int s) const { return step_.pages + step_.page_start[s]; }

  bool table_less(int a, int b) const {
    const int count = std::min(pages_of(a), pages_of(b));
    for (int i = 0; i < count; ++i)
      if (table(a)[i] != table(b)[i]) return table(a)[i] < table(b)[i];
    return pages_of(a) != pages_of(b) ? pages_of(a) < pages_of(b) : a < b;
  }

  void add_member(int s, int first, int last) {
    Member member;
    member.row0 = static_cast<int32_t>(plan_.token.size());
    for (int i = first; i < last; ++i) {
      const int token = step_.query_start[s] + i;
      const int high = step_.positions[token] + 1;
      plan_.token.push_back(token);
      plan_.high.push_back(high);
      plan_.low.push_back(shape_.window > 0 ? std::max(0, high - shape_.window) : 0);
      plan_.sequence.push_back(s);
    }
    member.row1 = static_cast<int32_t>(plan_.token.size());
    member.split0 = plan_.low[member.row0] / kSplit;
    member.splits = (plan_.high[member.row1 - 1] - 1) / kSplit - member.split0 + 1;
    member.partial = plan_.partial_rows;
    plan_.members.push_back(member);
  }

  // shared_[i]: keys that members i - 1 and i have in common, whole subtiles.
  void find_shared(const std::vector<int32_t>& small) {
    shared_.assign(small.size() + 1, 0);
    for (size_t i = 1; i < small.size(); ++i) {
      const int a = small[i - 1], b = small[i], count = std::min(pages_of(a), pages_of(b));
      int same = 0;
      while (same < count && table(a)[same] == table(b)[same]) ++same;
      shared_[i] = same * shape_.page_size;
      const int first_new = std::min(step_.positions[step_.query_start[a]], step_.positions[step_.query_start[b]]);
      if (shared_[i] > first_new) plan_.writes_own = false;  // one would read what the other writes
    }
  }

  void stack_splits() {
    const int count = plan_.stacked;
    int splits = 0;
    for (int i = 0; i < count; ++i) {
      Member& member = plan_.members[i];
      splits = std::max(splits, member.split0 + member.splits);
      member.partial = plan_.partial_rows;
      if (member.splits > 1) plan_.partial_rows += member.splits * (member.row1 - member.row0);
    }
    for (int split = 0; split < splits; ++split) {
      const auto looks = [&](int i) {
        const Member& m = plan_.members[i];
        return m.split0 <= split && split < m.split0 + m.splits;
      };
      for (int i = 0; i < count;) {
        if (!looks(i)) {
          ++i;
          continue;
        }
        int end = i + 1;
        while (end < count && looks(end) && shared_[end] > split * kSplit &&
               (plan_.members[end].row1 - plan_.members[i].row0) * shape_.group <= kStackedRows)
          ++end;
        const int first = static_cast<int>(plan_.segments.size());
        split_end_ = (split + 1) * kSplit;
        descend(i, end, split * kSplit);
        add_task(first, i, end, split);
        i = end;
      }
    }
  }

  int32_t valid(int i, int end) const {
    int most = 0;
    for (int m = i; m < end; ++m) most = std::max(most, step_.context[plan_.sequence[plan_.members[m].row0]]);
    return most;
  }

  int least_shared(int i, int end) const {
    int least = shared_[i + 1];
    for (int m = i + 2; m < end; ++m) least = std::min(least, shared_[m]);
    return least;
  }

  void add_segment(int i, int end, int key0, int key1, bool mixed) {
    const int s = plan_.sequence[plan_.members[i].row0];
    const int last = end - 1;
    plan_.segments.push_back({plan_.members[i].row0, plan_.members[last].row1, key0, key1, valid(i, end), mixed, table(s)});
  }

  int own_end(int i) const { return std::min(split_end_, plan_.high[plan_.members[i].row1 - 1]); }

  // Members [i, end) share everything before `key`, a multiple of 64: lay out the rest of the split for them.
  void descend(int i, int end, int key) {
    if (key >= valid(i, end)) return;
    if (end - i == 1) {
      if (own_end(i) > key) add_segment(i, end, key, own_end(i), false);
      return;
    }
    const int shared = std::min({split_end_, least_shared(i, end), valid(i, end)});
    const int whole = shared / kTile * kTile;
    if (whole > key) add_segment(i, end, key, whole, false);
    int next = std::max(key, whole);
    if (next >= split_end_) return;
    if (shared > next) {
      mix_tile(i, end, next, next);
      next += kTile;
    }
    for_branches(i, end, next, [&](int from, int to) { descend(from, to, next); });
  }

  // The tile at `tile` is shared up to `key` by members [i, end): the rest of it, in pieces.
  void mix_tile(int i, int end, int tile, int key) {
    if (key >= valid(i, end)) return;
    const int own = end - i == 1 ? own_end(i) : std::min(least_shared(i, end), valid(i, end));
    const int stop = std::min(tile + kTile, own);
    if (stop > key) add_segment(i, end, key, stop, true);
    key = std::max(key, stop);
    if (end - i > 1 && key < tile + kTile)
      for_branches(i, end, key, [&](int from, int to) { mix_tile(from, to, tile, key); });
  }

  // Runs of members that go on sharing after `key`; those with nothing left are skipped.
  template <class Visit>
  void for_branches(int i, int end, int key, const Visit& visit) {
    while (i < end) {
      int to = i + 1;
      while (to < end && shared_[to] > key) ++to;
      visit(i, to);
      i = to;
    }
  }

  void add_task(int first_segment, int member0, int member1, int split) {
    Task task{first_segment, static_cast<int32_t>(plan_.segments.size()), member0, member1, split, 0};
    for (int i = task.segment0; i < task.segment1; ++i) {
      const Segment& segment = plan_.segments[i];
      task.cost += static_cast<float>(segment.key1 - segment.key0) * static_cast<float>((segment.row1 - segment.row0) * shape_.group + 4);
    }
    plan_.tasks.push_back(task);
    plan_.largest_task =
        std::max(plan_.largest_task, plan_.members[member1 - 1].row1 - plan_.members[member0].row0);
  }

  // A long chunk: several members, each with all of its splits in one task.
  void add_large(int s) {
    const int rows = rows_of(s);
    const int parts = std::max(1, (6 * shape_.threads + shape_.kv_heads - 1) / shape_.kv_heads);
    const int length = std::min(std::max((rows + parts - 1) / parts, std::max(1, 48 / shape_.group)),
                                std::max(1, 192 / shape_.group));
    for (int first = 0; first < rows; first += length) {
      const int i = static_cast<int>(plan_.members.size());
      add_member(s, first, std::min(rows, first + length));
      const Member& member = plan_.members[i];
      const int begin = static_cast<int>(plan_.segments.size());
      for (int split = member.split0; split < member.split0 + member.splits; ++split) {
        split_end_ = (split + 1) * kSplit;
        add_segment(i, i + 1, split * kSplit, own_end(i), false);
      }
      add_task(begin, i, i + 1, -1);
    }
  }

  const StepView& step_;
  const Shape& shape_;
  Plan& plan_;
  std::vector<int32_t> shared_;
  int split_end_ = 0;
};

}  // namespace ramify::core
