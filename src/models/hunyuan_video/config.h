// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "flashomni/status.h"
#include "models/layers/patches.h"

namespace flashomni::hunyuan_video {

// transformer/config.json of a HunyuanVideoTransformer3DModel folder; absent fields take diffusers'
// class defaults, which are HunyuanVideo's (13B).
struct HunyuanVideoConfig {
  int in_channels = 16;
  int out_channels = 16;
  int num_attention_heads = 24;
  int attention_head_dim = 128;
  int num_layers = 20;
  int num_single_layers = 40;
  int num_refiner_layers = 2;
  double mlp_ratio = 4.0;
  int patch_size = 2;
  int patch_size_t = 1;
  bool guidance_embeds = true;
  int text_embed_dim = 4096;
  int pooled_projection_dim = 768;
  double rope_theta = 256.0;
  std::vector<int> rope_axes_dim = {16, 56, 56};

  int width() const { return attention_head_dim * num_attention_heads; }  // D
  int mlp_width() const { return static_cast<int>(width() * mlp_ratio); }
  PatchSize patch() const { return {patch_size_t, patch_size, patch_size}; }
  int patch_values() const { return patch_size_t * patch_size * patch_size; }
  int input_width() const { return in_channels * patch_values(); }  // of one token
  int output_width() const { return out_channels * patch_values(); }
};

// Reads and checks the file. Refuses other model classes, image-conditioned variants, quantised
// checkpoints and impossible sizes by name; unknown fields are ignored, as diffusers does.
Result<HunyuanVideoConfig> load_hunyuan_video_config(const std::string& path);

}  // namespace flashomni::hunyuan_video
