// SPDX-License-Identifier: Apache-2.0
//
// The prompts of commands that draw several pictures: on the command line and in a file.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "flashomni/status.h"

namespace flashomni::tools {

// Appends the lines of a file that are not blank.
Status read_prompts(const std::string& path, std::vector<std::string>& prompts);

struct PromptFlags {
  std::vector<std::string> prompts;
  std::string file;
  // --prompts FILE; the texts themselves are the caller's to add, as a positional or a flag.
  void add_file_to(CLI::App& app);
  // All of them, those of the file last. kInvalidArgument when there are none.
  Result<std::vector<std::string>> read() const;
};

}  // namespace flashomni::tools
