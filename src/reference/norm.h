// SPDX-License-Identifier: Apache-2.0
//
// The two normalisations of a DiT block: LayerNorm with adaptive modulation, and the RMSNorm of
// queries and keys.
#pragma once

#include <vector>

namespace flashomni::reference {

// (x - mean) / sqrt(var + eps) * (1 + scale) + shift over the last dimension, var without Bessel's
// correction. x and the result [B, rows, width]; scale and shift [B, width].
template <class Real>
std::vector<Real> norm_modulate(int batch, int rows, int width, const std::vector<Real>& x,
                                const std::vector<Real>& scale, const std::vector<Real>& shift,
                                double eps);

// x / sqrt(mean(x^2) + eps) * weight, in place. x [n], weight [n].
template <class Real>
void rms_norm(int n, Real* x, const Real* weight, double eps);

}  // namespace flashomni::reference
