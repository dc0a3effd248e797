// SPDX-License-Identifier: Apache-2.0
//
// What `generate` and `edit` share: one prompt, one run, one PNG.
#pragma once

#include <string>

#include "tools/common_options.h"

namespace flashomni::tools {

struct DrawFlags {
  std::string prompt;
  std::string out = "out.png";
  bool profile = false;
  std::string report;
  std::string trace;
  ModelFlags model;
  PictureFlags picture;
  StrategyFlags strategy;
  OutputFlags output;
  void add_to(CLI::App& app);
};

// Checks everything that can be checked, runs, writes the picture and the JSON and prints what ran.
Status draw(const DrawFlags& flags, const std::string& command_line);

}  // namespace flashomni::tools
