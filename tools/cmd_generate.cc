// SPDX-License-Identifier: Apache-2.0
//
// flashomni generate: a prompt in, a picture out, with a report of what was skipped.
#include "tools/commands.h"
#include "tools/draw.h"

namespace flashomni::tools {

void add_generate(CLI::App& app, CommandLine& line) {
  CLI::App* sub = app.add_subcommand("generate", "draw a picture from a prompt");
  const auto flags = std::make_shared<DrawFlags>();
  flags->add_to(*sub);
  sub->callback([flags, &line] { line.run = [flags, &line] { return draw(*flags, line.text); }; });
}

}  // namespace flashomni::tools
