// SPDX-License-Identifier: Apache-2.0
#include "reference/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace flashomni::reference {
namespace {

// One query token against all key/value tokens of its head; writes d values, returns the LSE.
template <class Real>
Real attend_row(const AttentionInput<Real>& in, int b, int h, int n, Real* out) {
  const int d = in.head_dim;
  const Real scale = static_cast<Real>(in.scale != 0 ? in.scale : 1 / std::sqrt(double(d)));
  const auto kv_row = [&](int m) {
    return ((static_cast<size_t>(b) * in.kv_tokens + m) * in.heads + h) * d;
  };
  const Real* q = &in.q[((static_cast<size_t>(b) * in.q_tokens + n) * in.heads + h) * d];

  std::vector<int> visible;
  std::vector<Real> score;
  for (int m = 0; m < in.kv_tokens; ++m) {
    if (in.mask && !in.mask->attends(b, h, n, m)) continue;
    Real dot = 0;
    for (int e = 0; e < d; ++e) dot += q[e] * in.k[kv_row(m) + e];
    visible.push_back(m);
    score.push_back(dot * scale);
  }

  const Real highest = *std::max_element(score.begin(), score.end());
  Real sum = 0;
  for (Real& s : score) sum += (s = std::exp(s - highest));
  for (int e = 0; e < d; ++e) {
    Real value = 0;
    for (size_t i = 0; i < visible.size(); ++i) value += score[i] * in.v[kv_row(visible[i]) + e];
    out[e] = value / sum;
  }
  return highest + std::log(sum);
}

}  // namespace

template <class Real>
void attention(const AttentionInput<Real>& in, std::vector<Real>& out, std::vector<Real>* lse) {
  for (int b = 0; b < in.batch; ++b) {
    for (int h = 0; h < in.heads; ++h) {
      for (int n = 0; n < in.q_tokens; ++n) {
        if (in.mask && !in.mask->computes(b, h, n)) continue;
        const size_t row = (static_cast<size_t>(b) * in.q_tokens + n) * in.heads + h;
        const Real row_lse = attend_row(in, b, h, n, &out[row * in.head_dim]);
        if (lse) (*lse)[(static_cast<size_t>(b) * in.heads + h) * in.q_tokens + n] = row_lse;
      }
    }
  }
}

template void attention(const AttentionInput<double>&, std::vector<double>&, std::vector<double>*);
template void attention(const AttentionInput<float>&, std::vector<float>&, std::vector<float>*);

}  // namespace flashomni::reference
