// SPDX-License-Identifier: Apache-2.0
//
// What follows a product: bias or bias planes, activation, gated residual (epilogue), or the
// RMSNorm and rotary embedding of one head (head_epilogue).
#if defined(FLASHOMNI_CPU_EPILOGUE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef FLASHOMNI_CPU_EPILOGUE_INL_H_
#undef FLASHOMNI_CPU_EPILOGUE_INL_H_
#else
#define FLASHOMNI_CPU_EPILOGUE_INL_H_
#endif

#include <cmath>

#include "cpu/kernels/gemm-inl.h"
#include "cpu/kernels/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace flashomni::cpu::HWY_NAMESPACE {

// Row by row, so that outputs, planes and residuals are long contiguous streams.
template <class Act>
HWY_INLINE void epilogue_rows(const EpilogueArgs& e) {
  const F32 d;
  for (int r = 0; r < e.rows; ++r) {
    const float* c = e.c ? e.c + int64_t{r} * kPanel : nullptr;
    for (int col = 0; col < e.cols; col += kLanes) {
      const int64_t n = e.cols - col;
      VF t;
      if (e.num_planes > 0) {
        t = hn::Mul(load_upto(e.planes[0] + r * e.plane_stride[0] + col, n),
                    hn::Set(d, e.coefficients[0]));
        for (int m = 1; m < e.num_planes; ++m) {
          t = hn::MulAdd(hn::Set(d, e.coefficients[m]),
                         load_upto(e.planes[m] + r * e.plane_stride[m] + col, n), t);
        }
      } else {
        t = hn::LoadU(d, e.bias + col);
      }
      // Without a product t is kept as it is: 0 + t would turn -0 into 0.
      if (c) t = hn::Add(hn::LoadU(d, c + (col / kPanel) * e.panel_stride + col % kPanel), t);
      const VF y = Act::apply(t);
      if (e.out) store_upto(y, e.out + r * e.out_stride + col, n);
      if (e.residual) {
        float* residual = e.residual + r * e.residual_stride + col;
        const VF old = load_upto(residual, n);
        const VF sum = e.gate ? hn::MulAdd(load_upto(e.gate + col, n), y, old) : hn::Add(old, y);
        store_upto(sum, residual, n);
      }
    }
  }
}

HWY_INLINE void epilogue(const EpilogueArgs& e) {
  with_activation(e.activation, [&](auto act) HWY_ATTR { epilogue_rows<decltype(act)>(e); });
}

// Rotation of (x0, x1) pairs held in adjacent lanes, given the kLanes/2 cosines and sines of them:
// (x0 c - x1 s, x1 c + x0 s).
#if HWY_TARGET != HWY_SCALAR
// 0, 0, 1, 1, 2, 2, ...
struct DuplicateIndices {
  int32_t lane[kLanes];
  constexpr DuplicateIndices() : lane() {
    for (int i = 0; i < kLanes; ++i) lane[i] = i / 2;
  }
};
inline constexpr DuplicateIndices kDuplicate;

class PairRotation {
 public:
  HWY_INLINE PairRotation() : duplicate_(hn::SetTableIndices(F32(), kDuplicate.lane)) {}

  // `pairs` valid ones, at most kLanes/2.
  HWY_INLINE VF apply(VF x, const float* cos, const float* sin, int64_t pairs) const {
    const F32 d;
    const VF c = hn::TableLookupLanes(half(cos, pairs), duplicate_);
    const VF s = hn::TableLookupLanes(half(sin, pairs), duplicate_);
    // -x1, x0: the even lanes take minus their neighbour.
    const VF swapped = hn::Reverse2(d, x);
    const VF turned = hn::OddEven(swapped, hn::Neg(swapped));
    return hn::MulAdd(turned, s, hn::Mul(x, c));
  }

 private:
  static HWY_INLINE VF half(const float* p, int64_t pairs) {
    const hn::Half<F32> dh;
    if (pairs >= kLanes / 2) return hn::ZeroExtendVector(F32(), hn::LoadU(dh, p));
    return load_partial(p, pairs);
  }

  decltype(hn::SetTableIndices(F32(), static_cast<const int32_t*>(nullptr))) duplicate_;
};
#endif

// One row at out[0, head_dim) already holds the normed values.
HWY_INLINE void rotate_row(float* row, const float* cos, const float* sin, int head_dim) {
#if HWY_TARGET == HWY_SCALAR
  for (int i = 0; i < head_dim; i += 2) {
    const float x0 = row[i], x1 = row[i + 1], c = cos[i / 2], s = sin[i / 2];
    row[i] = x0 * c - x1 * s;
    row[i + 1] = x1 * c + x0 * s;
  }
#else
  const PairRotation rotation;
  for (int i = 0; i < head_dim; i += kLanes) {
    const int64_t n = head_dim - i;
    const VF x = load_upto(row + i, n);
    store_upto(rotation.apply(x, cos + i / 2, sin + i / 2, n / 2), row + i, n);
  }
#endif
}

HWY_INLINE void head_epilogue(const HeadEpilogueArgs& e) {
  const F32 d;
  for (int r = 0; r < e.rows; ++r) {
    float* out = e.out + r * e.out_stride;
    const float* c = e.c + int64_t{r} * kPanel;
    VF squares = hn::Zero(d);
    for (int i = 0; i < e.head_dim; i += kLanes) {
      const VF y = hn::Add(hn::LoadU(d, c + (i / kPanel) * e.panel_stride + i % kPanel),
                           hn::LoadU(d, e.bias + i));
      // Padding columns have zero weights and bias, so they add nothing.
      squares = hn::MulAdd(y, y, squares);
      store_upto(y, out + i, e.head_dim - i);
    }
    if (e.rms_weight) {
      const float mean = reduce_sum(squares) / static_cast<float>(e.head_dim);
      const VF inverse = hn::Set(d, 1.f / std::sqrt(mean + e.rms_eps));
      for (int i = 0; i < e.head_dim; i += kLanes) {
        const int64_t n = e.head_dim - i;
        const VF y = hn::Mul(load_upto(out + i, n), inverse);
        store_upto(hn::Mul(y, load_upto(e.rms_weight + i, n)), out + i, n);
      }
    }
    if (e.cos) rotate_row(out, e.cos + r * e.cos_stride, e.sin + r * e.sin_stride, e.head_dim);
  }
}

}  // namespace flashomni::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // FLASHOMNI_CPU_EPILOGUE_INL_H_
