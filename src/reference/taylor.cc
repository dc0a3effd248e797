// SPDX-License-Identifier: Apache-2.0
#include "reference/taylor.h"

#include <cstddef>

namespace flashomni::reference {

template <class Real>
std::vector<std::vector<Real>> taylor_update(const std::vector<Real>& feature,
                                             const std::vector<std::vector<Real>>& old_factors,
                                             int count, double inv_distance) {
  std::vector<std::vector<Real>> factors = {feature};
  for (int i = 0; i + 1 < count; ++i) {
    std::vector<Real> next(feature.size());
    for (size_t n = 0; n < feature.size(); ++n) {
      next[n] = (factors[i][n] - old_factors[i][n]) * static_cast<Real>(inv_distance);
    }
    factors.push_back(next);
  }
  return factors;
}

template <class Real>
std::vector<Real> taylor_forecast(const std::vector<std::vector<Real>>& factors,
                                  const std::vector<double>& coefficients) {
  std::vector<Real> sum(factors.at(0).size(), Real{0});
  for (size_t m = 0; m < coefficients.size(); ++m) {
    for (size_t n = 0; n < sum.size(); ++n) {
      sum[n] += static_cast<Real>(coefficients[m]) * factors[m][n];
    }
  }
  return sum;
}

std::vector<double> taylor_coefficients(int count, double x) {
  std::vector<double> coefficients;
  double term = 1;
  for (int m = 0; m < count; ++m) {
    coefficients.push_back(term);
    term *= x / (m + 1);
  }
  return coefficients;
}

#define FO_INSTANTIATE(Real)                                                         \
  template std::vector<std::vector<Real>> taylor_update(                             \
      const std::vector<Real>&, const std::vector<std::vector<Real>>&, int, double); \
  template std::vector<Real> taylor_forecast(const std::vector<std::vector<Real>>&,  \
                                             const std::vector<double>&);
FO_INSTANTIATE(double)
FO_INSTANTIATE(float)
#undef FO_INSTANTIATE

}  // namespace flashomni::reference
