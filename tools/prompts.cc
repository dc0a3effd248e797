// SPDX-License-Identifier: Apache-2.0
#include "tools/prompts.h"

#include <fstream>

#include "io/messages.h"

namespace flashomni::tools {

Status read_prompts(const std::string& path, std::vector<std::string>& prompts) {
  std::ifstream file(path);
  if (!file) return errno_status("cannot read " + path);
  for (std::string line; std::getline(file, line);) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.find_first_not_of(" \t") != std::string::npos) prompts.push_back(line);
  }
  if (file.bad()) return io_error("cannot read " + path);
  return ok_status();
}

void PromptFlags::add_file_to(CLI::App& app) {
  app.add_option("--prompts", file, "file with more prompts, one a line")->type_name("FILE");
}

Result<std::vector<std::string>> PromptFlags::read() const {
  std::vector<std::string> all = prompts;
  if (!file.empty()) FO_RETURN_IF_ERROR(read_prompts(file, all));
  if (all.empty()) return invalid_argument("no prompt, wanted one or more, or --prompts FILE");
  return all;
}

}  // namespace flashomni::tools
