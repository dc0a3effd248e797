// SPDX-License-Identifier: Apache-2.0
#include "reference/norm.h"

#include <gtest/gtest.h>

#include <cmath>

namespace flashomni::reference {
namespace {

using Values = std::vector<double>;

TEST(ReferenceNorm, ModulatedLayerNormByHand) {
  // Row (1, 3): mean 2, variance 1. With eps 3 the deviation is 2.
  const Values y = norm_modulate<double>(1, 1, 2, {1, 3}, {1, 0}, {0, 5}, 3);
  EXPECT_NEAR(y[0], -0.5 * 2, 1e-15);
  EXPECT_NEAR(y[1], 0.5 + 5, 1e-15);
}

TEST(ReferenceNorm, ModulationBelongsToTheBatchItem) {
  const Values y = norm_modulate<double>(2, 1, 2, {-1, 1, -1, 1}, {0, 0, 1, 1}, {0, 0, 7, 7}, 0);
  EXPECT_EQ(y, (Values{-1, 1, 5, 9}));
}

TEST(ReferenceNorm, ConstantRowIsTheShift) {
  EXPECT_EQ(norm_modulate<double>(1, 1, 3, {4, 4, 4}, {1, 2, 3}, {5, 6, 7}, 1e-6),
            (Values{5, 6, 7}));
}

TEST(ReferenceNorm, RmsNormByHand) {
  Values x = {1, 7};  // mean square 25
  const Values weight = {10, 100};
  rms_norm(2, x.data(), weight.data(), 0.0);
  EXPECT_NEAR(x[0], 2, 1e-15);
  EXPECT_NEAR(x[1], 140, 1e-13);
  Values zero = {0, 0};
  rms_norm(2, zero.data(), weight.data(), 1e-6);
  EXPECT_EQ(zero, (Values{0, 0}));
}

}  // namespace
}  // namespace flashomni::reference
