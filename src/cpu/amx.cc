// SPDX-License-Identifier: Apache-2.0
#include "cpu/amx.h"

#include "base/ceil_div.h"
#include "cpu/simd_targets.h"
#include "hwy/targets.h"

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__)
#define FLASHOMNI_HAS_AMX 1
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <utility>
#endif

namespace flashomni::cpu {

#if FLASHOMNI_HAS_AMX
namespace {

// A tile of the left factor is 16 rows of 32 features, one of the right factor 32 features (16
// pairs) of 16 columns, one of sums 16 rows of 16 columns; a line of any is 64 bytes.
constexpr int kTileRows = 16;
constexpr int kTileFeatures = 32;
constexpr int kTileColumns = 16;
constexpr int kPanelColumns = 4 * kTileColumns;
constexpr int kHalfPanel = kPanelColumns / 2;  // what the tiles of sums hold
constexpr int kLine = 64;
// Bytes between the pairs of a packed panel: [pair][column][2].
constexpr int kPairBytes = kPanelColumns * 2 * 2;
constexpr int kSumBytes = kPanelColumns * 4;

// What LDTILECFG reads.
struct alignas(kLine) TileConfig {
  uint8_t palette;
  uint8_t start_row;
  uint8_t reserved[14];
  uint16_t line_bytes[16];
  uint8_t rows[16];
};

// Tiles 0..3 hold sums (2 x 2), 4 and 5 the left factor, 6 and 7 the right one. `rows` of the upper
// left tiles; the lower ones are used only with all of theirs.
constexpr TileConfig tile_config(int rows) {
  TileConfig c{};
  c.palette = 1;
  for (int t = 0; t < 8; ++t) {
    c.line_bytes[t] = kLine;
    c.rows[t] = kTileRows;
  }
  for (const int t : {0, 1, 4}) c.rows[t] = static_cast<uint8_t>(rows);
  return c;
}
template <int... kRows>
constexpr std::array<TileConfig, sizeof...(kRows)> tile_configs(
    std::integer_sequence<int, kRows...>) {
  return {tile_config(kRows)...};
}
// Constants, because the compiler does not see what LDTILECFG reads.
constexpr std::array<TileConfig, kTileRows + 1> kConfigs =
    tile_configs(std::make_integer_sequence<int, kTileRows + 1>());

// c[16 kTilesDown or fewer rows][32 of a panel's columns, from `column` on] (+)= the spans'
// products. What the tiles read was written before the call: the instructions tell the compiler
// nothing of memory.
template <int kTilesDown>
__attribute__((target("amx-tile,amx-bf16"))) void multiply_rows(const GemmSpan* spans,
                                                                int num_spans, int64_t row,
                                                                int column, int64_t lda, float* c,
                                                                bool accumulate,
                                                                PrefetchQueue* coming) {
  c += column;
  float* lower = c + kTileRows * kPanelColumns;
  if (accumulate) {
    _tile_loadd(0, c, kSumBytes);
    _tile_loadd(1, c + kTileColumns, kSumBytes);
    if constexpr (kTilesDown == 2) {
      _tile_loadd(2, lower, kSumBytes);
      _tile_loadd(3, lower + kTileColumns, kSumBytes);
    }
  } else {
    _tile_zero(0);
    _tile_zero(1);
    if constexpr (kTilesDown == 2) {
      _tile_zero(2);
      _tile_zero(3);
    }
  }
  // Lines fetched for every tile of features.
  constexpr int64_t kFetched = 4;
  int64_t steps = 0;
  for (int s = 0; s < num_spans; ++s) steps += ceil_div(spans[s].k, kTileFeatures);
  PrefetchStream fetch;
  if (coming) fetch = coming->take(steps * kFetched);
  // Where there is nothing to fetch, a line that is there.
  if (fetch.step == 0) fetch.at = reinterpret_cast<const char*>(spans);
  const int64_t row_bytes = lda * static_cast<int64_t>(sizeof(float));
  for (int s = 0; s < num_spans; ++s) {
    const char* a = reinterpret_cast<const char*>(spans[s].a) + row * row_bytes;
    const char* b =
        reinterpret_cast<const char*>(spans[s].b) + column * (kPairBytes / kPanelColumns);
    for (int64_t k = 0; k < spans[s].k; k += kTileFeatures) {
      for (int64_t i = 0; i < kFetched; ++i) {
        __builtin_prefetch(fetch.at, 0, 2);
        fetch.at += fetch.step;
      }
      _tile_loadd(6, b, kPairBytes);
      _tile_loadd(4, a, row_bytes);
      _tile_dpbf16ps(0, 4, 6);
      _tile_loadd(7, b + kLine, kPairBytes);
      _tile_dpbf16ps(1, 4, 7);
      if constexpr (kTilesDown == 2) {
        _tile_loadd(5, a + kTileRows * row_bytes, row_bytes);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
      }
      a += kLine;
      b += kTileFeatures / 2 * kPairBytes;
    }
  }
  _tile_stored(0, c, kSumBytes);
  _tile_stored(1, c + kTileColumns, kSumBytes);
  if constexpr (kTilesDown == 2) {
    _tile_stored(2, lower, kSumBytes);
    _tile_stored(3, lower + kTileColumns, kSumBytes);
  }
}

// KernelTable::gemm for staged rows and packed pairs.
__attribute__((target("amx-tile"))) void gemm(const GemmSpan* spans, int num_spans, int64_t lda,
                                              int rows, int cols, float* c, bool accumulate,
                                              PrefetchQueue* coming) {
  // Half a panel at a time: its pairs of features then fit L1 for all rows.
  for (int column = 0; column < cols; column += kHalfPanel) {
    int row = 0;
    _tile_loadconfig(&kConfigs[kTileRows]);
    for (; rows - row >= 2 * kTileRows; row += 2 * kTileRows) {
      multiply_rows<2>(spans, num_spans, row, column, lda, c + row * kPanelColumns, accumulate,
                       coming);
    }
    while (row < rows) {
      const int height = std::min(kTileRows, rows - row);
      if (height < kTileRows) _tile_loadconfig(&kConfigs[static_cast<size_t>(height)]);
      multiply_rows<1>(spans, num_spans, row, column, lda, c + row * kPanelColumns, accumulate,
                       coming);
      row += height;
    }
  }
  // Threads that hold no tiles cost nothing when they are switched.
  _tile_release();
}

// Rounds to nearest even; the last tile of features is filled up with zeros.
__attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16"))) void stage_rows(
    const float* src, int64_t stride, int64_t rows, int64_t width, float* dst, int64_t dst_stride) {
  for (int64_t r = 0; r < rows; ++r) {
    const float* x = src + r * stride;
    auto* out = reinterpret_cast<__m512i*>(dst + r * dst_stride);
    for (int64_t k = 0; k < width; k += kTileFeatures, ++out) {
      const int64_t left = width - k;
      const auto mask = [](int64_t n) {
        return static_cast<__mmask16>(n >= 16 ? 0xffff : n <= 0 ? 0 : (1 << n) - 1);
      };
      const __m512 low = _mm512_maskz_loadu_ps(mask(left), x + k);
      const __m512 high = _mm512_maskz_loadu_ps(mask(left - 16), x + k + 16);
      const __m512bh both = _mm512_cvtne2ps_pbh(high, low);
      _mm512_storeu_si512(out, reinterpret_cast<const __m512i&>(both));
    }
  }
}

// Rounds of tile products in registers, as fma_rounds: four sums by turns.
__attribute__((target("amx-tile,amx-bf16"))) float tile_rounds(int64_t rounds) {
  alignas(kLine) float sum[kTileRows * kTileColumns] = {};
  alignas(kLine) uint16_t factor[kTileRows * kTileFeatures];
  for (int i = 0; i < kTileRows * kTileFeatures; ++i) {
    factor[i] = static_cast<uint16_t>(0x3c00 + i * 37 % 256);  // 2^-7 to 2^-6, all digits in use
  }
  asm volatile("" : : "r"(factor), "r"(sum) : "memory");
  _tile_loadconfig(&kConfigs[kTileRows]);
  _tile_loadd(0, sum, kLine);
  _tile_loadd(1, sum, kLine);
  _tile_loadd(2, sum, kLine);
  _tile_loadd(3, sum, kLine);
  _tile_loadd(4, factor, kLine);
  _tile_loadd(5, factor, kLine);
  _tile_loadd(6, factor, kLine);
  _tile_loadd(7, factor, kLine);
  for (int64_t r = 0; r < rounds; ++r) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, sum, kLine);
  _tile_release();
  asm volatile("" : : "r"(sum) : "memory");
  return sum[0];
}

// Whether processor and operating system let this process use tiles.
bool tiles_granted() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned kAmxBf16 = 1u << 22, kAmxTile = 1u << 24;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (~d & (kAmxBf16 | kAmxTile)) != 0) return false;
  constexpr unsigned kAvx512Bf16 = 1u << 5;
  if (!__get_cpuid_count(7, 1, &a, &b, &c, &d) || (a & kAvx512Bf16) == 0) return false;
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

}  // namespace

const KernelTable* amx_kernel_table() {
  static const KernelTable* table = []() -> const KernelTable* {
    const KernelTable* base = kernel_table(HWY_AVX3);
    if (!base || (hwy::SupportedTargets() & HWY_AVX3) == 0) return nullptr;
    if (base->panel != kPanelColumns || !tiles_granted()) return nullptr;
    static KernelTable made = *base;
    made.products = DType::kBF16;
    made.gemm = &gemm;
    made.stage_rows = &stage_rows;
    made.fma_rounds = &tile_rounds;
    made.fma_round_flops = 4 * 2 * kTileRows * kTileColumns * kTileFeatures;
    return &made;
  }();
  return table;
}

#else

const KernelTable* amx_kernel_table() {
  return nullptr;
}

#endif

}  // namespace flashomni::cpu
