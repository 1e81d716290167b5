// Sets the logits of tokens that are not allowed to minus infinity.
#pragma once

#include <algorithm>
#include <limits>

#include "limits.h"

namespace ramify {

inline void apply(float* logits, const u32* mask, u64 vocabulary) {
    constexpr float minus_infinity = -std::numeric_limits<float>::infinity();
    u64 whole = vocabulary / 32;
    for (u64 word = 0; word < whole; word++) {
        u32 bits = mask[word];
        float* part = logits + word * 32;
        if (bits == 0xffffffffu) continue;
        if (bits == 0)
            std::fill(part, part + 32, minus_infinity);
        else if (__builtin_popcount(bits) >= 24)
            for (u32 left = ~bits; left; left &= left - 1) part[__builtin_ctz(left)] = minus_infinity;
        else
            for (u32 i = 0; i < 32; i++) part[i] = bits >> i & 1 ? part[i] : minus_infinity;
    }
    for (u64 token = whole * 32; token < vocabulary; token++)
        if (!(mask[token >> 5] >> (token & 31) & 1)) logits[token] = minus_infinity;
}

}  // namespace ramify
