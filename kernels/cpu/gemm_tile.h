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

inline Tile tile_of(const Matrix& matrix, const Scratch& area, const char* scratch, int column, int row) {
  const size_t groups = static_cast<size_t>(area.groups) * row;
  Tile tile{};
  tile.matrix = &matrix;
  tile.rows = scratch + area.stride * row;
  tile.stride = area.stride;
  tile.scales = reinterpret_cast<const float*>(scratch + area.scales) + groups;
  tile.sums = reinterpret_cast<const int32_t*>(scratch + area.sums) + groups;
  tile.groups = area.groups;
  tile.column = column;
  return tile;
}

// Where a tile leaves its sums, before scale, bias and residual.
struct alignas(64) Sums {
  float values[kTileRows][kPanel];
};

template <int Rows, int Vectors, class Action>
inline __attribute__((always_inline)) void for_tile(Action action) {
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) action(r, v);
}

// One group of a quantized tile (or all of K): sums = the products, times the rows' scales, on top of earlier groups.
template <class Step, int Rows, int Lines>
void compute_group(const Tile& tile, int group, int steps, int column, Sums& out) {
  constexpr int Vectors = kTileVectors;
  typename Step::Sum sums[Rows][Vectors];
  for_tile<Rows, Vectors>([&](int r, int v) {
    if constexpr (Step::kDepth == 4) sums[r][v] = broadcast(tile.sums[r * tile.groups + group]);
    else sums[r][v] = Floats{};
  });
  accumulate<Step, Rows, Vectors, Lines>(tile.weights + 4 * column, tile.rows, tile.stride, steps, tile.ahead, sums);
  float* to = out.values[0] + column;
  if constexpr (Step::kDepth < 4) {
    for_tile<Rows, Vectors>([&](int r, int v) { store(to + r * kPanel + v * kLanes, sums[r][v]); });
  } else {
    Floats scales[Rows];
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) scales[r] = broadcast(tile.scales[r * tile.groups + group]);
    for_tile<Rows, Vectors>([&](int r, int v) {
      float* at = to + r * kPanel + v * kLanes;
      const Floats before = group == 0 ? Floats{} : load<Floats>(at);
      store(at, multiply_add(to_floats(sums[r][v]), scales[r], before));
    });
  }
}

// y = sums * scale + bias + residual, for the columns that exist.
inline __attribute__((noinline)) void finish(const Matrix& matrix, Sums& sums, int column, int rows,
                                             const Output& output, int row) {
  const int columns = matrix.n - column < kPanel ? matrix.n - column : kPanel;
  for (int c = 0; c < kPanel; c += kLanes) {
    const Floats scale = matrix.scales != nullptr ? load<Floats>(matrix.scales + column + c) : broadcast(1.0f);
    const Floats bias = matrix.bias != nullptr ? load<Floats>(matrix.bias + column + c) : broadcast(-0.0f);
    for (int r = 0; r < rows; ++r) {
      const Floats value = load<Floats>(sums.values[r] + c) * scale + bias;
      store(sums.values[r] + c, value);
    }
  }
  for (int r = 0; r < rows; ++r) {
    const size_t at = (row + r) * output.stride + column;
    const float* residual = output.residual != nullptr ? output.residual + at : nullptr;
    for (int c = 0; c < columns; ++c) output.y[at + c] = sums.values[r][c] + (residual != nullptr ? residual[c] : 0.0f);
  }
}

// Fetch what `finish` will write, while the products are still being computed.
inline void fetch_output(const Matrix& matrix, int column, int rows, const Output& output, int row) {
  const int columns = matrix.n - column < kPanel ? matrix.n - column : kPanel;
  for (int r = 0; r < rows; ++r)
    for (int c = 0; c < columns; c += 16) {
      const size_t at = (row + r) * output.stride + column + c;
      fetch_to_write(output.y + at);
      if (output.residual != nullptr) __builtin_prefetch(output.residual + at, 0, 3);
    }
}

template <class Step, int Rows, int Lines>
inline void compute_tile(Tile tile, const Output& output, int row) {
  const Matrix& matrix = *tile.matrix;
  const int depth = Step::kDepth == 4 ? matrix.group : matrix.k;
  Sums sums;
  fetch_output(matrix, tile.column, Rows, output, row);
  for (int group = 0; group * depth < matrix.k; ++group) {
    const int inputs = matrix.k - group * depth < depth ? matrix.k - group * depth : depth;
    const int steps = (inputs + Step::kDepth - 1) / Step::kDepth;
    for (int column = 0; column < kPanel; column += kTileVectors * kLanes)
      compute_group<Step, Rows, Lines>(tile, group, steps, column, sums);
    tile.weights += kStepBytes * steps;
    tile.rows += 4 * steps;
    tile.ahead += 64 * Lines * steps;
  }
  finish(matrix, sums, tile.column, Rows, output, row);
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
      for (int t = 0; t < tiles; ++t) {
        // rows shared out evenly: 13 rows are tiles of 7 and 6, not of 8 and 5
        const int first = block + in_block * t / tiles, next = block + in_block * (t + 1) / tiles;
        Tile tile = tile_of(matrix, area, scratch, panel * kPanel, first);
        tile.weights = static_cast<const char*>(matrix.data) + panel_bytes * panel;
        tile.ahead = tile.weights + panel_bytes;
        if (tiles < 3 && t == 0) compute_rows<Step, 3>(next - first, tile, output, first);
        else compute_rows<Step, 0>(next - first, tile, output, first);
      }
    }
  }
}

}  // namespace ramify
