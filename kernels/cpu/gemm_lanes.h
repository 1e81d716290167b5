// The machine's vectors: one set of names over AVX-512, AVX2 and whatever else the compiler can make of plain vectors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#define RAMIFY_AVX512 1
#endif

namespace ramify {

#if defined(RAMIFY_AVX512)
constexpr int kLanes = 16;
constexpr int kTileRows = 8;     // 8 x 3 accumulators, 3 weights: 27 of 32 registers
constexpr int kTileVectors = 3;  // a panel in one go
#elif defined(__AVX2__)
constexpr int kLanes = 8;
constexpr int kTileRows = 6;  // 6 x 2 accumulators, 2 weights, 1 broadcast: 15 of 16 registers
constexpr int kTileVectors = 2;
#else
constexpr int kLanes = 4;
constexpr int kTileRows = 6;
constexpr int kTileVectors = 2;
#endif

constexpr size_t kVectorBytes = 4 * kLanes;

typedef float Floats __attribute__((vector_size(4 * kLanes)));
typedef int32_t Ints __attribute__((vector_size(4 * kLanes)));
typedef uint32_t Words __attribute__((vector_size(4 * kLanes)));

template <class Vector>
inline Vector load(const void* from) {
  Vector value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

template <class Vector>
inline void store(void* to, Vector value) {
  std::memcpy(to, &value, sizeof value);
}

// Take a cache line for writing before it is written: __builtin_prefetch only says so to compilers told of the feature,
// while every x86-64 accepts the instruction.
inline void fetch_to_write(const void* line) {
#if defined(__x86_64__)
  asm volatile("prefetchw %0" : : "m"(*static_cast<const char*>(line)));
#else
  __builtin_prefetch(line, 1, 3);
#endif
}

inline Floats broadcast(float value) { return value - Floats{}; }  // x - 0 is x, for every x
inline Ints broadcast(int32_t value) { return Ints{} + value; }

inline float read_float(const char* from) {
  float value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

inline int32_t read_int(const char* from) {
  int32_t value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

// a * b + c, always rounded in the same way on one machine: exact results must not hang on what the compiler contracts.
inline Floats multiply_add(Floats a, Floats b, Floats c) {
#if defined(RAMIFY_AVX512)
  return (Floats)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX2__) && defined(__FMA__)
  return (Floats)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
  return a * b + c;
#endif
}

inline Ints larger(Ints a, Ints b) {
#if defined(RAMIFY_AVX512)
  return (Ints)_mm512_max_epi32((__m512i)a, (__m512i)b);
#else
  return a > b ? a : b;
#endif
}

inline int32_t sum_lanes(Ints values) {
#if defined(RAMIFY_AVX512)
  return _mm512_reduce_add_epi32((__m512i)values);
#else
  int32_t sum = values[0];
  for (int lane = 1; lane < kLanes; ++lane) sum += values[lane];
  return sum;
#endif
}

inline int32_t largest_lane(Ints values) {
#if defined(RAMIFY_AVX512)
  return _mm512_reduce_max_epi32((__m512i)values);
#else
  int32_t largest = values[0];
  for (int lane = 1; lane < kLanes; ++lane) largest = values[lane] > largest ? values[lane] : largest;
  return largest;
#endif
}

inline float float_of(int32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// To the nearest integer, ties to even.
inline Ints round_to_ints(Floats values) {
#if defined(RAMIFY_AVX512)
  return (Ints)_mm512_cvtps_epi32((__m512)values);
#elif defined(__AVX2__)
  return (Ints)_mm256_cvtps_epi32((__m256)values);
#elif defined(__SSE2__)
  return (Ints)_mm_cvtps_epi32((__m128)values);
#else
  // adding 1.5 * 2^23 leaves the rounded integer in the low bits
  return (Ints)(values + 12582912.0f) - 0x4b400000;
#endif
}

// Integers that fit in a byte, as bytes.
inline void store_bytes(int8_t* to, Ints values) {
#if defined(RAMIFY_AVX512)
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtepi32_epi8((__m512i)values));
#else
  for (int lane = 0; lane < kLanes; ++lane) to[lane] = static_cast<int8_t>(values[lane]);
#endif
}

inline Floats to_floats(Ints values) { return __builtin_convertvector(values, Floats); }

// Four products a lane, summed: accumulator + sum_t weight.u8[t] * activation.s8[t], exact.
inline Ints dot_bytes(Ints accumulator, Ints weight, Ints activation) {
#if defined(RAMIFY_AVX512) && defined(__AVX512VNNI__)
  return (Ints)_mm512_dpbusd_epi32((__m512i)accumulator, (__m512i)weight, (__m512i)activation);
#elif defined(__AVX2__) && !defined(RAMIFY_AVX512) && defined(__AVXVNNI__)
  return (Ints)_mm256_dpbusd_avx_epi32((__m256i)accumulator, (__m256i)weight, (__m256i)activation);
#elif defined(__AVX2__) && !defined(RAMIFY_AVX512)
  // vpmaddubsw would saturate, so bytes are widened to 16 bits first: even ones and odd ones.
  const __m256i even = _mm256_and_si256((__m256i)weight, _mm256_set1_epi16(255));
  const __m256i odd = _mm256_srli_epi16((__m256i)weight, 8);
  const __m256i even_activation = _mm256_srai_epi16(_mm256_slli_epi16((__m256i)activation, 8), 8);
  const __m256i odd_activation = _mm256_srai_epi16((__m256i)activation, 8);
  return accumulator + (Ints)_mm256_madd_epi16(even, even_activation) + (Ints)_mm256_madd_epi16(odd, odd_activation);
#else
  for (int t = 0; t < 4; ++t) {
    const Ints signed_byte = (Ints)((Words)activation << (24 - 8 * t)) >> 24;
    accumulator += (Ints)(((Words)weight >> (8 * t)) & 255u) * signed_byte;
  }
  return accumulator;
#endif
}

// Two products a lane, summed: pairs of bf16, the even one in the low half.
inline Floats dot_bfloats(Floats accumulator, Ints weight, Ints activation) {
#if defined(RAMIFY_AVX512) && defined(__AVX512BF16__)
  return (Floats)_mm512_dpbf16_ps((__m512)accumulator, (__m512bh)weight, (__m512bh)activation);
#else
  const Floats low = (Floats)((Words)weight << 16), high = (Floats)((Words)weight & 0xffff0000u);
  const Floats low_activation = (Floats)((Words)activation << 16);
  const Floats high_activation = (Floats)((Words)activation & 0xffff0000u);
  return multiply_add(high, high_activation, multiply_add(low, low_activation, accumulator));
#endif
}

// Round to the nearest bf16, ties to even; a NaN stays one.
inline uint16_t to_bfloat(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 64);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1)) >> 16);
}

inline float from_bfloat(uint16_t value) {
  const uint32_t bits = static_cast<uint32_t>(value) << 16;
  float result;
  std::memcpy(&result, &bits, sizeof result);
  return result;
}

inline float from_half(uint16_t value) {
  const uint32_t sign = (value & 0x8000u) << 16, exponent = (value >> 10) & 31, fraction = value & 1023u;
  uint32_t bits;
  float result;
  if (exponent == 0) {
    result = static_cast<float>(fraction) * 0x1p-24f;
    std::memcpy(&bits, &result, sizeof bits);
    bits |= sign;
  } else {
    bits = sign | (exponent == 31 ? 0x7f800000u : (exponent + 112) << 23) | fraction << 13;
  }
  std::memcpy(&result, &bits, sizeof result);
  return result;
}

// Round to the nearest half, ties to even; too large becomes infinity.
inline uint16_t to_half(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  bits &= 0x7fffffffu;
  if (bits >= 0x47800000u) return static_cast<uint16_t>(sign | (bits > 0x7f800000u ? 0x7e00u : 0x7c00u));
  if (bits < 0x38800000u) {  // subnormal: the adder rounds for us, at the weight of the last half bit
    float magnitude, shifted;
    std::memcpy(&magnitude, &bits, sizeof magnitude);
    shifted = magnitude + 0.5f;
    uint32_t rounded;
    std::memcpy(&rounded, &shifted, sizeof rounded);
    return static_cast<uint16_t>(sign | (rounded - 0x3f000000u));
  }
  return static_cast<uint16_t>(sign | ((bits - 0x38000000u + 0xfffu + ((bits >> 13) & 1)) >> 13));
}

// One vector of halves.
inline Floats load_halves(const char* from) {
#if defined(RAMIFY_AVX512)
  return (Floats)_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
#elif defined(__AVX2__) && defined(__F16C__)
  return (Floats)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
#else
  uint16_t halves[kLanes];
  std::memcpy(halves, from, sizeof halves);
  Floats values;
  for (int lane = 0; lane < kLanes; ++lane) values[lane] = from_half(halves[lane]);
  return values;
#endif
}

}  // namespace ramify
