// SPDX-License-Identifier: Apache-2.0
//
// The CPU backend's internals, below what its public operations show: accuracy of the exponentials,
// the one-chain promise of the microkernel, transposition and 16-bit rounding, cutting of work.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "base/half.h"
#include "base/rng.h"
#include "cpu/isa.h"
#include "cpu/packed_weight.h"
#include "cpu/row_blocks.h"

namespace flashomni::cpu {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

std::vector<float> random_floats(int64_t n, uint64_t seed) {
  Rng rng(seed);
  std::vector<float> v(static_cast<size_t>(n));
  for (float& x : v) x = static_cast<float>(rng.normal());
  return v;
}

double ulp_of(double x) {
  return std::ldexp(1.0, std::max(-149, std::ilogb(x) - 23));
}

class KernelsTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    Result<Isa> isa = find_isa(GetParam());
    if (!isa.ok()) GTEST_SKIP() << isa.status().to_string();
    kernels_ = isa->kernels;
  }
  const KernelTable& kernels() const { return *kernels_; }
  std::vector<const AttentionKernels*> widths() const {
    return {kernels_->attention, kernels_->narrow_attention};
  }

 private:
  const KernelTable* kernels_ = nullptr;
};

INSTANTIATE_TEST_SUITE_P(Isas, KernelsTest, testing::Values("SCALAR", "AVX2", "AVX3"),
                         [](const auto& isa) { return isa.param; });

TEST_P(KernelsTest, Exp2IsWithinTwoUlp) {
  std::vector<float> x;
  for (float v = -126.f; v <= 120.f; v += 0.00731f) x.push_back(v);
  std::vector<float> y(x.size());
  kernels().exp2(x.data(), y.data(), static_cast<int64_t>(x.size()));
  for (size_t i = 0; i < x.size(); ++i) {
    const double truth = std::exp2(double{x[i]});
    ASSERT_LE(std::abs(y[i] - truth), 2 * ulp_of(truth)) << "x = " << x[i];
  }
}

TEST_P(KernelsTest, ExpIsWithinTwoUlp) {
  std::vector<float> x;
  for (float v = -87.2f; v <= 87.9f; v += 0.00517f) x.push_back(v);
  std::vector<float> y(x.size());
  kernels().exp(x.data(), y.data(), static_cast<int64_t>(x.size()));
  for (size_t i = 0; i < x.size(); ++i) {
    const double truth = std::exp(double{x[i]});
    ASSERT_LE(std::abs(y[i] - truth), 2 * ulp_of(truth)) << "x = " << x[i];
  }
}

TEST_P(KernelsTest, ExponentialsAtTheEdges) {
  const std::vector<float> x = {0.f, -0.f, 1.f, -3.f, -126.f, -127.f, -1e30f, -kInf, kNan};
  std::vector<float> y(x.size());
  kernels().exp2(x.data(), y.data(), static_cast<int64_t>(x.size()));
  EXPECT_EQ(y[0], 1.f);
  EXPECT_EQ(y[1], 1.f);
  EXPECT_EQ(y[2], 2.f);
  EXPECT_EQ(y[3], 0.125f);
  EXPECT_EQ(y[4], std::ldexp(1.f, -126));
  EXPECT_EQ(y[5], 0.f) << "no denormals";
  EXPECT_EQ(y[6], 0.f);
  EXPECT_EQ(y[7], 0.f);
  EXPECT_TRUE(std::isnan(y[8]));
  kernels().exp(x.data(), y.data(), static_cast<int64_t>(x.size()));
  EXPECT_EQ(y[0], 1.f);
  EXPECT_EQ(y[7], 0.f);
  EXPECT_TRUE(std::isnan(y[8]));
}

TEST_P(KernelsTest, ActivationsAreCloseAndKeepNan) {
  std::vector<float> x = {kNan, 0.f, -0.f, 30.f, -30.f, 1e6f, -1e6f, 3e38f, -3e38f};
  for (float v = -12.f; v < 12.f; v += 0.0137f) x.push_back(v);
  std::vector<float> y(x.size());
  for (const Activation kind : {Activation::kGeluTanh, Activation::kSilu}) {
    kernels().activation(kind, x.data(), y.data(), static_cast<int64_t>(x.size()));
    EXPECT_TRUE(std::isnan(y[0]));
    for (size_t i = 1; i < x.size(); ++i) {
      const double v = x[i];
      const double u = std::sqrt(2 / 3.14159265358979323846) * (v + 0.044715 * v * v * v);
      const double z = kind == Activation::kSilu ? v : 2 * u;
      const double truth = v / (1 + std::exp(-z));
      // The argument of the exponential is rounded: its relative error is that of z times |z|.
      const double bound = (3 + 2 * std::abs(z)) * std::abs(truth) * 0x1p-23 + 1e-35;
      ASSERT_LE(std::abs(y[i] - truth), bound) << "x = " << v << ", kind " << int(kind);
    }
  }
}

// What the microkernel promises: one chain of fused multiply-adds, or of products and sums on a
// target without them.
float chain(const float* a, const float* b, int64_t stride, int64_t k, float c, bool fused) {
  for (int64_t i = 0; i < k; ++i) {
    const float product = a[i] * b[i * stride];
    c = fused ? std::fma(a[i], b[i * stride], c) : c + product;
  }
  return c;
}

TEST_P(KernelsTest, ProductIsOneAscendingChainHoweverItIsCut) {
  const int panel = kernels().panel;
  const bool fused = GetParam() != "SCALAR";
  const int64_t k = 37;
  for (int rows = 1; rows <= 40; ++rows) {
    const int64_t lda = k + rows % 3;
    const std::vector<float> a = random_floats(rows * lda, 1);
    const std::vector<float> b = random_floats(k * panel, 2);
    std::vector<float> whole(static_cast<size_t>(rows * panel), kNan);
    const GemmSpan all{a.data(), b.data(), k};
    kernels().gemm(&all, 1, lda, rows, panel, whole.data(), false, nullptr);
    for (int r = 0; r < rows; ++r) {
      for (int j = 0; j < panel; ++j) {
        ASSERT_EQ(whole[size_t(r * panel + j)],
                  chain(a.data() + r * lda, b.data() + j, panel, k, 0.f, fused))
            << rows << " rows, at " << r << ", " << j;
      }
    }
    // Two calls, the second with two spans and an empty one.
    std::vector<float> cut(whole.size(), kNan);
    const GemmSpan first{a.data(), b.data(), 5};
    const GemmSpan rest[] = {{a.data() + 5, b.data() + 5 * panel, 20},
                             {a.data(), b.data(), 0},
                             {a.data() + 25, b.data() + 25 * panel, k - 25}};
    kernels().gemm(&first, 1, lda, rows, panel, cut.data(), false, nullptr);
    PrefetchQueue coming;
    coming.set(PrefetchQueue::kResults, whole.data(), 4 * panel, rows, 4 * panel);
    kernels().gemm(rest, 3, lda, rows, panel, cut.data(), true, &coming);
    ASSERT_EQ(std::memcmp(whole.data(), cut.data(), whole.size() * sizeof(float)), 0) << rows;
  }
}

TEST_P(KernelsTest, ProductOfFewColumnsHasTheBitsOfWholePanels) {
  const int panel = kernels().panel;
  const int64_t k = 37;
  for (const int cols : {1, panel / 2 - 1, panel / 2, panel / 2 + 1, panel - 1}) {
    for (int rows = 1; rows <= 40; ++rows) {
      const std::vector<float> a = random_floats(rows * k, 1);
      const std::vector<float> b = random_floats(k * panel, 2);
      std::vector<float> whole = random_floats(rows * panel, 3), part = whole;
      const GemmSpan span{a.data(), b.data(), k};
      kernels().gemm(&span, 1, k, rows, panel, whole.data(), true, nullptr);
      kernels().gemm(&span, 1, k, rows, cols, part.data(), true, nullptr);
      for (int r = 0; r < rows; ++r) {
        ASSERT_EQ(std::memcmp(&whole[size_t(r * panel)], &part[size_t(r * panel)],
                              size_t(cols) * sizeof(float)),
                  0)
            << rows << " rows, " << cols << " columns, at " << r;
      }
    }
  }
}

// Attention state with its memory.
struct State {
  State(int panel, int d)
      : q_t(size_t(d * panel)),
        out_t(q_t.size(), 0.f),
        max(size_t(panel), -kInf),
        sum(size_t(panel), 0.f),
        p(size_t(kBufferedTokens * panel), kNan) {
    view = {q_t.data(), out_t.data(), max.data(), sum.data(), p.data(), d};
  }
  std::vector<float> q_t, out_t, max, sum, p;
  AttentionState view;
};

TEST_P(KernelsTest, AttentionBitsDependOnlyOnGroupsOf32Tokens) {
  constexpr int d = 24, tokens = 205;
  const int most = kernels().attention->panel - 1;
  const std::vector<float> q = random_floats(most * d, 3);
  std::vector<float> k = random_floats(tokens * d, 4);
  const std::vector<float> v = random_floats(tokens * d, 5);
  // Scores that keep growing, so that the reference maximum moves in the middle of calls.
  for (int t = 0; t < tokens; ++t) {
    for (int i = 0; i < d; ++i) k[size_t(t * d + i)] *= 0.1f * static_cast<float>(t);
  }
  const auto run = [&](const std::vector<int>& ends, const AttentionKernels* kernels) {
    const int rows = kernels->panel - 1;
    State state(kernels->panel, d);
    kernels->load_queries(DType::kF32, q.data(), d, rows, d, 0.7f, state.q_t.data());
    int begin = 0;
    for (int end : ends) {
      const KvBlock block{k.data() + begin * d, v.data() + begin * d, d, d, end - begin};
      PrefetchQueue coming;
      coming.set(PrefetchQueue::kKeys, block.k, 4 * d, block.tokens, 4 * block.k_stride);
      kernels->attend(state.view, block, &coming);
      begin = end;
    }
    std::vector<float> out(size_t(rows * d));
    kernels->store_outputs(state.view, rows, DType::kF32, out.data(), d, nullptr);
    return out;
  };
  const std::vector<float> widest = run({tokens}, kernels().attention);
  for (const AttentionKernels* width : widths()) {
    const std::vector<float> whole = run({tokens}, width);
    EXPECT_TRUE(std::equal(whole.begin(), whole.end(), widest.begin())) << width->panel << " rows";
    EXPECT_EQ(whole, run({32, 64, 96, 128, 160, 192, tokens}, width));
    EXPECT_EQ(whole, run({128, tokens}, width));
    EXPECT_EQ(whole, run({96, 192, tokens}, width));
    EXPECT_NE(whole, run({128, tokens - 1}, width)) << "a missing token must show";
  }
}

TEST_P(KernelsTest, QueriesGoInAndOutTransposed) {
  for (const AttentionKernels* width : widths()) {
    const int panel = width->panel;
    for (const int d : {2, 8, 18, 40, 64, 128}) {
      for (const int rows : {1, panel / 2 + 1, panel}) {
        const std::vector<float> q = random_floats(rows * (d + 3), 6);
        State state(panel, d);
        width->load_queries(DType::kF32, q.data(), d + 3, rows, d, 1.f, state.q_t.data());
        for (int r = 0; r < panel; ++r) {
          for (int i = 0; i < d; ++i) {
            const float want = r < rows ? q[size_t(r * (d + 3) + i)] : 0.f;
            ASSERT_EQ(state.q_t[size_t(i * panel + r)], want) << r << ", " << i;
          }
        }
        state.out_t = state.q_t;
        state.view.out_t = state.out_t.data();
        std::fill(state.sum.begin(), state.sum.end(), 1.f);
        std::vector<float> out(q.size(), 77.f);
        width->store_outputs(state.view, rows, DType::kF32, out.data(), d + 3, nullptr);
        for (size_t i = 0; i < out.size(); ++i) {
          const bool inside = static_cast<int>(i) % (d + 3) < d;
          ASSERT_EQ(out[i], inside ? q[i] : 77.f) << i;
        }
      }
    }
  }
}

TEST_P(KernelsTest, SixteenBitFloatsRoundLikeTheScalarConversions) {
  // Outputs of one dimension pair and every row take these values, through store_outputs.
  std::vector<float> values = {0.f,      -0.f,    1.f,   1.00390625f, 1.01171875f, -1.0000001f,
                               65504.f,  65520.f, 7e4f,  6.1e-5f,     5.9e-8f,     3e-8f,
                               3.39e38f, kInf,    -kInf, kNan,        1e-40f,      0.333333f};
  const std::vector<float> more = random_floats(400, 7);
  values.insert(values.end(), more.begin(), more.end());
  constexpr int d = 2;
  const int panel = kernels().attention->panel;
  for (size_t first = 0; first + size_t(panel * d) <= values.size(); first += size_t(panel * d)) {
    State state(panel, d);
    std::copy_n(values.begin() + static_cast<int64_t>(first), panel * d, state.out_t.begin());
    std::fill(state.sum.begin(), state.sum.end(), 1.f);
    for (const DType dtype : {DType::kBF16, DType::kF16}) {
      std::vector<uint16_t> out(size_t(panel * d));
      kernels().attention->store_outputs(state.view, panel, dtype, out.data(), d, nullptr);
      std::vector<float> back(out.size());
      kernels().to_f32(dtype, out.data(), back.data(), static_cast<int64_t>(out.size()));
      for (int r = 0; r < panel; ++r) {
        for (int i = 0; i < d; ++i) {
          const float value = state.out_t[size_t(i * panel + r)];
          const uint16_t seen = out[size_t(r * d + i)];
          const bool bf16 = dtype == DType::kBF16;
          const float widened = bf16 ? bf16_to_f32(seen) : f16_to_f32(seen);
          if (std::isnan(value)) {
            EXPECT_TRUE(std::isnan(widened));
            continue;
          }
          EXPECT_EQ(seen, bf16 ? f32_to_bf16(value) : f32_to_f16(value)) << value;
          EXPECT_EQ(std::bit_cast<uint32_t>(back[size_t(r * d + i)]),
                    std::bit_cast<uint32_t>(widened));
        }
      }
    }
  }
}

TEST_P(KernelsTest, EpilogueKeepsTheBitsOfALonePlane) {
  const int panel = kernels().panel;
  std::vector<float> plane = random_floats(panel, 8);
  plane[0] = -0.f;
  std::vector<float> out(plane.size());
  EpilogueArgs args;
  args.rows = 1;
  args.cols = panel;
  args.num_planes = 1;
  args.planes[0] = plane.data();
  args.coefficients[0] = 1.f;
  args.out = out.data();
  kernels().epilogue(args);
  EXPECT_EQ(std::memcmp(plane.data(), out.data(), out.size() * sizeof(float)), 0);
}

TEST_P(KernelsTest, PackedWeightsHoldEveryColumnOnceAndZerosElsewhere) {
  ThreadPool pool(2);
  const Context context{kernels(), pool};
  constexpr int64_t heads = 3, d = 10, in = 19;
  const std::vector<float> w = random_floats(heads * d * in, 9);
  const std::vector<float> bias = random_floats(heads * d, 10);
  std::vector<uint16_t> w16(w.size());
  std::transform(w.begin(), w.end(), w16.begin(), f32_to_bf16);
  for (const bool half : {false, true}) {
    WeightDesc desc;
    const void* data = half ? static_cast<const void*>(w16.data()) : w.data();
    desc.weight = TensorView::contiguous(const_cast<void*>(data), half ? DType::kBF16 : DType::kF32,
                                         {heads * d, in});
    desc.bias = TensorView::contiguous(const_cast<float*>(bias.data()), DType::kF32, {heads * d});
    desc.out_head_dim = d;
    const auto packed = CpuPackedWeight::pack(context, desc);
    ASSERT_TRUE(packed.ok()) << packed.status().to_string();
    const CpuPackedWeight* p = cpu_weight(packed->get());
    ASSERT_NE(p, nullptr);
    const int64_t panel = kernels().panel;
    std::vector<float> scratch(size_t(in * panel));
    for (int64_t h = 0; h < heads; ++h) {
      for (int64_t c = 0; c < p->panels_per_group() * panel; ++c) {
        const int64_t index = h * p->panels_per_group() + c / panel;
        const float* rows = p->rows(index, 0, in, scratch.data());
        for (int64_t k = 0; k < in; ++k) {
          const size_t at = size_t((h * d + c) * in + k);
          const float want = c >= d ? 0.f : half ? bf16_to_f32(w16[at]) : w[at];
          ASSERT_EQ(rows[k * panel + c % panel], want) << h << ", " << c << ", " << k;
        }
        ASSERT_EQ(p->bias(index)[c % panel], c < d ? bias[size_t(h * d + c)] : 0.f);
      }
    }
  }
}

TEST(PrefetchQueueTest, GivesEveryByteOnceInTheOrderOfNeed) {
  PrefetchQueue queue;
  alignas(64) char memory[4096];
  queue.set(PrefetchQueue::kResults, memory, 100, 3, 200);
  queue.set(PrefetchQueue::kRightFactor, memory + 2048, 300);
  std::vector<int> seen(sizeof(memory));
  int64_t last = 1;
  for (int call = 0; call < 100 && last > 0; ++call) {
    const PrefetchStream stream = queue.take(2);
    last = stream.step;
    if (last == 0) break;
    ASSERT_LE(stream.step, 64);
    for (int64_t i = 0; i < 2 * stream.step; ++i) ++seen[size_t(stream.at - memory + i)];
    if (call == 0) {
      ASSERT_EQ(stream.at, memory + 2048);
    }
  }
  ASSERT_EQ(last, 0);
  for (size_t i = 0; i < seen.size(); ++i) {
    const bool wanted = (i < 600 && i % 200 < 100) || (i >= 2048 && i < 2348);
    ASSERT_EQ(seen[i], wanted) << i;
  }
}

TEST(RowBlocksTest, ChunksAreManyEnoughForTheThreadsAndNotTooSmall) {
  for (const int64_t rows : {1, 100, 1088, 4608, 33000}) {
    for (const int64_t others : {1, 3, 100}) {
      for (const int threads : {1, 2, 64}) {
        const int64_t most = rows_per_chunk(rows, others, threads);
        ASSERT_LE(most, kChunkRows);
        ASSERT_TRUE(most == 112 || ceil_div(rows, most) * others >= kTasksPerThread * threads ||
                    most == kChunkRows)
            << rows << ", " << others << ", " << threads;
      }
    }
  }
}

TEST(RowBlocksTest, CutsSegmentsAtSymbolBlocks) {
  for (const int64_t block : {32, 64, 128}) {
    for (int64_t offset = 0; offset < 140; offset += 7) {
      for (const int64_t rows : {1, 31, 32, 64, 65, 127, 200, 513}) {
        const int64_t most = rows % 2 == 0 ? kChunkRows : 112;
        const RowBlocks blocks(rows, most, offset, block);
        int64_t row = 0;
        for (int64_t chunk = 0; chunk < blocks.num_chunks(); ++chunk) {
          const int64_t first = blocks.chunk_begin(chunk), last = blocks.chunk_end(chunk);
          ASSERT_LE(last - first, kMaxChunkBlocks);
          ASSERT_LE(blocks.end(last - 1) - blocks.begin(first), std::max(most, block));
          for (int64_t i = first; i < last; ++i) {
            ASSERT_EQ(blocks.begin(i), row);
            ASSERT_GT(blocks.end(i), row);
            ASSERT_EQ((offset + row) / block, blocks.symbol_row(i));
            ASSERT_EQ((offset + blocks.end(i) - 1) / block, blocks.symbol_row(i));
            row = blocks.end(i);
          }
        }
        ASSERT_EQ(row, rows);
      }
    }
  }
}

TEST(RowBlocksTest, CutsDenseRowsIntoNearlyEqualChunks) {
  for (int64_t rows = 1; rows < 700; ++rows) {
    const RowBlocks blocks(rows, kChunkRows);
    ASSERT_EQ(blocks.num_chunks(), ceil_div(rows, kChunkRows));
    ASSERT_EQ(blocks.end(blocks.count() - 1), rows);
    for (int64_t i = 1; i < blocks.count(); ++i) ASSERT_EQ(blocks.begin(i), blocks.end(i - 1));
  }
}

TEST(IsaTest, NamesAreCaseInsensitiveAndUnknownOnesListTheKnown) {
  const std::vector<Isa> isas = available_isas();
  ASSERT_FALSE(isas.empty());
  const Result<Isa> best = find_isa("");
  ASSERT_TRUE(best.ok());
  EXPECT_EQ(best->name, isas.front().name);
  for (const Isa& isa : isas) {
    std::string lower = isa.name;
    std::transform(lower.begin(), lower.end(), lower.begin(),
                   [](char c) { return std::tolower(c); });
    const Result<Isa> found = find_isa(lower);
    ASSERT_TRUE(found.ok());
    EXPECT_EQ(found->kernels, isa.kernels);
  }
  const Result<Isa> unknown = find_isa("AVX9");
  ASSERT_FALSE(unknown.ok());
  EXPECT_EQ(unknown.status().code(), StatusCode::kUnsupported);
  EXPECT_NE(unknown.status().message().find("AVX9"), std::string::npos);
  EXPECT_NE(unknown.status().message().find(isas.front().name), std::string::npos);
}

}  // namespace
}  // namespace flashomni::cpu
