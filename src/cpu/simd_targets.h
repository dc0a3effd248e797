// SPDX-License-Identifier: Apache-2.0
//
// Which instruction sets the kernels are compiled for. Include before any Highway header. x86 has
// three: 512-bit, 256-bit and the scalar fallback; machines with only SSE are rare enough that two
// more copies of every kernel are not worth their compile time. SVE is left out because its vectors
// have no compile-time size, so they cannot be kept in arrays (Arm uses NEON).
#pragma once

#define HWY_DISABLED_TARGETS \
  (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)
