// What Swift has no word for: a · b + c of whole registers in one rounding. Swift's own works number by number unless
// the optimizer happens to join the numbers again.
#pragma once

#include "conversions.h"

#if defined(__FMA__) || defined(__aarch64__)
PEAT_CONVERSION peat_float8 peat_fma_8(peat_float8 a, peat_float8 b, peat_float8 c) {
  return __builtin_elementwise_fma(a, b, c);
}
#endif

#ifdef __AVX512F__
PEAT_CONVERSION peat_float16 peat_fma_16(peat_float16 a, peat_float16 b, peat_float16 c) {
  return __builtin_elementwise_fma(a, b, c);
}
#endif
