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
  int row0, column0;      // where y starts, in the whole product
  size_t at(int row, int column) const {
    return static_cast<size_t>(row - row0) * stride + static_cast<size_t>(column - column0);
  }
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

// sums[r][v] += the steps; meanwhile Lines cache lines a step of what comes next are fetched into the second cache.
template <class Step, int Rows, int Vectors, int Lines>
inline __attribute__((always_inline)) void accumulate(const char* weights, const char* rows, size_t stride, int steps,
                                                      const char* ahead, int ahead_step,
                                                      typename Step::Sum (&sums)[Rows][Vectors]) {
  for (int s = 0; s < steps; ++s) {
    typename Step::Weight weight[Vectors];
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) weight[v] = load<typename Step::Weight>(weights + v * kVectorBytes);
#pragma GCC unroll 4
    for (int line = 0; line < Lines; ++line) __builtin_prefetch(ahead + 64 * line, 0, 2);
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      const auto activation = Step::broadcast_activation(rows + r * stride + 4 * s);
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) sums[r][v] = Step::add(sums[r][v], weight[v], activation);
    }
    weights += kStepBytes;
    ahead += ahead_step;
  }
}

// One tile's operands: `rows` and the group arrays point at its first row, `weights` at its first column.
struct Tile {
  const Matrix* matrix;
  const char* weights;
  const char* rows;
  size_t stride;
  const float* scales;  // [groups, all rows]
  const int32_t* sums;  // [groups, all rows]
  int all_rows;
  const char* ahead;  // what to fetch meanwhile
  int ahead_step;     // and how many bytes of it for each step
  int column, row;    // of the first output
};

inline Tile tile_of(const Matrix& matrix, const Scratch& area, const char* scratch, int column, int row) {
  Tile tile{};
  tile.matrix = &matrix;
  tile.rows = scratch + area.stride * row;
  tile.stride = area.stride;
  tile.scales = reinterpret_cast<const float*>(scratch + area.scales) + row;
  tile.sums = reinterpret_cast<const int32_t*>(scratch + area.sums) + row;
  tile.all_rows = area.rows;
  tile.column = column;
  tile.row = row;
  return tile;
}

// Where a tile keeps its sums between groups, or when its panel is not whole.
struct alignas(64) Sums {
  float values[kTileRows][kPanel];
};

template <int Rows, int Vectors, class Action>
inline __attribute__((always_inline)) void for_tile(Action action) {
#pragma GCC unroll 4
  for (int v = 0; v < Vectors; ++v)
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) action(r, v);
}

// y = sums * scale + bias + residual, for columns that all exist; `sum` gives one vector of sums.
template <int Rows, int Vectors, class Sum>
inline __attribute__((always_inline)) void write_tile(const Tile& tile, int column, const Output& output, Sum sum) {
  const Matrix& matrix = *tile.matrix;
  const size_t start = output.at(tile.row, tile.column + column);
#pragma GCC unroll 4
  for (int v = 0; v < Vectors; ++v) {
    const int at = column + v * kLanes;
    // x * 1 and x + -0 are x
    const Floats scale = matrix.scales != nullptr ? load<Floats>(matrix.scales + tile.column + at) : broadcast(1.0f);
    const Floats bias = matrix.bias != nullptr ? load<Floats>(matrix.bias + tile.column + at) : broadcast(-0.0f);
    float* y = output.y + start + v * kLanes;
    const float* residual = output.residual != nullptr ? output.residual + start + v * kLanes : y;
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r, y += output.stride, residual += output.stride) {
      Floats value = multiply_add(sum(r, v), scale, bias);
      if (output.residual != nullptr) value += load<Floats>(residual);
      store(y, value);
    }
  }
}

// One group of a quantized tile (or all of K): the products, times the rows' scales, on top of the earlier groups. The
// last group of a whole panel goes straight to y.
template <class Step, int Rows, int Lines>
void compute_group(const Tile& tile, int steps, int column, bool first, bool write, const Output& output, Sums& kept) {
  constexpr int Vectors = kTileVectors;
  constexpr bool Quantized = Step::kDepth == 4;
  typename Step::Sum sums[Rows][Vectors];
  for_tile<Rows, Vectors>([&](int r, int v) {
    if constexpr (Quantized) sums[r][v] = broadcast(tile.sums[r]);
    else sums[r][v] = Floats{};
  });
  accumulate<Step, Rows, Vectors, Lines>(tile.weights + 4 * column, tile.rows, tile.stride, steps, tile.ahead,
                                         tile.ahead_step, sums);
  float* keep = kept.values[0] + column;
  const auto scaled = [&](int r, int v) {
    if constexpr (Quantized) {
      const Floats before = first ? Floats{} : load<Floats>(keep + r * kPanel + v * kLanes);
      return multiply_add(to_floats(sums[r][v]), broadcast(tile.scales[r]), before);
    } else {
      return sums[r][v];
    }
  };
  if (write) write_tile<Rows, Vectors>(tile, column, output, scaled);
  else for_tile<Rows, Vectors>([&](int r, int v) { store(keep + r * kPanel + v * kLanes, scaled(r, v)); });
}

// The same from sums that were kept, for the columns that exist.
inline __attribute__((noinline)) void write_kept(const Tile& tile, int rows, const Output& output, Sums& kept) {
  const Matrix& matrix = *tile.matrix;
  const int columns = matrix.n - tile.column < kPanel ? matrix.n - tile.column : kPanel;
  for (int r = 0; r < rows; ++r) {
    const size_t at = output.at(tile.row + r, tile.column);
    for (int c = 0; c < kPanel; c += kLanes) {
      const float* scales = matrix.scales + tile.column + c;
      const Floats scale = matrix.scales != nullptr ? load<Floats>(scales) : broadcast(1.0f);
      const Floats bias = matrix.bias != nullptr ? load<Floats>(matrix.bias + tile.column + c) : broadcast(-0.0f);
      store(kept.values[r] + c, multiply_add(load<Floats>(kept.values[r] + c), scale, bias));
    }
    for (int c = 0; c < columns; ++c)
      output.y[at + c] = kept.values[r][c] + (output.residual != nullptr ? output.residual[at + c] : 0.0f);
  }
}

// Fetch what will be written, while the products are still being computed.
inline void fetch_output(const Tile& tile, int rows, const Output& output) {
  for (int r = 0; r < rows; ++r)
    for (int c = 0; c < kPanel; c += 16) {
      const size_t at = output.at(tile.row + r, tile.column + c);
      fetch_to_write(output.y + at);
      if (output.residual != nullptr) __builtin_prefetch(output.residual + at, 0, 3);
    }
}

template <class Step, int Rows, int Lines>
void compute_tile(Tile& tile, const Output& output) {
  const Matrix& matrix = *tile.matrix;
  const int depth = Step::kDepth == 4 ? matrix.group : matrix.k;
  const bool whole = tile.column + kPanel <= matrix.n;
  Sums kept;
  if (whole) fetch_output(tile, Rows, output);
  for (int start = 0; start < matrix.k; start += depth) {
    const bool last = matrix.k - start <= depth;
    const int steps = ((last ? matrix.k - start : depth) + Step::kDepth - 1) / Step::kDepth;
    for (int column = 0; column < kPanel; column += kTileVectors * kLanes)
      compute_group<Step, Rows, Lines>(tile, steps, column, start == 0, whole && last, output, kept);
    tile.weights += kStepBytes * steps;
    tile.rows += 4 * steps;
    tile.scales += tile.all_rows;
    tile.sums += tile.all_rows;
    tile.ahead += tile.ahead_step * steps;
  }
  if (!whole) write_kept(tile, Rows, output, kept);
}

template <class Step, int Lines, int Rows = kTileRows>
inline void compute_rows(int rows, Tile& tile, const Output& output) {
  if constexpr (Rows == 0) return;
  else if (rows == Rows) compute_tile<Step, Rows, Lines>(tile, output);
  else compute_rows<Step, Lines, Rows - 1>(rows, tile, output);
}

// What is multiplied: rows [row0, row1) of the scratch area by panels [panel0, panel1).
struct Range {
  int row0, row1, panel0, panel1;
};

template <class Step>
void tiled_panels(const Matrix& matrix, const Scratch& area, const char* scratch, const Range& range,
                  const Output& output) {
  const int steps = (matrix.k + Step::kDepth - 1) / Step::kDepth;
  const size_t panel_bytes = kStepBytes * steps;
  for (int block = range.row0; block < range.row1; block += kRowBlock) {
    const int rows = range.row1 - block < kRowBlock ? range.row1 - block : kRowBlock;
    const int tiles = (rows + kTileRows - 1) / kTileRows;
    for (int panel = range.panel0; panel < range.panel1; ++panel) {
      for (int t = 0; t < tiles; ++t) {
        // rows shared out evenly: 13 rows are tiles of 7 and 6, not of 8 and 5
        const int first = rows * t / tiles, next = rows * (t + 1) / tiles;
        Tile tile = tile_of(matrix, area, scratch, panel * kPanel, block + first);
        tile.weights = static_cast<const char*>(matrix.data) + panel_bytes * panel;
        // The tiles of this panel fetch the next one, in equal parts. With next to nothing to compute, the machine's
        // own prefetching of a stream is better than that (measured: 5 to 10%).
        tile.ahead_step = (kStepBytes + tiles - 1) / tiles;
        tile.ahead = tile.weights + panel_bytes + static_cast<size_t>(tile.ahead_step) * steps * t;
        if (rows < 4) compute_rows<Step, 0, 3>(next - first, tile, output);
        else if (tiles == 1) compute_rows<Step, 3>(next - first, tile, output);
        else if (tiles == 2) compute_rows<Step, 2>(next - first, tile, output);
        else compute_rows<Step, 1>(next - first, tile, output);
      }
    }
  }
}

}  // namespace ramify
