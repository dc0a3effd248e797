// SPDX-License-Identifier: Apache-2.0
//
// Every modulation of one guidance stream, for all steps of a run: a row a step.
#pragma once

#include <vector>

#include "models/layers/joint_transformer.h"

namespace flashomni {

struct JointTransformer::Modulation {
  Tensor rows;  // [steps, columns of all blocks] f32
};

// Where the modulations of the blocks begin in such a row.
struct JointTransformer::ModulationColumns {
  std::vector<int64_t> latents;  // per double block, 6D each
  std::vector<int64_t> text;     // per double block, 6D each
  std::vector<int64_t> single;   // per single block, 3D each
  int64_t out = 0;               // 2D
  int64_t count = 0;
};

}  // namespace flashomni
