// SPDX-License-Identifier: Apache-2.0
//
// What one guidance stream keeps for a whole run: its embedded text and every modulation row.
#pragma once

#include <vector>

#include "models/flux/transformer.h"

namespace flashomni::flux {

struct FluxTransformer::StreamState {
  Tensor text;                            // [1, text_tokens, D]
  std::vector<Tensor> image_modulation;   // per double block [steps, 6D]
  std::vector<Tensor> text_modulation;    // per double block [steps, 6D]
  std::vector<Tensor> single_modulation;  // per single block [steps, 3D]
  Tensor out_modulation;                  // [steps, 2D]

  // Chunk `index` (of width d) of one step's row, as [1, d].
  static TensorView chunk(const TensorView& rows, int step, int64_t index, int64_t d) {
    return rows.slice(0, step, step + 1).slice(1, index * d, (index + 1) * d);
  }

  size_t bytes() const {
    size_t n = text.bytes() + out_modulation.bytes();
    for (const auto* list : {&image_modulation, &text_modulation, &single_modulation}) {
      for (const Tensor& t : *list) n += t.bytes();
    }
    return n;
  }
};

}  // namespace flashomni::flux
