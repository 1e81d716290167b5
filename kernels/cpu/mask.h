// Packed masks over logits: what is not allowed becomes minus infinity, for all rows of a batch in one call.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

namespace ramify::core {

// x[i] = -infinity wherever bit i % 32 of mask[i / 32] is not set. Words that allow everything are passed over.
inline void mask_row(const uint32_t* mask, int columns, float* x) {
  constexpr float kNever = -INFINITY;
  for (int at = 0; at < columns; at += 32) {
    const uint32_t word = mask[at / 32];
    const int count = columns - at < 32 ? columns - at : 32;
    if (word == 0xffffffffu) continue;
    if (word == 0)
      for (int i = 0; i < count; ++i) x[at + i] = kNever;
    else
      for (int i = 0; i < count; ++i) x[at + i] = word >> i & 1 ? x[at + i] : kNever;
  }
}

}  // namespace ramify::core
