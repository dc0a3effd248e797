// SPDX-License-Identifier: Apache-2.0
//
// The parameters that FLUX.1 and HunyuanVideo share, names and shapes alike: conditioning
// embedders, double-stream blocks, single-stream blocks and the output head.
#pragma once

#include <vector>

#include "models/layers/embedder.h"

namespace flashomni {

struct JointConfig {
  int heads = 24;
  int head_dim = 128;
  int mlp_width = 4 * 24 * 128;
  int double_layers = 0;
  int single_layers = 0;
  int pooled_width = 768;
  bool guidance = false;  // whether the guidance scale is embedded
  int out_width = 64;     // of the output projection

  int width() const { return heads * head_dim; }  // D
};

// Projections of one token stream (latents or text) into and out of the joint attention.
struct StreamAttention {
  Weight q, k, v;         // [D, D], by head
  Tensor norm_q, norm_k;  // [head_dim]
  Weight out;             // [D, D]
};

struct StreamWeights {
  Weight modulation;  // [6D, D]
  StreamAttention attention;
  Weight ff_in, ff_out;  // [mlp, D], [D, mlp]
};

struct DoubleBlockWeights {
  StreamWeights latents, text;
};

struct SingleBlockWeights {
  Weight modulation;  // [3D, D]
  Weight q, k, v;
  Tensor norm_q, norm_k;
  Weight mlp;  // [mlp, D]
  Weight out;  // [D, D + mlp]: attention columns first, then MLP columns
};

struct JointWeights {
  EmbedderWeights timestep, guidance, pooled;
  std::vector<DoubleBlockWeights> double_blocks;
  std::vector<SingleBlockWeights> single_blocks;
  Weight norm_out;  // [2D, D]: scale, shift
  Weight proj_out;  // [out, D]
};

Result<JointWeights> load_joint_weights(const JointConfig& config, WeightLoader& loader);

}  // namespace flashomni
