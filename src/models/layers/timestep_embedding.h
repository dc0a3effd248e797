// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

namespace flashomni {

// Sinusoidal embedding of a timestep, [cos(t f_i) | sin(t f_i)] with f_i = 10000^(-i/half), half =
// channels/2 (diffusers get_timestep_embedding with flip_sin_to_cos and no frequency shift).
// REQUIRES channels even.
std::vector<float> timestep_embedding(float timestep, int channels);

}  // namespace flashomni
