// The C names through which Python packs matrices, and tests multiply them, by ctypes.
#pragma once

#include "gemm.h"
#include "pack.h"

extern "C" {

// Bytes of memory a matrix needs, or a negative number: why it cannot be (kRejected... in pack.h).
inline __attribute__((used)) int64_t ramify_matrix_bytes(int32_t kind, int32_t n, int32_t k, int32_t group) {
  const int rejected = ramify::check_shape(kind, n, k, group);
  if (rejected != 0) return rejected;
  return static_cast<int64_t>(ramify::block_layout(static_cast<ramify::Kind>(kind), n, k).bytes);
}

inline __attribute__((used)) int32_t ramify_matrix_lay_out(ramify::Matrix* matrix, int32_t kind, int32_t n, int32_t k,
                                                           int32_t group, void* memory) {
  return ramify::lay_out(*matrix, static_cast<ramify::Kind>(kind), n, k, group, memory);
}

inline __attribute__((used)) void ramify_matrix_smooth(ramify::Matrix* matrix, const float* smooth) {
  ramify::set_smooth(*matrix, smooth);
}

inline __attribute__((used)) void ramify_matrix_bias(ramify::Matrix* matrix, const float* bias) {
  ramify::set_bias(*matrix, bias);
}

inline __attribute__((used)) int32_t ramify_matrix_pack(const ramify::Matrix* matrix, int32_t row0, int32_t count,
                                                        int32_t source, const void* rows, int64_t row_bytes) {
  return ramify::pack_rows(*matrix, row0, count, static_cast<ramify::Source>(source), rows, row_bytes);
}

inline __attribute__((used)) void ramify_read_row(int32_t source, const void* row, int32_t k, float* out) {
  ramify::read_row(static_cast<ramify::Source>(source), row, k, out);
}

inline __attribute__((used)) int64_t ramify_scratch_bytes(const ramify::Matrix* matrix, int32_t rows) {
  return static_cast<int64_t>(ramify::row_scratch_bytes(*matrix, rows));
}

// A whole product on the calling thread: from the last panel to the first, in pieces of one and then two, so that one
// which wrote outside of its own columns would spoil what is already there.
inline __attribute__((used)) void ramify_multiply(const ramify::Matrix* matrix, const float* x, int32_t rows,
                                                  void* scratch, float* y, int64_t ldy, const float* residual) {
  ramify::prepare_rows(*matrix, x, matrix->k, 0, rows, rows, scratch);
  const int all = ramify::panels(*matrix);
  for (int end = all, begin = all - 1; end > 0; end = begin, begin = end > 2 ? end - 2 : 0)
    ramify::gemm_panels(*matrix, scratch, rows, begin, end, y, ldy, residual);
}

// The largest output of each row on the calling thread, in two pieces as two threads would find it.
inline __attribute__((used)) void ramify_multiply_best(const ramify::Matrix* matrix, const float* x, int32_t rows,
                                                       void* scratch, float* values, int32_t* columns) {
  ramify::prepare_rows(*matrix, x, matrix->k, 0, rows, rows, scratch);
  const int all = ramify::panels(*matrix);
  std::vector<ramify::Best> best(rows, {-INFINITY, 0}), second = best;
  ramify::argmax_panels(*matrix, scratch, rows, 0, all / 2, best.data());
  ramify::argmax_panels(*matrix, scratch, rows, all / 2, all, second.data());
  for (int row = 0; row < rows; ++row) {
    if (second[row].value > best[row].value) best[row] = second[row];
    values[row] = best[row].value;
    columns[row] = best[row].column;
  }
}

}  // extern "C"
