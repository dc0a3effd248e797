// SPDX-License-Identifier: Apache-2.0
//
// The oracle's own scores and selections, by hand.
#include "reference/row_scores.h"

#include <gtest/gtest.h>

#include <cmath>

namespace flashomni::reference {
namespace {

using Bits = std::vector<uint8_t>;

TEST(AntidiagonalMass, PairsReversedQueriesWithKeys) {
  // d = 1, stride 2, four tokens: groups {0,1} and {2,3}. Group 0 reads group 1 with
  // q1 k2 + q0 k3 = 2*3 + 1*4 = 10 and itself with q1 k0 + q0 k1 = 2*1 + 1*0 = 2.
  const std::vector<double> q = {1, 2, 0, 0}, k = {1, 0, 3, 4};
  const auto mass = antidiagonal_mass(4, 1, 2, 2, 2, q, k, 0.1);
  const double a = std::exp(0.2), b = std::exp(1.0);
  EXPECT_NEAR(mass[0], a / (a + b), 1e-12);
  EXPECT_NEAR(mass[1], b / (a + b), 1e-12);
  EXPECT_NEAR(mass[2], 0.5, 1e-12);  // queries of zeros spread evenly
  EXPECT_NEAR(mass[3], 0.5, 1e-12);
}

TEST(AntidiagonalMass, RowsSumToTheirGroups) {
  std::vector<double> q, k;
  for (int i = 0; i < 50 * 3; ++i) {
    q.push_back(std::sin(i));
    k.push_back(std::cos(2 * i));
  }
  const auto mass = antidiagonal_mass(50, 3, 4, 16, 8, q, k, 1);
  double first = 0, last = 0;
  for (int j = 0; j < 7; ++j) {
    first += mass[j];
    last += mass[3 * 7 + j];
  }
  EXPECT_NEAR(first, 4, 1e-12);  // 16 tokens are 4 groups
  EXPECT_NEAR(last, 1, 1e-12);   // tokens 48 and 49 are one
}

TEST(ColumnMass, CountsWhatIsRead) {
  // Two rows; both read column 1 with weight 3/4.
  const ScoreShape shape{.num_q = 2, .num_kv = 2};
  const double z = std::log(3.0);
  const auto mass = column_mass(shape, {0, z, 0, z});
  EXPECT_NEAR(mass[0], 0.5, 1e-12);
  EXPECT_NEAR(mass[1], 1.5, 1e-12);
}

TEST(ColumnMass, FinerKvBlocksAddUp) {
  const ScoreShape shape{.num_q = 1, .num_kv = 2, .block_q = 64, .block_kv = 32};
  EXPECT_NEAR(column_mass(shape, {1, 5})[0], 1.0, 1e-12);
}

TEST(BlockChange, SumsPerHeadAndBlock) {
  // Three tokens, two heads, d = 1, blocks of two.
  const std::vector<double> x = {1, 0, 2, 0, 3, 5}, y = {1, 0, 1, 0, 1, 4};
  EXPECT_EQ(block_change(3, 2, 1, 2, false, x, y), (std::vector<double>{1, 2, 0, 1}));
  EXPECT_EQ(block_change(3, 2, 1, 2, true, x, y), (std::vector<double>{0.5, 2, 0, 0.25}));
}

TEST(SelectRows, DropsTheSmallestShare) {
  EXPECT_EQ(select_rows({4, 3, 1, 2}, 0.31, {}, {}), (Bits{1, 1, 0, 0}));  // .1 + .2
  EXPECT_EQ(select_rows({4, 3, 1, 2}, 0.29, {}, {}), (Bits{1, 1, 0, 1}));
  EXPECT_EQ(select_rows({4, 3, 1, 2}, 1.0, {}, {}), (Bits{1, 0, 0, 0}));  // never the last
  EXPECT_EQ(select_rows({4, 3, 1, 2}, -1.0, {}, {}), (Bits{1, 1, 1, 1}));
  EXPECT_EQ(select_rows({4, 3, 1, 2}, 0.31, {2, 3}, {}), (Bits{1, 1, 1, 0}));
  EXPECT_EQ(select_rows({4, 3, 1, 2}, 0.3, {}, {1, 1, 1, 0}), (Bits{1, 1, 0, 1}));
  EXPECT_EQ(select_rows({4, NAN, 1, -2}, 0.3, {}, {}), (Bits{1, 1, 0, 1}));
  EXPECT_EQ(select_rows({0, 0, 0, 0}, 0.5, {}, {}), (Bits{0, 0, 1, 1}));
}

TEST(SelectKvShare, OneThresholdForTheHead) {
  // Weights (.1, .9) and (.4, .6): half of four entries is k = 2, the second smallest is .4.
  const ScoreShape shape{.num_q = 2, .num_kv = 2};
  const std::vector<double> z = {0, std::log(9.0), 0, std::log(1.5)};
  EXPECT_EQ(select_kv_share(shape, z, 0.5, {}, {}, {1, 1}), (Bits{0, 1, 1, 1}));
  EXPECT_EQ(select_kv_share(shape, z, 0.75, {}, {}, {1, 1}), (Bits{0, 1, 0, 1}));
  EXPECT_EQ(select_kv_share(shape, z, 0.0, {}, {}, {1, 1}), (Bits{1, 1, 1, 1}));
  // All four: only the largest stays, and the empty row gets its diagonal.
  EXPECT_EQ(select_kv_share(shape, z, 1.0, {}, {}, {1, 1}), (Bits{0, 1, 0, 1}));
  EXPECT_EQ(select_kv_share(shape, z, 1.0, {0, 1}, {}, {1, 0}), (Bits{1, 1, 0, 0}));
}

TEST(BestPattern, HasTheMostMass) {
  const ScoreShape shape{.num_q = 2, .num_kv = 2};
  const Bits diagonal = {1, 0, 0, 1}, anti = {0, 1, 1, 0};
  EXPECT_EQ(best_pattern(shape, {3, 0, 1, 0}, {}, {diagonal, anti}, {1, 1}), 0);
  EXPECT_EQ(best_pattern(shape, {3, 0, 1, 0}, {0, 1}, {diagonal, anti}, {1, 1}), 1);
  EXPECT_EQ(best_pattern(shape, {0, 0, 0, 0}, {}, {diagonal, anti}, {1, 1}), 0);
}

}  // namespace
}  // namespace flashomni::reference
