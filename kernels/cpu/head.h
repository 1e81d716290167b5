// Which logits of a step are wanted, when some rows want only a few: the panels of the head that hold those columns.
#pragma once

#include <algorithm>
#include <vector>

#include "attention_plan.h"
#include "gemm.h"

namespace ramify::core {

// Rows that want every logit come first; each later one wants columns[column_start[i] .. column_start[i + 1]]. What is
// computed of a row is, to the bit, what the whole product gives: a panel does not know of the others.
class Head {
 public:
  struct Piece {  // rows [row0, row1) by one panel
    int panel, row0, row1;
  };

  static bool sound(const StepView& step, int columns) {
    if (step.column_start == nullptr) return true;
    if (step.column_start[0] != 0) return false;
    bool some = false;
    for (int i = 0; i < step.logit_count; ++i) {
      const int begin = step.column_start[i], end = step.column_start[i + 1];
      if (end < begin || (some && begin == end)) return false;
      some = begin < end;
      for (int at = begin; at < end; ++at)
        if (step.columns[at] < 0 || step.columns[at] >= columns) return false;
    }
    return true;
  }

  // May throw std::bad_alloc.
  void build(const StepView& step, int columns) {
    start_.clear();
    panels_.clear();
    pieces_.clear();
    whole_rows_ = rows_ = step.logit_count;
    if (step.column_start == nullptr) return;
    whole_rows_ = 0;
    while (whole_rows_ < rows_ && step.column_start[whole_rows_] == step.column_start[whole_rows_ + 1]) ++whole_rows_;
    waiting_.assign((columns + kPanel - 1) / kPanel, Piece{-1, 0, 0});
    for (int i = whole_rows_; i < rows_; ++i) {
      start_.push_back(static_cast<int>(panels_.size()));
      for (int at = step.column_start[i]; at < step.column_start[i + 1]; ++at) panels_.push_back(step.columns[at] / kPanel);
      std::sort(panels_.begin() + start_.back(), panels_.end());
      panels_.erase(std::unique(panels_.begin() + start_.back(), panels_.end()), panels_.end());
      for (size_t at = start_.back(); at < panels_.size(); ++at) want(panels_[at], i);
    }
    start_.push_back(static_cast<int>(panels_.size()));
    for (const Piece& piece : waiting_)
      if (piece.panel >= 0) pieces_.push_back(piece);
    // the rows of one panel one after another: its weights are read from memory once
    std::sort(pieces_.begin(), pieces_.end(), [](const Piece& one, const Piece& other) {
      return one.panel != other.panel ? one.panel < other.panel : one.row0 < other.row0;
    });
  }

  bool partial() const { return whole_rows_ < rows_; }
  bool whole(int row) const { return row < whole_rows_; }
  int whole_rows() const { return whole_rows_; }
  int pieces() const { return static_cast<int>(pieces_.size()); }
  const Piece& piece(int index) const { return pieces_[index]; }

  struct Panels {
    const int *from, *to;
    const int* begin() const { return from; }
    const int* end() const { return to; }
  };
  // The panels, ascending, that a row wants; for rows that do not want all.
  Panels panels(int row) const {
    const int* all = panels_.data();
    return {all + start_[row - whole_rows_], all + start_[row - whole_rows_ + 1]};
  }

 private:
  // Rows that want a panel are joined where at most one row between them does not.
  void want(int panel, int row) {
    Piece& piece = waiting_[panel];
    if (piece.panel >= 0 && row <= piece.row1 + 1) {
      piece.row1 = row + 1;
      return;
    }
    if (piece.panel >= 0) pieces_.push_back(piece);
    piece = {panel, row, row + 1};
  }

  int rows_ = 0, whole_rows_ = 0;
  std::vector<int> start_, panels_;
  std::vector<Piece> waiting_, pieces_;
};

}  // namespace ramify::core
