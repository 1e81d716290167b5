// Packing: from rows of weights as they lie in a file to the matrices of gemm.h.
//
// A matrix is packed in three moves: `lay_out` points its fields into a block of `matrix_bytes` bytes that the caller
// owns (64-byte aligned, any content), `set_smooth` and `set_bias` fill what is optional, and `pack_rows` is called for
// each part stacked along N. Rows are independent, so several threads may pack different rows of one matrix.
#pragma once

#include <cmath>
#include <cstring>
#include <vector>

#include "gemm.h"

namespace ramify {

// How a row lies in memory. The 4-bit ones have blocks of 32 in GGUF's layout.
enum class Source : int32_t { F32 = 0, F16 = 1, BF16 = 2, Q4_0 = 3, Q4_1 = 4, Q8_0 = 5 };

constexpr int kRejectedKind = -1;   // no such kind or source, or an empty matrix
constexpr int kRejectedDepth = -2;  // Q4 needs K in whole blocks of 32: pack as I8 instead
constexpr int kRejectedGroup = -3;  // I8 groups are whole multiples of 32
constexpr int kRejectedRows = -4;   // rows outside of the matrix

// The parts of a matrix's block, as offsets.
struct BlockLayout {
  size_t scales, bias, inverse_smooth, bytes;
};

inline size_t padded_columns(int n) { return round_up(n, kPanel); }

inline BlockLayout block_layout(Kind kind, int n, int k) {
  const size_t columns = padded_columns(n);
  const size_t depth = kind == Kind::F32 ? 1 : kind == Kind::BF16 ? 2 : 4;
  const size_t data = kind == Kind::Q4 ? kQ4Block * (columns / kQ4Columns) * (k / 32)
                                       : kStepBytes * (columns / kPanel) * ((k + depth - 1) / depth);
  BlockLayout block;
  block.scales = round_up(data, 64);
  block.bias = block.scales + (kind == Kind::I8 ? sizeof(float) * columns : 0);
  block.inverse_smooth = block.bias + sizeof(float) * columns;
  block.bytes = round_up(block.inverse_smooth + sizeof(float) * k, 64);
  return block;
}

// 0, or why such a matrix cannot be.
inline int check_shape(int32_t kind, int n, int k, int group) {
  if (kind < 0 || kind > static_cast<int32_t>(Kind::Q4) || n <= 0 || k <= 0) return kRejectedKind;
  if (kind == static_cast<int32_t>(Kind::Q4) && k % 32 != 0) return kRejectedDepth;
  if (kind == static_cast<int32_t>(Kind::I8) && group != k && (group <= 0 || group % 32 != 0)) return kRejectedGroup;
  return 0;
}

inline int lay_out(Matrix& matrix, Kind kind, int n, int k, int group, void* memory) {
  const int rejected = check_shape(static_cast<int32_t>(kind), n, k, group);
  if (rejected != 0) return rejected;
  const BlockLayout block = block_layout(kind, n, k);
  matrix = Matrix{};
  matrix.kind = static_cast<int32_t>(kind);
  matrix.n = n;
  matrix.k = k;
  matrix.group = kind == Kind::Q4 ? 32 : group;
  matrix.data = memory;
  if (kind == Kind::I8) matrix.scales = reinterpret_cast<float*>(static_cast<char*>(memory) + block.scales);
  return 0;
}

inline char* block_of(const Matrix& matrix) { return static_cast<char*>(const_cast<void*>(matrix.data)); }

// Weights packed from now on are multiplied by smooth[k], activations are divided by it.
inline void set_smooth(Matrix& matrix, const float* smooth) {
  const BlockLayout block = block_layout(static_cast<Kind>(matrix.kind), matrix.n, matrix.k);
  float* inverse = reinterpret_cast<float*>(block_of(matrix) + block.inverse_smooth);
  for (int i = 0; i < matrix.k; ++i) inverse[i] = 1.0f / smooth[i];
  matrix.inverse_smooth = inverse;
}

inline void set_bias(Matrix& matrix, const float* bias) {
  const BlockLayout block = block_layout(static_cast<Kind>(matrix.kind), matrix.n, matrix.k);
  float* padded = reinterpret_cast<float*>(block_of(matrix) + block.bias);
  std::memset(padded, 0, sizeof(float) * padded_columns(matrix.n));
  std::memcpy(padded, bias, sizeof(float) * matrix.n);
  matrix.bias = padded;
}

// -- reading a row ------------------------------------------------------------------------------------------------

inline uint16_t read_half_bits(const uint8_t* from) {
  uint16_t bits;
  std::memcpy(&bits, from, 2);
  return bits;
}

// One row of any source as fp32: what an embedding reads, and what the packers that round start from.
inline void read_row(Source source, const void* row, int k, float* out) {
  const uint8_t* bytes = static_cast<const uint8_t*>(row);
  switch (source) {
    case Source::F32: std::memcpy(out, row, sizeof(float) * k); return;
    case Source::F16: for (int i = 0; i < k; ++i) out[i] = from_half(read_half_bits(bytes + 2 * i)); return;
    case Source::BF16: for (int i = 0; i < k; ++i) out[i] = from_bfloat(read_half_bits(bytes + 2 * i)); return;
    case Source::Q4_0:
    case Source::Q4_1: {
      const bool has_minimum = source == Source::Q4_1;
      const size_t header = has_minimum ? 4 : 2;
      for (int first = 0; first < k; first += 32, bytes += header + 16) {
        const float d = from_half(read_half_bits(bytes));
        const float m = has_minimum ? from_half(read_half_bits(bytes + 2)) : -8.0f * d;
        for (int i = 0; i < 16; ++i) {
          out[first + i] = d * static_cast<float>(bytes[header + i] & 15) + m;
          out[first + 16 + i] = d * static_cast<float>(bytes[header + i] >> 4) + m;
        }
      }
      return;
    }
    case Source::Q8_0:
      for (int first = 0; first < k; first += 32, bytes += 34) {
        const float d = from_half(read_half_bits(bytes));
        for (int i = 0; i < 32; ++i) out[first + i] = d * static_cast<float>(static_cast<int8_t>(bytes[2 + i]));
      }
  }
}

// -- writing a row ------------------------------------------------------------------------------------------------

inline char* column_of(const Matrix& matrix, int n, int steps) {
  return block_of(matrix) + kStepBytes * steps * (n / kPanel) + 4 * (n % kPanel);
}

inline void write_f32(const Matrix& matrix, int n, const float* row) {
  char* to = column_of(matrix, n, matrix.k);
  for (int i = 0; i < matrix.k; ++i, to += kStepBytes) std::memcpy(to, row + i, 4);
}

inline void write_bf16(const Matrix& matrix, int n, const float* row) {
  char* to = column_of(matrix, n, (matrix.k + 1) / 2);
  for (int i = 0; i < matrix.k; i += 2, to += kStepBytes) {
    const uint16_t pair[2] = {to_bfloat(row[i]), i + 1 < matrix.k ? to_bfloat(row[i + 1]) : uint16_t{0}};
    std::memcpy(to, pair, 4);
  }
}

inline void write_i8(const Matrix& matrix, int n, const float* row) {
  char* to = column_of(matrix, n, (matrix.k + 3) / 4);
  float largest = 0;
  for (int i = 0; i < matrix.k; ++i) largest = std::fabs(row[i]) > largest ? std::fabs(row[i]) : largest;
  const float inverse = largest > 0 ? 127.0f / largest : 0.0f;
  const_cast<float*>(matrix.scales)[n] = largest / 127.0f;
  for (int i = 0; i < matrix.k; i += 4, to += kStepBytes) {
    uint8_t bytes[4];
    for (int t = 0; t < 4; ++t) {
      const float value = i + t < matrix.k ? row[i + t] * inverse : 0.0f;
      bytes[t] = static_cast<uint8_t>(128 + static_cast<int>(std::nearbyint(value)));
    }
    std::memcpy(to, bytes, 4);
  }
}

inline void write_q4_block(const Matrix& matrix, int n, int block, uint16_t d, uint16_t m, const uint8_t* nibbles) {
  const size_t stripe = kQ4Block * (matrix.k / 32);
  char* to = block_of(matrix) + stripe * (n / kQ4Columns) + kQ4Block * block;
  const int column = n % kQ4Columns;
  for (int i = 0; i < 4; ++i) std::memcpy(to + 64 * i + 4 * column, nibbles + 4 * i, 4);
  std::memcpy(to + kQ4Nibbles + 2 * column, &d, 2);
  std::memcpy(to + kQ4Nibbles + 2 * (kQ4Columns + column), &m, 2);
}

inline void write_q4(const Matrix& matrix, int n, const float* row) {
  for (int block = 0; block < matrix.k / 32; ++block, row += 32) {
    float low = row[0], high = row[0];
    for (int i = 1; i < 32; ++i) {
      low = row[i] < low ? row[i] : low;
      high = row[i] > high ? row[i] : high;
    }
    const uint16_t d = to_half((high - low) / 15.0f), m = to_half(low);
    const float step = from_half(d), start = from_half(m), inverse = step > 0 ? 1.0f / step : 0.0f;
    uint8_t nibbles[16];
    for (int i = 0; i < 16; ++i) {
      int levels[2];
      for (int half = 0; half < 2; ++half) {
        const int level = static_cast<int>(std::nearbyint((row[i + 16 * half] - start) * inverse));
        levels[half] = level < 0 ? 0 : level > 15 ? 15 : level;
      }
      nibbles[i] = static_cast<uint8_t>(levels[0] | levels[1] << 4);
    }
    write_q4_block(matrix, n, block, d, m, nibbles);
  }
}

// Blocks as they are: nothing is rounded (-8 d is exact in a half unless d itself is beyond any use).
inline void copy_q4(const Matrix& matrix, int n, Source source, const uint8_t* row) {
  const bool has_minimum = source == Source::Q4_1;
  const size_t header = has_minimum ? 4 : 2;
  for (int block = 0; block < matrix.k / 32; ++block, row += header + 16) {
    const uint16_t d = read_half_bits(row);
    const uint16_t m = has_minimum ? read_half_bits(row + 2) : to_half(-8.0f * from_half(d));
    write_q4_block(matrix, n, block, d, m, row + header);
  }
}

// Rows [row0, row0 + count) of the matrix, from `rows` in the format `source`, `row_bytes` apart.
inline int pack_rows(const Matrix& matrix, int row0, int count, Source source, const void* rows, size_t row_bytes) {
  if (source < Source::F32 || source > Source::Q8_0) return kRejectedKind;
  if (row0 < 0 || count < 0 || count > matrix.n - row0) return kRejectedRows;
  if (source >= Source::Q4_0 && matrix.k % 32 != 0) return kRejectedDepth;
  const Kind kind = static_cast<Kind>(matrix.kind);
  const bool blocks = source == Source::Q4_0 || source == Source::Q4_1;
  std::vector<float> values(matrix.k);
  for (int i = 0; i < count; ++i) {
    const uint8_t* row = static_cast<const uint8_t*>(rows) + row_bytes * i;
    if (kind == Kind::Q4 && blocks && matrix.inverse_smooth == nullptr) {
      copy_q4(matrix, row0 + i, source, row);
      continue;
    }
    read_row(source, row, matrix.k, values.data());
    if (matrix.inverse_smooth != nullptr)
      for (int j = 0; j < matrix.k; ++j) values[j] /= matrix.inverse_smooth[j];
    switch (kind) {
      case Kind::F32: write_f32(matrix, row0 + i, values.data()); break;
      case Kind::BF16: write_bf16(matrix, row0 + i, values.data()); break;
      case Kind::I8: write_i8(matrix, row0 + i, values.data()); break;
      case Kind::Q4: write_q4(matrix, row0 + i, values.data()); break;
    }
  }
  return 0;
}

}  // namespace ramify
