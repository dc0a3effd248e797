// SPDX-License-Identifier: Apache-2.0
//
// GEMM-O by definition (arXiv 2509.25401): the output projection split by S_c into heads computed
// now and heads whose projection was cached at the last Update, one bias plane a Taylor term.
#pragma once

#include <vector>

#include "reference/block_mask.h"

namespace flashomni::reference {

template <class Real>
struct GemmOInput {
  int batch = 1;
  int tokens = 0;        // N, of the joint sequence
  int rows = 0;          // M, of the segment
  int token_offset = 0;  // of the segment in the joint sequence
  int heads = 1;
  int head_dim = 0;
  int mlp_features = 0;                   // Kmlp; 0 = no mlp part
  int width = 0;                          // D
  std::vector<Real> attn;                 // [B, N, H, d]
  std::vector<Real> mlp;                  // [B, M, Kmlp]
  std::vector<Real> weight;               // [D, H*d + Kmlp], attention columns first
  std::vector<Real> bias;                 // [D] or empty
  const BlockMask* mask = nullptr;        // null: all heads are active
  std::vector<std::vector<Real>> planes;  // each [B, N, D]; used with a mask only
  std::vector<double> coefficients;       // one a plane
};

// Dispatch form, y [B, M, D]:
//   y = sum over heads with S_c = 1 of attn_h W_h  (+ mlp W_mlp)  + bias,
// where bias is b without a mask and sum_m coefficients[m] * planes[m] with one.
template <class Real>
std::vector<Real> gemm_o(const GemmOInput<Real>& in);

// Update form. From the Taylor factors F_m [B, N, H, d] of the attention output and the new mask:
//   planes[m] = sum over heads with S_c = 0 of F_m,h W_h  (+ b for m = 0), rows of the segment
//   only, y         = planes[0] + sum over heads with S_c = 1 of F_0,h W_h  (+ mlp W_mlp).
// `attn`, `planes` and `coefficients` of the input are not used; `planes` [B, N, D] is written.
template <class Real>
std::vector<Real> gemm_o_update(const GemmOInput<Real>& in,
                                const std::vector<std::vector<Real>>& factors,
                                std::vector<std::vector<Real>>& planes);

}  // namespace flashomni::reference
