// SPDX-License-Identifier: Apache-2.0
//
// GEMM-O of the CPU backend, dispatch and update form, against the oracle: with and without the mlp
// part, output, residual and gate, up to four bias planes, and segments that start inside a block.
#include <gtest/gtest.h>

#include "tests/testkit/cpu_backends.h"
#include "tests/testkit/gemm_o_case.h"

namespace flashomni::testkit {
namespace {

void expect_right(const GemmOCase& c, const std::vector<std::string>& isas) {
  const GemmOData data = make_data(c);
  const GemmOTruth truth = make_truth(c, data);
  GemmOData poisoned = data;
  poison(c, poisoned);
  for (const std::string& isa : isas) {
    SCOPED_TRACE(c.text() + " isa=" + isa);
    const GemmOOutcome outcome = run(cpu_backend(isa), c, poisoned);
    EXPECT_TRUE(outcome.status.ok()) << outcome.status.to_string();
    EXPECT_EQ(outcome.damage, "");
    EXPECT_TRUE(check(outcome, truth));
  }
}

void expect_right(const GemmOCase& c) {
  expect_right(c, cpu_isas());
  if (bf16_isas().empty() || c.head_dim % 2 != 0) return;
  GemmOCase narrow = c;
  narrow.values = narrow.weight_dtype = DType::kBF16;
  expect_right(narrow, bf16_isas());
}

GemmOCase random_update_case(uint64_t seed, Pattern pattern) {
  GemmOCase c = random_gemm_o_case(seed, pattern);
  c.update = c.sparse = true;
  return c;
}

class GemmOPatterns : public testing::TestWithParam<Pattern> {};

TEST_P(GemmOPatterns, DispatchMatchesTheOracle) {
  const uint64_t base = 200000 + 1000 * static_cast<uint64_t>(GetParam());
  for (uint64_t i = 0; i < 12; ++i) expect_right(random_gemm_o_case(base + i, GetParam()));
}

TEST_P(GemmOPatterns, UpdateMatchesTheOracle) {
  const uint64_t base = 220000 + 1000 * static_cast<uint64_t>(GetParam());
  for (uint64_t i = 0; i < 8; ++i) expect_right(random_update_case(base + i, GetParam()));
}

INSTANTIATE_TEST_SUITE_P(All, GemmOPatterns, testing::ValuesIn(kPatterns),
                         [](const auto& p) { return pattern_name(p.param); });

// More rows, features and columns than a task holds at a time; power-of-two strides among them.
TEST(GemmOProperty, LargerThanOneTask) {
  uint64_t seed = 230000;
  for (int head_dim : {64, 72}) {
    for (bool update : {false, true}) {
      GemmOCase c;
      c.seed = ++seed;
      c.update = update;
      c.geometry = {.heads = 8, .q_tokens = 290, .kv_tokens = 290, .block_q = 64, .block_kv = 64};
      c.token_offset = 13;
      c.rows = 270;
      c.head_dim = head_dim;
      c.mlp_features = 4 * head_dim;
      c.width = head_dim == 64 ? 256 : 290;
      c.num_planes = 2;
      c.pattern = Pattern::kRandomC;
      c.weight_dtype = DType::kBF16;
      expect_right(c);
    }
  }
}

TEST(GemmOProperty, ProductsInBf16RefuseOddHeads) {
  if (bf16_isas().empty()) GTEST_SKIP() << "no AMX on this machine";
  GemmOCase c;
  c.seed = 230050;
  c.geometry = {.heads = 2, .q_tokens = 40, .kv_tokens = 40, .block_q = 32, .block_kv = 32};
  c.rows = 40;
  c.head_dim = 5;
  c.width = 32;
  const Status status = run(cpu_backend("AMX"), c, make_data(c)).status;
  EXPECT_EQ(status.code(), StatusCode::kUnsupported);
  EXPECT_NE(status.message().find("head_dim is 5, wanted an even one"), std::string::npos);
}

// More row blocks than bits in a word of symbols, and more heads.
TEST(GemmOProperty, ManyBlocksAndHeads) {
  for (bool update : {false, true}) {
    GemmOCase c;
    c.seed = 231000 + update;
    c.update = update;
    c.head_dim = 4;
    c.width = 9;
    c.num_planes = 2;
    c.pattern = Pattern::kRandomC;
    c.geometry = {.heads = 2, .q_tokens = 2235, .kv_tokens = 2235, .block_q = 32, .block_kv = 32};
    c.token_offset = 40;
    c.rows = 2190;
    expect_right(c);
    c.geometry = {.heads = 150, .q_tokens = 70, .kv_tokens = 70, .block_q = 32, .block_kv = 32};
    c.rows = 30;
    expect_right(c);
  }
}

// With all heads active the bias planes are b and nothing else, and b is added as densely.
TEST(GemmOExactness, AllOnesIsDenseBitForBit) {
  for (uint64_t seed = 240000; seed < 240016; ++seed) {
    GemmOCase c = random_gemm_o_case(seed, Pattern::kAllOnes);
    c.num_planes = 1;
    c.bias = true;
    GemmOData data = make_data(c);
    for (size_t i = 0; i < data.planes[0].size(); ++i) {
      data.planes[0][i] = data.layer.bias[i % data.layer.bias.size()];
    }
    for (const std::string& isa : all_cpu_isas()) {
      SCOPED_TRACE(c.text() + " isa=" + isa);
      c.sparse = false;
      const GemmOOutcome dense = run(cpu_backend(isa), c, data);
      c.sparse = true;
      const GemmOOutcome sparse = run(cpu_backend(isa), c, data);
      EXPECT_TRUE(same_bits(sparse.out, dense.out));
      EXPECT_TRUE(same_bits(sparse.residual, dense.residual));
    }
  }
}

// With all heads cached, a single plane comes out as it is, and several come out as their sum: the
// planes here are small integers and the coefficients halves, so that every order of adding, fused
// or not, gives the same bits.
TEST(GemmOExactness, AllCachedIsThePlaneCombination) {
  for (uint64_t seed = 241000; seed < 241016; ++seed) {
    GemmOCase c = random_gemm_o_case(seed, Pattern::kAllCached);
    c.mlp_features = 0;
    c.out = true;
    c.residual = c.gate = false;
    GemmOData data = make_data(c);
    if (c.num_planes > 1) {
      Rng rng(seed);
      for (auto& plane : data.planes) {
        for (double& v : plane) v = rng.range(-100, 100);
      }
      for (double& x : data.coefficients) x = 0.5 * rng.range(-4, 4);
    }
    GemmOTruth truth = make_truth(c, data);
    std::fill(truth.out.allowed.begin(), truth.out.allowed.end(), 0.0);
    poison(c, data);
    for (const std::string& isa : all_cpu_isas()) {
      SCOPED_TRACE(c.text() + " isa=" + isa);
      EXPECT_TRUE(check(run(cpu_backend(isa), c, data), truth));
    }
  }
}

TEST(GemmOExactness, ThreadCountDoesNotChangeABit) {
  for (uint64_t seed = 242000; seed < 242012; ++seed) {
    GemmOCase c = random_gemm_o_case(seed, Pattern::kRandomC);
    c.update = seed % 2 == 0;
    const GemmOData data = make_data(c);
    for (const std::string& isa : all_cpu_isas()) {
      SCOPED_TRACE(c.text() + " isa=" + isa);
      const GemmOOutcome one = run(cpu_backend(isa, 1), c, data);
      for (int threads : {2, 4}) {
        const GemmOOutcome more = run(cpu_backend(isa, threads), c, data);
        EXPECT_TRUE(same_bits(more.out, one.out)) << threads << " threads";
        EXPECT_TRUE(same_bits(more.residual, one.residual)) << threads << " threads";
        for (size_t m = 0; m < one.planes.size(); ++m) {
          EXPECT_TRUE(same_bits(more.planes[m], one.planes[m])) << threads << " threads";
        }
      }
    }
  }
}

// The point of the update form: its planes, combined, are the projection of the forecast features.
TEST(GemmOUpdate, PlanesCombineToTheProjectionOfTheForecast) {
  for (uint64_t seed = 243000; seed < 243010; ++seed) {
    GemmOCase c = random_update_case(seed, Pattern::kAllCached);
    c.mlp_features = 0;
    c.token_offset = 0;
    c.rows = c.geometry.q_tokens;
    GemmOData data = make_data(c);
    Rng rng(seed);
    for (auto& factor : data.factors) {  // without outliers: 1e-5 is for values of the order of 1
      factor = rounded_to(DType::kF32, normal_values(rng, static_cast<int64_t>(factor.size())));
    }

    GemmOData forecast = data;
    forecast.factors[0] = reference::taylor_forecast(data.factors, data.coefficients);
    GemmOCase dense = c;
    dense.update = dense.sparse = false;
    dense.residual = dense.gate = false;
    dense.out = true;
    const Expected projected = make_truth(dense, forecast).out;

    for (const std::string& isa : cpu_isas()) {
      SCOPED_TRACE(c.text() + " isa=" + isa);
      const GemmOOutcome outcome = run(cpu_backend(isa), c, data);
      ASSERT_EQ(outcome.planes.size(), data.factors.size());
      double scale = 0;
      for (double x : data.coefficients) scale += std::abs(x);
      for (size_t i = 0; i < projected.values.size(); ++i) {
        double combined = 0;
        for (size_t m = 0; m < outcome.planes.size(); ++m) {
          combined += data.coefficients[m] * outcome.planes[m].values[i];
        }
        ASSERT_NEAR(combined, projected.values[i], 1e-5 * scale) << i;
      }
    }
  }
}

// What the comparison must not let pass.
class GemmOControl : public testing::TestWithParam<bool> {
 protected:
  GemmOControl() {
    case_.seed = 244000;
    case_.update = GetParam();
    case_.geometry = {
        .batch = 2, .heads = 3, .q_tokens = 150, .kv_tokens = 150, .block_q = 32, .block_kv = 32};
    case_.token_offset = 20;
    case_.rows = 120;
    case_.head_dim = 16;
    case_.mlp_features = 24;
    case_.width = 33;
    case_.residual = case_.gate = true;
    case_.num_planes = 3;
    case_.pattern = Pattern::kRandomC;
    data_ = make_data(case_);
    truth_ = make_truth(case_, data_);
  }
  testing::AssertionResult check_with(const GemmOData& data) {
    return check(run(cpu_backend(), case_, data), truth_);
  }

  GemmOCase case_;
  GemmOData data_;
  GemmOTruth truth_;
};

TEST_P(GemmOControl, TheRightAnswerPasses) {
  EXPECT_TRUE(check_with(data_));
}

TEST_P(GemmOControl, AnyFlippedTileIsCaught) {
  for (int h = 0; h < case_.geometry.heads; ++h) {
    for (int i = 0; i < case_.geometry.num_q_blocks(); ++i) {
      GemmOData wrong = data_;
      wrong.symbols.set_c(1, h, i, !wrong.symbols.c(1, h, i));
      wrong.symbols.repair();
      EXPECT_FALSE(check_with(wrong)) << "S_c[1," << h << "," << i << "]";
    }
  }
}

TEST_P(GemmOControl, SwappedRowBlocksAreCaught) {
  GemmOData wrong = data_;
  std::vector<double>& attn = wrong.factors[0];
  const std::ptrdiff_t block = 32 * case_.geometry.heads * case_.head_dim;
  std::swap_ranges(attn.begin() + block, attn.begin() + 2 * block, attn.begin() + 2 * block);
  EXPECT_FALSE(check_with(wrong));
}

TEST_P(GemmOControl, SwappedTermsAreCaught) {
  GemmOData wrong = data_;
  std::swap(wrong.factors[1], wrong.factors[2]);
  std::swap(wrong.planes[1], wrong.planes[2]);
  EXPECT_FALSE(check_with(wrong));
}

TEST_P(GemmOControl, AWrongCoefficientIsCaught) {
  if (case_.update) return;  // that form has no coefficients
  GemmOData wrong = data_;
  wrong.coefficients[2] *= 1.001;
  EXPECT_FALSE(check_with(wrong));
}

INSTANTIATE_TEST_SUITE_P(Forms, GemmOControl, testing::Bool(),
                         [](const auto& p) { return p.param ? "update" : "dispatch"; });

}  // namespace
}  // namespace flashomni::testkit
