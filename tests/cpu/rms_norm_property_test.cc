// SPDX-License-Identifier: Apache-2.0
//
// RMSNorm over all heads with RoPE on the CPU: against the oracle, by hand, and what it refuses.
#include <gtest/gtest.h>

#include "tests/testkit/cpu_backends.h"
#include "tests/testkit/rms_norm_case.h"

namespace flashomni::testkit {
namespace {

TEST(RmsNormProperty, MatchesTheOracle) {
  for (uint64_t seed = 320000; seed < 320060; ++seed) {
    const RmsNormCase c = random_rms_norm_case(seed, DType::kF32);
    SCOPED_TRACE(c.text());
    const RmsNormData data = make_data(c);
    EXPECT_TRUE(compare(run(cpu_backend(), c, data), expected_result(c, data)));
    EXPECT_TRUE(same_bits(run(cpu_backend("", 1), c, data), run(cpu_backend(), c, data)));
  }
}

TEST(RmsNormProperty, NormsOverAllHeadsByHand) {
  // Two heads (1, 7) and (1, 7): mean square 25 over both. The second pair turns by 90 degrees.
  const RmsNormCase c{.heads = 2, .head_dim = 2, .eps = 0};
  const RmsNormData data{.x = {1, 7, 1, 7}, .weight = {5, 5, 10, 10}, .cos = {0}, .sin = {1}};
  EXPECT_EQ(run(cpu_backend(), c, data).values, (std::vector<double>{-7, 1, -14, 2}));
}

TEST(RmsNormProperty, ComparisonSeesANormPerHead) {
  const RmsNormCase c{.seed = 1, .tokens = 3, .heads = 4, .head_dim = 8};
  const RmsNormData data = make_data(c);
  RmsNormData scaled = data;  // a norm per head would not notice
  for (size_t i = 0; i < 8; ++i) scaled.x[i] *= 2;
  EXPECT_FALSE(compare(run(cpu_backend(), c, scaled), expected_result(c, data)));
}

TEST(RmsNormProperty, RefusesWrongShapes) {
  Backend& backend = cpu_backend();
  const GuardTensor x(backend, DType::kF32, {1, 2, 2, 4}), odd(backend, DType::kF32, {1, 2, 2, 3});
  const GuardTensor weight(backend, DType::kF32, {8}), half(backend, DType::kF32, {2, 2});
  auto refusal = [&](const RmsNormParams& p) { return backend.rms_norm({}, p).message(); };
  EXPECT_EQ(refusal({.x = odd.view(), .weight = weight.view()}),
            "head_dim is 3, wanted an even number");
  EXPECT_EQ(refusal({.x = x.view(), .weight = half.view()}), "weight is f32[2,2], wanted f32[8]");
  EXPECT_EQ(refusal({.x = x.view(), .weight = weight.view(), .rope = {half.view(), {}}}),
            "rope is cos alone, wanted both or neither");
  EXPECT_EQ(refusal({.x = x.view(), .weight = weight.view(), .rope = {weight.view(), half.view()}}),
            "rope cos is f32[8], wanted f32[2,2]");
}

}  // namespace
}  // namespace flashomni::testkit
