// SPDX-License-Identifier: Apache-2.0
//
// flashomni tune: finds the options of a strategy that reach a quality at the least cost (or the
// best quality in a given time) for this model on this machine, checks them on prompts that the
// search never saw, and writes a config file with the evidence beside it.
#include <chrono>
#include <cmath>
#include <cstdio>

#include "io/atomic_file.h"
#include "io/json.h"
#include "pipelines/run_json.h"
#include "tools/commands.h"
#include "tools/prompts.h"
#include "tools/signals.h"
#include "tools/table.h"
#include "tools/trials.h"
#include "tools/tune_axes.h"

namespace flashomni::tools {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kPsnrTolerance = 1;  // dB that held-out prompts may fall short
constexpr double kSsimTolerance = 0.01;
constexpr double kSecondsTolerance = 0.1;  // share
constexpr double kHopelessTime = 1.25;     // of the dense run: slower than that gains nothing
constexpr int kLooks = 2;                  // at the held-out prompts
constexpr size_t kTableRows = 12;
constexpr int kWarmUpSteps = 2;

struct Flags {
  std::optional<double> psnr, ssim, seconds, margin, minutes;
  std::optional<int> coarse;
  std::string strategy = "flashomni";
  std::vector<std::string> settings, axes;
  std::string cost = "seconds";
  PromptFlags prompts;
  std::string held_out;
  std::string out = "tuned.json";
  std::string work_dir;
  ModelFlags model;
  PictureFlags picture;
  OutputFlags output;
};

Result<TuneGoal> goal_of(const Flags& f) {
  const int given = f.psnr.has_value() + f.ssim.has_value() + f.seconds.has_value();
  if (given != 1) {
    return invalid_argument(std::to_string(given) +
                            " goals, wanted one of --target-psnr, --target-ssim, --max-seconds");
  }
  if (f.ssim && *f.ssim > 1) return invalid_argument("--target-ssim is above 1");
  TuneGoal goal{f.psnr, f.ssim, f.seconds, 0};
  goal.margin = f.margin.value_or(f.psnr ? 0.5 : (f.ssim ? 0.002 : 0));
  return goal;
}

std::string goal_text(const TuneGoal& goal) {
  if (goal.psnr_db) return "PSNR of at least " + fixed(*goal.psnr_db, 2) + " dB";
  if (goal.ssim) return "SSIM of at least " + fixed(*goal.ssim, 4);
  return "at most " + fixed(*goal.seconds, 2) + " s a picture";
}

// The prompts of the search and those of the check.
struct Prompts {
  std::vector<std::string> search, held_out;
};

// Without a file of held-out prompts, the second half of the list is held out.
Result<Prompts> split_prompts(const Flags& f) {
  FO_ASSIGN_OR_RETURN(const std::vector<std::string> all, f.prompts.read());
  Prompts out;
  if (!f.held_out.empty()) {
    out.search = all;
    FO_RETURN_IF_ERROR(read_prompts(f.held_out, out.held_out));
    if (out.held_out.empty()) return invalid_argument(f.held_out + " holds no prompt");
    return out;
  }
  if (all.size() < 2) {
    return invalid_argument(
        "one prompt, wanted two or more (half of them check the result) or "
        "--held-out FILE");
  }
  const size_t half = (all.size() + 1) / 2;
  out.search.assign(all.begin(), all.begin() + ptrdiff_t(half));
  out.held_out.assign(all.begin() + ptrdiff_t(half), all.end());
  return out;
}

struct Check {
  TuneCandidate measured;  // on the held-out prompts
  double missed = 0;       // how far from the goal, margin aside; at most 0: reached
  bool hit = false;        // within the tolerance
};

class Tuner {
 public:
  Tuner(const Flags& flags, const TuneGoal& goal, const Prompts& prompts, StrategyInfo info,
        std::string family, Trials& trials)
      : flags_(flags),
        goal_(goal),
        prompts_(prompts),
        info_(std::move(info)),
        family_(std::move(family)),
        trials_(trials),
        start_(Clock::now()) {}

  // What runs with these values of the axes.
  Result<StrategyChoice> choice_of(const OptionMap& values) const {
    StrategyChoice choice{info_.name, "", values};
    for (const std::string& s : flags_.settings) FO_RETURN_IF_ERROR(set_option(choice, s));
    return resolve_strategy(choice, family_);
  }

  double elapsed() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }

  // Settles what is searched, and refuses what is wrong with it before anything runs.
  Status prepare() {
    problem_.goal = goal_;
    problem_.prompts = prompts_.search.size();
    problem_.coarse = flags_.coarse.value_or(16);
    StrategyChoice given;
    for (const std::string& s : flags_.settings) FO_RETURN_IF_ERROR(set_option(given, s));
    problem_.axes = default_axes(info_, given.options);
    for (const std::string& text : flags_.axes) {
      FO_RETURN_IF_ERROR(set_axis(info_, text, problem_.axes));
    }
    for (const std::string& name : info_.presets) {
      const Result<OptionMap> preset = strategy_preset(info_.name, name, family_);
      if (preset.ok()) problem_.starts.emplace_back("preset " + name, *preset);
    }
    for (const auto& [name, options] : problem_.starts) {
      // What a preset sets beside the axes (block sizes) holds for all.
      for (const auto& [option, value] : options) base_.emplace(option, value);
    }
    for (const TuneAxis& axis : problem_.axes) {
      for (const OptionValue& value : axis.values) {
        FO_RETURN_IF_ERROR(choice_of(complete({{axis.option, value}})).status());
      }
    }
    return ok_status();
  }

  Status run() {
    problem_.measure = [this](const OptionMap& options, size_t prompt) {
      return measure(
          options, prompts_.search[prompt],
          "search " + std::to_string(prompt + 1) + "/" + std::to_string(prompts_.search.size()));
    };
    problem_.out_of_time = [this] { return elapsed() + check_seconds() > budget(); };
    FO_ASSIGN_OR_RETURN(outcome_, tune_search(problem_));
    if (outcome_.ranking.empty()) {
      return unsupported("no settings were measured in " + fixed(budget() / 60, 1) +
                         " minutes, wanted more time (--minutes) or fewer prompts");
    }
    return check();
  }

  bool reached() const { return chosen_.has_value(); }
  const Check* last_check() const { return checks_.empty() ? nullptr : &checks_.back(); }
  const TuneCandidate& best() const { return outcome_.candidates[outcome_.ranking.front()]; }
  Result<StrategyChoice> chosen() const {
    return choice_of(complete(outcome_.candidates[*chosen_].options));
  }

  nlohmann::json evidence() const;
  std::string table() const;

 private:
  double budget() const { return 60 * flags_.minutes.value_or(15); }

  // Options of the axes with what the presets set beside them.
  OptionMap complete(const OptionMap& values) const {
    OptionMap out = base_;
    for (const auto& [name, value] : values) out[name] = value;
    return out;
  }

  // Time that the check on the held-out prompts will take, by the runs so far.
  double check_seconds() const {
    double dense = 0, sparse = 0;
    int dense_runs = 0, sparse_runs = 0;
    for (const Trial& t : trials_.all()) {
      (t.key == kDenseKey ? dense : sparse) += t.figures.seconds;
      ++(t.key == kDenseKey ? dense_runs : sparse_runs);
    }
    const double each =
        (dense_runs ? dense / dense_runs : 0) + (sparse_runs ? sparse / sparse_runs : 0);
    return each * double(prompts_.held_out.size());
  }

  Result<std::optional<TuneSample>> measure(const OptionMap& options, const std::string& prompt,
                                            const std::string& label) {
    FO_ASSIGN_OR_RETURN(const StrategyChoice choice, choice_of(complete(options)));
    const TrialPoint point{prompt, flags_.picture.seed.value_or(0)};
    FO_ASSIGN_OR_RETURN(const Trial* dense, trials_.run_dense(point, label + ": dense"));
    // Slower than dense in the middle of the run already: it will not be faster at its end.
    const bool by_time = flags_.cost == "seconds" || goal_.seconds;
    const double limit = by_time ? kHopelessTime * dense->figures.seconds : 1e300;
    double spent = 0;
    FO_ASSIGN_OR_RETURN(const Trial* t,
                        trials_.run(choice, point, label, false, [&](const StepProgress& p) {
                          spent += p.seconds;
                          return spent > limit;
                        }));
    if (!t) return std::optional<TuneSample>();
    const Figures& f = t->figures;
    return std::optional<TuneSample>({f.psnr_db, f.ssim, f.seconds,
                                      flags_.cost == "flops"
                                          ? 1 - f.flops_skipped_share
                                          : f.seconds / std::max(1e-9, f.dense_seconds)});
  }

  // The best candidate on the held-out prompts. Where it falls short by more than the tolerance,
  // the best one with that much more margin gets a second look.
  Status check() {
    TuneGoal goal = goal_;
    TuneGoal plain = goal_;
    plain.margin = 0;
    for (int look = 0; look < kLooks; ++look) {
      std::optional<size_t> pick;
      for (const size_t i : outcome_.ranking) {
        const TuneSample m = outcome_.candidates[i].mean();
        if (violation(goal, m) > 0) continue;
        if (!pick || objective(goal, m) < objective(goal, outcome_.candidates[*pick].mean())) {
          pick = i;
        }
      }
      if (!pick) break;
      const TuneCandidate& candidate = outcome_.candidates[*pick];
      Check c{{candidate.options, candidate.origin, {}, false}};
      for (size_t p = 0; p < prompts_.held_out.size(); ++p) {
        FO_ASSIGN_OR_RETURN(const std::optional<TuneSample> sample,
                            measure(candidate.options, prompts_.held_out[p],
                                    "check " + std::to_string(p + 1) + "/" +
                                        std::to_string(prompts_.held_out.size())));
        if (!sample) break;
        c.measured.samples.push_back(*sample);
        TuneSample& s = c.measured.samples.back();
        s.psnr_db = std::min(s.psnr_db, 100.0);
      }
      if (c.measured.samples.empty()) break;
      c.missed = violation(plain, c.measured.mean());
      const double tolerance = goal.psnr_db ? kPsnrTolerance
                               : goal.ssim  ? kSsimTolerance
                                            : kSecondsTolerance * *goal.seconds;
      c.hit = c.missed <= tolerance;
      chosen_ = pick;
      goal.margin = std::max(goal.margin, goal_.margin + c.missed);
      checks_.push_back(std::move(c));
      if (checks_.back().hit) break;
    }
    return ok_status();
  }

  const Flags& flags_;
  const TuneGoal goal_;
  const Prompts& prompts_;
  const StrategyInfo info_;
  const std::string family_;
  Trials& trials_;
  const Clock::time_point start_;
  OptionMap base_;
  TuneProblem problem_;
  TuneOutcome outcome_;
  std::optional<size_t> chosen_;  // that reached the goal on the search's prompts
  std::vector<Check> checks_;
};

nlohmann::json candidate_json(const TuneCandidate& c) {
  nlohmann::json out = {{"options", nlohmann::json::object()},
                        {"origin", c.origin},
                        {"prompts", c.samples.size()},
                        {"given_up", c.hopeless}};
  for (const auto& [name, value] : c.options) out["options"][name] = flashomni::to_json(value);
  if (c.samples.empty()) return out;
  const TuneSample m = c.mean();
  out["psnr_db"] = m.psnr_db;
  out["psnr_standard_error_db"] = c.psnr_error();
  out["ssim"] = m.ssim;
  out["seconds"] = m.seconds;
  out["cost"] = m.cost;
  out["psnr_db_of_prompts"] = nlohmann::json::array();
  for (const TuneSample& s : c.samples) out["psnr_db_of_prompts"].push_back(s.psnr_db);
  return out;
}

nlohmann::json Tuner::evidence() const {
  nlohmann::json doc = {{"goal", goal_text(goal_)},
                        {"margin", goal_.margin},
                        {"cost", flags_.cost},
                        {"strategy", info_.name},
                        {"reached", reached()},
                        {"seconds", elapsed()},
                        {"out_of_time", outcome_.out_of_time},
                        {"runs", outcome_.measurements},
                        {"model_evaluations", trials_.steps_run()},
                        {"prompts", prompts_.search},
                        {"held_out_prompts", prompts_.held_out},
                        {"axes", nlohmann::json::object()},
                        {"checks", nlohmann::json::array()},
                        {"candidates", nlohmann::json::array()},
                        {"ranking", outcome_.ranking}};
  for (const TuneAxis& axis : problem_.axes) {
    for (const OptionValue& v : axis.values)
      doc["axes"][axis.option].push_back(flashomni::to_json(v));
  }
  for (const Check& c : checks_) {
    doc["checks"].push_back(candidate_json(c.measured));
    doc["checks"].back()["missed_by"] = c.missed;
    doc["checks"].back()["hit"] = c.hit;
  }
  for (const TuneCandidate& c : outcome_.candidates) {
    doc["candidates"].push_back(candidate_json(c));
  }
  return doc;
}

std::string Tuner::table() const {
  Table table({"settings", "prompts", "PSNR dB", "+-", "SSIM", "seconds", "cost"});
  const auto add = [&](const TuneCandidate& c, const std::string& prefix) {
    std::string name = prefix;
    for (const auto& [option, value] : c.options)
      name += " " + option + "=" + option_to_string(value);
    const TuneSample m = c.mean();
    table.add({shortened(name, 90), std::to_string(c.samples.size()), fixed(m.psnr_db, 2),
               fixed(c.psnr_error(), 2), fixed(m.ssim, 4), fixed(m.seconds, 2), fixed(m.cost, 3)});
  };
  for (size_t k = 0; k < std::min(kTableRows, outcome_.ranking.size()); ++k) {
    add(outcome_.candidates[outcome_.ranking[k]], std::to_string(k + 1) + ":");
  }
  for (const Check& c : checks_) add(c.measured, "held out:");
  return table.text();
}

std::string evidence_path(const std::string& out) {
  const bool json = out.ends_with(".json");
  return (json ? out.substr(0, out.size() - 5) : out) + ".evidence.json";
}

Status tune(const Flags& flags, const std::string& command) {
  FO_ASSIGN_OR_RETURN(const TuneGoal goal, goal_of(flags));
  FO_ASSIGN_OR_RETURN(const Prompts prompts, split_prompts(flags));
  if (flags.strategy == "dense") return invalid_argument("strategy is dense, it has no options");
  const Result<StrategyInfo> info = find_strategy(flags.strategy);
  if (!info.ok()) return invalid_argument(info.status().message());
  const std::string evidence_file = evidence_path(flags.out);
  FO_RETURN_IF_ERROR(check_writable(flags.out));
  FO_RETURN_IF_ERROR(check_writable(evidence_file));
  FO_RETURN_IF_ERROR(check_optional_output(flags.output.json));
  FO_ASSIGN_OR_RETURN(Runtime runtime, open_runtime(flags.model));
  TextToImageRequest base;
  for (const auto* list : {&prompts.search, &prompts.held_out}) {
    for (const std::string& p : *list) {
      FO_ASSIGN_OR_RETURN(base, flags.picture.request(p, *runtime.pipeline));
    }
  }
  FO_RETURN_IF_ERROR(check_comparable(base));

  Progress progress(flags.output.quiet);
  const std::string folder = flags.work_dir.empty() ? flags.out + ".runs" : flags.work_dir;
  FO_ASSIGN_OR_RETURN(Trials trials, Trials::open(runtime, progress, folder, base));
  Tuner tuner(flags, goal, prompts, *info, runtime.pipeline->defaults().family, trials);
  FO_RETURN_IF_ERROR(tuner.prepare());
  TextToImageRequest warm = base;
  warm.steps = std::min(warm.steps, kWarmUpSteps);
  FO_RETURN_IF_ERROR(runtime.pipeline->generate(warm, nullptr).status());
  const Status ran = tuner.run();
  if (!ran.ok()) {
    return Status(ran.code(), ran.message() + "; " + std::to_string(trials.all().size()) +
                                  " finished runs are in " + folder + ", the same command goes on");
  }
  nlohmann::json doc = json_head(command, runtime);
  doc["settings"] = request_json(base);
  doc.update(tuner.evidence());
  if (tuner.reached()) {
    FO_ASSIGN_OR_RETURN(const StrategyChoice choice, tuner.chosen());
    doc["config"] = to_json(choice);
    FO_RETURN_IF_ERROR(write_json_file(flags.out, to_json(choice)));
  }
  FO_RETURN_IF_ERROR(write_json_file(evidence_file, doc));
  if (!flags.output.json.empty()) FO_RETURN_IF_ERROR(write_json_file(flags.output.json, doc));
  if (!flags.output.quiet) {
    std::printf("%s", tuner.table().c_str());
    std::printf("goal: %s; %zu runs, %lld model evaluations, %s minutes\n", goal_text(goal).c_str(),
                doc["runs"].get<size_t>(), static_cast<long long>(trials.steps_run()),
                fixed(tuner.elapsed() / 60, 1).c_str());
  }
  if (!tuner.reached()) {
    const TuneSample best = tuner.best().mean();
    return unsupported("no settings reach the goal, " + goal_text(goal) + ": the nearest have " +
                       fixed(best.psnr_db, 2) + " dB, SSIM " + fixed(best.ssim, 4) + ", " +
                       fixed(best.seconds, 2) + " s; see " + evidence_file);
  }
  const Check& check = *tuner.last_check();
  if (!flags.output.quiet) {
    std::printf("%s: settings for generate --config; evidence in %s\n", flags.out.c_str(),
                evidence_file.c_str());
    const TuneSample m = check.measured.mean();
    std::printf("held-out prompts: %s dB (+- %s), SSIM %s, %s s: %s\n", fixed(m.psnr_db, 2).c_str(),
                fixed(check.measured.psnr_error(), 2).c_str(), fixed(m.ssim, 4).c_str(),
                fixed(m.seconds, 2).c_str(),
                check.hit ? "the goal holds" : "the goal does NOT hold there");
  }
  return ok_status();
}

}  // namespace

void add_tune(CLI::App& app, CommandLine& line) {
  CLI::App* sub = app.add_subcommand(
      "tune", "find the options that reach a quality at the least cost, and check them");
  const auto flags = std::make_shared<Flags>();
  add_number(*sub, "--target-psnr", flags->psnr, 0.0, "dB that the pictures must reach");
  add_number(*sub, "--target-ssim", flags->ssim, 0.0, "SSIM that the pictures must reach");
  add_number(*sub, "--max-seconds", flags->seconds, 0.0,
             "seconds that a picture may take; the best PSNR in that time");
  add_number(*sub, "--margin", flags->margin, 0.0,
             "on the safe side of the goal (default 0.5 dB, 0.002 SSIM, 0 s)");
  add_number(*sub, "--minutes", flags->minutes, 0.0, "time for all of it (default 15)");
  add_number(*sub, "--coarse", flags->coarse, 1, "settings of the first round (default 16)");
  sub->add_option("--strategy", flags->strategy, "strategy to tune (default flashomni)")
      ->type_name("NAME");
  sub->add_option("--set", flags->settings, "an option that stays as it is; may be repeated")
      ->type_name("NAME=VALUE")
      ->allow_extra_args(false);
  sub->add_option("--axis", flags->axes,
                  "values to try of an option, close ones side by side; may be repeated")
      ->type_name("NAME=V,V,...")
      ->allow_extra_args(false);
  sub->add_option(
         "--cost", flags->cost,
         "what is made small: seconds (against dense), or flops, which a busy machine does "
         "not disturb (default seconds)")
      ->type_name("NAME")
      ->check(CLI::IsMember({"seconds", "flops"}));
  sub->add_option("prompts", flags->prompts.prompts, "what to draw")->type_name("PROMPT");
  flags->prompts.add_file_to(*sub);
  sub->add_option("--held-out", flags->held_out,
                  "file with the prompts of the check (default: the second half of the prompts)")
      ->type_name("FILE");
  sub->add_option("-o,--out", flags->out, "config file to write (default tuned.json)")
      ->type_name("FILE");
  sub->add_option("--work-dir", flags->work_dir,
                  "folder for finished runs, to go on after a stop (default: OUT.runs)")
      ->type_name("DIR");
  flags->picture.add_to(*sub);
  flags->model.add_to(*sub);
  flags->output.add_to(*sub);
  sub->callback([flags, &line] { line.run = [flags, &line] { return tune(*flags, line.text); }; });
}

}  // namespace flashomni::tools
