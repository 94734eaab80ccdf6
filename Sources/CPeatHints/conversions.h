// What Swift has no word for: several small numbers as floats, in the instructions that the processor has for it. Swift
// converts vectors a quarter at a time.
#pragma once

typedef float peat_float8 __attribute__((ext_vector_type(8)));
typedef float peat_float16 __attribute__((ext_vector_type(16)));
typedef unsigned int peat_uint8 __attribute__((ext_vector_type(8)));
typedef unsigned int peat_uint16 __attribute__((ext_vector_type(16)));

#define PEAT_CONVERSION static inline __attribute__((always_inline))

// For 8 and for 16 numbers that lie anywhere:
//   peat_floats_of_bytes    8-bit integers
//   peat_floats_of_shorts   bfloat16, the upper half of a float
//   peat_floats_of_halves   float16; only where the processor converts it
//   peat_low_nibbles        the low half of each byte, less 8
//   peat_high_nibbles       the high half of each byte, less 8
#define PEAT_CONVERSIONS(N)                                                                          \
  typedef signed char peat_bytes##N __attribute__((ext_vector_type(N), aligned(1)));                 \
  typedef unsigned char peat_pairs##N __attribute__((ext_vector_type(N), aligned(1)));               \
  typedef unsigned short peat_shorts##N __attribute__((ext_vector_type(N), aligned(1)));             \
  typedef int peat_int##N##_ __attribute__((ext_vector_type(N)));                                    \
  PEAT_CONVERSION peat_float##N peat_floats_of_bytes_##N(const void *place) {                        \
    return __builtin_convertvector(*(const peat_bytes##N *)place, peat_float##N);                    \
  }                                                                                                  \
  PEAT_CONVERSION peat_float##N peat_floats_of_shorts_##N(const void *place) {                       \
    return (peat_float##N)(__builtin_convertvector(*(const peat_shorts##N *)place, peat_uint##N)     \
                           << 16);                                                                   \
  }

PEAT_CONVERSIONS(8)
PEAT_CONVERSIONS(16)

#if defined(__F16C__) || defined(__aarch64__)
#define PEAT_HALVES(N)                                                                               \
  typedef _Float16 peat_halves##N __attribute__((ext_vector_type(N), aligned(1)));                   \
  PEAT_CONVERSION peat_float##N peat_floats_of_halves_##N(const void *place) {                       \
    return __builtin_convertvector(*(const peat_halves##N *)place, peat_float##N);                   \
  }
PEAT_HALVES(8)
PEAT_HALVES(16)
#endif

PEAT_CONVERSION peat_float8 peat_low_nibbles_8(const void *place) {
  peat_int8_ pairs = __builtin_convertvector(*(const peat_pairs8 *)place, peat_int8_);
  return __builtin_convertvector((pairs & 15) - 8, peat_float8);
}

PEAT_CONVERSION peat_float8 peat_high_nibbles_8(const void *place) {
  peat_int8_ pairs = __builtin_convertvector(*(const peat_pairs8 *)place, peat_int8_);
  return __builtin_convertvector((pairs >> 4) - 8, peat_float8);
}

#ifdef __AVX512F__
// A table of 16 floats is one register; the instruction looks at the low four bits of each index.
PEAT_CONVERSION peat_float16 peat_nibble_values(peat_int16_ indices) {
  const peat_float16 table = {-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7};
  return __builtin_ia32_permvarsf512(table, indices);
}

PEAT_CONVERSION peat_float16 peat_low_nibbles_16(const void *place) {
  return peat_nibble_values(__builtin_convertvector(*(const peat_pairs16 *)place, peat_int16_));
}

PEAT_CONVERSION peat_float16 peat_high_nibbles_16(const void *place) {
  return peat_nibble_values(__builtin_convertvector(*(const peat_pairs16 *)place, peat_int16_) >> 4);
}
#endif
