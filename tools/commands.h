// SPDX-License-Identifier: Apache-2.0
//
// The subcommands. Each adds itself to the parser; the one that was named leaves its work in
// CommandLine::run, which main() calls once parsing is over.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>

#include "flashomni/status.h"

namespace flashomni::tools {

struct CommandLine {
  std::string text;  // as it could be typed into a shell again, for reports
  // kInvalidArgument means that the command line asks for something that is wrong in itself.
  std::function<Status()> run;
};

// REQUIRES `line` to outlive `app`.
void add_generate(CLI::App& app, CommandLine& line);
void add_edit(CLI::App& app, CommandLine& line);
void add_video(CLI::App& app, CommandLine& line);
void add_compare(CLI::App& app, CommandLine& line);
void add_inspect(CLI::App& app, CommandLine& line);
void add_bench(CLI::App& app, CommandLine& line);
// `flashomni bench e2e`, which add_bench adds to itself.
CLI::App* add_bench_e2e(CLI::App& bench, CommandLine& line);
void add_tune(CLI::App& app, CommandLine& line);
void add_symbols(CLI::App& app, CommandLine& line);
void add_sweep(CLI::App& app, CommandLine& line);
void add_info(CLI::App& app, CommandLine& line);

}  // namespace flashomni::tools
