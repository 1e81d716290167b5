// What is done to rows one by one between the matrix products: norms, gates, additions.
#pragma once

#include "lanes.h"

namespace ramify::core {

// y = x / sqrt(mean(x^2) + eps) * weight, over `width` numbers.
inline void norm_row(const float* x, const float* weight, float eps, int width, float* y) {
  Lanes squares[4] = {};
  int i = 0;
  for (; i + 4 * kLanes <= width; i += 4 * kLanes)
    for (int part = 0; part < 4; ++part) {
      const Lanes value = load(x + i + part * kLanes);
      squares[part] = fma(value, value, squares[part]);
    }
  for (; i + kLanes <= width; i += kLanes) {
    const Lanes value = load(x + i);
    squares[0] = fma(value, value, squares[0]);
  }
  float total = sum((squares[0] + squares[1]) + (squares[2] + squares[3]));
  for (; i < width; ++i) total += x[i] * x[i];
  const float scale = 1.f / std::sqrt(total / static_cast<float>(width) + eps);
  for (i = 0; i + kLanes <= width; i += kLanes) store(y + i, load(x + i) * splat(scale) * load(weight + i));
  for (; i < width; ++i) y[i] = x[i] * scale * weight[i];
}

// Applies `function` to sixteen numbers at a time; the rest goes through a padded register.
template <class Function>
inline void map_row(int width, const Function& function) {
  int i = 0;
  for (; i + kLanes <= width; i += kLanes) function(i, kLanes);
  if (i < width) function(i, width - i);
}

inline Lanes load_some(const float* from, int count) {
  if (count == kLanes) return load(from);
  Lanes value = {};
  std::memcpy(&value, from, static_cast<size_t>(count) * sizeof(float));
  return value;
}

inline void store_some(float* to, Lanes value, int count) {
  if (count == kLanes) return store(to, value);
  std::memcpy(to, &value, static_cast<size_t>(count) * sizeof(float));
}

inline Lanes sigmoid(Lanes x) {
  const Lanes bounded = minimum(splat(87.f), maximum(splat(-87.f), x));
  return splat(1.f) / (splat(1.f) + exp(-bounded));
}

enum class Gate : int32_t { Silu = 0, GeluTanh = 1 };

inline Lanes activate(Gate gate, Lanes x) {
  if (gate == Gate::Silu) return x * sigmoid(x);
  const Lanes inner = splat(0.79788456080286535588f) * fma(splat(0.044715f) * x * x, x, x);
  return x * sigmoid(splat(2.f) * inner);  // 0.5 x (1 + tanh(inner))
}

// x: [2 width] packed gate, up; y: [width].
inline void gated_row(Gate gate, const float* x, int width, float* y) {
  map_row(width, [&](int i, int count) {
    store_some(y + i, activate(gate, load_some(x + i, count)) * load_some(x + width + i, count), count);
  });
}

inline void add_row(const float* x, const float* other, int width, float* y) {
  map_row(width, [&](int i, int count) { store_some(y + i, load_some(x + i, count) + load_some(other + i, count), count); });
}

inline void softcap_row(const float* x, float cap, int width, float* y) {
  map_row(width, [&](int i, int count) {
    store_some(y + i, splat(cap) * tanh(load_some(x + i, count) / splat(cap)), count);
  });
}

}  // namespace ramify::core
