// SPDX-License-Identifier: Apache-2.0
#include "reference/pooling.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace flashomni::reference {

template <class Real>
std::vector<Real> token_mean(int batch, int tokens, int heads, int head_dim,
                             const std::vector<Real>& x) {
  std::vector<Real> mean(static_cast<size_t>(batch) * heads * head_dim);
  for (int b = 0; b < batch; ++b) {
    for (int h = 0; h < heads; ++h) {
      for (int e = 0; e < head_dim; ++e) {
        Real sum = 0;
        for (int n = 0; n < tokens; ++n) {
          sum += x[((static_cast<size_t>(b) * tokens + n) * heads + h) * head_dim + e];
        }
        mean[(static_cast<size_t>(b) * heads + h) * head_dim + e] = sum / static_cast<Real>(tokens);
      }
    }
  }
  return mean;
}

template <class Real>
PoolOutput<Real> pool(int batch, int tokens, int heads, int head_dim, int block,
                      const std::vector<Real>& x, const std::vector<Real>& shift) {
  std::vector<int> starts;
  for (int first = 0; first < tokens; first += block) starts.push_back(first);
  starts.push_back(tokens);
  return pool(batch, tokens, heads, head_dim, starts, x, shift);
}

template <class Real>
PoolOutput<Real> pool(int batch, int tokens, int heads, int head_dim,
                      const std::vector<int>& starts, const std::vector<Real>& x,
                      const std::vector<Real>& shift) {
  PoolOutput<Real> out;
  std::vector<Real> token(head_dim);
  std::vector<Real> mean(head_dim);
  std::vector<Real> mean_unit(head_dim);
  for (int b = 0; b < batch; ++b) {
    for (int h = 0; h < heads; ++h) {
      for (size_t i = 0; i + 1 < starts.size(); ++i) {
        const int first = starts[i], last = starts[i + 1];
        const Real count = static_cast<Real>(last - first);
        std::fill(mean.begin(), mean.end(), Real{0});
        std::fill(mean_unit.begin(), mean_unit.end(), Real{0});
        for (int n = first; n < last; ++n) {
          Real square = 0;
          for (int e = 0; e < head_dim; ++e) {
            token[e] = x[((static_cast<size_t>(b) * tokens + n) * heads + h) * head_dim + e];
            if (!shift.empty()) {
              token[e] -= shift[(static_cast<size_t>(b) * heads + h) * head_dim + e];
            }
            square += token[e] * token[e];
          }
          const Real norm = std::max(std::sqrt(square), static_cast<Real>(1e-12));
          for (int e = 0; e < head_dim; ++e) {
            mean[e] += token[e] / count;
            mean_unit[e] += token[e] / norm / count;
          }
        }
        Real similarity = 0;
        for (Real u : mean_unit) similarity += u * u;
        out.mean.insert(out.mean.end(), mean.begin(), mean.end());
        out.similarity.push_back(similarity);
      }
    }
  }
  return out;
}

template <class Real>
std::vector<Real> block_scores(int groups, int num_q, int num_kv, int head_dim,
                               const std::vector<Real>& q, const std::vector<Real>& k,
                               double scale) {
  const Real factor = static_cast<Real>(scale != 0 ? scale : 1 / std::sqrt(double(head_dim)));
  std::vector<Real> out;
  for (int g = 0; g < groups; ++g) {
    for (int i = 0; i < num_q; ++i) {
      for (int j = 0; j < num_kv; ++j) {
        Real dot = 0;
        for (int e = 0; e < head_dim; ++e) {
          dot += q[(static_cast<size_t>(g) * num_q + i) * head_dim + e] *
                 k[(static_cast<size_t>(g) * num_kv + j) * head_dim + e];
        }
        out.push_back(dot * factor);
      }
    }
  }
  return out;
}

#define FO_INSTANTIATE(Real)                                                            \
  template std::vector<Real> token_mean(int, int, int, int, const std::vector<Real>&);  \
  template PoolOutput<Real> pool(int, int, int, int, int, const std::vector<Real>&,     \
                                 const std::vector<Real>&);                             \
  template PoolOutput<Real> pool(int, int, int, int, const std::vector<int>&,           \
                                 const std::vector<Real>&, const std::vector<Real>&);   \
  template std::vector<Real> block_scores(int, int, int, int, const std::vector<Real>&, \
                                          const std::vector<Real>&, double);
FO_INSTANTIATE(double)
FO_INSTANTIATE(float)
#undef FO_INSTANTIATE

}  // namespace flashomni::reference
