// SPDX-License-Identifier: Apache-2.0
#include "reference/norm.h"

#include <cmath>
#include <cstddef>

namespace flashomni::reference {

template <class Real>
std::vector<Real> norm_modulate(int batch, int rows, int width, const std::vector<Real>& x,
                                const std::vector<Real>& scale, const std::vector<Real>& shift,
                                double eps) {
  std::vector<Real> out(x.size());
  for (int b = 0; b < batch; ++b) {
    for (int r = 0; r < rows; ++r) {
      const size_t row = (static_cast<size_t>(b) * rows + r) * width;
      Real mean = 0;
      for (int i = 0; i < width; ++i) mean += x[row + i];
      mean /= static_cast<Real>(width);
      Real variance = 0;
      for (int i = 0; i < width; ++i) variance += (x[row + i] - mean) * (x[row + i] - mean);
      variance /= static_cast<Real>(width);
      const Real deviation = std::sqrt(variance + static_cast<Real>(eps));
      for (int i = 0; i < width; ++i) {
        const size_t channel = static_cast<size_t>(b) * width + i;
        out[row + i] = (x[row + i] - mean) / deviation * (1 + scale[channel]) + shift[channel];
      }
    }
  }
  return out;
}

template <class Real>
void rms_norm(int n, Real* x, const Real* weight, double eps) {
  Real square = 0;
  for (int i = 0; i < n; ++i) square += x[i] * x[i];
  const Real root = std::sqrt(square / static_cast<Real>(n) + static_cast<Real>(eps));
  for (int i = 0; i < n; ++i) x[i] = x[i] / root * weight[i];
}

#define FO_INSTANTIATE(Real)                                                                   \
  template std::vector<Real> norm_modulate(int, int, int, const std::vector<Real>&,            \
                                           const std::vector<Real>&, const std::vector<Real>&, \
                                           double);                                            \
  template void rms_norm(int, Real*, const Real*, double);
FO_INSTANTIATE(double)
FO_INSTANTIATE(float)
#undef FO_INSTANTIATE

}  // namespace flashomni::reference
