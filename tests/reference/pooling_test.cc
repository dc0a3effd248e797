// SPDX-License-Identifier: Apache-2.0
#include "reference/pooling.h"

#include <gtest/gtest.h>

#include <cmath>

#include "reference/select_rules.h"
#include "tests/reference/random_values.h"

namespace flashomni::reference {
namespace {

using Values = std::vector<double>;

TEST(ReferencePooling, RaggedLastBlockIsDividedByItsOwnCount) {
  // Five tokens of one channel in blocks of two.
  const PoolOutput<double> out = pool<double>(1, 5, 1, 1, 2, {1, 3, 5, 7, 9}, {});
  EXPECT_EQ(out.mean, (Values{2, 6, 9}));
  EXPECT_EQ(token_mean<double>(1, 5, 1, 1, {1, 3, 5, 7, 9}), (Values{5}));
}

TEST(ReferencePooling, HeadsAndBatchItemsAreSeparate) {
  // [B=2, N=2, H=2, d=1]
  const Values x = {1, 10, 3, 30, 5, 50, 7, 70};
  EXPECT_EQ(token_mean<double>(2, 2, 2, 1, x), (Values{2, 20, 6, 60}));
  EXPECT_EQ(pool<double>(2, 2, 2, 1, 2, x, {}).mean, (Values{2, 20, 6, 60}));
  EXPECT_EQ(pool<double>(2, 2, 2, 1, 2, x, {1, 2, 3, 4}).mean, (Values{1, 18, 3, 56}));
}

TEST(ReferencePooling, SimilarityByHand) {
  // Directions (1,0) and (0,1): the mean unit vector is (1/2, 1/2), length^2 1/2.
  EXPECT_NEAR(pool<double>(1, 2, 1, 2, 2, {5, 0, 0, 3}, {}).similarity[0], 0.5, 1e-15);
  // Same direction, whatever the lengths.
  EXPECT_NEAR(pool<double>(1, 2, 1, 2, 2, {1, 1, 9, 9}, {}).similarity[0], 1, 1e-15);
  // Opposite directions, and a zero token next to another one.
  EXPECT_NEAR(pool<double>(1, 2, 1, 2, 2, {1, 1, -2, -2}, {}).similarity[0], 0, 1e-15);
  EXPECT_NEAR(pool<double>(1, 2, 1, 2, 2, {0, 0, 3, 4}, {}).similarity[0], 0.25, 1e-15);
}

TEST(ReferencePooling, SimilarityIsTheMeanOfAllPairwiseCosines) {
  constexpr int kTokens = 7, kDim = 6;
  const Values x = random_values(1, kTokens * kDim);
  double gram = 0;
  for (int a = 0; a < kTokens; ++a) {
    for (int b = 0; b < kTokens; ++b) {
      double dot = 0, aa = 0, bb = 0;
      for (int e = 0; e < kDim; ++e) {
        dot += x[a * kDim + e] * x[b * kDim + e];
        aa += x[a * kDim + e] * x[a * kDim + e];
        bb += x[b * kDim + e] * x[b * kDim + e];
      }
      gram += dot / std::sqrt(aa * bb);
    }
  }
  const PoolOutput<double> out = pool<double>(1, kTokens, 1, kDim, 64, x, {});
  EXPECT_NEAR(out.similarity[0], gram / (kTokens * kTokens), 1e-12);
}

TEST(ReferencePooling, BlockScoresByHand) {
  const Values q = {1, 2, 3, 4};
  const Values k = {1, 0, 0, 1, 1, 1};
  EXPECT_EQ(block_scores<double>(1, 2, 3, 2, q, k, 1), (Values{1, 2, 3, 3, 4, 7}));
  EXPECT_NEAR(block_scores<double>(1, 2, 3, 2, q, k, 0)[5], 7 / std::sqrt(2.0), 1e-15);
}

// Subtracting the key mean changes every score of a query row by the same amount: the softmax over
// keys stays, while a sum of scores over rows does change from column to column.
TEST(ReferencePooling, KeySmoothingLeavesRowSoftmaxUnchanged) {
  constexpr int kTokens = 24, kBlock = 4, kDim = 8, kBlocks = kTokens / kBlock;
  const Values q = random_values(1, kTokens * kDim);
  Values k = random_values(2, kTokens * kDim);
  for (size_t i = 0; i < k.size(); ++i) k[i] += 3.0 * static_cast<double>(i % kDim);
  const Values pooled_q = pool<double>(1, kTokens, 1, kDim, kBlock, q, {}).mean;
  const Values mean = token_mean<double>(1, kTokens, 1, kDim, k);
  const Values plain =
      block_scores<double>(1, kBlocks, kBlocks, kDim, pooled_q,
                           pool<double>(1, kTokens, 1, kDim, kBlock, k, {}).mean, 0);
  const Values smooth =
      block_scores<double>(1, kBlocks, kBlocks, kDim, pooled_q,
                           pool<double>(1, kTokens, 1, kDim, kBlock, k, mean).mean, 0);
  double largest_row_sum_change = 0;
  for (int i = 0; i < kBlocks; ++i) {
    const Values a =
        softmax(Values(plain.begin() + i * kBlocks, plain.begin() + (i + 1) * kBlocks));
    const Values b =
        softmax(Values(smooth.begin() + i * kBlocks, smooth.begin() + (i + 1) * kBlocks));
    double sum_a = 0, sum_b = 0;
    for (int j = 0; j < kBlocks; ++j) {
      EXPECT_NEAR(a[j], b[j], 1e-12);
      sum_a += plain[i * kBlocks + j];
      sum_b += smooth[i * kBlocks + j];
    }
    largest_row_sum_change = std::max(largest_row_sum_change, std::abs(sum_a - sum_b));
  }
  EXPECT_GT(largest_row_sum_change, 1);
}

// Six tokens of one channel: blocks of their own length average what they hold.
TEST(ReferencePooling, RaggedBlocksByHand) {
  const std::vector<double> x = {1, 2, 3, 10, 20, -6};
  const auto pooled = pool<double>(1, 6, 1, 1, {0, 1, 4, 6}, x, {});
  EXPECT_EQ(pooled.mean, (std::vector<double>{1, 5, 7}));
  // Unit vectors are signs: all alike, or one against the other.
  EXPECT_EQ(pooled.similarity, (std::vector<double>{1, 1, 0}));
}

}  // namespace
}  // namespace flashomni::reference
