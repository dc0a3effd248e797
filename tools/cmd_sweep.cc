// SPDX-License-Identifier: Apache-2.0
//
// flashomni sweep: a list or grid of configs over prompts and seeds, each beside the dense run of
// the same; CSV, JSON and Pareto plots. What is finished stays finished: run again, it goes on
// where it was stopped.
#include <cstdio>

#include "io/atomic_file.h"
#include "io/json.h"
#include "pipelines/run_json.h"
#include "tools/commands.h"
#include "tools/prompts.h"
#include "tools/report_text.h"
#include "tools/signals.h"
#include "tools/sweep_report.h"
#include "tools/sweep_results.h"
#include "tools/table.h"

namespace flashomni::tools {
namespace {

constexpr int kWarmUpSteps = 2;

struct Flags {
  std::string config;
  std::string out_dir = "out/sweep";
  std::vector<std::string> seeds = {"0"};
  bool no_noise_floor = false;
  std::string report;
  PromptFlags prompts;
  ModelFlags model;
  PictureFlags picture;
  OutputFlags output;
};

Result<std::vector<TrialPoint>> make_points(const Flags& flags) {
  FO_ASSIGN_OR_RETURN(const std::vector<std::string> prompts, flags.prompts.read());
  std::vector<TrialPoint> points;
  for (const std::string& prompt : prompts) {
    for (const std::string& text : flags.seeds) {
      FO_ASSIGN_OR_RETURN(const uint64_t seed, parse_seed("--seeds", text));
      points.push_back({prompt, seed});
    }
  }
  return points;
}

// Code, weights and caches are touched once before anything is timed.
Status warm_up(Runtime& runtime, TextToImageRequest request) {
  request.steps = std::min(request.steps, kWarmUpSteps);
  return runtime.pipeline->generate(request, nullptr).status();
}

class Sweep {
 public:
  Sweep(const Flags& flags, const std::string& command, Runtime& runtime, Trials& trials,
        const TextToImageRequest& base, std::vector<SweepConfig> configs,
        std::vector<TrialPoint> points)
      : flags_(flags),
        command_(command),
        runtime_(runtime),
        trials_(trials),
        base_(base),
        configs_(std::move(configs)),
        points_(std::move(points)) {}

  Status run() {
    if (!flags_.no_noise_floor && !trials_.find(kNoiseKey, points_.front())) {
      FO_ASSIGN_OR_RETURN(Runtime other, open_noise_runtime(flags_.model, runtime_));
      FO_RETURN_IF_ERROR(trials_.run_noise_floor(other, points_.front()).status());
    }
    for (size_t p = 0; p < points_.size(); ++p) {
      for (size_t c = 0; c < configs_.size(); ++c) {
        const std::string label = "prompt " + std::to_string(p + 1) + "/" +
                                  std::to_string(points_.size()) + ", config " +
                                  std::to_string(c + 1) + "/" + std::to_string(configs_.size());
        FO_RETURN_IF_ERROR(run_one(configs_[c], points_[p], label, p == 0));
      }
      FO_RETURN_IF_ERROR(write());
    }
    return ok_status();
  }

  // The tables as they stand.
  Status write() const {
    const SweepResults results = current();
    const std::string base = trials_.folder() + "/";
    FO_RETURN_IF_ERROR(write_file(base + "sweep.csv", sweep_csv(results)));
    nlohmann::json doc = json_head(command_, runtime_);
    doc["settings"] = request_json(base_);
    doc["settings"].erase("seed");
    doc.update(sweep_json(results));
    FO_RETURN_IF_ERROR(write_json_file(base + "sweep.json", doc));
    if (!flags_.output.json.empty()) FO_RETURN_IF_ERROR(write_json_file(flags_.output.json, doc));
    if (!flags_.report.empty()) {
      FO_ASSIGN_OR_RETURN(const std::string page,
                          sweep_report(command_, runtime_, results, trials_.folder()));
      FO_RETURN_IF_ERROR(write_file(flags_.report, page));
    }
    return save_png(base + "pareto.png", sweep_plot(results));
  }

  SweepResults current() const { return collect(trials_, configs_, points_, failures_); }
  const std::map<std::string, std::string>& failures() const { return failures_; }

 private:
  // A config that fails is left out from then on; the others go on.
  Status run_one(const SweepConfig& config, const TrialPoint& point, const std::string& label,
                 bool keep_picture) {
    const std::string key = trial_key(config.choice);
    if (failures_.contains(key)) return ok_status();
    // A dense run that fails is no config's fault.
    FO_RETURN_IF_ERROR(trials_.run_dense(point, label + ": dense").status());
    Status ran = trials_.run(config.choice, point, label, keep_picture).status();
    if (ran.ok() || ran.code() == StatusCode::kCancelled || ran.code() == StatusCode::kIoError) {
      return ran;
    }
    failures_[key] = ran.message();
    return ok_status();
  }

  const Flags& flags_;
  const std::string command_;
  Runtime& runtime_;
  Trials& trials_;
  const TextToImageRequest base_;  // all points have its settings
  const std::vector<SweepConfig> configs_;
  const std::vector<TrialPoint> points_;
  std::map<std::string, std::string> failures_;  // by trial key
};

Status sweep(const Flags& flags, const std::string& command) {
  FO_ASSIGN_OR_RETURN(const nlohmann::json config, read_json_file(flags.config));
  FO_ASSIGN_OR_RETURN(std::vector<TrialPoint> points, make_points(flags));
  FO_ASSIGN_OR_RETURN(Runtime runtime, open_runtime(flags.model));
  FO_ASSIGN_OR_RETURN(std::vector<SweepConfig> configs,
                      parse_sweep(config, flags.config, runtime.pipeline->defaults().family));
  TextToImageRequest base;
  for (const TrialPoint& p : points) {
    FO_ASSIGN_OR_RETURN(base, flags.picture.request(p.prompt, *runtime.pipeline));
  }
  FO_RETURN_IF_ERROR(check_comparable(base));
  FO_RETURN_IF_ERROR(check_optional_output(flags.output.json));
  FO_RETURN_IF_ERROR(check_optional_output(flags.report));

  Progress progress(flags.output.quiet);
  FO_ASSIGN_OR_RETURN(Trials trials, Trials::open(runtime, progress, flags.out_dir, base));
  const size_t before = trials.all().size();
  if (!flags.output.quiet && before > 0) {
    std::printf("%s: %zu finished runs found, going on\n", flags.out_dir.c_str(), before);
  }
  FO_RETURN_IF_ERROR(warm_up(runtime, base));
  Sweep job(flags, command, runtime, trials, base, std::move(configs), std::move(points));
  const Status ran = job.run();
  FO_RETURN_IF_ERROR(job.write());  // also what a stop leaves
  if (!ran.ok()) {
    return Status(ran.code(), ran.message() + "; " + std::to_string(trials.all().size()) +
                                  " finished runs are in " + flags.out_dir +
                                  ", the same command goes on");
  }
  const SweepResults results = job.current();
  if (!flags.output.quiet) {
    for (const SweepRow& row : results.rows) print_fallbacks(row.mean.fallbacks);
    std::printf("%s", sweep_table(results).c_str());
    if (results.noise_floor) {
      const double db = results.noise_floor->figures.psnr_db;
      std::printf("noise floor (dense again, other threads): %s\n",
                  std::isinf(db) ? "none, bit-identical" : (fixed(db, 2) + " dB").c_str());
    }
    std::printf("%s/: sweep.csv, sweep.json, pareto.png\n", flags.out_dir.c_str());
  }
  if (job.failures().empty()) return ok_status();
  return unsupported(std::to_string(job.failures().size()) +
                     " of the configs failed, the first: " + job.failures().begin()->second);
}

}  // namespace

void add_sweep(CLI::App& app, CommandLine& line) {
  CLI::App* sub = app.add_subcommand(
      "sweep", "many configs over prompts and seeds: quality, speed and Pareto plots; resumable");
  const auto flags = std::make_shared<Flags>();
  sub->add_option("config", flags->config,
                  R"(JSON file {"configs": [{"strategy": ..., "options": {"tau_q": [0.5, 0.8]}}]})")
      ->required()
      ->type_name("FILE");
  sub->add_option("prompts", flags->prompts.prompts, "what to draw")->type_name("PROMPT");
  flags->prompts.add_file_to(*sub);
  sub->add_option("--seeds", flags->seeds, "seeds of every prompt (default 0)")
      ->type_name("LIST")
      ->delimiter(',');
  sub->add_option("--out-dir", flags->out_dir,
                  "folder for the results and the runs that are finished (default out/sweep)")
      ->type_name("DIR");
  sub->add_flag("--no-noise-floor", flags->no_noise_floor,
                "do not run dense again on another number of threads");
  add_report(*sub, flags->report);
  flags->picture.add_settings_to(*sub);
  flags->model.add_to(*sub);
  flags->output.add_to(*sub);
  sub->callback([flags, &line] { line.run = [flags, &line] { return sweep(*flags, line.text); }; });
}

}  // namespace flashomni::tools
