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
#include <type_traits>
#include <utility>

#include "cpu/kernel_table.h"
#include "cpu/kernels/simd-inl.h"
#include "cpu/prefetch.h"

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

// Steps of k in the body of the loop: pointers then advance rarely.
inline constexpr int kUnroll = 4;
// A tile fetches one line for every so many of them.
inline constexpr int kStepsPerFetch = 1;

// One tile of R rows.
template <int R, LeftLayout kLayout>
struct GemmTile {
  // Row pointers in groups of four: base + {0, 1, 2, 3} * lda are addressing modes, more pointers
  // would not fit the general registers.
  static constexpr int kPointers = kLayout == LeftLayout::kRowMajor ? (R + 3) / 4 : 1;

  // acc += a * b at step u after the pointers.
  static HWY_INLINE void step(VF (&acc)[R][kPanelVectors], const float* const (&a)[kPointers],
                              const float* b, int64_t lda, int u) {
    const F32 d;
    VF row[kPanelVectors];
    FO_UNROLL for (int v = 0; v < kPanelVectors; ++v) row[v] =
        hn::LoadU(d, b + u * kPanel + v * kLanes);
    FO_UNROLL for (int r = 0; r < R; ++r) {
      const float* element =
          kLayout == LeftLayout::kRowMajor ? a[r / 4] + (r % 4) * lda + u : a[0] + u * lda + r;
      const VF x = hn::Set(d, *element);
      FO_UNROLL for (int v = 0; v < kPanelVectors; ++v) {
        acc[r][v] = hn::MulAdd(x, row[v], acc[r][v]);
      }
    }
  }

  // c is [R][kPanel]. `fetch` advances over all spans.
  template <bool kFetches>
  static HWY_NOINLINE void run(const GemmSpan* spans, int num_spans, int64_t row_offset,
                               int64_t lda, float* c, bool accumulate, PrefetchStream fetch) {
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
      const int64_t k = spans[s].k;
      const float* a[kPointers];
      FO_UNROLL for (int g = 0; g < kPointers; ++g) a[g] = spans[s].a + row_offset + g * 4 * lda;
      const int64_t advance = kLayout == LeftLayout::kRowMajor ? 1 : lda;
      for (const float* end = b + (k - k % kUnroll) * kPanel; b != end; b += kUnroll * kPanel) {
        FO_UNROLL for (int u = 0; u < kUnroll; ++u) {
          if constexpr (kFetches) {
            if (u % kStepsPerFetch == 0) {
              __builtin_prefetch(fetch.at, 0, 2);
              fetch.at += fetch.step;
            }
          }
          step(acc, a, b, lda, u);
        }
        FO_UNROLL for (int g = 0; g < kPointers; ++g) a[g] += kUnroll * advance;
      }
      for (const float* end = b + k % kUnroll * kPanel; b != end; b += kPanel) {
        step(acc, a, b, lda, 0);
        FO_UNROLL for (int g = 0; g < kPointers; ++g) a[g] += advance;
      }
    }
    FO_UNROLL for (int r = 0; r < R; ++r) {
      FO_UNROLL for (int v = 0; v < kPanelVectors; ++v) {
        hn::StoreU(acc[r][v], d, c + r * kPanel + v * kLanes);
      }
    }
  }
};

using GemmTileFn = void (*)(const GemmSpan*, int, int64_t, int64_t, float*, bool, PrefetchStream);

// GemmTile::run for 1..kMaxRows rows, by row count.
template <LeftLayout kLayout, bool kFetches, int... kRowsMinusOne>
constexpr auto make_gemm_tiles(std::integer_sequence<int, kRowsMinusOne...>) {
  struct Tiles {
    GemmTileFn by_rows[sizeof...(kRowsMinusOne) + 1];
  };
  return Tiles{{nullptr, &GemmTile<kRowsMinusOne + 1, kLayout>::template run<kFetches>...}};
}

template <LeftLayout kLayout, bool kFetches>
inline constexpr auto kGemmTiles =
    make_gemm_tiles<kLayout, kFetches>(std::make_integer_sequence<int, kMaxRows>());

// Any number of rows, cut into tiles of nearly equal height (a last tile of one or two rows would
// wait for latency). before_tile() is called before each and says what the tile is to fetch, or
// nothing (void).
template <LeftLayout kLayout, class F>
HWY_INLINE void gemm_rows(const GemmSpan* spans, int num_spans, int64_t lda, int rows, float* c,
                          bool accumulate, const F& before_tile) {
  constexpr bool kFetches = !std::is_void_v<decltype(before_tile())>;
  const int tiles = (rows + kMaxRows - 1) / kMaxRows;
  for (int t = 0, row = 0; t < tiles; ++t) {
    const int height = (rows - row + (tiles - t) - 1) / (tiles - t);
    const int64_t offset = kLayout == LeftLayout::kRowMajor ? row * lda : row;
    PrefetchStream fetch{};
    if constexpr (kFetches) {
      fetch = before_tile();
    } else {
      before_tile();
    }
    kGemmTiles<kLayout, kFetches>.by_rows[height](spans, num_spans, offset, lda,
                                                  c + int64_t{row} * kPanel, accumulate, fetch);
    row += height;
  }
}

HWY_INLINE void gemm(const GemmSpan* spans, int num_spans, int64_t lda, int rows, float* c,
                     bool accumulate, PrefetchQueue* coming) {
  int64_t lines = 0;
  for (int s = 0; s < num_spans; ++s) lines += spans[s].k / kUnroll * (kUnroll / kStepsPerFetch);
  // An idle tile fetches a line that is there: cheaper than a second loop that fetches none.
  gemm_rows<LeftLayout::kRowMajor>(spans, num_spans, lda, rows, c, accumulate, [&]() HWY_ATTR {
    return coming ? coming->take(lines, spans)
                  : PrefetchStream{reinterpret_cast<const char*>(spans), 0};
  });
}

}  // namespace flashomni::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // FLASHOMNI_CPU_GEMM_INL_H_
