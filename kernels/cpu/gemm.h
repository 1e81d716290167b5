// The matrix products of the compiled core: the packed matrix, and what a thread does with it inside a parallel region.
//
// y[m, n] = sum_k x[m, k] w[n, k] (+ bias[n]) (+ residual[m, n]); all activations outside are fp32, row-major.
//
// A product takes two phases with a barrier between them:
//   1. prepare_rows: the threads share out the rows, converting them to what the kernel reads, in one scratch area;
//   2. gemm_panels:  the threads share out the panels of 48 columns; each writes its own columns of y.
// No function here allocates, locks or throws. Every kind is row-invariant, bit for bit: what a row gives does not
// depend on the other rows, on its own index, or on who computes it. (A Q4 matrix with a `wide` twin is two kinds: the
// number of rows decides between them.)
#pragma once

#include <cstddef>
#include <cstdint>

namespace ramify {

enum class Kind : int32_t { F32 = 0, BF16 = 1, I8 = 2, Q4 = 3 };

constexpr int kPanel = 48;  // columns of a panel, for every kind

// A packed matrix: n outputs, k inputs. Plain data, mirrored in Python by a ctypes.Structure of the same fields; made
// by the functions of pack.h, which lay everything it points to in one 64-byte aligned block that the caller owns.
struct Matrix {
  int32_t kind;                 // Kind
  int32_t n, k;                 // outputs, inputs
  int32_t group;                // I8: activations that share a scale (k: one scale for a row); Q4: 32
  int32_t wide_from;            // `wide` is used instead when a product has at least so many rows
  int32_t reserved;
  const void* data;             // packed weights
  const float* scales;          // I8: one for each output, padded to whole panels; null otherwise
  const float* bias;            // [n, padded to whole panels], or null
  const float* inverse_smooth;  // [k] multiplied into x (its inverse is in the weights), or null
  const Matrix* wide;           // the same weights as another kind, for many rows; or null
};

// How many panels there are to share out.
inline int panels(const Matrix& matrix);

// Bytes of scratch (64-byte aligned) for a product of `rows` rows. Never falls when `rows` grows, so what the
// largest step needs serves them all.
inline size_t row_scratch_bytes(const Matrix& matrix, int rows);

// Convert rows [row0, row1) of x (leading dimension ldx) into scratch, for a product of `rows` rows in all.
inline void prepare_rows(const Matrix& matrix, const float* x, size_t ldx, int row0, int row1, int rows,
                         void* scratch);

// Columns [48 panel0, 48 panel1) of y. `residual` may be null, or y itself; it has y's leading dimension.
inline void gemm_panels(const Matrix& matrix, const void* scratch, int rows, int panel0, int panel1, float* y,
                        size_t ldy, const float* residual);

// The same for rows [row0, row1) alone.
inline void gemm_piece(const Matrix& matrix, const void* scratch, int rows, int row0, int row1, int panel0, int panel1,
                       float* y, size_t ldy);

// The largest output of a row, and its column.
struct Best {
  float value;
  int32_t column;
};

// Where an output of panels [panel0, panel1) is larger than best[row], it takes its place: greedy decoding without the
// logits ever lying in memory. Start from {-infinity, 0}; the first of equals wins, also when threads' bests are merged
// in the order of their panels. A NaN is never the best.
inline void argmax_panels(const Matrix& matrix, const void* scratch, int rows, int panel0, int panel1, Best* best);

}  // namespace ramify

#include "gemm_lanes.h"
#include "gemm_rows.h"
#include "gemm_tile.h"
#include "gemm_q4.h"

namespace ramify {

constexpr int kBestRows = 64;  // rows whose panel of outputs is on the stack at a time

inline void update_best(const float* values, int columns, int column0, Best& best) {
  bool better = false;
  for (int c = 0; c < columns; ++c) better |= values[c] > best.value;
  if (!better) return;  // nearly always
  for (int c = 0; c < columns; ++c)
    if (values[c] > best.value) best = {values[c], column0 + c};
}

inline const Matrix& chosen(const Matrix& matrix, int rows) {
  return matrix.wide != nullptr && rows >= matrix.wide_from ? *matrix.wide : matrix;
}

inline int panels(const Matrix& matrix) { return (matrix.n + kPanel - 1) / kPanel; }

inline size_t row_scratch_bytes(const Matrix& matrix, int rows) {
  const size_t own = scratch_layout(matrix, rows).bytes;
  const size_t other = matrix.wide != nullptr ? scratch_layout(*matrix.wide, rows).bytes : 0;
  return own > other ? own : other;
}

inline void prepare_rows(const Matrix& matrix, const float* x, size_t ldx, int row0, int row1, int rows,
                         void* scratch) {
  const Matrix& used = chosen(matrix, rows);
  const Scratch area = scratch_layout(used, rows);
  for (int row = row0; row < row1; ++row) prepare_row(used, area, x + row * ldx, row, static_cast<char*>(scratch));
}

inline void multiply_range(const Matrix& used, const Scratch& area, const void* scratch, const Range& range,
                           const Output& output) {
  const char* bytes = static_cast<const char*>(scratch);
  switch (static_cast<Kind>(used.kind)) {
    case Kind::F32: return tiled_panels<F32Step>(used, area, bytes, range, output);
    case Kind::BF16: return tiled_panels<BF16Step>(used, area, bytes, range, output);
    case Kind::I8: return tiled_panels<I8Step>(used, area, bytes, range, output);
    case Kind::Q4: return q4_panels(used, area, bytes, range, output);
  }
}

inline void gemm_panels(const Matrix& matrix, const void* scratch, int rows, int panel0, int panel1, float* y,
                        size_t ldy, const float* residual) {
  const Matrix& used = chosen(matrix, rows);
  const Output output{y, residual, ldy, 0, 0};
  multiply_range(used, scratch_layout(used, rows), scratch, {0, rows, panel0, panel1}, output);
}

inline void gemm_piece(const Matrix& matrix, const void* scratch, int rows, int row0, int row1, int panel0, int panel1,
                       float* y, size_t ldy) {
  const Matrix& used = chosen(matrix, rows);
  multiply_range(used, scratch_layout(used, rows), scratch, {row0, row1, panel0, panel1}, {y, nullptr, ldy, 0, 0});
}

inline void argmax_panels(const Matrix& matrix, const void* scratch, int rows, int panel0, int panel1, Best* best) {
  const Matrix& used = chosen(matrix, rows);
  const Scratch area = scratch_layout(used, rows);
  alignas(64) float values[kBestRows][kPanel];
  for (int row0 = 0; row0 < rows; row0 += kBestRows) {
    const int row1 = rows - row0 < kBestRows ? rows : row0 + kBestRows;
    for (int panel = panel0; panel < panel1; ++panel) {
      const int column0 = panel * kPanel;
      const int columns = matrix.n - column0 < kPanel ? matrix.n - column0 : kPanel;
      multiply_range(used, area, scratch, {row0, row1, panel, panel + 1}, {values[0], nullptr, kPanel, row0, column0});
      for (int row = row0; row < row1; ++row) update_best(values[row - row0], columns, column0, best[row]);
    }
  }
}

}  // namespace ramify
