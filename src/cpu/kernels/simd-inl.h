// SPDX-License-Identifier: Apache-2.0
//
// Vector vocabulary shared by all kernels of one instruction set: partial loads and stores, 16-bit
// floats, reductions in a fixed order. Included once per target by the kernel table.
#if defined(FLASHOMNI_CPU_SIMD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef FLASHOMNI_CPU_SIMD_INL_H_
#undef FLASHOMNI_CPU_SIMD_INL_H_
#else
#define FLASHOMNI_CPU_SIMD_INL_H_
#endif

#include <cstring>

#include "base/half.h"
#include "flashomni/types.h"
#include "hwy/highway.h"

// Every loop over registers must be unrolled completely, else the arrays land in memory.
#define FO_UNROLL _Pragma("GCC unroll 64")

HWY_BEFORE_NAMESPACE();
namespace flashomni::cpu::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::ScalableTag<float>;
using I32 = hn::RebindToSigned<F32>;
using U32 = hn::RebindToUnsigned<F32>;
using VF = hn::Vec<F32>;
inline constexpr int kLanes = HWY_LANES(float);

// The first n < kLanes floats at p, zero elsewhere. Touches nothing beyond them.
HWY_INLINE VF load_partial(const float* p, int64_t n) {
  const F32 d;
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX2
  return hn::MaskedLoad(hn::FirstN(d, static_cast<size_t>(n)), d, p);
#else
  HWY_ALIGN float buffer[kLanes] = {};
  std::memcpy(buffer, p, static_cast<size_t>(n) * sizeof(float));
  return hn::Load(d, buffer);
#endif
}

HWY_INLINE void store_partial(VF v, float* p, int64_t n) {
  const F32 d;
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX2
  hn::BlendedStore(v, hn::FirstN(d, static_cast<size_t>(n)), d, p);
#else
  HWY_ALIGN float buffer[kLanes];
  hn::Store(v, d, buffer);
  std::memcpy(p, buffer, static_cast<size_t>(n) * sizeof(float));
#endif
}

// min(n, kLanes) floats.
HWY_INLINE VF load_upto(const float* p, int64_t n) {
  return n >= kLanes ? hn::LoadU(F32(), p) : load_partial(p, n);
}
HWY_INLINE void store_upto(VF v, float* p, int64_t n) {
  if (n >= kLanes) {
    hn::StoreU(v, F32(), p);
  } else {
    store_partial(v, p, n);
  }
}

// ---- element types of tensors: load and store min(n, kLanes) elements as f32.
struct ElementF32 {
  using Type = float;
  static HWY_INLINE VF load(const float* p, int64_t n) { return load_upto(p, n); }
  static HWY_INLINE void store(VF v, float* p, int64_t n) { store_upto(v, p, n); }
};

// 16-bit elements go through a small buffer at a ragged end.
template <class Format>
struct Element16 {
  using Type = uint16_t;
  static HWY_INLINE VF load(const uint16_t* p, int64_t n) {
    if (n >= kLanes) return Format::widen(p);
    uint16_t buffer[kLanes] = {};
    std::memcpy(buffer, p, static_cast<size_t>(n) * sizeof(uint16_t));
    return Format::widen(buffer);
  }
  static HWY_INLINE void store(VF v, uint16_t* p, int64_t n) {
    if (n >= kLanes) return Format::narrow(v, p);
    uint16_t buffer[kLanes];
    Format::narrow(v, buffer);
    std::memcpy(p, buffer, static_cast<size_t>(n) * sizeof(uint16_t));
  }
};

#if HWY_TARGET == HWY_SCALAR
struct FormatBF16 {
  static VF widen(const uint16_t* p) { return hn::Set(F32(), bf16_to_f32(*p)); }
  static void narrow(VF v, uint16_t* p) { *p = f32_to_bf16(hn::GetLane(v)); }
};
struct FormatF16 {
  static VF widen(const uint16_t* p) { return hn::Set(F32(), f16_to_f32(*p)); }
  static void narrow(VF v, uint16_t* p) { *p = f32_to_f16(hn::GetLane(v)); }
};
#else
struct FormatBF16 {
  static HWY_INLINE VF widen(const uint16_t* p) {
    const hn::Rebind<uint16_t, F32> d16;
    const U32 du;
    return hn::BitCast(F32(), hn::ShiftLeft<16>(hn::PromoteTo(du, hn::LoadU(d16, p))));
  }
  // Round to nearest even; a NaN stays one (Highway's own conversion truncates).
  static HWY_INLINE void narrow(VF v, uint16_t* p) {
    const F32 d;
    const I32 di;
    const U32 du;
    const auto u = hn::BitCast(du, v);
    const auto odd = hn::And(hn::ShiftRight<16>(u), hn::Set(du, 1u));
    const auto rounded = hn::ShiftRight<16>(hn::Add(u, hn::Add(odd, hn::Set(du, 0x7fffu))));
    const auto quiet = hn::Or(hn::ShiftRight<16>(u), hn::Set(du, 0x40u));
    const auto bits = hn::IfThenElse(hn::RebindMask(du, hn::IsNaN(v)), quiet, rounded);
    (void)d;
    hn::StoreU(hn::DemoteTo(hn::Rebind<uint16_t, F32>(), hn::BitCast(di, bits)),
               hn::Rebind<uint16_t, F32>(), p);
  }
};
struct FormatF16 {
  static HWY_INLINE VF widen(const uint16_t* p) {
    const hn::Rebind<hwy::float16_t, F32> d16;
    return hn::PromoteTo(F32(), hn::LoadU(d16, reinterpret_cast<const hwy::float16_t*>(p)));
  }
  static HWY_INLINE void narrow(VF v, uint16_t* p) {
    const hn::Rebind<hwy::float16_t, F32> d16;
    hn::StoreU(hn::DemoteTo(d16, v), d16, reinterpret_cast<hwy::float16_t*>(p));
  }
};
#endif
using ElementBF16 = Element16<FormatBF16>;
using ElementF16 = Element16<FormatF16>;

// Calls f(ElementX()) for the element type of `dtype`, f32 unless it is a 16-bit float.
template <class F>
HWY_INLINE void with_element(DType dtype, const F& f) {
  switch (dtype) {
    case DType::kBF16:
      return f(ElementBF16());
    case DType::kF16:
      return f(ElementF16());
    default:
      return f(ElementF32());
  }
}

HWY_INLINE float reduce_sum(VF v) {
  return hn::GetLane(hn::SumOfLanes(F32(), v));
}

}  // namespace flashomni::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // FLASHOMNI_CPU_SIMD_INL_H_
