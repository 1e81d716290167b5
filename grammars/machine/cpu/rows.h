// Packed masks in a bounded pool: a row that nobody holds is taken again when it was used least recently.
#pragma once

#include <cstdlib>
#include <memory>

#include "limits.h"

namespace ramify {

struct RowHandle {
    u32 index = NONE, generation = 0;
};

class Rows {
  public:
    Rows(u32 words, size_t limit_bytes) : words_(words), limit_(std::max<size_t>(64, limit_bytes / (words * 4 + 1))) {
        rows_.reserve(limit_);
        more(u32(std::min<size_t>(limit_, std::max<size_t>(64, (4u << 20) / (words * 4 + 1)))));
        std::fill(next_, next_ + stride() * left_, 0u);  // these are ready from the start
    }

    u32 words() const { return words_; }
    size_t bytes() const { return rows_.size() * words_ * 4; }

    // The words of a row, nullptr when it was taken away.
    u32* get(RowHandle handle) {
        if (handle.index == NONE || rows_[handle.index].generation != handle.generation) return nullptr;
        rows_[handle.index].used = true;
        return rows_[handle.index].words;
    }

    // A fresh row of zeros. Pointers to rows that are not held may change their content.
    RowHandle make() {
        u32 index = rows_.size() < limit_ ? NONE : oldest();
        if (index == NONE) {
            if (!left_) more(64);
            rows_.push_back({next_, 0, 0, true});
            next_ += stride();
            left_--;
            index = u32(rows_.size() - 1);
        }
        Row& row = rows_[index];
        row.generation++;
        row.used = true;
        std::fill(row.words, row.words + words_, 0u);
        return {index, row.generation};
    }
    void hold(RowHandle handle) { rows_[handle.index].holds++; }
    void release(RowHandle handle) { rows_[handle.index].holds--; }

  private:
    size_t stride() const { return (words_ + 15) / 16 * 16; }
    void more(u32 rows) {  // not touched: a page is when it is first written
        blocks_.push_back(std::unique_ptr<u32[]>(new u32[stride() * rows]));
        next_ = blocks_.back().get();
        left_ = rows;
    }
    struct Row {
        u32* words;
        u32 generation, holds;
        bool used;
    };
    u32 oldest() {
        for (size_t turn = 0; turn < 2 * rows_.size(); turn++) {
            hand_ = hand_ + 1 < rows_.size() ? hand_ + 1 : 0;
            Row& row = rows_[hand_];
            if (row.holds) continue;
            if (!row.used) return u32(hand_);
            row.used = false;
        }
        return NONE;  // all are held: grow
    }
    std::vector<Row> rows_;
    std::vector<std::unique_ptr<u32[]>> blocks_;
    u32* next_ = nullptr;
    u32 words_, left_ = 0;
    size_t limit_, hand_ = 0;
};

}  // namespace ramify
