// How keys and values lie in the cache: pages of heads of tiles of 16 tokens, shaped for the dot products that read them.
//
//   run of 8 pages | layer | kv head | page of the run | tile of 16 tokens | K then V
//   K of a tile: bf16 [D/2][16 tokens][2], fp32 [D][16 tokens]:  a register holds one dimension (pair) of 16 keys
//   V of a tile: bf16 [16/2 tokens][D][2], fp32 [16 tokens][D]:  a register holds 16 dimensions of one token (pair)
//
// so neither scores nor mixtures need horizontal sums. D is padded to a multiple of 16 with zeros. One head is read at
// a time, so within a run heads come before pages: pages handed out in order lie in order, which memory likes. Runs come
// before everything, so that the first pages are the first bytes: those that are made ready at the start.
#pragma once

#include "elementwise.h"

namespace ramify::core {

constexpr int kSubtile = 16;  // tokens in a tile of the cache
constexpr int kRun = 8;       // pages; mirrored in native.py

struct CacheLayout {  // mirrored in native.py
  int32_t layers, kv_heads, head_dim, page_size, pages, bf16;

  int padded() const { return (head_dim + 15) / 16 * 16; }
  size_t half_bytes() const { return static_cast<size_t>(kSubtile) * padded() * (bf16 ? 2 : 4); }  // K or V of a tile
  size_t tile_bytes() const { return 2 * half_bytes(); }
  size_t head_bytes() const { return tile_bytes() * (page_size / kSubtile); }
  size_t page_bytes() const { return head_bytes() * kv_heads; }
  size_t bytes() const { return page_bytes() * layers * ((pages + kRun - 1) / kRun * kRun); }
  size_t offset(int layer, int page, int head, int slot) const {
    const size_t index = ((static_cast<size_t>(page / kRun) * layers + layer) * kv_heads + head) * kRun + page % kRun;
    return head_bytes() * index + tile_bytes() * (slot / kSubtile);
  }
};

// The two element types of the cache. A register takes kPair neighbours of each of 16 lanes.
struct Exact {
  using Element = float;
  static constexpr int kPair = 1;
  static constexpr int kDegree = 6;  // of the exponential's polynomial
  using Register = Lanes;
  static Register load_many(const float* from) { return load(from); }
  static Register spread(const float* from) { return splat(*from); }
  static Lanes multiply(Lanes acc, Register a, Register b) { return fma(a, b, acc); }
  static void store_sixteen(float* to, Lanes value) { store(to, value); }
};

struct Narrow {
  using Element = uint16_t;
  static constexpr int kPair = 2;
  static constexpr int kDegree = 4;
  using Register = Pairs;
  static Register load_many(const uint16_t* from) { return load_pairs(from); }
  static Register spread(const uint16_t* from) { return splat_pair(from); }
  static Lanes multiply(Lanes acc, Register a, Register b) { return dot(acc, a, b); }
  static void store_sixteen(uint16_t* to, Lanes value) { store_bf16(to, value); }
};

// x: one head, in place: x1, x2 = halves of the first 2 `half` numbers; x1 cos - x2 sin, x2 cos + x1 sin.
inline void rotate(float* x, const float* cos, const float* sin, int half) {
  for (int i = 0; i < half; ++i) {
    const float first = x[i], second = x[i + half];
    x[i] = first * cos[i] - second * sin[i];
    x[i + half] = second * cos[i] + first * sin[i];
  }
}

constexpr int kLargestHead = 256;

// One head of one token, converted and padded with zeros.
template <class T>
struct Converted {
  typename T::Element numbers[kLargestHead];

  Converted(const float* x, int dim, int padded) {
    for (int d = 0; d < padded; d += kLanes)
      T::store_sixteen(numbers + d, d + kLanes <= dim ? load(x + d) : load_some(x + d, dim - d));
  }
};

template <class T>
void write_key(typename T::Element* tile, int slot, const Converted<T>& key, int padded) {
  for (int d = 0; d < padded; d += T::kPair)
    std::memcpy(tile + d * kSubtile + slot * T::kPair, key.numbers + d, T::kPair * sizeof(typename T::Element));
}

template <class T>
void write_value(typename T::Element* tile, int slot, const Converted<T>& value, int padded) {
  typename T::Element* row = tile + (slot / T::kPair) * padded * T::kPair + slot % T::kPair;
  for (int d = 0; d < padded; ++d) row[d * T::kPair] = value.numbers[d];
}

}  // namespace ramify::core
