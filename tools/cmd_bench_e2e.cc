// SPDX-License-Identifier: Apache-2.0
//
// flashomni bench e2e: whole generations of a prompt, dense and with a strategy, and what each kind
// of step and of operation takes of them.
#include <cstdio>

#include "io/json.h"
#include "pipelines/run_json.h"
#include "tools/bench_e2e.h"
#include "tools/bench_report.h"
#include "tools/commands.h"
#include "tools/report_text.h"

namespace flashomni::tools {
namespace {

struct Flags {
  std::string prompt = "3d red apple";
  std::optional<int> repeats;
  ModelFlags model;
  PictureFlags picture;
  StrategyFlags strategy;
  OutputFlags output;
};

Status run(const Flags& flags, const std::string& command_line) {
  FO_RETURN_IF_ERROR(check_optional_output(flags.output.json));
  FO_ASSIGN_OR_RETURN(Runtime runtime, open_runtime(flags.model, true));
  FO_ASSIGN_OR_RETURN(const StrategyChoice choice,
                      flags.strategy.resolve(runtime.pipeline->defaults().family));
  FO_ASSIGN_OR_RETURN(const TextToImageRequest request,
                      flags.picture.request(flags.prompt, *runtime.pipeline));
  const double peak = runtime.backend->measure_peak_flops();
  Progress progress(flags.output.quiet);
  FO_ASSIGN_OR_RETURN(
      const std::vector<E2eRun> runs,
      time_generations(runtime, request, choice, flags.repeats.value_or(3), progress));

  const BackendInfo info = runtime.backend->info();
  if (!flags.output.quiet) {
    print_fallbacks(runs.back().report.fallbacks);
    std::fputs(machine_text(info, peak).c_str(), stdout);
    std::fputs(rows_text(generation_rows(runs), peak).c_str(), stdout);
    for (const E2eRun& r : runs) {
      std::printf("\n%s: milliseconds per operation\n%s", r.pattern.c_str(),
                  operations_text(r, peak).c_str());
    }
  }
  if (flags.output.json.empty()) return ok_status();
  std::vector<BenchRow> rows;
  nlohmann::json reports = nlohmann::json::object();
  for (const E2eRun& r : runs) {
    rows.insert(rows.end(), r.rows.begin(), r.rows.end());
    reports[r.pattern] = summary_json(r.report);
  }
  nlohmann::json doc = bench_json(command_line, info, peak, rows);
  doc["model"] = json_head(command_line, runtime)["model"];
  doc["prompt"] = request.prompt;
  doc["settings"] = request_json(request);
  doc["strategy"] = to_json(choice);
  doc["runs"] = std::move(reports);
  return write_json_file(flags.output.json, doc);
}

}  // namespace

CLI::App* add_bench_e2e(CLI::App& bench, CommandLine& line) {
  CLI::App* sub = bench.add_subcommand(
      "e2e", "time whole generations, dense and sparse, by kind of step and operation");
  const auto flags = std::make_shared<Flags>();
  sub->add_option("prompt", flags->prompt, "what to draw (default '3d red apple')")
      ->type_name("PROMPT");
  add_number(*sub, "--repeats", flags->repeats, 1, "timed generations of each (default 3)");
  flags->picture.add_to(*sub);
  flags->strategy.add_to(*sub);
  flags->model.add_to(*sub);
  flags->output.add_to(*sub);
  sub->callback([flags, &line] { line.run = [flags, &line] { return run(*flags, line.text); }; });
  return sub;
}

}  // namespace flashomni::tools
