// Activations as the kernels read them: converted or quantized rows in the scratch area, with their scales and sums.
#pragma once

#include <cmath>

#include "gemm.h"
#include "gemm_lanes.h"

namespace ramify {

// Where things lie in the scratch area of one product.
struct Scratch {
  size_t stride;   // bytes from one row of activations to the next
  int groups;      // groups of activations in a row: each has a scale and a sum
  int rows;
  size_t scales;   // offset of float [groups, rows]
  size_t sums;     // offset of [groups, rows]: int32 -128 * sum (I8), or float scale * sum (Q4)
  size_t bytes;
};

inline size_t round_up(size_t value, size_t multiple) { return (value + multiple - 1) / multiple * multiple; }

inline Scratch scratch_layout(const Matrix& matrix, int rows) {
  const Kind kind = static_cast<Kind>(matrix.kind);
  const bool quantized = kind == Kind::I8 || kind == Kind::Q4;
  const size_t element = kind == Kind::F32 ? 4 : kind == Kind::BF16 ? 2 : 1;
  Scratch area;
  area.stride = round_up(matrix.k * element, 64);
  if (area.stride / 64 % 2 == 0) area.stride += 64;  // an odd number of lines: the rows of a tile fall in different sets
  area.groups = quantized ? (matrix.k + matrix.group - 1) / matrix.group : 0;
  area.rows = rows;
  area.scales = area.stride * rows;
  area.sums = area.scales + round_up(sizeof(float) * area.groups * rows, 64);
  area.bytes = area.sums + round_up(sizeof(float) * area.groups * rows, 64);
  return area;
}

// Quantizes one group to signed bytes; returns its scale, and the sum of the bytes. The largest magnitude is found among
// the bit patterns, where an infinity or a NaN beats every number: the scale is then NaN, and with it all that the row
// gives, as it would be in floating point.
template <bool Smooth>
inline float quantize_group(const float* x, const float* inverse_smooth, int count, int8_t* bytes, int32_t& sum) {
  const int whole = count / kLanes * kLanes;
  const auto read = [&](int i) {
    if (i < whole) {
      const Floats value = load<Floats>(x + i);
      return Smooth ? value * load<Floats>(inverse_smooth + i) : value;
    }
    Floats value{};
    for (int lane = 0; i + lane < count; ++lane)
      value[lane] = Smooth ? x[i + lane] * inverse_smooth[i + lane] : x[i + lane];
    return value;
  };
  Ints largest{};
  for (int i = 0; i < count; i += kLanes) largest = larger((Ints)read(i) & 0x7fffffff, largest);
  const int32_t largest_bits = largest_lane(largest);
  const float top = largest_bits < 0x7f800000 ? float_of(largest_bits) : NAN;
  const Floats inverse = broadcast(top > 0 ? 127.0f / top : 0.0f);
  Ints sums{};
  for (int i = 0; i < whole; i += kLanes) {
    const Ints rounded = round_to_ints(read(i) * inverse);
    store_bytes(bytes + i, rounded);
    sums += rounded;
  }
  if (whole < count) {
    const Ints rounded = round_to_ints(read(whole) * inverse);
    for (int lane = 0; whole + lane < count; ++lane) bytes[whole + lane] = static_cast<int8_t>(rounded[lane]);
    sums += rounded;
  }
  sum = sum_lanes(sums);
  return top * (1.0f / 127.0f);
}

inline void quantize_row(const Matrix& matrix, const Scratch& area, const float* x, int row, char* scratch) {
  const bool offset_weights = static_cast<Kind>(matrix.kind) == Kind::I8;
  int8_t* bytes = reinterpret_cast<int8_t*>(scratch + area.stride * row);
  for (int g = 0; g < area.groups; ++g) {
    const int first = g * matrix.group;
    const int count = matrix.k - first < matrix.group ? matrix.k - first : matrix.group;
    const float* smooth = matrix.inverse_smooth;
    int32_t sum;
    const float scale = smooth != nullptr ? quantize_group<true>(x + first, smooth + first, count, bytes + first, sum)
                                          : quantize_group<false>(x + first, nullptr, count, bytes + first, sum);
    const int32_t correction = -128 * sum;
    const float scaled = scale * static_cast<float>(sum);
    const size_t at = sizeof(float) * (static_cast<size_t>(g) * area.rows + row);
    std::memcpy(scratch + area.scales + at, &scale, 4);
    std::memcpy(scratch + area.sums + at, offset_weights ? static_cast<const void*>(&correction) : &scaled, 4);
  }
  for (int i = matrix.k; i % 4 != 0; ++i) bytes[i] = 0;
}

// Convert one row of x into row `row` of the scratch area.
inline void prepare_row(const Matrix& matrix, const Scratch& area, const float* x, int row, char* scratch) {
  const Kind kind = static_cast<Kind>(matrix.kind);
  if (kind == Kind::I8 || kind == Kind::Q4) return quantize_row(matrix, area, x, row, scratch);
  const float* smooth = matrix.inverse_smooth;
  if (kind == Kind::F32) {
    float* out = reinterpret_cast<float*>(scratch + area.stride * row);
    if (smooth == nullptr) std::memcpy(out, x, sizeof(float) * matrix.k);
    else for (int i = 0; i < matrix.k; ++i) out[i] = x[i] * smooth[i];
  } else {
    uint16_t* out = reinterpret_cast<uint16_t*>(scratch + area.stride * row);
    for (int i = 0; i < matrix.k; ++i) out[i] = to_bfloat(smooth != nullptr ? x[i] * smooth[i] : x[i]);
    if (matrix.k % 2 != 0) out[matrix.k] = 0;
  }
}

}  // namespace ramify
