// SPDX-License-Identifier: Apache-2.0
//
// The one microkernel of the engine: a register tile of R rows by one panel, c += a * b, where `b`
// is a panel ([k][kPanel], contiguous) and elements of `a` are broadcast. Linear layers, GEMM-Q,
// GEMM-O and both products of attention run on it. Every output is one chain of fused
// multiply-adds in ascending k, so bits do not depend on tiling.
#if defined(FLASHOMNI_CPU_GEMM_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef FLASHOMNI_CPU_GEMM_INL_H_
#undef FLASHOMNI_CPU_GEMM_INL_H_
#else
#define FLASHOMNI_CPU_GEMM_INL_H_
#endif

#include <algorithm>
#include <utility>

#include "cpu/kernel_table.h"
#include "cpu/kernels/simd-inl.h"

HWY_BEFORE_NAMESPACE();
namespace flashomni::cpu::HWY_NAMESPACE {

// Accumulators (kMaxRows * kPanelVectors) plus one row of b and a broadcast must fit the register
// file: 28 + 3 of 32 zmm, 12 + 3 of 16 ymm, 24 + 4 of 32 NEON registers. The scalar fallback takes
// panels that the compiler can put into the baseline's own vectors.
#if HWY_TARGET == HWY_AVX3
inline constexpr int kMaxRows = 14;
inline constexpr int kPanelVectors = 2;
#elif HWY_TARGET == HWY_AVX2
inline constexpr int kMaxRows = 6;
inline constexpr int kPanelVectors = 2;
#elif HWY_TARGET == HWY_SCALAR
inline constexpr int kMaxRows = 2;
inline constexpr int kPanelVectors = 8;
#else
inline constexpr int kMaxRows = 8;
inline constexpr int kPanelVectors = 3;
#endif
inline constexpr int kPanel = kPanelVectors * kLanes;

// How the broadcast factor lies in memory: k contiguous within a row, or rows contiguous within a
// k.
enum class LeftLayout { kRowMajor, kColumnMajor };

// One tile of R rows. c is [R][kPanel].
template <int R, LeftLayout kLayout>
HWY_NOINLINE void gemm_tile(const GemmSpan* spans, int num_spans, int64_t row_offset, int64_t lda,
                            float* c, bool accumulate) {
  const F32 d;
  VF acc[R][kPanelVectors];
  if (accumulate) {
    FO_UNROLL for (int r = 0; r < R; ++r) {
      FO_UNROLL for (int v = 0; v < kPanelVectors; ++v) {
        acc[r][v] = hn::LoadU(d, c + r * kPanel + v * kLanes);
      }
    }
  } else {
    FO_UNROLL for (int r = 0; r < R; ++r) {
      FO_UNROLL for (int v = 0; v < kPanelVectors; ++v) acc[r][v] = hn::Zero(d);
    }
  }
  for (int s = 0; s < num_spans; ++s) {
    const float* HWY_RESTRICT b = spans[s].b;
    const float* b_end = b + spans[s].k * kPanel;
    const float* a0 = spans[s].a + row_offset;
    // Row pointers in groups of four: base + {0, 1, 2, 3} * lda are addressing modes, more pointers
    // would not fit the general registers.
    const float* a[(R + 3) / 4];
    FO_UNROLL for (int g = 0; g < (R + 3) / 4; ++g) a[g] = a0 + g * 4 * lda;
    for (; b != b_end; b += kPanel) {
      VF row[kPanelVectors];
      FO_UNROLL for (int v = 0; v < kPanelVectors; ++v) row[v] = hn::LoadU(d, b + v * kLanes);
      FO_UNROLL for (int r = 0; r < R; ++r) {
        const float* element = kLayout == LeftLayout::kRowMajor ? a[r / 4] + (r % 4) * lda : a0 + r;
        const VF x = hn::Set(d, *element);
        FO_UNROLL for (int v = 0; v < kPanelVectors; ++v) {
          acc[r][v] = hn::MulAdd(x, row[v], acc[r][v]);
        }
      }
      if constexpr (kLayout == LeftLayout::kRowMajor) {
        FO_UNROLL for (int g = 0; g < (R + 3) / 4; ++g)++ a[g];
      } else {
        a0 += lda;
      }
    }
  }
  FO_UNROLL for (int r = 0; r < R; ++r) {
    FO_UNROLL for (int v = 0; v < kPanelVectors; ++v) {
      hn::StoreU(acc[r][v], d, c + r * kPanel + v * kLanes);
    }
  }
}

using GemmTileFn = void (*)(const GemmSpan*, int, int64_t, int64_t, float*, bool);

// gemm_tile for 1..kMaxRows rows, by row count.
template <LeftLayout kLayout, int... kRowsMinusOne>
constexpr auto make_gemm_tiles(std::integer_sequence<int, kRowsMinusOne...>) {
  struct Tiles {
    GemmTileFn by_rows[sizeof...(kRowsMinusOne) + 1];
  };
  return Tiles{{nullptr, &gemm_tile<kRowsMinusOne + 1, kLayout>...}};
}

template <LeftLayout kLayout>
inline constexpr auto kGemmTiles =
    make_gemm_tiles<kLayout>(std::make_integer_sequence<int, kMaxRows>());

// Any number of rows, cut into tiles of nearly equal height (a last tile of one or two rows would
// wait for latency). Calls before_tile() before each.
template <LeftLayout kLayout, class F>
HWY_INLINE void gemm_rows(const GemmSpan* spans, int num_spans, int64_t lda, int rows, float* c,
                          bool accumulate, const F& before_tile) {
  const int tiles = (rows + kMaxRows - 1) / kMaxRows;
  for (int t = 0, row = 0; t < tiles; ++t) {
    const int height = (rows - row + (tiles - t) - 1) / (tiles - t);
    const int64_t offset = kLayout == LeftLayout::kRowMajor ? row * lda : row;
    before_tile();
    kGemmTiles<kLayout>.by_rows[height](spans, num_spans, offset, lda, c + int64_t{row} * kPanel,
                                        accumulate);
    row += height;
  }
}

HWY_INLINE void gemm(const GemmSpan* spans, int num_spans, int64_t lda, int rows, float* c,
                     bool accumulate) {
  gemm_rows<LeftLayout::kRowMajor>(spans, num_spans, lda, rows, c, accumulate, [] {});
}

}  // namespace flashomni::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // FLASHOMNI_CPU_GEMM_INL_H_
