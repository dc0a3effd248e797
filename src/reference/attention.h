// SPDX-License-Identifier: Apache-2.0
//
// Attention under block symbols by definition: every query token looks, one by one, at every
// key/value token that its block may see. Quadratic, unblocked, no online softmax.
//
// Every oracle is a template over the arithmetic. double is the truth; float is the "naive run in
// the same precision" whose error says how much error a good kernel may make.
#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "reference/block_mask.h"

namespace flashomni::reference {

template <class Real>
struct AttentionInput {
  int batch = 1;
  int q_tokens = 0;
  int kv_tokens = 0;
  int heads = 1;
  int head_dim = 0;
  std::vector<Real> q;              // [B, N, H, d]
  std::vector<Real> k;              // [B, Nkv, H, d]
  std::vector<Real> v;              // [B, Nkv, H, d]
  double scale = 0;                 // 0 means 1/sqrt(d)
  const BlockMask* mask = nullptr;  // null: everything is computed
  double softmax_skip = 0;          // see AttentionParams; 0: off
};

struct LeftOut {
  int64_t products = 0, left_out = 0;  // see SoftmaxSkipCounts
  // The least distance, in powers of two, of a decision from going the other way: what rounding
  // must not exceed for another implementation to decide alike.
  double margin = std::numeric_limits<double>::infinity();
};

// out = softmax(q k^T * scale) v and, if `lse` is given, the natural log of each row's sum of
// exponentials. Tiles with S_c = 0 keep the values they have in `out` [B, N, H, d] and `lse`
// [B, H, N]: in the engine those are the cached ones. `left_out` counts what softmax_skip did.
template <class Real>
void attention(const AttentionInput<Real>& in, std::vector<Real>& out, std::vector<Real>* lse,
               LeftOut* left_out = nullptr);

}  // namespace flashomni::reference
