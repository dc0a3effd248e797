// SPDX-License-Identifier: Apache-2.0
//
// GEMM-Q of the CPU backend against the oracle: every mixture of bias, RMSNorm and RoPE, weight
// types, segments that start inside a block, and symbols.
#include <gtest/gtest.h>

#include "tests/testkit/cpu_backends.h"
#include "tests/testkit/gemm_q_case.h"

namespace flashomni::testkit {
namespace {

void expect_right(const GemmQCase& c, const std::vector<std::string>& isas) {
  const GemmQData data = make_data(c);
  const Expected truth = make_truth(c, data);
  GemmQData poisoned = data;
  if (c.sparse) poison(c, poisoned);
  for (const std::string& isa : isas) {
    SCOPED_TRACE(c.text() + " isa=" + isa);
    const GemmQOutcome outcome = run(cpu_backend(isa), c, poisoned);
    EXPECT_EQ(outcome.damage, "");
    if (!outcome.status.ok()) {
      EXPECT_NE(c.out_dtype, DType::kF32) << outcome.status.to_string();
      EXPECT_TRUE(names_dtype(outcome.status, c.out_dtype)) << outcome.status.to_string();
      continue;
    }
    EXPECT_TRUE(compare(outcome.out, truth));
  }
}

void expect_right(const GemmQCase& c) {
  expect_right(c, cpu_isas());
  if (bf16_isas().empty()) return;
  GemmQCase narrow = c;
  narrow.x_values = narrow.weight_dtype = DType::kBF16;
  expect_right(narrow, bf16_isas());
}

class GemmQPatterns : public testing::TestWithParam<Pattern> {};

TEST_P(GemmQPatterns, MatchesTheOracle) {
  const uint64_t base = 100000 + 1000 * static_cast<uint64_t>(GetParam());
  for (uint64_t i = 0; i < 12; ++i) expect_right(random_gemm_q_case(base + i, GetParam()));
}

INSTANTIATE_TEST_SUITE_P(All, GemmQPatterns, testing::ValuesIn(kPatterns),
                         [](const auto& p) { return pattern_name(p.param); });

TEST(GemmQProperty, EveryHeadDim) {
  uint64_t seed = 120000;
  for (int d : {2, 4, 6, 8, 10, 12, 16, 40, 64, 72, 80, 96, 128, 130}) {
    GemmQCase c;
    c.seed = ++seed;
    c.geometry = {.heads = 3, .q_tokens = 67, .kv_tokens = 67, .block_q = 32, .block_kv = 32};
    c.token_offset = 5;
    c.rows = 61;
    c.in_features = 37;
    c.head_dim = d;
    c.pattern = Pattern::kBoth;
    expect_right(c);
  }
}

// More rows, features and columns than a task holds at a time; power-of-two strides among them.
TEST(GemmQProperty, LargerThanOneTask) {
  uint64_t seed = 120100;
  for (int in_features : {256, 300, 512}) {
    GemmQCase c;
    c.seed = ++seed;
    c.geometry = {.heads = 5, .q_tokens = 290, .kv_tokens = 290, .block_q = 64, .block_kv = 64};
    c.token_offset = 13;
    c.rows = 270;
    c.in_features = in_features;
    c.head_dim = in_features == 300 ? 72 : 64;
    c.pattern = Pattern::kRandomC;
    c.weight_dtype = DType::kBF16;
    expect_right(c);
  }
}

// More row blocks than bits in a word of symbols, and more heads.
TEST(GemmQProperty, ManyBlocksAndHeads) {
  GemmQCase c;
  c.seed = 120200;
  c.in_features = 7;
  c.head_dim = 4;
  c.pattern = Pattern::kRandomC;
  c.geometry = {.heads = 2, .q_tokens = 2235, .kv_tokens = 2235, .block_q = 32, .block_kv = 32};
  c.token_offset = 40;
  c.rows = 2190;
  expect_right(c);
  c.geometry = {.heads = 70, .q_tokens = 70, .kv_tokens = 70, .block_q = 32, .block_kv = 32};
  c.rows = 30;
  expect_right(c);
}

TEST(GemmQExactness, AllOnesIsDenseBitForBit) {
  for (uint64_t seed = 121000; seed < 121016; ++seed) {
    GemmQCase c = random_gemm_q_case(seed, Pattern::kAllOnes);
    c.out_dtype = DType::kF32;
    const GemmQData data = make_data(c);
    for (const std::string& isa : all_cpu_isas()) {
      SCOPED_TRACE(c.text() + " isa=" + isa);
      c.sparse = false;
      const GemmQOutcome dense = run(cpu_backend(isa), c, data);
      c.sparse = true;
      EXPECT_TRUE(same_bits(run(cpu_backend(isa), c, data).out, dense.out));
    }
  }
}

TEST(GemmQExactness, ThreadCountDoesNotChangeABit) {
  for (uint64_t seed = 122000; seed < 122008; ++seed) {
    GemmQCase c = random_gemm_q_case(seed, Pattern::kRandomC);
    c.out_dtype = DType::kF32;
    const GemmQData data = make_data(c);
    for (const std::string& isa : all_cpu_isas()) {
      SCOPED_TRACE(c.text() + " isa=" + isa);
      const GemmQOutcome one = run(cpu_backend(isa, 1), c, data);
      for (int threads : {2, 4}) {
        EXPECT_TRUE(same_bits(run(cpu_backend(isa, threads), c, data).out, one.out)) << threads;
      }
    }
  }
}

// What the comparison must not let pass.
class GemmQControl : public testing::Test {
 protected:
  GemmQControl() {
    case_.seed = 123000;
    case_.geometry = {
        .batch = 2, .heads = 3, .q_tokens = 150, .kv_tokens = 150, .block_q = 32, .block_kv = 32};
    case_.token_offset = 20;
    case_.rows = 120;
    case_.in_features = 48;
    case_.head_dim = 16;
    case_.pattern = Pattern::kRandomC;
    data_ = make_data(case_);
    truth_ = make_truth(case_, data_);
  }
  testing::AssertionResult check_with(const GemmQData& data) {
    return compare(run(cpu_backend(), case_, data).out, truth_);
  }

  GemmQCase case_;
  GemmQData data_;
  Expected truth_;
};

TEST_F(GemmQControl, TheRightAnswerPasses) {
  EXPECT_TRUE(check_with(data_));
}

TEST_F(GemmQControl, AnyFlippedTileIsCaught) {
  for (int h = 0; h < case_.geometry.heads; ++h) {
    for (int i = 0; i < case_.geometry.num_q_blocks(); ++i) {
      GemmQData wrong = data_;
      wrong.symbols.set_c(1, h, i, !wrong.symbols.c(1, h, i));
      wrong.symbols.repair();
      EXPECT_FALSE(check_with(wrong)) << "S_c[1," << h << "," << i << "]";
    }
  }
}

TEST_F(GemmQControl, AnotherRotationIsCaught) {
  GemmQData wrong = data_;
  for (double& s : wrong.sin) s = -s;
  EXPECT_FALSE(check_with(wrong));
}

TEST_F(GemmQControl, ASegmentOffByOneIsCaught) {
  case_.token_offset += 1;
  EXPECT_FALSE(check_with(data_));
}

TEST_F(GemmQControl, SwappedHeadsAreCaught) {
  GemmQData wrong = data_;
  const std::ptrdiff_t head = case_.head_dim * case_.in_features;
  std::vector<double>& w = wrong.layer.weight;
  std::swap_ranges(w.begin(), w.begin() + head, w.begin() + head);
  EXPECT_FALSE(check_with(wrong));
}

}  // namespace
}  // namespace flashomni::testkit
