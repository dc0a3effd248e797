// SPDX-License-Identifier: Apache-2.0
#include "reference/gemm_q.h"

#include <algorithm>

#include "reference/linear.h"
#include "reference/norm.h"

namespace flashomni::reference {

template <class Real>
void rotate_pairs(int head_dim, Real* x, const Real* cos, const Real* sin) {
  for (int k = 0; k < head_dim / 2; ++k) {
    const Real even = x[2 * k];
    const Real odd = x[2 * k + 1];
    x[2 * k] = even * cos[k] - odd * sin[k];
    x[2 * k + 1] = odd * cos[k] + even * sin[k];
  }
}

template <class Real>
void gemm_q(const GemmQInput<Real>& in, std::vector<Real>& out) {
  const int d = in.head_dim;
  std::vector<Real> y =
      linear(in.batch * in.rows, in.in_features, in.heads * d, in.x, in.weight, in.bias);
  for (int b = 0; b < in.batch; ++b) {
    for (int r = 0; r < in.rows; ++r) {
      const int n = in.token_offset + r;
      for (int h = 0; h < in.heads; ++h) {
        if (in.mask && !in.mask->computes(b, h, n)) continue;
        Real* tile_row = &y[((static_cast<size_t>(b) * in.rows + r) * in.heads + h) * d];
        if (!in.rms_weight.empty()) rms_norm(d, tile_row, in.rms_weight.data(), in.rms_eps);
        if (!in.rope_cos.empty()) {
          const size_t angle = static_cast<size_t>(n) * (d / 2);
          rotate_pairs(d, tile_row, &in.rope_cos[angle], &in.rope_sin[angle]);
        }
        const size_t at = ((static_cast<size_t>(b) * in.tokens + n) * in.heads + h) * d;
        std::copy(tile_row, tile_row + d, out.begin() + static_cast<std::ptrdiff_t>(at));
      }
    }
  }
}

#define FO_INSTANTIATE(Real)                                        \
  template void rotate_pairs(int, Real*, const Real*, const Real*); \
  template void gemm_q(const GemmQInput<Real>&, std::vector<Real>&);
FO_INSTANTIATE(double)
FO_INSTANTIATE(float)
#undef FO_INSTANTIATE

}  // namespace flashomni::reference
