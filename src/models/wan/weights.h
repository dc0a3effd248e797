// SPDX-License-Identifier: Apache-2.0
//
// The parameters of a Wan transformer under their diffusers names.
#pragma once

#include <vector>

#include "models/layers/affine_norm.h"
#include "models/layers/embedder.h"
#include "models/wan/config.h"

namespace flashomni::wan {

struct AttentionWeights {
  Weight q, k, v;         // [D, D], by head
  Tensor norm_q, norm_k;  // [D]: over all heads
  Weight out;             // [D, D]
};

struct BlockWeights {
  AttentionWeights self, cross;
  AffineNorm cross_norm;  // of the cross-attention's input, if the config has one
  Weight ff_in, ff_out;   // [ffn, D], [D, ffn]
  Tensor table;           // [1, 6D]: added to the modulation of every step
};

struct WanWeights {
  Weight patch_embedding;  // [D, input_width]
  EmbedderWeights time, text;
  Weight time_proj;  // [6D, D]
  std::vector<BlockWeights> blocks;
  std::vector<float> table;  // [2D]: shift, scale of the output norm
  Weight proj_out;           // [output_width, D], rows in the order of the input's features
};

Result<WanWeights> load_wan_weights(const WanConfig& config, Backend& backend,
                                    WeightLoader& loader);

}  // namespace flashomni::wan
