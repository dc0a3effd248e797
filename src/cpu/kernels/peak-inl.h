// SPDX-License-Identifier: Apache-2.0
//
// Multiply-adds in registers only: what the arithmetic units could do at best, the 100 % that
// benches compare with.
#if defined(FLASHOMNI_CPU_PEAK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef FLASHOMNI_CPU_PEAK_INL_H_
#undef FLASHOMNI_CPU_PEAK_INL_H_
#else
#define FLASHOMNI_CPU_PEAK_INL_H_
#endif

#include "cpu/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace flashomni::cpu::HWY_NAMESPACE {

// Chains that are independent of each other: more than latency x units of any core here.
inline constexpr int kPeakChains = 12;

// `rounds` rounds of kPeakChains vector multiply-adds; returns a value that depends on all.
HWY_INLINE float fma_rounds(int64_t rounds) {
  const F32 d;
  VF acc[kPeakChains];
  FO_UNROLL for (int i = 0; i < kPeakChains; ++i) {
    acc[i] = hn::Set(d, 1.f + 1e-3f * static_cast<float>(i));
  }
  const VF scale = hn::Set(d, 0.999f), shift = hn::Set(d, 1e-3f);
  for (int64_t r = 0; r < rounds; ++r) {
    FO_UNROLL for (int i = 0; i < kPeakChains; ++i) acc[i] = hn::MulAdd(acc[i], scale, shift);
  }
  VF sum = acc[0];
  FO_UNROLL for (int i = 1; i < kPeakChains; ++i) sum = hn::Add(sum, acc[i]);
  return hn::GetLane(sum);
}

}  // namespace flashomni::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // FLASHOMNI_CPU_PEAK_INL_H_
