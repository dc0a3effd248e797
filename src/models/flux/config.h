// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "flashomni/status.h"

namespace flashomni::flux {

// transformer/config.json of a FluxTransformer2DModel folder; absent fields take diffusers' class
// defaults, which are FLUX.1's.
struct FluxConfig {
  int patch_size = 1;
  int in_channels = 64;
  int out_channels = 64;  // null in the file means in_channels
  int num_layers = 19;
  int num_single_layers = 38;
  int attention_head_dim = 128;
  int num_attention_heads = 24;
  int joint_attention_dim = 4096;
  int pooled_projection_dim = 768;
  bool guidance_embeds = false;
  std::vector<int> axes_dims_rope = {16, 56, 56};

  int width() const { return attention_head_dim * num_attention_heads; }  // D
  int mlp_width() const { return 4 * width(); }
  int output_width() const { return patch_size * patch_size * out_channels; }
};

// Reads and checks the file. Refuses other model classes, quantised checkpoints and impossible
// sizes by name; unknown fields are ignored, as diffusers does.
Result<FluxConfig> load_flux_config(const std::string& path);

}  // namespace flashomni::flux
