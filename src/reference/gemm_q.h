// SPDX-License-Identifier: Apache-2.0
//
// GEMM-Q by definition: projection and bias, per-head RMSNorm, rotary embedding of adjacent
// channel pairs; kept only where S_c is 1.
#pragma once

#include <vector>

#include "reference/block_mask.h"

namespace flashomni::reference {

template <class Real>
struct GemmQInput {
  int batch = 1;
  int tokens = 0;        // N, of the joint sequence
  int rows = 0;          // M, of the segment
  int token_offset = 0;  // of row 0 of x in the joint sequence
  int in_features = 0;   // K
  int heads = 1;
  int head_dim = 0;
  std::vector<Real> x;           // [B, M, K]
  std::vector<Real> weight;      // [H*d, K]
  std::vector<Real> bias;        // [H*d] or empty
  std::vector<Real> rms_weight;  // [d], or empty for no RMSNorm
  double rms_eps = 1e-6;
  std::vector<Real> rope_cos;       // [N, d/2], or empty for no rotation
  std::vector<Real> rope_sin;       // [N, d/2]
  const BlockMask* mask = nullptr;  // null: every tile is computed
};

// Writes rows token_offset .. token_offset + M of `out` [B, N, H, d] where S_c is 1; everything
// else in `out` keeps its value.
template <class Real>
void gemm_q(const GemmQInput<Real>& in, std::vector<Real>& out);

// (x[2k], x[2k+1]) rotated by the angle whose cosine and sine are cos[k], sin[k]; in place.
template <class Real>
void rotate_pairs(int head_dim, Real* x, const Real* cos, const Real* sin);

}  // namespace flashomni::reference
