// SPDX-License-Identifier: Apache-2.0
//
// The Taylor feature cache (TaylorSeer): factors by backward differences at Update steps, a
// polynomial in the number of steps since then at Dispatch steps.
#pragma once

#include <vector>

namespace flashomni::reference {

// From the fresh feature F and the old factors P_0 .. P_{count-2}:
//   F_0 = F,  F_{i+1} = (F_i - P_i) * inv_distance   for i + 1 < count.
// Returns F_0 .. F_{count-1}; further old factors are not read.
template <class Real>
std::vector<std::vector<Real>> taylor_update(const std::vector<Real>& feature,
                                             const std::vector<std::vector<Real>>& old_factors,
                                             int count, double inv_distance);

// sum_m coefficients[m] * factors[m], over as many terms as there are coefficients.
template <class Real>
std::vector<Real> taylor_forecast(const std::vector<std::vector<Real>>& factors,
                                  const std::vector<double>& coefficients);

// x^m / m! for m = 0 .. count-1, x in steps since the Update.
std::vector<double> taylor_coefficients(int count, double x);

}  // namespace flashomni::reference
