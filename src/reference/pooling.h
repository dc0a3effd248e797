// SPDX-License-Identifier: Apache-2.0
//
// What strategies see of queries and keys: block means over the valid tokens, how alike the tokens
// of a block are, and the scores of pooled queries against pooled keys.
#pragma once

#include <vector>

namespace flashomni::reference {

// Mean over all tokens. x [B, N, H, d]; the result [B, H, d].
template <class Real>
std::vector<Real> token_mean(int batch, int tokens, int heads, int head_dim,
                             const std::vector<Real>& x);

template <class Real>
struct PoolOutput {
  std::vector<Real> mean;        // [B, H, nBlocks, d]
  std::vector<Real> similarity;  // [B, H, nBlocks], in [0, 1]
};

// Per block of `block` tokens (the last one may be shorter) of x - shift: the mean, and the self-
// similarity |mean of x / max(|x|, 1e-12)|^2, which is the mean of all pairwise cosines in the
// block, each token with itself included. x [B, N, H, d]; shift [B, H, d], or empty for 0.
template <class Real>
PoolOutput<Real> pool(int batch, int tokens, int heads, int head_dim, int block,
                      const std::vector<Real>& x, const std::vector<Real>& shift);

// The same with block i = tokens [starts[i], starts[i + 1]), as ragged blocks are.
template <class Real>
PoolOutput<Real> pool(int batch, int tokens, int heads, int head_dim,
                      const std::vector<int>& starts, const std::vector<Real>& x,
                      const std::vector<Real>& shift);

// scale * q k^T for each of `groups` (batch, head) pairs; scale 0 means 1/sqrt(d).
// q [groups, nQ, d], k [groups, nKV, d]; the result [groups, nQ, nKV].
template <class Real>
std::vector<Real> block_scores(int groups, int num_q, int num_kv, int head_dim,
                               const std::vector<Real>& q, const std::vector<Real>& k,
                               double scale);

}  // namespace flashomni::reference
