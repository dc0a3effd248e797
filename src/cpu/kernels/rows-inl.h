// SPDX-License-Identifier: Apache-2.0
//
// Row and element kernels: LayerNorm with modulation, pooling, Taylor factors, element-wise sums.
// Each is one pass (the norm and the pool two) over memory.
#if defined(FLASHOMNI_CPU_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef FLASHOMNI_CPU_ROWS_INL_H_
#undef FLASHOMNI_CPU_ROWS_INL_H_
#else
#define FLASHOMNI_CPU_ROWS_INL_H_
#endif

#include <algorithm>
#include <cmath>

#include "cpu/kernel_table.h"
#include "cpu/kernels/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace flashomni::cpu::HWY_NAMESPACE {

// f(offset, count) for every vector of [0, n); count < kLanes only in the last.
template <class F>
HWY_INLINE void for_vectors(int64_t n, const F& f) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) f(i, int64_t{kLanes});
  if (i < n) f(i, n - i);
}

HWY_INLINE void to_f32(DType dtype, const void* src, float* dst, int64_t n) {
  with_element(dtype, [&](auto element) HWY_ATTR {
    using E = decltype(element);
    const auto* p = static_cast<const typename E::Type*>(src);
    for_vectors(n,
                [&](int64_t i, int64_t m) HWY_ATTR { store_upto(E::load(p + i, m), dst + i, m); });
  });
}

// Sum of f(x) over a row, in four interleaved chains that are added pairwise at the end.
template <class F>
HWY_INLINE float row_sum(const float* x, int64_t n, const F& f) {
  const F32 d;
  VF s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    s0 = hn::Add(s0, f(hn::LoadU(d, x + i)));
    s1 = hn::Add(s1, f(hn::LoadU(d, x + i + kLanes)));
    s2 = hn::Add(s2, f(hn::LoadU(d, x + i + 2 * kLanes)));
    s3 = hn::Add(s3, f(hn::LoadU(d, x + i + 3 * kLanes)));
  }
  for (; i + kLanes <= n; i += kLanes) s0 = hn::Add(s0, f(hn::LoadU(d, x + i)));
  float tail = 0.f;
  if (i < n) {
    // Lanes past the end must not count: f(0) need not be 0.
    HWY_ALIGN float lane[kLanes];
    hn::Store(f(load_partial(x + i, n - i)), d, lane);
    for (int64_t j = 0; j < n - i; ++j) tail += lane[j];
  }
  return reduce_sum(hn::Add(hn::Add(s0, s1), hn::Add(s2, s3))) + tail;
}

HWY_INLINE void norm_modulate(const NormArgs& a) {
  const F32 d;
  const VF one = hn::Set(d, 1.f);
  const float width = static_cast<float>(a.width);
  for (int64_t r = 0; r < a.rows; ++r) {
    const float* x = a.x + r * a.x_stride;
    float* out = a.out + r * a.out_stride;
    const VF mean = hn::Set(d, row_sum(x, a.width, [](VF v) HWY_ATTR { return v; }) / width);
    const float variance = row_sum(x, a.width,
                                   [&](VF v) HWY_ATTR {
                                     const VF c = hn::Sub(v, mean);
                                     return hn::Mul(c, c);
                                   }) /
                           width;
    const VF inverse = hn::Set(d, 1.f / std::sqrt(variance + a.eps));
    for_vectors(a.width, [&](int64_t i, int64_t n) HWY_ATTR {
      const VF normed = hn::Mul(hn::Sub(load_upto(x + i, n), mean), inverse);
      const VF gain = hn::Add(one, load_upto(a.scale + i, n));
      store_upto(hn::MulAdd(normed, gain, load_upto(a.shift + i, n)), out + i, n);
    });
  }
}

HWY_INLINE float pool(const PoolArgs& a) {
  const F32 d;
  const auto centred = [&](const float* row, int64_t i, int64_t n) HWY_ATTR {
    const VF x = load_upto(row + i, n);
    return a.offset ? hn::Sub(x, load_upto(a.offset + i, n)) : x;
  };
  std::fill_n(a.mean, a.width, 0.f);
  if (a.unit_sum) std::fill_n(a.unit_sum, a.width, 0.f);
  for (int64_t r = 0; r < a.rows; ++r) {
    const float* row = a.x + r * a.x_stride;
    VF squares = hn::Zero(d);
    for_vectors(a.width, [&](int64_t i, int64_t n) HWY_ATTR {
      const VF x = centred(row, i, n);
      squares = hn::MulAdd(x, x, squares);
      store_upto(hn::Add(load_upto(a.mean + i, n), x), a.mean + i, n);
    });
    if (!a.unit_sum) continue;
    const VF inverse = hn::Set(d, 1.f / std::max(std::sqrt(reduce_sum(squares)), 1e-12f));
    for_vectors(a.width, [&](int64_t i, int64_t n) HWY_ATTR {
      const VF sum = hn::MulAdd(centred(row, i, n), inverse, load_upto(a.unit_sum + i, n));
      store_upto(sum, a.unit_sum + i, n);
    });
  }
  const VF share = hn::Set(d, 1.f / static_cast<float>(a.rows));
  VF similarity = hn::Zero(d);
  for_vectors(a.width, [&](int64_t i, int64_t n) HWY_ATTR {
    store_upto(hn::Mul(load_upto(a.mean + i, n), share), a.mean + i, n);
    if (!a.unit_sum) return;
    const VF unit = hn::Mul(load_upto(a.unit_sum + i, n), share);
    similarity = hn::MulAdd(unit, unit, similarity);
  });
  return a.unit_sum ? reduce_sum(similarity) : 0.f;
}

HWY_INLINE void sum_rows(const float* x, int64_t stride, int64_t rows, int64_t width, float* sum) {
  const F32 d;
  for_vectors(width, [&](int64_t i, int64_t n) HWY_ATTR {
    VF s = hn::Zero(d);
    for (int64_t r = 0; r < rows; ++r) s = hn::Add(s, load_upto(x + r * stride + i, n));
    store_upto(hn::Add(load_upto(sum + i, n), s), sum + i, n);
  });
}

HWY_INLINE float dot(const float* a, const float* b, int64_t n) {
  VF s = hn::Zero(F32());
  for_vectors(n, [&](int64_t i, int64_t m)
                     HWY_ATTR { s = hn::MulAdd(load_upto(a + i, m), load_upto(b + i, m), s); });
  return reduce_sum(s);
}

HWY_INLINE void taylor_update(const float* feature, float* const* factors, int count,
                              float inv_distance, int64_t n) {
  const VF scale = hn::Set(F32(), inv_distance);
  for_vectors(n, [&](int64_t i, int64_t m) HWY_ATTR {
    VF fresh = load_upto(feature + i, m);
    for (int order = 0; order + 1 < count; ++order) {
      const VF old = load_upto(factors[order] + i, m);
      store_upto(fresh, factors[order] + i, m);
      fresh = hn::Mul(hn::Sub(fresh, old), scale);
    }
    store_upto(fresh, factors[count - 1] + i, m);
  });
}

HWY_INLINE void taylor_forecast(const ForecastArgs& a, int64_t n) {
  const F32 d;
  for_vectors(n, [&](int64_t i, int64_t m) HWY_ATTR {
    VF y = hn::Mul(load_upto(a.factors[0] + i, m), hn::Set(d, a.coefficients[0]));
    for (int order = 1; order < a.count; ++order) {
      y = hn::MulAdd(hn::Set(d, a.coefficients[order]), load_upto(a.factors[order] + i, m), y);
    }
    if (a.out) store_upto(y, a.out + i, m);
    if (a.residual) {
      const VF old = load_upto(a.residual + i, m);
      const VF sum = a.gate ? hn::MulAdd(load_upto(a.gate + i, m), y, old) : hn::Add(old, y);
      store_upto(sum, a.residual + i, m);
    }
  });
}

HWY_INLINE void activation(Activation kind, const float* x, float* out, int64_t n) {
  with_activation(kind, [&](auto act) HWY_ATTR {
    for_vectors(n, [&](int64_t i, int64_t m) HWY_ATTR {
      store_upto(decltype(act)::apply(load_upto(x + i, m)), out + i, m);
    });
  });
}

HWY_INLINE void combine(const float* x, float a, const float* y, float b, const float* z, float c,
                        float* out, int64_t n) {
  const F32 d;
  for_vectors(n, [&](int64_t i, int64_t m) HWY_ATTR {
    VF sum = hn::Mul(hn::Set(d, a), load_upto(x + i, m));
    if (y) sum = hn::MulAdd(hn::Set(d, b), load_upto(y + i, m), sum);
    if (z) sum = hn::MulAdd(hn::Set(d, c), load_upto(z + i, m), sum);
    store_upto(sum, out + i, m);
  });
}

HWY_INLINE void exp2_n(const float* x, float* out, int64_t n) {
  for_vectors(n, [&](int64_t i, int64_t m)
                     HWY_ATTR { store_upto(exp2_v(load_upto(x + i, m)), out + i, m); });
}

HWY_INLINE void exp_n(const float* x, float* out, int64_t n) {
  for_vectors(n, [&](int64_t i, int64_t m)
                     HWY_ATTR { store_upto(exp_v(load_upto(x + i, m)), out + i, m); });
}

}  // namespace flashomni::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // FLASHOMNI_CPU_ROWS_INL_H_
