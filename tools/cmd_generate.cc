// SPDX-License-Identifier: Apache-2.0
//
// flashomni generate: a prompt in, a picture out, with a report of what was skipped.
#include <cstdio>
#include <filesystem>

#include "io/atomic_file.h"
#include "io/json.h"
#include "pipelines/run_json.h"
#include "tools/commands.h"
#include "tools/memory_report.h"
#include "tools/profile_text.h"
#include "tools/progress.h"
#include "tools/report_text.h"
#include "tools/runtime.h"
#include "tools/signals.h"
#include "tools/table.h"

namespace flashomni::tools {
namespace {

struct Flags {
  std::string prompt;
  std::string out = "out.png";
  bool profile = false;
  ModelFlags model;
  PictureFlags picture;
  StrategyFlags strategy;
  OutputFlags output;
};

nlohmann::json document(const std::string& command_line, const Runtime& runtime,
                        const TextToImageRequest& request, const StrategyChoice& choice,
                        const TextToImageResult& result, const std::string& out) {
  nlohmann::json doc = json_head(command_line, runtime);
  doc["prompt"] = request.prompt;
  doc["settings"] = request_json(request);
  doc["strategy"] = to_json(choice);
  doc["output"] = out;
  doc["seconds"] = result.seconds;
  doc.update(summary_json(result.report));
  doc["memory"] = memory_json(runtime, result);
  if (runtime.profiler) doc["profile"] = profile_json(runtime.profiler->rows());
  doc["per_step"] = steps_json(result.report);
  return doc;
}

// PNG is what is written; a name that promises another format would mislead.
Status check_extension(const std::string& path) {
  const std::string extension = std::filesystem::path(path).extension().string();
  if (extension.empty() || extension == ".png" || extension == ".PNG") return ok_status();
  return invalid_argument("--out is " + path + ", wanted a name that ends in .png");
}

Status generate(const Flags& flags, const std::string& command_line) {
  FO_RETURN_IF_ERROR(check_extension(flags.out));
  if (flags.out == flags.output.json) {
    return invalid_argument("--out and --json are both " + flags.out + ", wanted two files");
  }
  FO_RETURN_IF_ERROR(check_writable(flags.out));
  FO_RETURN_IF_ERROR(check_optional_output(flags.output.json));
  FO_ASSIGN_OR_RETURN(const Runtime runtime, open_runtime(flags.model, flags.profile));
  FO_ASSIGN_OR_RETURN(const StrategyChoice choice,
                      flags.strategy.resolve(runtime.pipeline->defaults().family));
  FO_ASSIGN_OR_RETURN(const TextToImageRequest request,
                      flags.picture.request(flags.prompt, *runtime.pipeline));
  FO_ASSIGN_OR_RETURN(std::unique_ptr<Strategy> strategy, make_strategy(choice));
  if (stop_requested()) return cancelled("stopped before the first step");

  if (runtime.profiler) runtime.profiler->clear();  // the loading is over
  Progress progress(flags.output.quiet);
  Result<TextToImageResult> result =
      runtime.pipeline->generate(request, std::move(strategy), {}, progress.track());
  progress.clear();
  FO_RETURN_IF_ERROR(result.status());

  FO_RETURN_IF_ERROR(save_png(flags.out, result->image));
  if (!flags.output.json.empty()) {
    FO_RETURN_IF_ERROR(write_json_file(
        flags.output.json, document(command_line, runtime, request, choice, *result, flags.out)));
  }
  if (flags.output.quiet) return ok_status();
  print_fallbacks(result->report.fallbacks);
  std::printf("%s: %dx%d, seed %llu, %d steps in %s s\n", flags.out.c_str(), request.width,
              request.height, static_cast<unsigned long long>(request.seed), request.steps,
              fixed(result->seconds, 2).c_str());
  std::printf("%s: %s\n", strategy_text(choice).c_str(), sparsity_text(result->report).c_str());
  if (runtime.profiler) {
    const double peak = runtime.backend->measure_peak_flops();
    std::fputs(profile_text(runtime.profiler->rows(), result->seconds, peak).c_str(), stdout);
  }
  return ok_status();
}

}  // namespace

void add_generate(CLI::App& app, CommandLine& line) {
  CLI::App* sub = app.add_subcommand("generate", "draw a picture from a prompt");
  const auto flags = std::make_shared<Flags>();
  sub->add_option("prompt", flags->prompt, "what to draw")->required()->type_name("PROMPT");
  sub->add_option("-o,--out", flags->out, "PNG file to write (default out.png)")->type_name("FILE");
  sub->add_flag("--profile", flags->profile, "time every operation by layer");
  flags->picture.add_to(*sub);
  flags->strategy.add_to(*sub);
  flags->model.add_to(*sub);
  flags->output.add_to(*sub);
  sub->callback(
      [flags, &line] { line.run = [flags, &line] { return generate(*flags, line.text); }; });
}

}  // namespace flashomni::tools
