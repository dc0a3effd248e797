// SPDX-License-Identifier: Apache-2.0
//
// What can be said about a transformer folder without loading it: its sizes and parameters, which
// follow from config.json alone. checkpoint.h compares them with the weights.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "models/weights.h"

namespace flashomni {

struct ModelInfo {
  std::string class_name;  // "FluxTransformer2DModel"
  std::string family;      // of presets: "flux", "hunyuan_video", "wan"
  int heads = 0;
  int head_dim = 0;
  // What each kind of block is called and how many there are, in the order they run.
  std::vector<std::pair<std::string, int>> layers;
  // Widths of one latent token, in and out, and of the text states.
  int token_in = 0, token_out = 0, text_width = 0;
  bool guidance = false;        // embeds the guidance scale (otherwise two evaluations a step)
  std::string dense_gemm_q;     // why GEMM-Q cannot follow the symbols; empty if it can
  std::vector<Parameter> list;  // every tensor of the checkpoint

  int64_t parameters() const;
};

// The known classes.
std::vector<std::string> model_classes();

// From `<path>` (a config.json) or `<path>/config.json`. kUnsupported for other classes, with the
// known ones, and for what the model's own config refuses. The backend is only asked what it
// supports.
Result<ModelInfo> read_model_info(Backend& backend, const std::string& path);

}  // namespace flashomni
