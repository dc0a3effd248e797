// SPDX-License-Identifier: Apache-2.0
#include "reference/taylor.h"

#include <gtest/gtest.h>

namespace flashomni::reference {
namespace {

using Values = std::vector<double>;
using Factors = std::vector<Values>;

TEST(ReferenceTaylor, FirstUpdateStoresTheFeature) {
  EXPECT_EQ(taylor_update<double>({3, 4}, {}, 1, 1.0), (Factors{{3, 4}}));
}

TEST(ReferenceTaylor, BackwardDifferencesByHand) {
  const Factors old = {{1}, {2}};
  EXPECT_EQ(taylor_update<double>({9}, old, 2, 0.5), (Factors{{9}, {4}}));
  EXPECT_EQ(taylor_update<double>({9}, old, 3, 0.5), (Factors{{9}, {4}, {1}}));
}

TEST(ReferenceTaylor, Coefficients) {
  EXPECT_EQ(taylor_coefficients(4, 3), (Values{1, 3, 4.5, 4.5}));
  EXPECT_EQ(taylor_coefficients(1, 3), (Values{1}));
}

TEST(ReferenceTaylor, ForecastByHand) {
  EXPECT_EQ(taylor_forecast<double>({{1, 2}, {10, 20}}, {1, 3}), (Values{31, 62}));
}

// A feature that is linear in the step is forecast exactly with order 1, whatever the spacing.
TEST(ReferenceTaylor, OrderOneIsExactForLinearFeatures) {
  const auto feature = [](double t) { return Values{2 * t + 5, -t}; };
  Factors factors = taylor_update<double>(feature(3), {}, 1, 1);
  factors = taylor_update<double>(feature(7), factors, 2, 1.0 / 4);
  EXPECT_EQ(taylor_forecast<double>(factors, taylor_coefficients(2, 3)), feature(10));
}

// Order 2 uses the backward first difference as derivative: for t^2 with spacing n the factors are
// t^2, 2t - n and 2, so the forecast is off by n*x. The oracle documents that, it does not fix it.
TEST(ReferenceTaylor, OrderTwoErrorOfAQuadratic) {
  const auto square = [](double t) { return Values{t * t}; };
  const double n = 5;
  Factors factors = taylor_update<double>(square(0), {}, 1, 1);
  factors = taylor_update<double>(square(n), factors, 2, 1 / n);
  factors = taylor_update<double>(square(2 * n), factors, 3, 1 / n);
  EXPECT_NEAR(factors[1][0], 2 * 2 * n - n, 1e-12);
  EXPECT_NEAR(factors[2][0], 2, 1e-12);
  const double x = 3;
  EXPECT_NEAR(taylor_forecast<double>(factors, taylor_coefficients(3, x))[0],
              square(2 * n + x)[0] - n * x, 1e-11);
}

}  // namespace
}  // namespace flashomni::reference
