// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "flashomni/status.h"
#include "models/layers/patches.h"

namespace flashomni::wan {

// transformer/config.json of a WanTransformer3DModel folder (Wan 2.1 and 2.2, text to video);
// absent fields take diffusers' class defaults, which are Wan 2.1 T2V-14B's.
struct WanConfig {
  PatchSize patch = {1, 2, 2};
  int num_attention_heads = 40;
  int attention_head_dim = 128;
  int in_channels = 16;
  int out_channels = 16;
  int text_dim = 4096;
  int freq_dim = 256;
  int ffn_dim = 13824;
  int num_layers = 40;
  bool cross_attn_norm = true;
  double eps = 1e-6;
  int rope_max_seq_len = 1024;  // positions per axis

  int width() const { return attention_head_dim * num_attention_heads; }  // D
  int patch_values() const { return patch.frames * patch.height * patch.width; }
  int input_width() const { return in_channels * patch_values(); }  // of one token
  int output_width() const { return out_channels * patch_values(); }
  // Rows and columns take a third of the channel pairs each, rounded down; frames take the rest.
  std::vector<int> rope_axes() const {
    const int side = 2 * (attention_head_dim / 6);
    return {attention_head_dim - 2 * side, side, side};
  }
};

// Reads and checks the file. Refuses other model classes, image-conditioned variants, quantised
// checkpoints and impossible sizes by name; unknown fields are ignored, as diffusers does.
Result<WanConfig> load_wan_config(const std::string& path);

}  // namespace flashomni::wan
