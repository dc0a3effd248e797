// SPDX-License-Identifier: Apache-2.0
#include "reference/gemm_o.h"

#include <cstddef>

namespace flashomni::reference {
namespace {

// Output channel o of row r: the sum of feature * weight over the heads whose S_c is `wanted`.
template <class Real>
Real project_heads(const GemmOInput<Real>& in, const std::vector<Real>& feature, int b, int r,
                   int o, bool wanted) {
  const int d = in.head_dim;
  const int n = in.token_offset + r;
  const Real* w = &in.weight[static_cast<size_t>(o) * (in.heads * d + in.mlp_features)];
  Real sum = 0;
  for (int h = 0; h < in.heads; ++h) {
    const bool active = !in.mask || in.mask->computes(b, h, n);
    if (active != wanted) continue;
    const Real* f = &feature[((static_cast<size_t>(b) * in.tokens + n) * in.heads + h) * d];
    for (int e = 0; e < d; ++e) sum += f[e] * w[h * d + e];
  }
  return sum;
}

template <class Real>
Real project_mlp(const GemmOInput<Real>& in, int b, int r, int o) {
  const int attn_features = in.heads * in.head_dim;
  const Real* w =
      in.weight.data() + static_cast<size_t>(o) * (attn_features + in.mlp_features) + attn_features;
  Real sum = 0;
  for (int i = 0; i < in.mlp_features; ++i) {
    sum += in.mlp[(static_cast<size_t>(b) * in.rows + r) * in.mlp_features + i] * w[i];
  }
  return sum;
}

// Calls fn(b, r, o, index in [B, M, D], index in [B, N, D]) for every output element.
template <class Real, class F>
void for_each_output(const GemmOInput<Real>& in, const F& fn) {
  for (int b = 0; b < in.batch; ++b) {
    for (int r = 0; r < in.rows; ++r) {
      for (int o = 0; o < in.width; ++o) {
        const size_t token = static_cast<size_t>(b) * in.tokens + in.token_offset + r;
        fn(b, r, o, (static_cast<size_t>(b) * in.rows + r) * in.width + o, token * in.width + o);
      }
    }
  }
}

}  // namespace

template <class Real>
std::vector<Real> gemm_o(const GemmOInput<Real>& in) {
  std::vector<Real> y(static_cast<size_t>(in.batch) * in.rows * in.width);
  for_each_output(in, [&](int b, int r, int o, size_t at, size_t plane_at) {
    Real bias = 0;
    if (in.mask) {
      for (size_t m = 0; m < in.planes.size(); ++m) {
        bias += static_cast<Real>(in.coefficients[m]) * in.planes[m][plane_at];
      }
    } else if (!in.bias.empty()) {
      bias = in.bias[o];
    }
    y[at] = project_heads(in, in.attn, b, r, o, true) + project_mlp(in, b, r, o) + bias;
  });
  return y;
}

template <class Real>
std::vector<Real> gemm_o_update(const GemmOInput<Real>& in,
                                const std::vector<std::vector<Real>>& factors,
                                std::vector<std::vector<Real>>& planes) {
  std::vector<Real> y(static_cast<size_t>(in.batch) * in.rows * in.width);
  for_each_output(in, [&](int b, int r, int o, size_t at, size_t plane_at) {
    for (size_t m = 0; m < factors.size(); ++m) {
      planes[m][plane_at] = project_heads(in, factors[m], b, r, o, false);
    }
    if (!in.bias.empty()) planes[0][plane_at] += in.bias[o];
    y[at] = planes[0][plane_at] + project_heads(in, factors[0], b, r, o, true) +
            project_mlp(in, b, r, o);
  });
  return y;
}

#define FO_INSTANTIATE(Real)                                                      \
  template std::vector<Real> gemm_o(const GemmOInput<Real>&);                     \
  template std::vector<Real> gemm_o_update(const GemmOInput<Real>&,               \
                                           const std::vector<std::vector<Real>>&, \
                                           std::vector<std::vector<Real>>&);
FO_INSTANTIATE(double)
FO_INSTANTIATE(float)
#undef FO_INSTANTIATE

}  // namespace flashomni::reference
