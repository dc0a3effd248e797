// SPDX-License-Identifier: Apache-2.0
//
// Every modulation row of one guidance stream, for all steps of a run.
#pragma once

#include <vector>

#include "models/layers/joint_transformer.h"

namespace flashomni {

struct JointTransformer::Modulation {
  std::vector<Tensor> latents;  // per double block [steps, 6D]
  std::vector<Tensor> text;     // per double block [steps, 6D]
  std::vector<Tensor> single;   // per single block [steps, 3D]
  Tensor out;                   // [steps, 2D]

  // Chunk `index` (of width d) of one step's row, as [1, d].
  static TensorView chunk(const TensorView& rows, int step, int64_t index, int64_t d) {
    return rows.slice(0, step, step + 1).slice(1, index * d, (index + 1) * d);
  }

  size_t bytes() const {
    size_t n = out.bytes();
    for (const auto* list : {&latents, &text, &single}) {
      for (const Tensor& t : *list) n += t.bytes();
    }
    return n;
  }
};

}  // namespace flashomni
