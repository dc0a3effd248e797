// SPDX-License-Identifier: Apache-2.0
//
// What can be said about a transformer folder without loading it: its sizes and parameters, which
// follow from config.json alone, and whether the weights beside it are complete, from their
// headers.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "io/weight_store.h"
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

// How a checkpoint differs from what a model loads; names only, data is not read.
struct CheckpointProblems {
  std::vector<std::string> missing;
  std::vector<std::string> unexpected;
  std::vector<std::string> misshaped;    // "x_embedder.weight [32,4], wanted [32,6]"
  std::vector<std::string> unsupported;  // "x_embedder.weight I8", of a type that is not loaded
  // Whether the model can be loaded: tensors that nothing asks for are only left out.
  bool loads() const { return missing.empty() && misshaped.empty() && unsupported.empty(); }
};
CheckpointProblems check_checkpoint(const std::vector<Parameter>& wanted, const WeightStore& store);

}  // namespace flashomni
