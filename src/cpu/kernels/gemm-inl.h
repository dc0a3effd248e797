// SPDX-License-Identifier: Apache-2.0
//
// The one microkernel of the engine: a register tile of R rows by one panel, c += a * b, where `b`
// is a panel ([k][panel], contiguous) and elements of `a` are broadcast. Linear layers, GEMM-Q,
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

// Vectors of a panel. Wider tiles load less for every multiply-add: a row of b and R broadcasts for
// R * kPanelVectors of them. Where a panel is half empty, or attention has few query rows, tiles of
// kNarrowVectors compute the part that is used. The scalar fallback takes panels that the compiler
// can put into the baseline's own vectors.
#if HWY_TARGET == HWY_AVX3
inline constexpr int kPanelVectors = 4;
inline constexpr int kNarrowVectors = 2;
#elif HWY_TARGET == HWY_AVX2
inline constexpr int kPanelVectors = 2;
inline constexpr int kNarrowVectors = 2;
#elif HWY_TARGET == HWY_SCALAR
inline constexpr int kPanelVectors = 8;
inline constexpr int kNarrowVectors = 8;
#else
inline constexpr int kPanelVectors = 3;
inline constexpr int kNarrowVectors = 3;
#endif
inline constexpr int kPanel = kPanelVectors * kLanes;

// Most rows of a tile: accumulators plus one row of b and a broadcast must fit the register file:
// 24 + 5 or 28 + 3 of 32 zmm, 12 + 3 of 16 ymm, 24 + 4 of 32 NEON registers.
constexpr int max_rows(int vectors) {
#if HWY_TARGET == HWY_AVX3
  return vectors == 4 ? 6 : 14;
#elif HWY_TARGET == HWY_AVX2
  return vectors == 2 ? 6 : 0;
#elif HWY_TARGET == HWY_SCALAR
  return vectors == 8 ? 2 : 0;
#else
  return vectors == 3 ? 8 : 0;
#endif
}

// acc += a * b, fused where the target can.
HWY_INLINE void fma_in_place(VF& acc, VF a, VF b) {
#if HWY_TARGET == HWY_AVX3
  // GCC would choose among the three forms of the instruction, and copy registers for it.
  asm("vfmadd231ps %2, %1, %0" : "+v"(acc.raw) : "v"(a.raw), "v"(b.raw));
#else
  acc = hn::MulAdd(a, b, acc);
#endif
}

// How the broadcast factor lies in memory: k contiguous within a row, or rows contiguous within a
// k.
enum class LeftLayout { kRowMajor, kColumnMajor };

// Steps of k in the body of the loop: pointers then advance rarely.
inline constexpr int kUnroll = 4;
// A tile fetches one line for every so many of them.
inline constexpr int kStepsPerFetch = 1;

// One tile of R rows by V vectors, the first of panels of `kWidth` columns.
template <int R, int V, int kWidth, LeftLayout kLayout>
struct GemmTile {
  // Row pointers in groups: base + {0, 1, 2} * lda are addressing modes, with 3 * lda in a register
  // of its own for taller tiles, whose pointers would not fit the general registers otherwise.
  static constexpr int kGroup = R <= 6 ? 3 : 4;
  static constexpr int kPointers = kLayout == LeftLayout::kRowMajor ? (R + kGroup - 1) / kGroup : 1;

  // acc += a * b at step u after the pointers.
  static HWY_INLINE void step(VF (&acc)[R][V], const float* const (&a)[kPointers], const float* b,
                              int64_t lda, int u) {
    const F32 d;
    VF row[V];
    FO_UNROLL for (int v = 0; v < V; ++v) row[v] = hn::LoadU(d, b + u * kWidth + v * kLanes);
    FO_UNROLL for (int r = 0; r < R; ++r) {
      const float* element = kLayout == LeftLayout::kRowMajor
                                 ? a[r / kGroup] + (r % kGroup) * lda + u
                                 : a[0] + u * lda + r;
      const VF x = hn::Set(d, *element);
      FO_UNROLL for (int v = 0; v < V; ++v) {
        fma_in_place(acc[r][v], x, row[v]);
      }
    }
  }

  // c is [R][kWidth]. `fetch` advances over all spans.
  template <bool kFetches>
  static HWY_NOINLINE void run(const GemmSpan* spans, int num_spans, int64_t row_offset,
                               int64_t lda, float* c, bool accumulate, PrefetchStream fetch) {
    const F32 d;
    VF acc[R][V];
    if (accumulate) {
      FO_UNROLL for (int r = 0; r < R; ++r) {
        FO_UNROLL for (int v = 0; v < V; ++v) {
          acc[r][v] = hn::LoadU(d, c + r * kWidth + v * kLanes);
        }
      }
    } else {
      FO_UNROLL for (int r = 0; r < R; ++r) {
        FO_UNROLL for (int v = 0; v < V; ++v) acc[r][v] = hn::Zero(d);
      }
    }
    for (int s = 0; s < num_spans; ++s) {
      const float* HWY_RESTRICT b = spans[s].b;
      const int64_t k = spans[s].k;
      const float* a[kPointers];
      FO_UNROLL for (int g = 0; g < kPointers; ++g) a[g] =
          spans[s].a + row_offset + g * kGroup * lda;
      const int64_t advance = kLayout == LeftLayout::kRowMajor ? 1 : lda;
      for (const float* end = b + (k - k % kUnroll) * kWidth; b != end; b += kUnroll * kWidth) {
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
      for (const float* end = b + k % kUnroll * kWidth; b != end; b += kWidth) {
        step(acc, a, b, lda, 0);
        FO_UNROLL for (int g = 0; g < kPointers; ++g) a[g] += advance;
      }
    }
    FO_UNROLL for (int r = 0; r < R; ++r) {
      FO_UNROLL for (int v = 0; v < V; ++v) {
        hn::StoreU(acc[r][v], d, c + r * kWidth + v * kLanes);
      }
    }
  }
};

using GemmTileFn = void (*)(const GemmSpan*, int, int64_t, int64_t, float*, bool, PrefetchStream);

// GemmTile::run for 1..max_rows(V) rows, by row count.
template <int V, int kWidth, LeftLayout kLayout, bool kFetches, int... kRowsMinusOne>
constexpr auto make_gemm_tiles(std::integer_sequence<int, kRowsMinusOne...>) {
  struct Tiles {
    GemmTileFn by_rows[sizeof...(kRowsMinusOne) + 1];
  };
  return Tiles{
      {nullptr, &GemmTile<kRowsMinusOne + 1, V, kWidth, kLayout>::template run<kFetches>...}};
}

template <int V, int kWidth, LeftLayout kLayout, bool kFetches>
inline constexpr auto kGemmTiles =
    make_gemm_tiles<V, kWidth, kLayout, kFetches>(std::make_integer_sequence<int, max_rows(V)>());

// V vectors of any number of rows, cut into tiles of nearly equal height (a last tile of one or two
// rows would wait for latency). before_tile() is called before each and says what the tile is to
// fetch, or nothing (void).
template <int V, int kWidth, LeftLayout kLayout, class F>
HWY_INLINE void gemm_rows(const GemmSpan* spans, int num_spans, int64_t lda, int rows, float* c,
                          bool accumulate, const F& before_tile) {
  constexpr bool kFetches = !std::is_void_v<decltype(before_tile())>;
  constexpr int kMaxRows = max_rows(V);
  const int tiles = (rows + kMaxRows - 1) / kMaxRows;
  for (int t = 0, row = 0; t < tiles; ++t) {
    const int height = (rows - row + (tiles - t) - 1) / (tiles - t);
    const int64_t offset = kLayout == LeftLayout::kRowMajor ? row * lda : row;
    float* to = c + int64_t{row} * kWidth;
    PrefetchStream fetch;
    if constexpr (kFetches) {
      fetch = before_tile();
    } else {
      before_tile();
    }
    if (kFetches && fetch.step != 0) {
      kGemmTiles<V, kWidth, kLayout, kFetches>.by_rows[height](spans, num_spans, offset, lda, to,
                                                               accumulate, fetch);
    } else {
      kGemmTiles<V, kWidth, kLayout, false>.by_rows[height](spans, num_spans, offset, lda, to,
                                                            accumulate, fetch);
    }
    row += height;
  }
}

HWY_INLINE void gemm(const GemmSpan* spans, int num_spans, int64_t lda, int rows, int cols,
                     float* c, bool accumulate, PrefetchQueue* coming) {
  int64_t lines = 0;
  for (int s = 0; s < num_spans; ++s) lines += spans[s].k / kUnroll * (kUnroll / kStepsPerFetch);
  const auto before_tile = [&]()
                               HWY_ATTR { return coming ? coming->take(lines) : PrefetchStream(); };
  if (cols <= kNarrowVectors * kLanes) {
    gemm_rows<kNarrowVectors, kPanel, LeftLayout::kRowMajor>(spans, num_spans, lda, rows, c,
                                                             accumulate, before_tile);
  } else {
    gemm_rows<kPanelVectors, kPanel, LeftLayout::kRowMajor>(spans, num_spans, lda, rows, c,
                                                            accumulate, before_tile);
  }
}

}  // namespace flashomni::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // FLASHOMNI_CPU_GEMM_INL_H_
