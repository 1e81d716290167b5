// The product of a 4-bit matrix, read in the file's own blocks of 32 (w = d q + m), with activations in the same blocks.
//
// Layout: [N / 16][K / 32][320 bytes]; a block of 16 columns is 4 groups of [16 columns][4 bytes], whose byte t holds
// elements 4 i + t (low nibble) and 16 + 4 i + t (high nibble), then 16 halves d and 16 halves m. So 5 bits a weight.
// One block adds d s (q . a) + m (s sum a), where a are the activation's bytes and s their scale.
#pragma once

#include "gemm.h"
#include "gemm_lanes.h"
#include "gemm_rows.h"
#include "gemm_tile.h"

namespace ramify {

constexpr int kQ4Columns = 16;
constexpr size_t kQ4Nibbles = 256;  // bytes of a block before its scales
constexpr size_t kQ4Block = kQ4Nibbles + 4 * kQ4Columns;
constexpr size_t kQ4Ahead = 6 * kQ4Block;  // how far ahead weights are fetched: 2 to 8 KB measured the same
constexpr int kQ4Rows = kLanes == 16 ? 8 : 4;
static_assert(kQ4Rows <= kTileRows, "the sums of a tile");

// Sums of the columns `part`... of the stripe of 16 columns at `weights`.
template <int Rows>
void q4_tile(const Tile& tile, int part, float* kept) {
  Floats result[Rows];
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r) result[r] = Floats{};
  const int blocks = tile.matrix->k / 32;
  const char *weights = tile.weights, *rows = tile.rows;
  const float *scales = tile.scales, *sums = reinterpret_cast<const float*>(tile.sums);
  for (int block = 0; block < blocks; ++block) {
    Ints dot[Rows];
    if (Rows >= 3)  // with less to compute, the machine's own prefetching keeps up
      for (size_t line = 0; line < kQ4Block; line += 64) __builtin_prefetch(weights + kQ4Ahead + line, 0, 3);
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) dot[r] = Ints{};
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const Ints both = load<Ints>(weights + 64 * i + 4 * part);
      const Ints low = both & 0x0f0f0f0f, high = (Ints)((Words)both >> 4) & 0x0f0f0f0f;
#pragma GCC unroll 8
      for (int r = 0; r < Rows; ++r) {
        const char* activations = rows + r * tile.stride + 4 * i;
        dot[r] = dot_bytes(dot[r], low, broadcast(read_int(activations)));
        dot[r] = dot_bytes(dot[r], high, broadcast(read_int(activations + 16)));
      }
    }
    const char* halves = weights + kQ4Nibbles + 2 * part;
    const Floats d = load_halves(halves), m = load_halves(halves + 2 * kQ4Columns);
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      result[r] = multiply_add(to_floats(dot[r]) * broadcast(scales[r]), d, result[r]);
      result[r] = multiply_add(m, broadcast(sums[r]), result[r]);
    }
    weights += kQ4Block;
    rows += 32;
    scales += tile.all_rows;
    sums += tile.all_rows;
  }
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r) store(kept + r * kPanel + part, result[r]);
}

template <int Rows = kQ4Rows>
inline void q4_rows(int rows, const Tile& tile, int part, float* kept) {
  if constexpr (Rows == 0) return;
  else if (rows == Rows) q4_tile<Rows>(tile, part, kept);
  else q4_rows<Rows - 1>(rows, tile, part, kept);
}

inline void q4_panels(const Matrix& matrix, const Scratch& area, const char* scratch, const Range& range,
                      const Output& output) {
  const size_t stripe = kQ4Block * area.groups;  // 16 columns
  const int rows = range.row1 - range.row0, tiles = (rows + kQ4Rows - 1) / kQ4Rows;
  for (int panel = range.panel0; panel < range.panel1; ++panel) {
    for (int t = 0; t < tiles; ++t) {
      const int first = rows * t / tiles, next = rows * (t + 1) / tiles;
      Sums kept;
      Tile tile = tile_of(matrix, area, scratch, panel * kPanel, range.row0 + first);
      tile.weights = static_cast<const char*>(matrix.data) + stripe * (tile.column / kQ4Columns);
      for (int column = 0; column < kPanel; column += kQ4Columns, tile.weights += stripe)
        for (int part = 0; part < kQ4Columns; part += kLanes)
          q4_rows(next - first, tile, part, kept.values[0] + column);
      write_kept(tile, next - first, output, kept);
    }
  }
}

}  // namespace ramify
