// SPDX-License-Identifier: Apache-2.0
#include "reference/linear.h"

#include <gtest/gtest.h>

#include <cmath>

namespace flashomni::reference {
namespace {

using Values = std::vector<double>;

TEST(ReferenceLinear, ByHand) {
  const Values x = {1, 2, 3, 4};           // two rows
  const Values w = {1, 0, 0, 1, 10, 100};  // three outputs
  EXPECT_EQ(linear<double>(2, 2, 3, x, w, {}), (Values{1, 2, 210, 3, 4, 430}));
  EXPECT_EQ(linear<double>(2, 2, 3, x, w, {1, 2, 3}), (Values{2, 4, 213, 4, 6, 433}));
}

TEST(ReferenceLinear, GeluTanh) {
  const Values y = gelu_tanh<double>({0, 1, -1, 30, -30});
  EXPECT_EQ(y[0], 0);
  EXPECT_NEAR(y[1], 0.8411919906082768, 1e-15);
  EXPECT_NEAR(y[2], -0.15880800939172324, 1e-15);
  EXPECT_NEAR(y[3], 30, 1e-15);
  EXPECT_NEAR(y[4], 0, 1e-15);
}

TEST(ReferenceLinear, Silu) {
  const Values y = silu<double>({0, 1, -1, 800, -800});
  EXPECT_EQ(y[0], 0);
  EXPECT_NEAR(y[1], 0.7310585786300049, 1e-15);
  EXPECT_NEAR(y[2], -0.2689414213699951, 1e-15);
  EXPECT_EQ(y[3], 800);
  EXPECT_EQ(y[4], 0);  // exp(800) is infinite: -800 / inf
}

TEST(ReferenceLinear, AddGatedUsesTheGateOfTheBatchItem) {
  const Values residual = {1, 2, 3, 4};  // two batch items of one row
  const Values y = {10, 20, 30, 40};
  EXPECT_EQ(add_gated<double>(2, 1, 2, residual, {1, 2, 3, 4}, y), (Values{11, 42, 93, 164}));
  EXPECT_EQ(add_gated<double>(2, 1, 2, residual, {}, y), (Values{11, 22, 33, 44}));
}

}  // namespace
}  // namespace flashomni::reference
