// SPDX-License-Identifier: Apache-2.0
//
// The `flashomni` command: finds the subcommand, runs it, and turns its Status into one line on
// stderr and an exit code. Exceptions (CLI11's, or std::bad_alloc) end here.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <new>

#include "flashomni/version.h"
#include "tools/commands.h"
#include "tools/signals.h"

namespace flashomni::tools {
namespace {

enum ExitCode { kDone = 0, kFailure = 1, kUsage = 2, kStopped = 130 };

constexpr char kFooter[] =
    "Exit codes: 0 done; 1 failure; 2 usage: an unknown flag, strategy, preset or option, a value\n"
    "out of range, an empty prompt; 130 stopped by Ctrl-C, which ends a run after its current "
    "step\n"
    "(a second one at once) and leaves no half-written file; compare and sweep keep what is "
    "finished.\n"
    "'flashomni SUBCOMMAND --help' lists the flags of a subcommand.";
constexpr char kSubcommandFooter[] = "Exit codes: 0 done, 1 failure, 2 usage, 130 stopped.";

// Messages quote arguments and file contents; nothing of that may break the line or the terminal.
std::string one_line(const std::string& text) {
  std::string out;
  for (const char c : text) {
    const bool control = static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
    out += control ? (c == '\n' ? ' ' : '?') : c;
  }
  return out;
}

int fail(int code, const std::string& message) {
  std::fprintf(stderr, "flashomni: %s\n", one_line(message).c_str());
  return code;
}

int finish(const Status& status) {
  switch (status.code()) {
    case StatusCode::kOk:
      // A full disk or a closed pipe behind stdout shows only here.
      if (std::fflush(stdout) != 0) return fail(kFailure, "cannot write to standard output");
      return kDone;
    case StatusCode::kInvalidArgument:
      return fail(kUsage, status.message());
    case StatusCode::kCancelled:
      return fail(kStopped, status.message());
    default:
      return fail(kFailure, status.message());
  }
}

// The arguments as a shell would have to be given them.
std::string shell_text(int argc, char** argv) {
  std::string out = "flashomni";
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const bool plain = !word.empty() && word.find_first_not_of(
                                            "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                            "0123456789-_=+,./:@%") == std::string::npos;
    out += ' ';
    if (plain) {
      out += word;
      continue;
    }
    out += '\'';
    for (const char c : word) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
    out += '\'';
  }
  return out;
}

// Whether `name` is a subcommand; all their names, for messages, in `known`.
bool find_subcommand(const CLI::App& app, const std::string& name, std::string& known) {
  bool found = false;
  for (const CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; })) {
    known += (known.empty() ? "" : ", ") + sub->get_name();
    found = found || sub->get_name() == name;
  }
  return found;
}

int run(int argc, char** argv) {
  CLI::App app("FlashOmni: sparse attention for Diffusion Transformers", "flashomni");
  app.set_version_flag("--version", std::string("flashomni ") + version());
  app.footer(kSubcommandFooter);  // inherited by the subcommands
  CommandLine line;
  line.text = shell_text(argc, argv);
  add_generate(app, line);
  add_edit(app, line);
  add_video(app, line);
  add_compare(app, line);
  add_inspect(app, line);
  add_bench(app, line);
  add_sweep(app, line);
  add_tune(app, line);
  add_symbols(app, line);
  add_info(app, line);
  // One only: "symbols" behind "bench" is an operation to time, not the subcommand of that name.
  app.require_subcommand(0, 1);
  app.footer(kFooter);

  const std::string first = argc > 1 ? argv[1] : "";
  std::string known;
  if (first.rfind('-', 0) != 0 && !find_subcommand(app, first, known)) {
    return fail(kUsage, (argc > 1 ? "there is no subcommand '" + first + "'" : "no subcommand") +
                            ", wanted one of " + known + " (see flashomni --help)");
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& e) {  // --help and --version
    return app.exit(e);
  } catch (const CLI::ParseError& e) {
    return fail(kUsage, e.what());
  }
  if (!line.run) return fail(kUsage, "no subcommand (see flashomni --help)");
  return finish(line.run());
}

}  // namespace
}  // namespace flashomni::tools

int main(int argc, char** argv) {
  using namespace flashomni::tools;
  install_stop_handler();
  try {
    return run(argc, argv);
  } catch (const std::bad_alloc&) {
    return fail(kFailure, "out of memory");
  } catch (const std::exception& e) {
    return fail(kFailure, std::string("internal error: ") + e.what());
  }
}
