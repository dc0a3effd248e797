// SPDX-License-Identifier: Apache-2.0
//
// The parameters of a FLUX transformer under their diffusers names.
#pragma once

#include <vector>

#include "models/flux/config.h"
#include "models/weights.h"

namespace flashomni::flux {

// Projections of one token stream (image or text) into and out of the joint attention.
struct StreamAttention {
  Weight q, k, v;         // [D, D], by head
  Tensor norm_q, norm_k;  // [head_dim]
  Weight out;             // [D, D]
};

struct StreamWeights {
  Weight modulation;  // [6D, D]
  StreamAttention attention;
  Weight ff_in, ff_out;  // [4D, D], [D, 4D]
};

struct DoubleBlockWeights {
  StreamWeights image, text;
};

struct SingleBlockWeights {
  Weight modulation;  // [3D, D]
  Weight q, k, v;
  Tensor norm_q, norm_k;
  Weight mlp;  // [4D, D]
  Weight out;  // [D, 5D]: attention columns first, then MLP columns
};

struct EmbedderWeights {
  Weight linear_1, linear_2;
};

struct FluxWeights {
  Weight x_embedder;        // [D, in_channels]
  Weight context_embedder;  // [D, joint_attention_dim]
  EmbedderWeights timestep, guidance, pooled;
  std::vector<DoubleBlockWeights> double_blocks;
  std::vector<SingleBlockWeights> single_blocks;
  Weight norm_out;  // [2D, D]: scale, shift
  Weight proj_out;  // [out, D]
};

Result<FluxWeights> load_flux_weights(const FluxConfig& config, WeightLoader& loader);

}  // namespace flashomni::flux
