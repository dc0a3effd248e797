// SPDX-License-Identifier: Apache-2.0
#include "reference/linear.h"

#include <cmath>
#include <cstddef>

namespace flashomni::reference {

template <class Real>
std::vector<Real> linear(int rows, int in_features, int out_features, const std::vector<Real>& x,
                         const std::vector<Real>& weight, const std::vector<Real>& bias) {
  std::vector<Real> y(static_cast<size_t>(rows) * out_features);
  for (int r = 0; r < rows; ++r) {
    for (int o = 0; o < out_features; ++o) {
      const Real* xr = &x[static_cast<size_t>(r) * in_features];
      const Real* wo = &weight[static_cast<size_t>(o) * in_features];
      Real sum = 0;
      for (int i = 0; i < in_features; ++i) sum += xr[i] * wo[i];
      y[static_cast<size_t>(r) * out_features + o] = bias.empty() ? sum : sum + bias[o];
    }
  }
  return y;
}

template <class Real>
std::vector<Real> gelu_tanh(std::vector<Real> x) {
  const Real root = static_cast<Real>(0.79788456080286535588);  // sqrt(2 / pi)
  for (Real& v : x) {
    v = v / 2 * (1 + std::tanh(root * (v + static_cast<Real>(0.044715) * v * v * v)));
  }
  return x;
}

template <class Real>
std::vector<Real> silu(std::vector<Real> x) {
  for (Real& v : x) v = v / (1 + std::exp(-v));
  return x;
}

template <class Real>
std::vector<Real> add_gated(int batch, int rows, int width, std::vector<Real> residual,
                            const std::vector<Real>& gate, const std::vector<Real>& y) {
  for (int b = 0; b < batch; ++b) {
    for (int r = 0; r < rows; ++r) {
      for (int o = 0; o < width; ++o) {
        const size_t at = (static_cast<size_t>(b) * rows + r) * width + o;
        residual[at] += gate.empty() ? y[at] : gate[static_cast<size_t>(b) * width + o] * y[at];
      }
    }
  }
  return residual;
}

#define FO_INSTANTIATE(Real)                                                                       \
  template std::vector<Real> linear(int, int, int, const std::vector<Real>&,                       \
                                    const std::vector<Real>&, const std::vector<Real>&);           \
  template std::vector<Real> gelu_tanh(std::vector<Real>);                                         \
  template std::vector<Real> silu(std::vector<Real>);                                              \
  template std::vector<Real> add_gated(int, int, int, std::vector<Real>, const std::vector<Real>&, \
                                       const std::vector<Real>&);
FO_INSTANTIATE(double)
FO_INSTANTIATE(float)
#undef FO_INSTANTIATE

}  // namespace flashomni::reference
