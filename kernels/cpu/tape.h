// A model's forward pass as a list of instructions, and the machine that runs the list for a step.
//
// One parallel region is a whole step: every thread walks the tape, does its share of each instruction, and meets the
// others at a barrier where the next instruction reads what this one wrote. The arrangement of memory is made once.
#pragma once

#include <time.h>

#include <array>
#include <deque>

#include "attention.h"
#include "gemm.h"
#include "head.h"
#include "pack.h"
#include "pool.h"

namespace ramify::core {

enum class Op : int32_t { Embed, Norm, Matmul, Attention, Gated, Add, Select, Softcap };
constexpr int kOps = 8;

// What a matrix product does to its input first.
enum class Prologue : int32_t { None, Norm, Silu, GeluTanh };

struct Instruction {  // mirrored in native.py
  int32_t op;
  int32_t selected;   // 1: its rows are the step's logit rows; 0: all rows
  int32_t input, other, output;  // buffers, or -1; `other` is the second operand, or the residual of a product
  int32_t width;      // numbers in a row of the input; for Gated, of the output
  int32_t kind;       // Matmul: Prologue; Gated: Gate; Embed: Source; Attention: which AttentionLayer
  float number;       // eps, cap or scale
  int64_t stride;     // Embed: bytes from a row of the table to the next
  const void* data;   // Norm: weight; Matmul: Matrix; Embed: the table
  const float* norm;  // Matmul with Prologue::Norm: its weight
};

struct Counters {  // mirrored in native.py
  int64_t steps, tokens, kv_bytes_read;
  int64_t nanoseconds[kOps], plan_nanoseconds;
};

// What is wrong with a step; native.py has the messages.
enum Rejection : int32_t {
  kAccepted = 0, kNoCache, kBadToken, kBadPosition, kBadPage, kShortTable, kBadRows, kOutOfMemory,
};

struct Memory {  // what outlives programs
  CacheLayout layout{};
  char* cache = nullptr;
  size_t cache_bytes = 0;
  Counters counters{};
  clockid_t profile = -1;  // the clock that instructions are timed by, or -1
};

inline int64_t nanoseconds(clockid_t clock) {
  timespec now;
  clock_gettime(clock, &now);
  return now.tv_sec * int64_t{1000000000} + now.tv_nsec;
}

class Program final : public Job {
 public:
  Program(Memory& memory, Pool& pool, const Instruction* tape, int length, const AttentionLayer* layers, int layer_count,
          const int32_t* widths, int buffers, int vocabulary, int positions)
      : memory_(memory), pool_(pool), tape_(tape, tape + length), layers_(layers, layers + layer_count),
        widths_(widths, widths + buffers), vocabulary_(vocabulary), positions_(positions), next_(length),
        workspaces_(pool.threads()), own_rows_(pool.threads()), own_scratch_(pool.threads()) {
    for (int i = 0; i < buffers; ++i) buffers_.emplace_back();
    pointers_.resize(buffers);
    for (const AttentionLayer& layer : layers_) {
      const auto same = std::find(windows_.begin(), windows_.end(), layer.window);
      plan_of_.push_back(static_cast<int>(same - windows_.begin()));
      if (same == windows_.end()) windows_.push_back(layer.window);
    }
    for (size_t i = 0; i < windows_.size(); ++i) plans_.emplace_back(), partials_.emplace_back();
    for (const Instruction& instruction : tape_)
      if (static_cast<Op>(instruction.op) == Op::Matmul && is_head(instruction))
        columns_ = static_cast<const Matrix*>(instruction.data)->n;
  }

  // Logits go to [R, vocabulary] at `logits`; the last instruction's buffer is that memory.
  Rejection step(const StepView& step, float* logits) {
    const Rejection rejection = check(step);
    if (rejection != kAccepted || step.rows == 0) return rejection;
    step_ = step;
    const int64_t begin = now();
    try {
      arrange(logits);
      head_.build(step_, columns_);
      plan();
    } catch (const std::bad_alloc&) {
      return kOutOfMemory;
    }
    for (auto& next : next_) next.store(0, std::memory_order_relaxed);
    memory_.counters.plan_nanoseconds += now() - begin;
    pool_.run(*this);
    memory_.counters.steps += 1;
    memory_.counters.tokens += step.rows;
    for (Workspace& workspace : workspaces_) {
      memory_.counters.kv_bytes_read += static_cast<int64_t>(workspace.bytes_read);
      workspace.bytes_read = 0;
    }
    return kAccepted;
  }

  void run(int thread) override {
    int64_t before = now();
    for (size_t i = 0; i < tape_.size(); ++i) {
      execute(static_cast<int>(i), thread);
      if (thread != 0 || memory_.profile < 0) continue;
      const int64_t after = now();
      memory_.counters.nanoseconds[tape_[i].op] += after - before;
      before = after;
    }
  }

 private:
  static constexpr int kAloneRows = 2;  // so few rows are prepared by every thread for itself, to save a barrier

  int64_t now() const { return memory_.profile < 0 ? 0 : nanoseconds(memory_.profile); }

  // -- before the region ----------------------------------------------------------------------------------------------

  Rejection check(const StepView& s) const {
    const CacheLayout& layout = memory_.layout;
    if (memory_.cache == nullptr) return kNoCache;
    if (s.query_start[0] != 0 || s.query_start[s.sequences] != s.rows) return kBadRows;
    for (int i = 0; i < s.sequences; ++i) {
      const int begin = s.query_start[i], end = s.query_start[i + 1];
      if (begin > end || s.page_start[i] > s.page_start[i + 1] || s.page_start[i] < 0) return kBadRows;
      if (begin == end) continue;
      const int64_t room = int64_t{s.page_start[i + 1] - s.page_start[i]} * layout.page_size;
      if (s.page_start[i + 1] > s.page_count || room < s.context[i]) return kShortTable;
      if (s.positions[begin] < 0 || s.context[i] > positions_) return kBadPosition;
      for (int row = begin; row < end; ++row)
        if (s.positions[row] != s.context[i] - (end - row)) return kBadPosition;
    }
    for (int i = 0; i < s.page_count; ++i)
      if (s.pages[i] < 0 || s.pages[i] >= layout.pages) return kBadPage;
    for (int i = 0; i < s.rows; ++i)
      if (s.tokens[i] < 0 || s.tokens[i] >= vocabulary_) return kBadToken;
    for (int i = 0; i < s.logit_count; ++i)
      if (s.logit_rows[i] < 0 || s.logit_rows[i] >= s.rows) return kBadRows;
    return Head::sound(s, columns_) ? kAccepted : kBadRows;
  }

  // Whether it writes the logits themselves.
  bool is_head(const Instruction& instruction) const { return instruction.output == tape_.back().output; }

  int rows_of(const Instruction& instruction) const { return instruction.selected ? step_.logit_count : step_.rows; }

  void arrange(float* logits) {
    if (step_.rows > capacity_) {
      for (size_t i = 0; i < buffers_.size(); ++i)
        buffers_[i].at_least<float>(static_cast<size_t>(step_.rows) * widths_[i]);
      size_t bytes = 0, alone = 0;
      int widest = 0;
      for (const Instruction& instruction : tape_) {
        if (static_cast<Op>(instruction.op) != Op::Matmul) continue;
        const Matrix& matrix = *static_cast<const Matrix*>(instruction.data);
        bytes = std::max(bytes, row_scratch_bytes(matrix, step_.rows));
        alone = std::max(alone, row_scratch_bytes(matrix, kAloneRows));
        widest = std::max(widest, matrix.k);
      }
      rows_.at_least<float>(static_cast<size_t>(step_.rows) * widest);
      scratch_.at_least<char>(bytes);
      for (int thread = 0; thread < pool_.threads(); ++thread) {
        own_rows_[thread].at_least<float>(static_cast<size_t>(kAloneRows) * widest);
        own_scratch_[thread].at_least<char>(alone);
      }
      capacity_ = step_.rows;
    }
    for (size_t i = 0; i < buffers_.size(); ++i) pointers_[i] = buffers_[i].data<float>();
    pointers_[tape_.back().output] = logits;
  }

  void plan() {
    for (size_t i = 0; i < windows_.size(); ++i) {
      const CacheLayout& layout = memory_.layout;
      const AttentionLayer& layer = layers_[std::find(plan_of_.begin(), plan_of_.end(), static_cast<int>(i)) - plan_of_.begin()];
      const int group = layer.heads / layer.kv_heads;
      const Shape shape{group, layer.kv_heads, windows_[i], layout.page_size, pool_.threads()};
      Planner(step_, shape, plans_[i]).build();
      const Plan& plan = plans_[i];
      Partials& partials = partials_[i];
      partials.memory.at_least<float>(static_cast<size_t>(plan.partial_rows) * layer.heads * (2 * kLanes + layout.padded()));
      const size_t waiting = static_cast<size_t>(plan.stacked) * layer.kv_heads;
      if (partials.waiting.size() < waiting) partials.waiting = std::vector<std::atomic<int32_t>>(waiting);
      for (int m = 0; m < plan.stacked; ++m)
        for (int head = 0; head < layer.kv_heads; ++head)
          partials.waiting[static_cast<size_t>(m) * layer.kv_heads + head].store(plan.members[m].splits,
                                                                                std::memory_order_relaxed);
    }
    for (const Instruction& instruction : tape_)
      if (static_cast<Op>(instruction.op) == Op::Attention)
        for (Workspace& workspace : workspaces_) {
          const AttentionStep step = attention_step(instruction);
          if (memory_.layout.bf16) AttentionTask<Narrow>(step, workspace);
          else AttentionTask<Exact>(step, workspace);
        }
  }

  // -- inside the region ------------------------------------------------------------------------------------------------

  void execute(int index, int thread) {
    const Instruction& it = tape_[index];
    const int rows = rows_of(it);
    if (rows == 0) return;
    switch (static_cast<Op>(it.op)) {
      case Op::Matmul: matmul(it, index, rows, thread); break;
      case Op::Attention:
        if (memory_.layout.bf16) attend<Narrow>(it, index, thread);
        else attend<Exact>(it, index, thread);
        break;
      default: {
        const int begin = share(rows, thread), end = share(rows, thread + 1);
        for (int row = begin; row < end; ++row) one_row(it, row);
      }
    }
    pool_.barrier();
  }

  int share(int rows, int thread) const { return static_cast<int>(static_cast<int64_t>(rows) * thread / pool_.threads()); }

  float* row(int buffer, int row, int width) const { return pointers_[buffer] + static_cast<size_t>(row) * width; }

  void one_row(const Instruction& it, int i) const {
    const int width = it.width;
    float* to = row(it.output, i, width);
    switch (static_cast<Op>(it.op)) {
      case Op::Embed:
        read_row(static_cast<Source>(it.kind), static_cast<const char*>(it.data) + it.stride * step_.tokens[i], width, to);
        if (it.number != 1.f)
          for (int k = 0; k < width; ++k) to[k] *= it.number;
        break;
      case Op::Norm:
        norm_row(row(it.input, i, width), static_cast<const float*>(it.data), it.number, width, to);
        break;
      case Op::Gated: gated_row(static_cast<Gate>(it.kind), row(it.input, i, 2 * width), width, to); break;
      case Op::Add: add_row(row(it.input, i, width), row(it.other, i, width), width, to); break;
      case Op::Select:
        std::memcpy(to, row(it.input, step_.logit_rows[i], width), static_cast<size_t>(width) * sizeof(float));
        break;
      case Op::Softcap: {
        const float* from = row(it.input, i, width);
        if (!is_head(it) || head_.whole(i)) softcap_row(from, it.number, width, to);
        else
          for (const int panel : head_.panels(i)) {
            const int at = panel * kPanel;
            softcap_row(from + at, it.number, std::min(kPanel, width - at), to + at);
          }
        break;
      }
      default: break;
    }
  }

  // Rows [begin, end) of a product's input, through its prologue, into scratch.
  void prepare(const Instruction& it, const Matrix& matrix, int begin, int end, int rows, float* between, void* scratch) {
    const float* x = pointers_[it.input];
    const Prologue prologue = static_cast<Prologue>(it.kind);
    if (prologue != Prologue::None) {
      for (int i = begin; i < end; ++i) {
        float* to = between + static_cast<size_t>(i) * matrix.k;
        if (prologue == Prologue::Norm) norm_row(row(it.input, i, matrix.k), it.norm, it.number, matrix.k, to);
        else gated_row(prologue == Prologue::Silu ? Gate::Silu : Gate::GeluTanh, row(it.input, i, 2 * matrix.k), matrix.k, to);
      }
      x = between;
    }
    prepare_rows(matrix, x, matrix.k, begin, end, rows, scratch);
  }

  void matmul(const Instruction& it, int index, int rows, int thread) {
    const Matrix& matrix = *static_cast<const Matrix*>(it.data);
    void* scratch = scratch_.data<char>();
    if (rows <= kAloneRows) {
      scratch = own_scratch_[thread].data<char>();
      prepare(it, matrix, 0, rows, rows, own_rows_[thread].data<float>(), scratch);
    } else {
      prepare(it, matrix, share(rows, thread), share(rows, thread + 1), rows, rows_.data<float>(), scratch);
      pool_.barrier();
    }
    int begin, end;
    if (is_head(it) && head_.partial()) {
      const int whole = head_.whole_rows() > 0 ? panels(matrix) : 0;  // rows that want all of it come first
      while (take(index, whole + head_.pieces(), begin, end)) {
        if (begin < whole)
          gemm_piece(matrix, scratch, rows, 0, head_.whole_rows(), begin, std::min(end, whole), pointers_[it.output], matrix.n);
        for (int i = std::max(begin, whole); i < end; ++i) {
          const Head::Piece& piece = head_.piece(i - whole);
          gemm_piece(matrix, scratch, rows, piece.row0, piece.row1, piece.panel, piece.panel + 1, pointers_[it.output], matrix.n);
        }
      }
      return;
    }
    const float* residual = it.other >= 0 ? pointers_[it.other] : nullptr;
    const int all = panels(matrix);
    while (take(index, all, begin, end))
      gemm_panels(matrix, scratch, rows, begin, end, pointers_[it.output], matrix.n, residual);
  }

  // The next piece of an instruction's work: large ones first, so that threads end together on a shared machine.
  bool take(int index, int all, int& begin, int& end) {
    int now = next_[index].load(std::memory_order_relaxed);
    do {
      if (now >= all) return false;
      begin = now;
      end = now + std::max(1, (all - now) / (2 * pool_.threads()));
    } while (!next_[index].compare_exchange_weak(now, end, std::memory_order_relaxed));
    return true;
  }

  AttentionStep attention_step(const Instruction& it) {
    const int plan = plan_of_[it.kind];
    return {memory_.layout, memory_.cache, layers_[it.kind], step_, plans_[plan], partials_[plan],
            pointers_[it.input], pointers_[it.output]};
  }

  template <class T>
  void attend(const Instruction& it, int index, int thread) {
    const AttentionStep step = attention_step(it);
    const int kv_heads = step.layer.kv_heads;
    AttentionTask<T> task(step, workspaces_[thread]);
    if (!step.plan.writes_own) {
      const int rows = step_.rows;
      for (int i = share(rows, thread); i < share(rows, thread + 1); ++i)
        for (int head = 0; head < kv_heads; ++head)
          AttentionTask<T>::write_row(step, step.plan.token[i], step.plan.sequence[i], head, workspaces_[thread].head.data());
      pool_.barrier();
    }
    const int all = static_cast<int>(step.plan.tasks.size()) * kv_heads;
    for (;;) {
      const int next = next_[index].fetch_add(1, std::memory_order_relaxed);
      if (next >= all) break;
      task.run(step.plan.tasks[next / kv_heads], next % kv_heads);
    }
  }

  Memory& memory_;
  Pool& pool_;
  std::vector<Instruction> tape_;
  std::vector<AttentionLayer> layers_;
  std::vector<int32_t> widths_;
  int vocabulary_, positions_;
  int columns_ = 0;  // of the logits
  std::vector<std::atomic<int32_t>> next_;  // by instruction: the work handed out so far
  std::vector<Workspace> workspaces_;
  std::vector<Scratchpad> own_rows_, own_scratch_;
  std::deque<Scratchpad> buffers_;
  std::vector<float*> pointers_;
  std::vector<int32_t> windows_;
  std::vector<int> plan_of_;  // by layer
  std::deque<Plan> plans_;
  std::deque<Partials> partials_;
  Scratchpad rows_, scratch_;
  StepView step_{};
  Head head_;
  int capacity_ = 0;
};

}  // namespace ramify::core
