// SPDX-License-Identifier: Apache-2.0
//
// Exponentials and the activations made from them. Both reduce to 2^n * P(f) with |f| <= 1/2 and a
// polynomial of relative error 5e-9; with the rounding of the evaluation the result is within 2
// ulp.
#if defined(FLASHOMNI_CPU_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef FLASHOMNI_CPU_MATH_INL_H_
#undef FLASHOMNI_CPU_MATH_INL_H_
#else
#define FLASHOMNI_CPU_MATH_INL_H_
#endif

#include "cpu/kernels/simd-inl.h"
#include "flashomni/ops.h"

HWY_BEFORE_NAMESPACE();
namespace flashomni::cpu::HWY_NAMESPACE {

// 1 + f (c0 + c1 f + ...): exactly 1 at f = 0, so that rescaling by 2^0 changes nothing.
HWY_INLINE VF one_plus_polynomial(VF f, const float (&c)[6]) {
  const F32 d;
  VF p = hn::Set(d, c[5]);
  FO_UNROLL for (int i = 4; i >= 0; --i) p = hn::MulAdd(p, f, hn::Set(d, c[i]));
  return hn::MulAdd(p, f, hn::Set(d, 1.f));
}

// x split into an integer n and a rest of at most 1/2, by adding and taking away a number whose
// last mantissa bit is worth 1: cheaper than a rounding instruction, and the sum's low bits are n,
// ready to be shifted into an exponent. REQUIRES |x| < 2^22; any other x gives some finite or NaN
// n.
struct IntegerSplit {
  VF n;
  VF biased;  // low 23 bits: n modulo 2^23

  explicit HWY_INLINE IntegerSplit(VF x) {
    const VF magic = hn::Set(F32(), 0x1.8p23f);
    biased = hn::Add(x, magic);
    n = hn::Sub(biased, magic);
  }
  // p * 2^n for 1/2 < p < 2 and -126 <= n <= 127, p >= 1 at -126.
  HWY_INLINE VF scale(VF p) const {
    const F32 d;
    const I32 di;
    const auto exponent = hn::ShiftLeft<23>(hn::BitCast(di, biased));
    return hn::BitCast(d, hn::Add(hn::BitCast(di, p), exponent));
  }
};

// 2^x, and 0 where x < -126 (no denormals: they would slow the product that follows). NaN stays
// NaN. REQUIRES x <= 127.
HWY_INLINE VF exp2_v(VF x) {
  static constexpr float kC[6] = {0.6931471880262288f,    0.24022650760568126f,
                                  0.05550357114219078f,   0.009618082557277852f,
                                  0.0013390863364671234f, 0.0001545316294512069f};
  const IntegerSplit split(x);
  const VF y = split.scale(one_plus_polynomial(hn::Sub(x, split.n), kC));
  return hn::IfThenZeroElse(hn::Lt(x, hn::Set(F32(), -126.f)), y);
}

// e^x, and 0 where x < -87.3. NaN stays NaN. REQUIRES x <= 88.
HWY_INLINE VF exp_v(VF x) {
  static constexpr float kC[6] = {1.0000000107765001f,  0.5000000013463886f,
                                  0.1666650521114506f,  0.041666464944505696f,
                                  0.00836915395971191f, 0.0013933647862928863f};
  const F32 d;
  const IntegerSplit split(hn::Mul(x, hn::Set(d, 1.4426950408889634f)));
  // x - n ln 2 with ln 2 in two parts: n times the first is exact.
  VF f = hn::NegMulAdd(split.n, hn::Set(d, 0.693145751953125f), x);
  f = hn::NegMulAdd(split.n, hn::Set(d, 1.42860682030941723e-6f), f);
  const VF y = split.scale(one_plus_polynomial(f, kC));
  return hn::IfThenZeroElse(hn::Lt(x, hn::Set(d, -87.3f)), y);
}

// 1 / x for x >= 1, within 2 ulp (0 where the result would be a denormal): an estimate and Newton
// steps, since a division takes as long as the rest of an activation.
HWY_INLINE VF reciprocal(VF x) {
  const F32 d;
#if HWY_TARGET == HWY_SCALAR
  return hn::Div(hn::Set(d, 1.f), x);
#else
  VF r = hn::ApproximateReciprocal(x);
#if HWY_TARGET != HWY_AVX3 && HWY_TARGET != HWY_AVX2
  r = hn::Mul(r, hn::NegMulAdd(x, r, hn::Set(d, 2.f)));  // starts with 8 bits instead of 12 or 14
#endif
  return hn::Mul(r, hn::NegMulAdd(x, r, hn::Set(d, 2.f)));
#endif
}

struct ActNone {
  static HWY_INLINE VF apply(VF x) { return x; }
};
// x / (1 + e^-x). Where the exponential would overflow the result is below 1e-36: it is 0.
struct ActSilu {
  static HWY_INLINE VF apply(VF x) {
    const F32 d;
    const VF y = hn::Mul(x, reciprocal(hn::Add(hn::Set(d, 1.f), exp_v(hn::Neg(x)))));
    return hn::IfThenZeroElse(hn::Lt(x, hn::Set(d, -88.f)), y);
  }
};
// x/2 (1 + tanh u) = x / (1 + e^-2u), which loses nothing for negative x; u = sqrt(2/pi) (x + a
// x^3), and 2 log2(e) sqrt(2/pi) is taken into the coefficients.
struct ActGeluTanh {
  static HWY_INLINE VF apply(VF x) {
    const F32 d;
    const VF odd = hn::MulAdd(hn::Mul(x, x), hn::Set(d, -0.10294324f), hn::Set(d, -2.3022082f));
    const VF z = hn::Mul(x, odd);
    const VF y = hn::Mul(x, reciprocal(hn::Add(hn::Set(d, 1.f), exp2_v(z))));
    return hn::IfThenZeroElse(hn::Gt(z, hn::Set(d, 127.f)), y);
  }
};

template <class F>
HWY_INLINE void with_activation(Activation kind, const F& f) {
  switch (kind) {
    case Activation::kGeluTanh:
      return f(ActGeluTanh());
    case Activation::kSilu:
      return f(ActSilu());
    case Activation::kNone:
      return f(ActNone());
  }
}

}  // namespace flashomni::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // FLASHOMNI_CPU_MATH_INL_H_
