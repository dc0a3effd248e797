// SPDX-License-Identifier: Apache-2.0
#include "reference/select_rules.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "tests/reference/random_values.h"

namespace flashomni::reference {
namespace {

using Values = std::vector<double>;
using Keep = std::vector<uint8_t>;

int kept(const Keep& keep) {
  return static_cast<int>(std::count(keep.begin(), keep.end(), 1));
}

TEST(SelectRules, TheThreeCdfRulesDiffer) {
  const Values p = {.4, .3, .15, .1, .05};
  EXPECT_EQ(kept(drop_cdf(p, .2)), 3);
  EXPECT_EQ(kept(keep_cdf_lt(p, .8)), 2);
  EXPECT_EQ(kept(keep_cdf_ge(p, .8)), 3);
}

TEST(SelectRules, KeepTheRightEntries) {
  const Values p = {.05, .4, .1, .3, .15};
  EXPECT_EQ(drop_cdf(p, .2), (Keep{0, 1, 0, 1, 1}));
  EXPECT_EQ(keep_cdf_lt(p, .8), (Keep{0, 1, 0, 1, 0}));
  EXPECT_EQ(keep_cdf_ge(p, .8), (Keep{0, 1, 0, 1, 1}));
  EXPECT_EQ(keep_top_k(p, 2), (Keep{0, 1, 0, 1, 0}));
}

TEST(SelectRules, EqualityWithTheThreshold) {
  const Values p = {.125, .125, .25, .5};  // every partial sum is exact
  EXPECT_EQ(drop_cdf(p, .25), (Keep{0, 0, 1, 1}));
  EXPECT_EQ(keep_cdf_lt(p, .5), (Keep{0, 0, 0, 1}));
  EXPECT_EQ(keep_cdf_lt(p, .75), (Keep{0, 0, 1, 1}));
  EXPECT_EQ(keep_cdf_ge(p, .5), (Keep{0, 0, 0, 1}));
}

TEST(SelectRules, TiesGoToTheSmallerIndex) {
  const Values p(8, .125);
  EXPECT_EQ(drop_cdf(p, .25), (Keep{0, 0, 1, 1, 1, 1, 1, 1}));
  EXPECT_EQ(keep_cdf_lt(p, .25), (Keep{1, 1, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(keep_cdf_ge(p, .25), (Keep{1, 1, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(keep_top_k(p, 3), (Keep{1, 1, 1, 0, 0, 0, 0, 0}));
}

TEST(SelectRules, SomethingIsAlwaysKept) {
  const Values p = {.2, .5, .3};
  EXPECT_EQ(drop_cdf(p, 5), (Keep{0, 1, 0}));
  EXPECT_EQ(keep_cdf_lt(p, 0), (Keep{0, 1, 0}));
  EXPECT_EQ(keep_cdf_ge(p, 0), (Keep{0, 1, 0}));
  EXPECT_EQ(drop_cdf(Values{1}, 1), (Keep{1}));
  EXPECT_EQ(kept(keep_top_k(p, 0)), 0);  // the one exception: the caller repairs
  EXPECT_EQ(kept(keep_top_k(p, 9)), 3);
}

TEST(SelectRules, ZeroThresholdDropsExactZerosOnly) {
  EXPECT_EQ(drop_cdf(Values{0, .5, 0, .5}, 0), (Keep{0, 1, 0, 1}));
  EXPECT_EQ(drop_cdf(Values{.5, .5}, -1), (Keep{1, 1}));
}

TEST(SelectRules, DroppedAndKeptMassRespectTheThreshold) {
  for (int seed = 0; seed < 50; ++seed) {
    const Values p = softmax(random_values(static_cast<uint64_t>(seed), 40));
    for (double share : {.1, .5, .9}) {
      const auto mass = [&](const Keep& keep) {
        return std::inner_product(p.begin(), p.end(), keep.begin(), 0.0);
      };
      EXPECT_LE(1 - mass(drop_cdf(p, share)), share + 1e-12);
      EXPECT_GE(mass(keep_cdf_ge(p, share)), share - 1e-12);
      const Keep lt = keep_cdf_lt(p, share);
      EXPECT_TRUE(kept(lt) == 1 || mass(lt) <= share + 1e-12);
      // The two ways to say it agree up to the crossing element.
      EXPECT_LE(std::abs(kept(drop_cdf(p, share)) - kept(keep_cdf_ge(p, 1 - share))), 1);
      EXPECT_LE(kept(keep_cdf_ge(p, share)) - kept(lt), 1);
    }
  }
}

TEST(SelectRules, SoftmaxByHand) {
  const Values p = softmax(Values{std::log(1.0), std::log(2.0), std::log(5.0)});
  EXPECT_NEAR(p[0], .125, 1e-15);
  EXPECT_NEAR(p[2], .625, 1e-15);
  const double inf = std::numeric_limits<double>::infinity();
  EXPECT_EQ(softmax(Values{-inf, 3, -inf}), (Values{0, 1, 0}));
}

// Why text scores are summed as logits: a softmax fed with probabilities is nearly flat, since its
// inputs differ by less than 1.
TEST(SelectRules, SoftmaxOfProbabilitiesIsNearlyUniform) {
  Values z = random_values(3, 32);
  for (double& v : z) v *= 3;
  const Values once = softmax(z);
  const Values twice = softmax(once);
  const auto ratio = [](const Values& p) {
    const auto [low, high] = std::minmax_element(p.begin(), p.end());
    return *high / *low;
  };
  EXPECT_GT(ratio(once), 1e3);
  EXPECT_LT(ratio(twice), std::exp(1.0));
}

}  // namespace
}  // namespace flashomni::reference
