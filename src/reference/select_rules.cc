// SPDX-License-Identifier: Apache-2.0
#include "reference/select_rules.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>

namespace flashomni::reference {
namespace {

template <class Real, class Before>
std::vector<size_t> order_by(const std::vector<Real>& p, Before before) {
  std::vector<size_t> order(p.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return before(p[a], p[b]); });
  return order;
}

template <class Real>
std::vector<size_t> ascending(const std::vector<Real>& p) {
  return order_by(p, [](Real a, Real b) { return a < b; });
}

template <class Real>
std::vector<size_t> descending(const std::vector<Real>& p) {
  return order_by(p, [](Real a, Real b) { return a > b; });
}

}  // namespace

template <class Real>
std::vector<Real> softmax(const std::vector<Real>& x) {
  const Real highest = *std::max_element(x.begin(), x.end());
  std::vector<Real> p(x.size());
  Real sum = 0;
  for (size_t i = 0; i < x.size(); ++i) sum += (p[i] = std::exp(x[i] - highest));
  for (Real& v : p) v /= sum;
  return p;
}

template <class Real>
std::vector<uint8_t> drop_cdf(const std::vector<Real>& p, double theta) {
  std::vector<uint8_t> keep(p.size(), 1);
  const std::vector<size_t> order = ascending(p);
  Real sum = 0;
  for (size_t r = 0; r + 1 < order.size(); ++r) {
    sum += p[order[r]];
    if (!(sum <= static_cast<Real>(theta))) break;
    keep[order[r]] = 0;
  }
  return keep;
}

template <class Real>
std::vector<uint8_t> keep_cdf_lt(const std::vector<Real>& p, double tau) {
  std::vector<uint8_t> keep(p.size(), 0);
  const std::vector<size_t> order = descending(p);
  Real sum = 0;
  for (size_t r = 0; r < order.size(); ++r) {
    sum += p[order[r]];
    if (r > 0 && !(sum <= static_cast<Real>(tau))) break;
    keep[order[r]] = 1;
  }
  return keep;
}

template <class Real>
std::vector<uint8_t> keep_cdf_ge(const std::vector<Real>& p, double tau) {
  std::vector<uint8_t> keep(p.size(), 0);
  const std::vector<size_t> order = descending(p);
  Real earlier = 0;
  for (size_t r = 0; r < order.size(); ++r) {
    if (r > 0 && !(earlier < static_cast<Real>(tau))) break;
    keep[order[r]] = 1;
    earlier += p[order[r]];
  }
  return keep;
}

template <class Real>
std::vector<uint8_t> keep_top_k(const std::vector<Real>& p, int k) {
  std::vector<uint8_t> keep(p.size(), 0);
  const std::vector<size_t> order = descending(p);
  for (size_t r = 0; r < order.size() && static_cast<int>(r) < k; ++r) keep[order[r]] = 1;
  return keep;
}

#define FO_INSTANTIATE(Real)                                                   \
  template std::vector<Real> softmax(const std::vector<Real>&);                \
  template std::vector<uint8_t> drop_cdf(const std::vector<Real>&, double);    \
  template std::vector<uint8_t> keep_cdf_lt(const std::vector<Real>&, double); \
  template std::vector<uint8_t> keep_cdf_ge(const std::vector<Real>&, double); \
  template std::vector<uint8_t> keep_top_k(const std::vector<Real>&, int);
FO_INSTANTIATE(double)
FO_INSTANTIATE(float)
#undef FO_INSTANTIATE

}  // namespace flashomni::reference
