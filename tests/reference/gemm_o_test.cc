// SPDX-License-Identifier: Apache-2.0
#include "reference/gemm_o.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "reference/linear.h"
#include "reference/taylor.h"
#include "tests/reference/random_values.h"

namespace flashomni::reference {
namespace {

using Planes = std::vector<std::vector<double>>;

constexpr int kTokens = 6, kHeads = 3, kHeadDim = 2, kWidth = 5;

GemmOInput<double> whole_sequence() {
  GemmOInput<double> in;
  in.tokens = kTokens;
  in.rows = kTokens;
  in.heads = kHeads;
  in.head_dim = kHeadDim;
  in.width = kWidth;
  in.weight = random_values(1, kWidth * kHeads * kHeadDim);
  in.bias = random_values(2, kWidth);
  return in;
}

// Blocks of two tokens: every mixture of active and cached heads, one block with all heads cached.
BlockMask mixed_mask() {
  BlockMask mask{
      .heads = kHeads, .q_tokens = kTokens, .kv_tokens = kTokens, .block_q = 2, .block_kv = 2};
  mask.c = {1, 0, 0, 1, 1, 0, 0, 1, 0};
  mask.s.assign(kHeads * 9, 1);
  return mask;
}

std::vector<double> features(uint64_t seed) {
  return random_values(seed, kTokens * kHeads * kHeadDim);
}

double max_difference(const std::vector<double>& a, const std::vector<double>& b) {
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(a[i] - b[i]));
  return worst;
}

TEST(ReferenceGemmO, WithoutSymbolsItIsTheLinearLayer) {
  GemmOInput<double> in = whole_sequence();
  in.attn = features(3);
  const std::vector<double> expected =
      linear(kTokens, kHeads * kHeadDim, kWidth, in.attn, in.weight, in.bias);
  EXPECT_LT(max_difference(gemm_o(in), expected), 1e-14);
}

TEST(ReferenceGemmO, MlpPartIsTheConcatenatedLinearLayer) {
  GemmOInput<double> in = whole_sequence();
  in.token_offset = 2;
  in.rows = 3;
  in.mlp_features = 4;
  in.attn = features(3);
  in.mlp = random_values(4, 3 * 4);
  in.weight = random_values(5, kWidth * (kHeads * kHeadDim + 4));
  std::vector<double> concatenated;
  for (int r = 0; r < 3; ++r) {
    const auto attn = in.attn.begin() + (2 + r) * kHeads * kHeadDim;
    concatenated.insert(concatenated.end(), attn, attn + kHeads * kHeadDim);
    concatenated.insert(concatenated.end(), in.mlp.begin() + r * 4, in.mlp.begin() + r * 4 + 4);
  }
  const std::vector<double> expected =
      linear(3, kHeads * kHeadDim + 4, kWidth, concatenated, in.weight, in.bias);
  EXPECT_LT(max_difference(gemm_o(in), expected), 1e-14);
}

TEST(ReferenceGemmO, AllCachedIsThePlaneCombination) {
  GemmOInput<double> in = whole_sequence();
  BlockMask mask = mixed_mask();
  mask.c.assign(mask.c.size(), 0);
  in.mask = &mask;
  in.attn.assign(kTokens * kHeads * kHeadDim, std::nan(""));  // must not be read
  in.planes = {random_values(3, kTokens * kWidth), random_values(4, kTokens * kWidth)};
  in.coefficients = {1, 2.5};
  EXPECT_EQ(gemm_o(in), taylor_forecast(in.planes, in.coefficients));
}

TEST(ReferenceGemmO, CachedAndActivePartsMakeTheDenseProjection) {
  GemmOInput<double> in = whole_sequence();
  in.attn = features(3);
  const std::vector<double> dense = gemm_o(in);

  const BlockMask mask = mixed_mask();
  in.mask = &mask;
  Planes planes(1, std::vector<double>(kTokens * kWidth));
  EXPECT_LT(max_difference(gemm_o_update(in, {in.attn}, planes), dense), 1e-14);
  in.planes = planes;
  in.coefficients = {1};
  EXPECT_LT(max_difference(gemm_o(in), dense), 1e-14);
}

TEST(ReferenceGemmO, UpdateWritesOnlyTheRowsOfItsSegment) {
  GemmOInput<double> in = whole_sequence();
  in.token_offset = 1;
  in.rows = 3;
  const BlockMask mask = mixed_mask();
  in.mask = &mask;
  Planes planes(2, std::vector<double>(kTokens * kWidth, -77));
  gemm_o_update(in, {features(3), features(4)}, planes);
  for (const std::vector<double>& plane : planes) {
    for (int n = 0; n < kTokens; ++n) {
      EXPECT_EQ(plane[n * kWidth] == -77, n < 1 || n >= 4) << "token " << n;
    }
  }
}

// The reason for one plane a Taylor term: forecasting is linear, so planes of the terms combine to
// the projection of the forecast.
TEST(ReferenceGemmO, PlanesCombineToTheProjectionOfTheForecast) {
  GemmOInput<double> in = whole_sequence();
  const BlockMask mask = mixed_mask();
  in.mask = &mask;
  const Planes factors = {features(3), features(4), features(5)};
  Planes planes(3, std::vector<double>(kTokens * kWidth));
  gemm_o_update(in, factors, planes);

  const std::vector<double> x = taylor_coefficients(3, 4);
  std::vector<double> forecast = taylor_forecast(factors, x);
  in.attn = features(6);  // the fresh output of the active tiles
  std::vector<double> mixed = in.attn;
  for (int n = 0; n < kTokens; ++n) {
    for (int h = 0; h < kHeads; ++h) {
      if (mask.computes(0, h, n)) continue;
      const int at = (n * kHeads + h) * kHeadDim;
      std::copy_n(forecast.begin() + at, kHeadDim, mixed.begin() + at);
    }
  }
  const std::vector<double> expected =
      linear(kTokens, kHeads * kHeadDim, kWidth, mixed, in.weight, in.bias);
  in.planes = planes;
  in.coefficients = x;
  EXPECT_LT(max_difference(gemm_o(in), expected), 1e-13);
}

// What must not be done: differencing plane 0 of successive Updates. S_c changes between them, so
// the difference mixes "the feature changed" with "other heads are summed".
TEST(ReferenceGemmO, DifferencingPlaneZeroAcrossUpdatesIsWrong) {
  GemmOInput<double> in = whole_sequence();
  const std::vector<double> before = features(3);
  const std::vector<double> after = features(4);
  const BlockMask new_mask = mixed_mask();
  BlockMask old_mask = new_mask;
  for (uint8_t& bit : old_mask.c) bit = !bit;

  in.mask = &new_mask;
  Planes planes(2, std::vector<double>(kTokens * kWidth));
  const Planes factors = taylor_update(after, {before}, 2, 1.0);
  gemm_o_update(in, factors, planes);

  in.mask = &old_mask;
  Planes old_planes(1, std::vector<double>(kTokens * kWidth));
  gemm_o_update(in, {before}, old_planes);
  std::vector<double> differenced = planes[0];
  for (size_t i = 0; i < differenced.size(); ++i) differenced[i] -= old_planes[0][i];
  EXPECT_GT(max_difference(differenced, planes[1]), 0.5);

  // With frozen symbols the shortcut would be right.
  in.mask = &new_mask;
  gemm_o_update(in, {before}, old_planes);
  for (size_t i = 0; i < differenced.size(); ++i) {
    EXPECT_NEAR(planes[0][i] - old_planes[0][i], planes[1][i], 1e-13);
  }
}

}  // namespace
}  // namespace flashomni::reference
