// The arithmetic of attention on one tile of 64 keys and a block of up to 6 query rows, entirely in registers and L1.
//
// Tiles start at absolute multiples of 64, and every row goes through its tiles in order with the same operations,
// whatever rows stand beside it: masked keys weigh exactly zero, and a tile without a single key for a row changes none
// of its bits. So a result does not depend on the batch, on chunking, on what was cached or on the number of threads.
#pragma once

#include <limits>

#include "attention_cache.h"

namespace ramify::core {

constexpr int kTile = 64;   // keys that share one step of the online softmax
constexpr int kParts = kTile / kSubtile;
constexpr int kBlock = 6;   // 6 rows x 4 registers of keys: 24 accumulators of the 32 registers
constexpr float kNothing = -std::numeric_limits<float>::infinity();

// scores[row][key] = q[row] . k[key] for R rows and C times 16 keys.
template <class T, int R, int C>
void score(const typename T::Element* q, int padded, const typename T::Element* const* keys, float* scores) {
  Lanes acc[R][C] = {};
  for (int d = 0; d < padded; d += T::kPair) {
    typename T::Register k[C];
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) k[c] = T::load_many(keys[c] + d * kSubtile);
#pragma GCC unroll 6
    for (int r = 0; r < R; ++r) {
      const typename T::Register b = T::spread(q + r * padded + d);
#pragma GCC unroll 4
      for (int c = 0; c < C; ++c) acc[r][c] = T::multiply(acc[r][c], k[c], b);
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) store(scores + r * kTile + c * kSubtile, acc[r][c]);
}

// out[row][16 N columns] = out * decay[row] + weights[row][keys] . v[keys][columns].
template <class T, int R, int N>
void mix(const typename T::Element* weights, const typename T::Element* const* values, int parts, int padded,
         const float* decay, float* out) {
  Lanes acc[R][N];
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) acc[r][n] = load(out + r * padded + n * kLanes) * splat(decay[r]);
  for (int part = 0; part < parts; ++part)
    for (int j = 0; j < kSubtile; j += T::kPair) {
      typename T::Register v[N];
#pragma GCC unroll 4
      for (int n = 0; n < N; ++n) v[n] = T::load_many(values[part] + j * padded + n * kLanes * T::kPair);
#pragma GCC unroll 6
      for (int r = 0; r < R; ++r) {
        const typename T::Register b = T::spread(weights + r * kTile + part * kSubtile + j);
#pragma GCC unroll 4
        for (int n = 0; n < N; ++n) acc[r][n] = T::multiply(acc[r][n], v[n], b);
      }
    }
#pragma GCC unroll 6
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int n = 0; n < N; ++n) store(out + r * padded + n * kLanes, acc[r][n]);
}

template <class T, int R>
void score_rows(int parts, const typename T::Element* q, int padded, const typename T::Element* const* keys,
                float* scores) {
  switch (parts) {
    case 1: return score<T, R, 1>(q, padded, keys, scores);
    case 2: return score<T, R, 2>(q, padded, keys, scores);
    case 3: return score<T, R, 3>(q, padded, keys, scores);
    default: return score<T, R, 4>(q, padded, keys, scores);
  }
}

template <class T, int R>
void mix_rows(const typename T::Element* weights, const typename T::Element* const* values, int parts, int padded,
              const float* decay, float* out) {
  const typename T::Element* shifted[kParts];
  for (int column = 0; column < padded; column += 4 * kLanes) {
    for (int part = 0; part < parts; ++part) shifted[part] = values[part] + column * T::kPair;
    switch ((padded - column) / kLanes) {
      case 1: mix<T, R, 1>(weights, shifted, parts, padded, decay, out + column); break;
      case 2: mix<T, R, 2>(weights, shifted, parts, padded, decay, out + column); break;
      case 3: mix<T, R, 3>(weights, shifted, parts, padded, decay, out + column); break;
      default: mix<T, R, 4>(weights, shifted, parts, padded, decay, out + column); break;
    }
  }
}

// Calls function(integral constant R) for 1 <= rows <= 6.
template <class Function>
void with_rows(int rows, const Function& function) {
  switch (rows) {
    case 1: return function(std::integral_constant<int, 1>{});
    case 2: return function(std::integral_constant<int, 2>{});
    case 3: return function(std::integral_constant<int, 3>{});
    case 4: return function(std::integral_constant<int, 4>{});
    case 5: return function(std::integral_constant<int, 5>{});
    default: return function(std::integral_constant<int, 6>{});
  }
}

// How scores become weights: 2^(factor * score), the score capped first if there is a cap.
struct SoftmaxRule {
  float factor;   // scale * log2(e); with a cap: log2(e)
  float scale;    // used with a cap only
  float cap;      // 0: none
};

// Scores of one row -> its unnormalized weights, for keys [key, key + 16 C) of which [low, high) are its own. Returns
// what the mixture so far must be multiplied by.
template <class T, int C>
inline float soften(const SoftmaxRule& rule, const float* scores, int key, int low, int high, float& best, float* total,
                    typename T::Element* weights) {
  Lanes s[C];
#pragma GCC unroll 4
  for (int c = 0; c < C; ++c) s[c] = load(scores + c * kSubtile);
  if (__builtin_expect(rule.cap > 0, 0)) {
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) s[c] = splat(rule.cap) * tanh(s[c] * splat(rule.scale / rule.cap));
  }
  if (__builtin_expect(low > key || high < key + C * kSubtile, 0)) {
    const IntLanes ramp = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
#pragma GCC unroll 4
    for (int c = 0; c < C; ++c) {
      const IntLanes index = ramp + (key + c * kSubtile);
      s[c] = ((index >= low) & (index < high)) ? s[c] : splat(kNothing);
    }
  }
  Lanes most = s[0];
#pragma GCC unroll 4
  for (int c = 1; c < C; ++c) most = maximum(most, s[c]);
  const float candidate = largest(most) * rule.factor;
  const float old = best;
  best = candidate > old ? candidate : old;
  const Lanes base = splat(best == kNothing ? 0.f : -best);
  Lanes p[kParts] = {};
#pragma GCC unroll 4
  for (int c = 0; c < C; ++c) {
    p[c] = exp2<T::kDegree>(fma(s[c], splat(rule.factor), base));
    T::store_sixteen(weights + c * kSubtile, p[c]);
  }
  const float decay = best == old ? 1.f : exp2(splat(old - best))[0];
  store(total, fma(load(total), splat(decay), (p[0] + p[1]) + (p[2] + p[3])));
  return decay;
}

// The running softmax of a set of query rows over the keys seen so far.
struct Rows {
  float* best;    // [rows]: the largest score, as a power of two
  float* total;   // [rows, 16]: sums of weights, lane by lane
  float* out;     // [rows, padded]: mixtures
};

inline void clear(const Rows& rows, int count, int padded) {
  for (int r = 0; r < count; ++r) rows.best[r] = kNothing;
  std::memset(rows.total, 0, static_cast<size_t>(count) * kLanes * sizeof(float));
  std::memset(rows.out, 0, static_cast<size_t>(count) * padded * sizeof(float));
}

// `count` rows from `row` on, all against the same 16 C keys; scores, weights and decay begin at the first of them.
template <class T, int C>
void soften_rows(const SoftmaxRule& rule, const Rows& rows, int row, int count, const float* scores, int key,
                 const int32_t* low, const int32_t* high, typename T::Element* weights, float* decay) {
  for (int i = 0; i < count; ++i, ++row)
    decay[i] = soften<T, C>(rule, scores + i * kTile, key, low[row], high[row], rows.best[row],
                            rows.total + row * kLanes, weights + i * kTile);
}

template <class T>
void soften_rows(int parts, const SoftmaxRule& rule, const Rows& rows, int row, int count, const float* scores, int key,
                 const int32_t* low, const int32_t* high, typename T::Element* weights, float* decay) {
  switch (parts) {
    case 1: return soften_rows<T, 1>(rule, rows, row, count, scores, key, low, high, weights, decay);
    case 2: return soften_rows<T, 2>(rule, rows, row, count, scores, key, low, high, weights, decay);
    case 3: return soften_rows<T, 3>(rule, rows, row, count, scores, key, low, high, weights, decay);
    default: return soften_rows<T, 4>(rule, rows, row, count, scores, key, low, high, weights, decay);
  }
}

// into = into + from, both partial softmaxes over different keys. The order of merging is part of the result.
inline void merge_row(float& best, float* total, float* out, float from_best, const float* from_total,
                      const float* from_out, int padded) {
  if (from_best == kNothing) return;
  const float most = best > from_best ? best : from_best;
  const float kept = best == most ? 1.f : exp2(splat(best - most))[0];
  const float added = from_best == most ? 1.f : exp2(splat(from_best - most))[0];
  store(total, fma(load(total), splat(kept), load(from_total) * splat(added)));
  for (int d = 0; d < padded; d += kLanes)
    store(out + d, fma(load(out + d), splat(kept), load(from_out + d) * splat(added)));
  best = most;
}

inline void finish_row(const float* total, const float* out, int dim, float* result) {
  const float inverse = 1.f / sum(load(total));
  map_row(dim, [&](int d, int count) { store_some(result + d, load_some(out + d, count) * splat(inverse), count); });
}

}  // namespace ramify::core
