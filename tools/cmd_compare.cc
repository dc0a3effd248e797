// SPDX-License-Identifier: Apache-2.0
//
// flashomni compare: every prompt dense and with a strategy from the same seed, one right after the
// other on the same device, so that the times can be set against each other.
#include <cmath>
#include <cstdio>

#include "io/atomic_file.h"
#include "io/json.h"
#include "pipelines/metrics.h"
#include "pipelines/run_json.h"
#include "tools/ablation.h"
#include "tools/commands.h"
#include "tools/compare_report.h"
#include "tools/comparison.h"
#include "tools/pictures.h"
#include "tools/progress.h"
#include "tools/prompts.h"
#include "tools/report_text.h"
#include "tools/runtime.h"
#include "tools/signals.h"
#include "tools/table.h"

namespace flashomni::tools {
namespace {

constexpr int kWarmUpSteps = 2;
constexpr double kCheapSeconds = 10;  // of a whole run, to be warm-up as well
constexpr size_t kPromptColumns = 28;

struct Flags {
  PromptFlags prompts;
  std::string out_dir = "out";
  bool noise_floor = false;
  bool ablation = false;
  std::string report;
  ModelFlags model;
  PictureFlags picture;
  StrategyFlags strategy;
  EngineFlags engine;
  OutputFlags output;
};

// Runs and compares one prompt after the other.
class Comparer {
 public:
  Comparer(const Flags& flags, Runtime& runtime, StrategyChoice choice)
      : flags_(flags),
        runtime_(runtime),
        choice_(std::move(choice)),
        progress_(flags.output.quiet) {
    if (flags.ablation) stages_ = ablation_stages(choice_, flags.engine.options());
  }

  const std::vector<Stage>& stages() const { return stages_; }
  const StrategyChoice& choice() const { return choice_; }

  // Code, weights and caches are touched once before anything is timed. A GPU also loads each
  // kernel on its first use and chooses algorithms then, which takes longer than a short run: there
  // the strategy runs untimed as well, as a whole where that is cheap, with all steps of the
  // ablation.
  Status warm_up(TextToImageRequest request) {
    const int steps = request.steps;
    request.steps = std::min(steps, kWarmUpSteps);
    FO_ASSIGN_OR_RETURN(const Measured cold,
                        run(request, nullptr, flags_.engine.options(), "warm-up"));
    warm_up_ = {{"dense_steps", request.steps}, {"sparse_steps", 0}};
    if (runtime_.backend->info().name == "cpu") return ok_status();
    const bool whole = cold.seconds / request.steps * steps < kCheapSeconds;
    if (whole) request.steps = steps;
    warm_up_["sparse_steps"] = request.steps;
    FO_RETURN_IF_ERROR(run(request, &choice_, flags_.engine.options(), "warm-up").status());
    for (const Stage& stage : stages_) {
      if (!whole) break;
      FO_RETURN_IF_ERROR(run(request, &stage.choice, stage.engine, "warm-up").status());
    }
    return ok_status();
  }
  // How many untimed steps came before everything else.
  const nlohmann::json& warm_up_json() const { return warm_up_; }

  Result<Comparison> compare_prompt(const TextToImageRequest& request, const std::string& number) {
    Comparison c;
    c.prompt = request.prompt;
    // The report shows the symbols of the first prompt; copying them takes a moment of its time.
    EngineOptions as_asked = flags_.engine.options();
    as_asked.keep_symbols = !flags_.report.empty() && first_;
    first_ = false;
    FO_ASSIGN_OR_RETURN(c.dense, run(request, nullptr, flags_.engine.options(), number + " dense"));
    FO_ASSIGN_OR_RETURN(c.sparse, run(request, &choice_, as_asked, number + " " + choice_.name));
    FO_ASSIGN_OR_RETURN(c.figures, compare(c.dense, c.sparse));
    FO_ASSIGN_OR_RETURN(c.difference,
                        amplified_difference(c.dense.image, c.sparse.image, kDifferenceGain));
    if (flags_.noise_floor) {
      FO_ASSIGN_OR_RETURN(const Measured again,
                          run(request, nullptr, flags_.engine.options(), number + " dense again"));
      FO_ASSIGN_OR_RETURN(const Figures noise, compare(c.dense, again));
      c.noise_floor.push_back(noise);
    }
    for (const Stage& stage : stages_) {
      // The last stage is what has just run.
      const bool ran = &stage == &stages_.back();
      Measured measured;
      if (!ran) {
        FO_ASSIGN_OR_RETURN(measured,
                            run(request, &stage.choice, stage.engine, number + " " + stage.name));
      }
      FO_ASSIGN_OR_RETURN(const Figures f, compare(c.dense, ran ? c.sparse : measured));
      c.stages.push_back(f);
    }
    return c;
  }

 private:
  Result<Measured> run(const TextToImageRequest& request, const StrategyChoice* choice,
                       const EngineOptions& engine, const std::string& label) {
    if (stop_requested()) return cancelled("stopped before " + label);
    std::unique_ptr<Strategy> strategy;  // none: dense
    if (choice) {
      FO_ASSIGN_OR_RETURN(strategy, make_strategy(*choice));
    }
    Result<TextToImageResult> result =
        runtime_.pipeline->generate(request, std::move(strategy), engine, progress_.track(label));
    progress_.clear();
    FO_RETURN_IF_ERROR(result.status());
    return Measured{std::move(result->image), result->seconds, std::move(result->report),
                    std::move(result->snapshots)};
  }

  const Flags& flags_;
  Runtime& runtime_;
  const StrategyChoice choice_;
  std::vector<Stage> stages_;
  nlohmann::json warm_up_;
  bool first_ = true;
  Progress progress_;
};

template <class Pick>
Figures mean_of(const std::vector<Comparison>& all, Pick pick) {
  std::vector<Figures> figures;
  for (const Comparison& c : all) figures.push_back(pick(c));
  return mean(figures);
}

Figures mean_figures(const std::vector<Comparison>& all) {
  return mean_of(all, [](const Comparison& c) { return c.figures; });
}

// Of the last prompt: its pictures, and the sheet that it stands on.
Status write_pictures(const std::string& folder, const std::string& strategy,
                      const std::vector<Comparison>& all) {
  const Comparison& last = all.back();
  const std::string stem = folder + "/" + std::to_string(all.size()) + "-";
  FO_RETURN_IF_ERROR(save_png(stem + "dense.png", last.dense.image));
  FO_RETURN_IF_ERROR(save_png(stem + strategy + ".png", last.sparse.image));
  FO_RETURN_IF_ERROR(save_png(stem + "difference.png", last.difference));

  const Image& first = all.front().dense.image;
  const size_t page_rows = size_t(rows_per_sheet(3, first.width, first.height));
  const size_t page = (all.size() - 1) / page_rows;
  std::vector<std::vector<Image>> rows;
  for (size_t i = page * page_rows; i < all.size(); ++i) {
    rows.push_back({all[i].dense.image, all[i].sparse.image, all[i].difference});
  }
  const std::string name =
      page == 0 ? "/compare.png" : "/compare-" + std::to_string(page + 1) + ".png";
  return save_png(folder + name, contact_sheet(rows));
}

nlohmann::json noise_json(const Figures& f) {
  const nlohmann::json all = to_json(f);
  return {{"seconds", f.seconds},
          {"psnr_db", all["psnr_db"]},
          {"identical", all["identical"]},
          {"ssim", f.ssim}};
}

nlohmann::json ablation_json(const std::vector<Stage>& stages,
                             const std::vector<Figures>& figures) {
  nlohmann::json out = nlohmann::json::array();
  for (size_t i = 0; i < stages.size(); ++i) {
    out.push_back(to_json(figures[i]));
    out.back()["stage"] = stages[i].key;
  }
  return out;
}

std::vector<Figures> stage_means(const std::vector<Comparison>& all, size_t stages) {
  std::vector<Figures> out;
  for (size_t s = 0; s < stages; ++s) {
    out.push_back(mean_of(all, [s](const Comparison& c) { return c.stages[s]; }));
  }
  return out;
}

// The figures at the top are the means over the prompts.
void add_results(const std::vector<Stage>& stages, const std::vector<Comparison>& all,
                 nlohmann::json& doc) {
  doc.update(to_json(mean_figures(all)));
  if (!all.front().noise_floor.empty()) {
    doc["noise_floor"] =
        noise_json(mean_of(all, [](const Comparison& c) { return c.noise_floor[0]; }));
  }
  if (!stages.empty()) doc["ablation"] = ablation_json(stages, stage_means(all, stages.size()));
  doc["prompts"] = nlohmann::json::array();
  for (const Comparison& c : all) {
    nlohmann::json one = to_json(c.figures);
    one["prompt"] = c.prompt;
    one["per_step"] = steps_json(c.sparse.report);
    one["memory"] = ledger_json(c.sparse.report.ledger);
    one["cache_budget"] = cache_budget_json(c.sparse.report);
    if (!c.noise_floor.empty()) one["noise_floor"] = noise_json(c.noise_floor[0]);
    if (!stages.empty()) one["ablation"] = ablation_json(stages, c.stages);
    doc["prompts"].push_back(std::move(one));
  }
}

void print(const Flags& flags, const StrategyChoice& choice, const std::vector<Stage>& stages,
           const std::vector<Comparison>& all) {
  const Figures means = mean_figures(all);
  print_fallbacks(means.fallbacks);
  print_cache_budget(all.front().sparse.report.cache_budget);
  Table table(table_header("prompt"));
  for (const Comparison& c : all) {
    table.add(table_row(shortened(c.prompt, kPromptColumns), c.figures));
  }
  if (all.size() > 1) table.add(table_row("mean", means));
  std::printf("%s", table.text().c_str());
  if (flags.noise_floor) {
    const Figures noise = mean_of(all, [](const Comparison& c) { return c.noise_floor[0]; });
    std::printf("noise floor (dense again): %s s, PSNR %s dB%s, SSIM %s\n",
                fixed(noise.seconds, 2).c_str(), fixed(noise.psnr_db, 2).c_str(),
                std::isinf(noise.psnr_db) ? " (bit-identical)" : "", fixed(noise.ssim, 4).c_str());
  }
  if (!stages.empty()) {
    Table ablation(table_header("ablation"));
    const std::vector<Figures> figures = stage_means(all, stages.size());
    for (size_t i = 0; i < stages.size(); ++i) {
      ablation.add(table_row(stages[i].name, figures[i]));
    }
    std::printf("\n%s", ablation.text().c_str());
  }
  std::printf("%s, pictures in %s/: N-dense.png, N-%s.png, N-difference.png (x%d), compare.png\n",
              strategy_text(choice).c_str(), flags.out_dir.c_str(), choice.name.c_str(),
              kDifferenceGain);
}

// What the pictures and the sheet can hold, before any time is spent.
Status check_sizes(const TextToImageRequest& r) {
  FO_RETURN_IF_ERROR(check_comparable(r));
  const int widest = (kMaxImageSide - kSheetGap) / 3 - kSheetGap;
  if (r.width <= widest) return ok_status();
  return invalid_argument("the pictures are " + std::to_string(r.width) + "x" +
                          std::to_string(r.height) + ", compare takes at most " +
                          std::to_string(widest) + " pixels in width");
}

// The results as they stand, `all` of them finished: rewritten after every prompt, so that a stop
// or a crash costs the prompt that was under way and no other.
Status write_results(const Flags& flags, const std::string& command_line, const Runtime& runtime,
                     const Comparer& comparer, const std::vector<TextToImageRequest>& requests,
                     const std::vector<Comparison>& all) {
  if (!flags.report.empty()) {
    FO_ASSIGN_OR_RETURN(
        const std::string page,
        compare_report(command_line, runtime, requests.front(), comparer.choice(), all));
    FO_RETURN_IF_ERROR(write_file(flags.report, page));
  }
  if (flags.output.json.empty()) return ok_status();
  nlohmann::json doc = json_head(command_line, runtime);
  doc["settings"] = request_json(requests.front());
  doc["strategy"] = to_json(comparer.choice());
  doc["steps"] = requests.front().steps;
  doc["warm_up"] = comparer.warm_up_json();
  doc["complete"] = all.size() == requests.size();
  add_results(comparer.stages(), all, doc);
  return write_json_file(flags.output.json, doc);
}

Status compare_all(const Flags& flags, const std::string& command_line) {
  FO_ASSIGN_OR_RETURN(const std::vector<std::string> prompts, flags.prompts.read());
  FO_ASSIGN_OR_RETURN(Runtime runtime, open_runtime(flags.model));
  FO_ASSIGN_OR_RETURN(const StrategyChoice choice,
                      flags.strategy.resolve(runtime.pipeline->defaults().family));
  if (choice.name == "dense") {
    return invalid_argument(
        "strategy is dense, wanted another one to compare with it "
        "(--noise-floor runs dense twice)");
  }
  std::vector<TextToImageRequest> requests;
  for (const std::string& prompt : prompts) {
    FO_ASSIGN_OR_RETURN(TextToImageRequest r, flags.picture.request(prompt, *runtime.pipeline));
    requests.push_back(std::move(r));
  }
  FO_RETURN_IF_ERROR(check_sizes(requests.front()));
  FO_RETURN_IF_ERROR(prepare_folder(flags.out_dir));
  FO_RETURN_IF_ERROR(check_optional_output(flags.output.json));
  FO_RETURN_IF_ERROR(check_optional_output(flags.report));

  Comparer comparer(flags, runtime, choice);
  FO_RETURN_IF_ERROR(comparer.warm_up(requests.front()));
  std::vector<Comparison> all;
  for (const TextToImageRequest& request : requests) {
    const std::string number =
        std::to_string(all.size() + 1) + "/" + std::to_string(requests.size());
    FO_ASSIGN_OR_RETURN(Comparison c, comparer.compare_prompt(request, number));
    all.push_back(std::move(c));
    FO_RETURN_IF_ERROR(write_pictures(flags.out_dir, choice.name, all));
    FO_RETURN_IF_ERROR(write_results(flags, command_line, runtime, comparer, requests, all));
  }
  if (!flags.output.quiet) print(flags, choice, comparer.stages(), all);
  return ok_status();
}

}  // namespace

void add_compare(CLI::App& app, CommandLine& line) {
  CLI::App* sub = app.add_subcommand(
      "compare", "draw prompts dense and sparse from the same seed: speed-up, PSNR, SSIM");
  const auto flags = std::make_shared<Flags>();
  sub->add_option("prompts", flags->prompts.prompts,
                  "what to draw; every prompt uses the same seed")
      ->type_name("PROMPT");
  flags->prompts.add_file_to(*sub);
  sub->add_option("--out-dir", flags->out_dir, "folder for the pictures (default out)")
      ->type_name("DIR");
  sub->add_flag("--noise-floor", flags->noise_floor,
                "also run dense twice and compare that (bit-identical is expected)");
  sub->add_flag("--ablation", flags->ablation,
                "also run with attention skipping only, then with GEMM-Q, GEMM-O and degrading");
  add_report(*sub, flags->report);
  flags->picture.add_to(*sub);
  flags->strategy.add_to(*sub);
  flags->engine.add_to(*sub);
  flags->model.add_to(*sub);
  flags->output.add_to(*sub);
  sub->callback(
      [flags, &line] { line.run = [flags, &line] { return compare_all(*flags, line.text); }; });
}

}  // namespace flashomni::tools
