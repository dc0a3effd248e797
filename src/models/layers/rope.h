// SPDX-License-Identifier: Apache-2.0
//
// Rotary position tables over several axes, interleaved-pair layout (adjacent channels rotate
// together), as all DiT families here use; only ids, axis sizes and theta differ.
#pragma once

#include <array>
#include <vector>

#include "models/tensor.h"

namespace flashomni {

// Position of one token on up to three axes; any real numbers.
using PositionId = std::array<float, 3>;

// Positions (first_frame + f, y, x) of a grid, frame by frame, row by row.
std::vector<PositionId> grid_positions(float first_frame, int frames, int rows, int cols);

struct RopeTensors {
  Tensor cos;  // [N, head_dim/2]
  Tensor sin;
  RopeTable table() const { return {cos.view(), sin.view()}; }
};

// Channel pair k of an axis of size d turns by id * theta^(-2k/d); axes are concatenated. Angles
// are computed in double, stored in f32. Fails unless the (even) axis sizes sum to head_dim.
Result<RopeTensors> make_rope(Backend& backend, const std::vector<PositionId>& ids,
                              const std::vector<int>& axes_dims, double theta, int head_dim);

}  // namespace flashomni
