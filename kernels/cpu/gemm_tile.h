// The tiled product of F32, BF16 and I8 matrices: up to 8 rows by one panel of 48 columns, held in registers.
//
// The three kinds share one layout, [N / 48][steps][48][4 bytes]: a step is 1 fp32, 2 bf16 or 4 bytes of K, and 192
// bytes of weights. An accumulator sees the steps in order, whatever the tile: that is the row invariance.
#pragma once

#include "gemm.h"
#include "gemm_lanes.h"
#include "gemm_rows.h"

namespace ramify {

struct Output {
  float* y;
  const float* residual;  // or null
  size_t stride;          // floats from one row to the next, in both
};

constexpr size_t kStepBytes = 4 * kPanel;
constexpr int kRowBlock = 128;  // rows that stay in the inner caches while the panels pass by

struct F32Step {
  using Sum = Floats;
  using Weight = Floats;
  static constexpr int kDepth = 1;
  static Floats broadcast_activation(const char* from) { return broadcast(read_float(from)); }
  static Sum add(Sum sum, Weight weight, Floats activation) { return multiply_add(weight, activation, sum); }
};

struct BF16Step {
  using Sum = Floats;
  using Weight = Ints;
  static constexpr int kDepth = 2;
  static Ints broadcast_activation(const char* from) { return broadcast(read_int(from)); }
  static Sum add(Sum sum, Weight weight, Ints activation) { return dot_bfloats(sum, weight, activation); }
};

// Weights are stored as w + 128, unsigned; starting from -128 * sum(activations) takes the 128 out again, exactly.
struct I8Step {
  using Sum = Ints;
  using Weight = Ints;
  static constexpr int kDepth = 4;
  static Ints broadcast_activation(const char* from) { return broadcast(read_int(from)); }
  static Sum add(Sum sum, Weight weight, Ints activation) { return dot_bytes(sum, weight, activation); }
};

// sums[r][v] += the steps, and fetch Lines cache lines a step of what comes next.
template <class Step, int Rows, int Vectors, int Lines>
inline __attribute__((always_inline)) void accumulate(const char* weights, const char* rows, size_t stride, int steps,
                                                      const char* ahead, typename Step::Sum (&sums)[Rows][Vectors]) {
  for (int s = 0; s < steps; ++s) {
    typename Step::Weight weight[Vectors];
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) weight[v] = load<typename Step::Weight>(weights + v * kVectorBytes);
#pragma GCC unroll 4
    for (int line = 0; line < Lines; ++line) __builtin_prefetch(ahead + 64 * line, 0, 3);
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      const auto activation = Step::broadcast_activation(rows + r * stride + 4 * s);
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) sums[r][v] = Step::add(sums[r][v], weight[v], activation);
    }
    weights += kStepBytes;
    ahead += 64 * Lines;
  }
}

// One tile's operands: `rows` and the group arrays point at its first row, `weights` at its first column.
struct Tile {
  const Matrix* matrix;
  const char* weights;
  const char* rows;
  size_t stride;
  const float* scales;  // [rows, groups]
  const int32_t* sums;  // [rows, groups]
  int groups;
  const char* ahead;
  int column;  // the first column, in the matrix
};

template <class Step, int Rows, int Vectors, int Lines>
inline __attribute__((always_inline)) void products(const Tile& tile, Floats (&result)[Rows][Vectors]) {
  const int k = tile.matrix->k;
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) result[r][v] = Floats{};
  if constexpr (Step::kDepth < 4) {
    accumulate<Step, Rows, Vectors, Lines>(tile.weights, tile.rows, tile.stride, (k + Step::kDepth - 1) / Step::kDepth,
                                           tile.ahead, result);
  } else {
    const int group = tile.matrix->group;
    for (int g = 0; g < tile.groups; ++g) {
      const int first = g * group / 4, inputs = k - g * group < group ? k - g * group : group;
      Ints sums[Rows][Vectors];
#pragma GCC unroll 8
      for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < Vectors; ++v) sums[r][v] = broadcast(tile.sums[r * tile.groups + g]);
      accumulate<Step, Rows, Vectors, Lines>(tile.weights + first * kStepBytes, tile.rows + 4 * first, tile.stride,
                                             (inputs + 3) / 4, tile.ahead + 64 * Lines * first, sums);
#pragma GCC unroll 8
      for (int r = 0; r < Rows; ++r) {
        const Floats scale = broadcast(tile.scales[r * tile.groups + g]);
#pragma GCC unroll 4
        for (int v = 0; v < Vectors; ++v) result[r][v] = multiply_add(to_floats(sums[r][v]), scale, result[r][v]);
      }
    }
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) {
      const Floats scale = load<Floats>(tile.matrix->scales + tile.column + v * kLanes);
#pragma GCC unroll 8
      for (int r = 0; r < Rows; ++r) result[r][v] *= scale;
    }
  }
}

// Add bias and residual, and write one vector of one row; only the columns that exist.
inline void finish(const Matrix& matrix, Floats value, int column, const Output& output, size_t row) {
  if (matrix.bias != nullptr) value += load<Floats>(matrix.bias + column);
  float* y = output.y + row * output.stride + column;
  const float* residual = output.residual != nullptr ? output.residual + row * output.stride + column : nullptr;
  if (column + kLanes <= matrix.n) {
    if (residual != nullptr) value += load<Floats>(residual);
    store(y, value);
    return;
  }
  for (int lane = 0; column + lane < matrix.n; ++lane) y[lane] = value[lane] + (residual ? residual[lane] : 0.0f);
}

template <class Step, int Rows, int Lines>
void compute_tile(const Tile& tile, const Output& output, int row) {
  constexpr int Vectors = kTileVectors;
  for (int part = 0; part < kPanel; part += Vectors * kLanes) {
    Tile piece = tile;
    piece.weights += 4 * part;
    piece.column += part;
    Floats result[Rows][Vectors];
    products<Step, Rows, Vectors, Lines>(piece, result);
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v)
        finish(*tile.matrix, result[r][v], piece.column + v * kLanes, output, row + r);
  }
}

template <class Step, int Lines, int Rows = kTileRows>
inline void compute_rows(int rows, const Tile& tile, const Output& output, int row) {
  if constexpr (Rows == 0) return;
  else if (rows == Rows) compute_tile<Step, Rows, Lines>(tile, output, row);
  else compute_rows<Step, Lines, Rows - 1>(rows, tile, output, row);
}

template <class Step>
void tiled_panels(const Matrix& matrix, const Scratch& area, const char* scratch, int rows, int panel0, int panel1,
                  const Output& output) {
  const int steps = (matrix.k + Step::kDepth - 1) / Step::kDepth;
  const size_t panel_bytes = kStepBytes * steps;
  for (int block = 0; block < rows; block += kRowBlock) {
    const int in_block = rows - block < kRowBlock ? rows - block : kRowBlock;
    const int tiles = (in_block + kTileRows - 1) / kTileRows;
    for (int panel = panel0; panel < panel1; ++panel) {
      Tile tile{};
      tile.matrix = &matrix;
      tile.weights = static_cast<const char*>(matrix.data) + panel_bytes * panel;
      tile.stride = area.stride;
      tile.groups = area.groups;
      tile.column = panel * kPanel;
      for (int t = 0; t < tiles; ++t) {
        // rows shared out evenly: 13 rows are tiles of 7 and 6, not of 8 and 5
        const int first = block + in_block * t / tiles, next = block + in_block * (t + 1) / tiles;
        tile.rows = scratch + area.stride * first;
        tile.scales = reinterpret_cast<const float*>(scratch + area.scales) + static_cast<size_t>(area.groups) * first;
        tile.sums = reinterpret_cast<const int32_t*>(scratch + area.sums) + static_cast<size_t>(area.groups) * first;
        tile.ahead = tile.weights + panel_bytes;
        if (tiles < 3 && t == 0) compute_rows<Step, 3>(next - first, tile, output, first);
        else compute_rows<Step, 0>(next - first, tile, output, first);
      }
    }
  }
}

}  // namespace ramify
