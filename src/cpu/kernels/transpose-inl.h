// SPDX-License-Identifier: Apache-2.0
//
// Transposition of square tiles of vectors, for the way into and out of attention's transposed
// layout.
#if defined(FLASHOMNI_CPU_TRANSPOSE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef FLASHOMNI_CPU_TRANSPOSE_INL_H_
#undef FLASHOMNI_CPU_TRANSPOSE_INL_H_
#else
#define FLASHOMNI_CPU_TRANSPOSE_INL_H_
#endif

#include "cpu/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace flashomni::cpu::HWY_NAMESPACE {

// A tile of kLanes rows of kLanes floats.
inline constexpr int kTileFloats = kLanes * kLanes;

// The vector whose 128-bit block b is the four floats at p + b * stride.
#if HWY_TARGET == HWY_SCALAR
#elif HWY_TARGET == HWY_AVX3
HWY_INLINE VF load_blocks(const float* p, int64_t stride) {
  // Broadcasts under a mask, which take any vector port; combining halves takes the one that the
  // transposition is waiting for.
  const auto four = [p, stride](int b) HWY_ATTR { return _mm_loadu_ps(p + b * stride); };
  __m512 v = _mm512_broadcast_f32x4(four(0));
  v = _mm512_mask_broadcast_f32x4(v, 0x00f0, four(1));
  v = _mm512_mask_broadcast_f32x4(v, 0x0f00, four(2));
  v = _mm512_mask_broadcast_f32x4(v, 0xf000, four(3));
  return VF{v};
}
#elif HWY_TARGET == HWY_AVX2
HWY_INLINE VF load_blocks(const float* p, int64_t stride) {
  const hn::Half<F32> d4;
  return hn::Combine(F32(), hn::LoadU(d4, p + stride), hn::LoadU(d4, p));
}
#else
HWY_INLINE VF load_blocks(const float* p, int64_t) {
  return hn::LoadU(F32(), p);
}
#endif

// Calls store(i, column i of the tile) for every i in [0, kLanes); its rows are `stride` apart.
template <class Store>
HWY_INLINE void for_columns(const float* tile, int64_t stride, const Store& store) {
#if HWY_TARGET == HWY_SCALAR
  (void)stride;
  store(0, hn::LoadU(F32(), tile));
#else
  const F32 d;
  const hn::Repartition<double, F32> d2;
  // Four columns at a time. Lane j of block b is to come from row 4b + j, so vector j gathers those
  // rows, and what is left is a 4 x 4 transposition within each block.
  FO_UNROLL for (int i = 0; i < kLanes; i += 4) {
    VF row[4];
    FO_UNROLL for (int j = 0; j < 4; ++j) row[j] = load_blocks(tile + j * stride + i, 4 * stride);
    const auto low01 = hn::BitCast(d2, hn::InterleaveLower(d, row[0], row[1]));
    const auto low23 = hn::BitCast(d2, hn::InterleaveLower(d, row[2], row[3]));
    const auto high01 = hn::BitCast(d2, hn::InterleaveUpper(d, row[0], row[1]));
    const auto high23 = hn::BitCast(d2, hn::InterleaveUpper(d, row[2], row[3]));
    store(i, hn::BitCast(d, hn::InterleaveLower(d2, low01, low23)));
    store(i + 1, hn::BitCast(d, hn::InterleaveUpper(d2, low01, low23)));
    store(i + 2, hn::BitCast(d, hn::InterleaveLower(d2, high01, high23)));
    store(i + 3, hn::BitCast(d, hn::InterleaveUpper(d2, high01, high23)));
  }
#endif
}

}  // namespace flashomni::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // FLASHOMNI_CPU_TRANSPOSE_INL_H_
