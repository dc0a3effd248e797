// SPDX-License-Identifier: Apache-2.0
//
// Flash-style attention on transposed tiles. V vectors of query rows lie across the lanes:
//   S^T[tokens][rows] = K Q^T,   P^T = 2^(S^T - max),   out^T[d][rows] += V^T P^T,
// so maxima and sums are lane-wise, both products broadcast K and V straight from token-major
// memory, and a ragged number of keys is simply fewer rows of S^T. The softmax steps over groups of
// 32 tokens, the smallest symbol block, whatever the block size in use; this is why all-ones
// symbols of any block size give the bits of dense attention.
#if defined(FLASHOMNI_CPU_ATTENTION_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef FLASHOMNI_CPU_ATTENTION_INL_H_
#undef FLASHOMNI_CPU_ATTENTION_INL_H_
#else
#define FLASHOMNI_CPU_ATTENTION_INL_H_
#endif

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "cpu/kernels/gemm-inl.h"
#include "cpu/kernels/math-inl.h"
#include "cpu/kernels/transpose-inl.h"

HWY_BEFORE_NAMESPACE();
namespace flashomni::cpu::HWY_NAMESPACE {

// Tokens of one softmax step.
inline constexpr int kStep = 32;

// The reference maximum moves only when a score exceeds it by more than this (in log2 units): sums
// then stay below 2^8 per key, and rescaling the outputs becomes rare.
inline constexpr float kMaxSlack = 8.f;

// Query rows that are handled together.
template <int V>
inline constexpr int kWidth = V* kLanes;

// Raises the reference maximum of the lanes whose score in p[tokens][width] exceeds it by more
// than kMaxSlack, and says whether there are any; alpha = 2^(old - new), 1 in the other lanes.
template <int V>
HWY_INLINE bool raise_maximum(const float* p, int tokens, float* max, VF (&alpha)[V]) {
  const F32 d;
  VF top[V];
  FO_UNROLL for (int v = 0; v < V; ++v) top[v] = hn::LoadU(d, p + v * kLanes);
  for (int t = 1; t < tokens; ++t) {
    FO_UNROLL for (int v = 0; v < V; ++v) {
      top[v] = hn::Max(top[v], hn::LoadU(d, p + t * kWidth<V> + v * kLanes));
    }
  }
  bool raised = false;
  FO_UNROLL for (int v = 0; v < V; ++v) {
    const VF old = hn::LoadU(d, max + v * kLanes);
    const auto higher = hn::Gt(top[v], hn::Add(old, hn::Set(d, kMaxSlack)));
    raised |= !hn::AllFalse(d, higher);
    top[v] = hn::IfThenElse(higher, top[v], old);
  }
  if (!raised) return false;
  FO_UNROLL for (int v = 0; v < V; ++v) {
    const VF old = hn::LoadU(d, max + v * kLanes);
    // Lanes that stay have difference 0 even where both are -inf (the subtraction would give NaN).
    const VF difference = hn::IfThenZeroElse(hn::Eq(top[v], old), hn::Sub(old, top[v]));
    alpha[v] = exp2_v(difference);
    hn::StoreU(top[v], d, max + v * kLanes);
  }
  return true;
}

// rows[n][width] *= alpha
template <int V>
HWY_INLINE void scale_lanes(float* rows, int n, const VF (&alpha)[V]) {
  const F32 d;
  for (int i = 0; i < n; ++i) {
    FO_UNROLL for (int v = 0; v < V; ++v) {
      float* x = rows + i * kWidth<V> + v * kLanes;
      hn::StoreU(hn::Mul(hn::LoadU(d, x), alpha[v]), d, x);
    }
  }
}

// p[tokens][width] = 2^(p - max) in place, sum += their total. The partial sum of a step is taken
// first: over thousands of tokens that keeps the rounding error of the sum small.
template <int V>
HWY_INLINE void exponentials(float* p, int tokens, const float* max, float* sum) {
  const F32 d;
  VF reference[V], part[V];
  FO_UNROLL for (int v = 0; v < V; ++v) {
    reference[v] = hn::LoadU(d, max + v * kLanes);
    part[v] = hn::Zero(d);
  }
  for (int t = 0; t < tokens; ++t) {
    FO_UNROLL for (int v = 0; v < V; ++v) {
      float* x = p + t * kWidth<V> + v * kLanes;
      const VF y = exp2_v(hn::Sub(hn::LoadU(d, x), reference[v]));
      part[v] = hn::Add(part[v], y);
      hn::StoreU(y, d, x);
    }
  }
  FO_UNROLL for (int v = 0; v < V; ++v) {
    hn::StoreU(hn::Add(hn::LoadU(d, sum + v * kLanes), part[v]), d, sum + v * kLanes);
  }
}

// Lines that a tile fetches before it starts: more would fill the queues that its products need.
inline constexpr int64_t kLinesPerTile = 48;

// The lanes of p[tokens][width] that softmax_skip leaves out: counts them and makes their scores
// -inf, which weigh nothing. Says whether no lane with a query is left.
template <int V>
HWY_INLINE bool leave_out(const AttentionState& state, float* p, int tokens) {
  const F32 d;
  const VF lowest = hn::Set(d, -INFINITY);
  int out = 0;
  FO_UNROLL for (int v = 0; v < V; ++v) {
    const int rows = std::clamp(state.rows - v * kLanes, 0, kLanes);
    if (rows == 0) break;
    float* scores = p + v * kLanes;
    VF highest = hn::LoadU(d, scores);
    for (int t = 1; t < tokens; ++t) {
      highest = hn::Max(highest, hn::LoadU(d, scores + t * kWidth<V>));
    }
    const VF before = hn::LoadU(d, state.top + v * kLanes);
    const auto low = hn::And(hn::Le(highest, hn::Sub(before, hn::Set(d, state.softmax_skip))),
                             hn::FirstN(d, static_cast<size_t>(rows)));
    hn::StoreU(hn::Max(before, highest), d, state.top + v * kLanes);
    if (hn::AllFalse(d, low)) continue;
    out += static_cast<int>(hn::CountTrue(d, low));
    for (int t = 0; t < tokens; ++t) {
      float* x = scores + t * kWidth<V>;
      hn::StoreU(hn::IfThenElse(low, lowest, hn::LoadU(d, x)), d, x);
    }
  }
  *state.left_out += out;
  return out == state.rows;
}

template <int V, bool kSkips>
HWY_INLINE void attend_panel(AttentionState& state, const KvBlock& block, PrefetchQueue* coming) {
  const auto before_tile = [&]() HWY_ATTR {
    if (coming) coming->fetch(kLinesPerTile);
  };
  // out^T += V^T P^T for tokens [begin, end), which lie in one buffer. Put off until the buffer is
  // full or a rescale forces it, so that out^T is loaded and stored rarely.
  const auto add_values = [&](int begin, int end) HWY_ATTR {
    if (begin == end) return;
    const GemmSpan span{block.v + begin * block.v_stride,
                        state.p + begin % kBufferedTokens * kWidth<V>, end - begin};
    gemm_rows<V, kWidth<V>, LeftLayout::kColumnMajor>(&span, 1, block.v_stride, state.head_dim,
                                                      state.out_t, state.begun, before_tile);
    state.begun = true;
  };
  int pending = 0;
  for (int t = 0; t < block.tokens; t += kStep) {
    if (t % kBufferedTokens == 0) {
      add_values(pending, t);
      pending = t;
    }
    const int n = std::min(kStep, block.tokens - t);
    float* p = state.p + t % kBufferedTokens * kWidth<V>;
    const GemmSpan span{block.k + t * block.k_stride, state.q_t, state.head_dim};
    gemm_rows<V, kWidth<V>, LeftLayout::kRowMajor>(&span, 1, block.k_stride, n, p, false,
                                                   before_tile);
    if constexpr (kSkips) {
      if (leave_out<V>(state, p, n)) {  // no product with these values
        add_values(pending, t);
        pending = t + n;
        continue;
      }
    }
    VF alpha[V];
    if (raise_maximum<V>(p, n, state.max, alpha)) {
      add_values(pending, t);
      pending = t;
      if (state.begun) scale_lanes<V>(state.out_t, state.head_dim, alpha);
      scale_lanes<V>(state.sum, 1, alpha);
    }
    exponentials<V>(p, n, state.max, state.sum);
  }
  add_values(pending, block.tokens);
}

template <int V>
HWY_INLINE void attend(AttentionState& state, const KvBlock& block, PrefetchQueue* coming) {
  attend_panel<V, false>(state, block, coming);
}
template <int V>
HWY_INLINE void attend_skipping(AttentionState& state, const KvBlock& block,
                                PrefetchQueue* coming) {
  attend_panel<V, true>(state, block, coming);
}

template <int V>
HWY_INLINE void load_queries(DType dtype, const void* q, int64_t stride, int rows, int d,
                             float scale, float* q_t) {
  with_element(dtype, [&](auto element) HWY_ATTR {
    using E = decltype(element);
    const auto* src = static_cast<const typename E::Type*>(q);
    const VF factor = hn::Set(F32(), scale);
    HWY_ALIGN float tile[kTileFloats];
    for (int r0 = 0; r0 < kWidth<V>; r0 += kLanes) {
      for (int i0 = 0; i0 < d; i0 += kLanes) {
        const auto store = [&](int i, VF column) HWY_ATTR {
          if (i0 + i >= d) return;
          hn::StoreU(hn::Mul(column, factor), F32(), q_t + (i0 + i) * kWidth<V> + r0);
        };
        if constexpr (std::is_same_v<E, ElementF32>) {
          if (r0 + kLanes <= rows && i0 + kLanes <= d) {
            for_columns(src + r0 * stride + i0, stride, store);
            continue;
          }
        }
        for (int r = 0; r < kLanes; ++r) {
          const VF x =
              r0 + r < rows ? E::load(src + (r0 + r) * stride + i0, d - i0) : hn::Zero(F32());
          hn::Store(x, F32(), tile + r * kLanes);
        }
        for_columns(tile, kLanes, store);
      }
    }
  });
}

template <int V>
HWY_INLINE void store_outputs(const AttentionState& state, int rows, DType dtype, void* out,
                              int64_t stride, float* lse) {
  with_element(dtype, [&](auto element) HWY_ATTR {
    using E = decltype(element);
    const F32 d;
    auto* dst = static_cast<typename E::Type*>(out);
    HWY_ALIGN float tile[kTileFloats] = {};
    HWY_ALIGN float inverse[kLanes];
    for (int r0 = 0; r0 < rows; r0 += kLanes) {
      // A row without any key (which valid symbols exclude) gives zeros.
      const VF sum = hn::LoadU(d, state.sum + r0);
      hn::Store(hn::IfThenZeroElse(hn::Eq(sum, hn::Zero(d)), hn::Div(hn::Set(d, 1.f), sum)), d,
                inverse);
      for (int i0 = 0; i0 < state.head_dim; i0 += kLanes) {
        const int n = std::min(kLanes, state.head_dim - i0);
        const float* columns = state.out_t + i0 * kWidth<V> + r0;
        int64_t column_stride = kWidth<V>;
        if (n < kLanes) {
          for (int i = 0; i < n; ++i) {
            hn::Store(hn::LoadU(d, columns + i * kWidth<V>), d, tile + i * kLanes);
          }
          columns = tile;
          column_stride = kLanes;
        }
        for_columns(columns, column_stride, [&](int r, VF row) HWY_ATTR {
          if (r0 + r >= rows) return;
          E::store(hn::Mul(row, hn::Set(d, inverse[r])), dst + (r0 + r) * stride + i0, n);
        });
      }
    }
  });
  for (int r = 0; lse && r < rows; ++r) {
    lse[r] = (state.max[r] + std::log2(state.sum[r])) * 0.6931471805599453f;
  }
}

template <int V>
inline constexpr AttentionKernels kAttention = {
    .panel = kWidth<V>,
    .load_queries = load_queries<V>,
    .attend = attend<V>,
    .attend_skipping = attend_skipping<V>,
    .store_outputs = store_outputs<V>,
};

}  // namespace flashomni::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // FLASHOMNI_CPU_ATTENTION_INL_H_
