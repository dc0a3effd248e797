// SPDX-License-Identifier: Apache-2.0
//
// The comparison that every backend test trusts, itself under test.
#include "tests/testkit/compare.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/half.h"
#include "tests/testkit/tolerances.h"

namespace flashomni::testkit {
namespace {

const double kNaN = std::numeric_limits<double>::quiet_NaN();
const double kInf = std::numeric_limits<double>::infinity();
constexpr uint64_t kUntouched = 0xabc;

Output output(const std::vector<double>& values) {
  Output out{{static_cast<int64_t>(values.size())}, values, {}, kUntouched};
  for (double v : values) out.bits.push_back(std::isnan(v) ? kUntouched : 1);
  return out;
}

TEST(Compare, BoundsAreInclusiveAndPerElement) {
  const Expected expected{{1, 100}, {0.5, 2}};
  EXPECT_TRUE(compare(output({1.5, 98}), expected));
  EXPECT_FALSE(compare(output({1.75, 100}), expected));
  EXPECT_FALSE(compare(output({1, 103}), expected));
}

TEST(Compare, NamesTheWorstElement) {
  Output ours = output({1, 1, 1, 1, 1, 7});
  ours.shape = {2, 3};
  const std::string message =
      compare(ours, {{1, 1, 1.5, 1, 1, 5}, {1e-3, 1e-3, 1e-3, 1e-3, 1e-3, 1e-3}}).message();
  EXPECT_NE(message.find("2 of 6"), std::string::npos) << message;
  EXPECT_NE(message.find("[1,2]: 7, wanted 5"), std::string::npos) << message;
}

TEST(Compare, NanMeansUntouchedToTheBit) {
  const Expected expected{{1, kNaN}, {1, 0}};
  EXPECT_TRUE(compare(output({1, kNaN}), expected));
  EXPECT_FALSE(compare(output({1, 3}), expected));
  Output other_nan = output({1, kNaN});
  other_nan.bits[1] = 0xdef;
  EXPECT_FALSE(compare(other_nan, expected));
}

TEST(Compare, NanAndInfinityAreNeverWithinABound) {
  const Expected expected{{1, 2}, {1e300, 1e300}};
  EXPECT_FALSE(compare(output({1, kNaN}), expected));
  EXPECT_FALSE(compare(output({kInf, 2}), expected));
  EXPECT_TRUE(compare(output({-kInf, 2}), {{-kInf, 2}, {0, 0}}));
  EXPECT_FALSE(compare(output({kInf, 2}), {{-kInf, 2}, {0, 0}}));
}

TEST(Compare, SizesMustAgree) {
  EXPECT_FALSE(compare(output({1}), {{1, 2}, {1, 1}}));
  EXPECT_TRUE(compare(Output{}, Expected{}));
}

TEST(Compare, BoundsFollowTheNaiveErrorOfTheRow) {
  const Expected e = within({1, 1, 10, 10}, {.naive = {1, 1.25, 10, 10}, .row = 2});
  EXPECT_NEAR(e.allowed[0], kNaiveFactor * 0.25, 1e-6);
  EXPECT_NEAR(e.allowed[1], kNaiveFactor * 0.25, 1e-6);
  EXPECT_LT(e.allowed[2], 1e-6);  // the other row's naive run was exact
  EXPECT_GT(e.allowed[2], 0);     // but the last rounding may go either way
}

TEST(Compare, SlackFollowsTheMagnitude) {
  const Expected e = within({0}, {.naive = {0}, .magnitude = {1000}, .slack = 4});
  EXPECT_NEAR(e.allowed[0], 4000 * 0x1p-24, 1e-9);
}

TEST(Compare, SameBits) {
  EXPECT_TRUE(same_bits(output({1, 2}), output({1, 2})));
  Output other = output({1, 2});
  other.bits[1] ^= 1;
  EXPECT_FALSE(same_bits(other, output({1, 2})));
}

TEST(Compare, RoundingToHalfPrecision) {
  EXPECT_EQ(rounded_to(DType::kBF16, {1 + 0x1p-8, 3}), (std::vector<double>{1, 3}));
  EXPECT_EQ(rounded_to(DType::kF16, {1 + 0x1p-11, 1 + 0x1p-10}),
            (std::vector<double>{1, 1 + 0x1p-10}));
}

}  // namespace
}  // namespace flashomni::testkit
