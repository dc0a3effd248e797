// SPDX-License-Identifier: Apache-2.0
//
// What `generate` and `edit` share: one prompt, one run, one PNG (or one file of latents).
#pragma once

#include <optional>
#include <string>

#include "tools/common_options.h"

namespace flashomni::tools {

struct DrawFlags {
  std::optional<std::string> prompt;
  std::string embeddings;       // a file in place of the prompts; empty: none
  std::string latents;          // a file with the noise to start from; empty: none
  bool edit = false;            // a picture is required
  std::string image_latents;    // a file with the picture to edit as latents; empty: none
  bool skip_reference = false;  // strategies may skip its keys and values as well
  std::string save_embeddings;  // a file to write what the text encoder made; empty: none
  std::string out = "out.png";
  bool profile = false;
  std::string report;
  std::string trace;
  ModelFlags model;
  PictureFlags picture;
  StrategyFlags strategy;
  EngineFlags engine;
  OutputFlags output;
  void add_to(CLI::App& app);
};

// Checks everything that can be checked, runs, writes the picture and the JSON and prints what ran.
Status draw(const DrawFlags& flags, const std::string& command_line);

}  // namespace flashomni::tools
