// SPDX-License-Identifier: Apache-2.0
#include "reports/number_text.h"

#include <gtest/gtest.h>

#include <cmath>

namespace flashomni {
namespace {

TEST(NumberText, TicksAreRound) {
  EXPECT_EQ(round_ticks(0, 10, 5), (std::vector<double>{0, 2, 4, 6, 8, 10}));
  EXPECT_EQ(round_ticks(27.5, 41.2, 3), (std::vector<double>{30, 35, 40}));
  EXPECT_EQ(round_ticks(-0.3, 0.2, 5).size(), 6u);
  EXPECT_TRUE(round_ticks(1, 1, 5).empty());
}

TEST(NumberText, WhatIsNoNumberIsSaid) {
  EXPECT_EQ(fixed(1.005, 1), "1.0");
  EXPECT_EQ(fixed(INFINITY, 2), "inf");
  EXPECT_EQ(fixed(NAN, 2), "-");
  EXPECT_EQ(percent(0.4125), "41.2 %");
  EXPECT_EQ(mebibytes(size_t(3) << 19), "1.5");
}

}  // namespace
}  // namespace flashomni
