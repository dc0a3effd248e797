// SPDX-License-Identifier: Apache-2.0
//
// The dense Linear layer, its activations and the gated residual that follows it in a block.
#pragma once

#include <vector>

namespace flashomni::reference {

// y = x W^T + b. x [rows, in], weight [out, in], bias [out] or empty; y [rows, out].
template <class Real>
std::vector<Real> linear(int rows, int in_features, int out_features, const std::vector<Real>& x,
                         const std::vector<Real>& weight, const std::vector<Real>& bias);

// x / 2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3))), elementwise.
template <class Real>
std::vector<Real> gelu_tanh(std::vector<Real> x);

// x / (1 + exp(-x)), elementwise.
template <class Real>
std::vector<Real> silu(std::vector<Real> x);

// residual + gate * y. y and residual [B, rows, width]; gate [B, width], or empty for 1.
template <class Real>
std::vector<Real> add_gated(int batch, int rows, int width, std::vector<Real> residual,
                            const std::vector<Real>& gate, const std::vector<Real>& y);

}  // namespace flashomni::reference
