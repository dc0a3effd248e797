// SPDX-License-Identifier: Apache-2.0
#include "reference/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace flashomni::reference {
namespace {

constexpr int kSkipGroup = 32;  // keys that are left out together

// Drops the groups of keys whose highest score is softmax_skip powers of two or more below the
// highest of all groups before; `keys` ascend.
template <class Real>
void leave_out(Real softmax_skip, std::vector<int>& keys, std::vector<Real>& score,
               LeftOut* left_out) {
  const Real log2_e = static_cast<Real>(1.4426950408889634074);
  std::vector<int> kept_keys;
  std::vector<Real> kept_score;
  Real highest = -std::numeric_limits<Real>::infinity();
  for (size_t begin = 0; begin < keys.size();) {
    size_t end = begin;
    while (end < keys.size() && keys[end] / kSkipGroup == keys[begin] / kSkipGroup) ++end;
    const Real top = *std::max_element(score.begin() + std::ptrdiff_t(begin),
                                       score.begin() + std::ptrdiff_t(end)) *
                     log2_e;
    const Real above = top - highest + softmax_skip;
    if (above > 0) {
      kept_keys.insert(kept_keys.end(), keys.begin() + std::ptrdiff_t(begin),
                       keys.begin() + std::ptrdiff_t(end));
      kept_score.insert(kept_score.end(), score.begin() + std::ptrdiff_t(begin),
                        score.begin() + std::ptrdiff_t(end));
    }
    if (left_out) {
      left_out->products += 1;
      left_out->left_out += above > 0 ? 0 : 1;
      left_out->margin = std::min(left_out->margin, std::abs(double(above)));
    }
    highest = std::max(highest, top);
    begin = end;
  }
  keys = std::move(kept_keys);
  score = std::move(kept_score);
}

// One query token against all key/value tokens of its head; writes d values, returns the LSE.
template <class Real>
Real attend_row(const AttentionInput<Real>& in, int b, int h, int n, Real* out, LeftOut* left_out) {
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

  if (in.softmax_skip != 0) {
    leave_out(static_cast<Real>(in.softmax_skip), visible, score, left_out);
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
void attention(const AttentionInput<Real>& in, std::vector<Real>& out, std::vector<Real>* lse,
               LeftOut* left_out) {
  for (int b = 0; b < in.batch; ++b) {
    for (int h = 0; h < in.heads; ++h) {
      for (int n = 0; n < in.q_tokens; ++n) {
        if (in.mask && !in.mask->computes(b, h, n)) continue;
        const size_t row = (static_cast<size_t>(b) * in.q_tokens + n) * in.heads + h;
        const Real row_lse = attend_row(in, b, h, n, &out[row * in.head_dim], left_out);
        if (lse) (*lse)[(static_cast<size_t>(b) * in.heads + h) * in.q_tokens + n] = row_lse;
      }
    }
  }
}

template void attention(const AttentionInput<double>&, std::vector<double>&, std::vector<double>*,
                        LeftOut*);
template void attention(const AttentionInput<float>&, std::vector<float>&, std::vector<float>*,
                        LeftOut*);

}  // namespace flashomni::reference
