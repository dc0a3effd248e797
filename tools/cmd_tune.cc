// SPDX-License-Identifier: Apache-2.0
//
// flashomni tune: finds the options of a strategy that reach a quality at the least cost (or the
// best quality in a given time) for this model on this machine, checks them on prompts that the
// search never saw, and writes a config file with the evidence beside it.
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
#include "tools/tune_book.h"
#include "tools/tune_budget.h"
#include "tools/tune_home_in.h"
#include "tools/tune_split.h"
#include "tools/tune_ways.h"

namespace flashomni::tools {
namespace {

constexpr double kHopelessTime = 1.25;  // of the dense run: slower than that gains nothing
constexpr int kLooks = 3;               // at the held-out prompts
constexpr size_t kLeastToSplit = 4;     // prompts that are worth a probe of their difficulty
constexpr double kMostKept = 0.3;       // of the budget, for later parts of the search
constexpr size_t kTableRows = 12;
constexpr int kWarmUpSteps = 2;
constexpr double kAimBelow = 0.3;     // in tolerances: what is held out lies on either side
constexpr double kCloseMiss = 0.5;    // in tolerances: worth a look
constexpr double kExcessCost = 0.01;  // for every tolerance above the first, as a share of dense
constexpr int kPresetSteps = 50;  // what warm-up and interval are for where nothing else is said

struct Flags {
  std::optional<double> psnr, ssim, seconds, margin, minutes, dense_runs;
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
  if (f.minutes && f.dense_runs) {
    return invalid_argument("--minutes and --dense-runs, wanted one of them");
  }
  TuneGoal goal{f.psnr, f.ssim, f.seconds, 0};
  goal.margin = f.margin.value_or(goal.seconds ? 0 : -kAimBelow * tolerance(goal));
  return goal;
}

std::string goal_text(const TuneGoal& goal) {
  if (goal.psnr_db) return "PSNR of " + fixed(*goal.psnr_db, 2) + " dB";
  if (goal.ssim) return "SSIM of " + fixed(*goal.ssim, 4);
  return "at most " + fixed(*goal.seconds, 2) + " s a picture";
}

// The prompts of the search and those of the check. How they were parted: by the user's file, by
// difficulty, or, of a few, in their order.
struct Prompts {
  std::vector<std::string> search, held_out;
  std::string split;
  bool by_difficulty = false;  // `search` holds all of them until the probe has run
};

Result<Prompts> read_all_prompts(const Flags& f) {
  FO_ASSIGN_OR_RETURN(const std::vector<std::string> all, f.prompts.read());
  Prompts out;
  out.search = all;
  if (!f.held_out.empty()) {
    FO_RETURN_IF_ERROR(read_prompts(f.held_out, out.held_out));
    if (out.held_out.empty()) return invalid_argument(f.held_out + " holds no prompt");
    out.split = "a file of held-out prompts";
    return out;
  }
  if (all.size() < 2) {
    return invalid_argument(
        "one prompt, wanted two or more (half of them check the result) or "
        "--held-out FILE");
  }
  out.by_difficulty = all.size() >= kLeastToSplit;
  if (out.by_difficulty) return out;
  const size_t half = (all.size() + 1) / 2;
  out.held_out.assign(all.begin() + ptrdiff_t(half), all.end());
  out.search.resize(half);
  out.split = "in their order, too few to be parted by difficulty";
  return out;
}

// A look at the held-out prompts.
struct Check {
  TuneCandidate measured;
  double margin = 0;  // with which the candidate was chosen
  double missed = 0;  // how far from the goal, the user's margin aside; at most 0: reached
  bool hit = false;   // within the tolerance, on either side
};

class Tuner {
 public:
  // For a model of so many layers, in runs of so many steps.
  Tuner(const Flags& flags, const TuneGoal& goal, Prompts prompts, StrategyInfo info,
        std::string family, int layers, int steps, Trials& trials)
      : flags_(flags),
        goal_(goal),
        prompts_(std::move(prompts)),
        info_(std::move(info)),
        family_(std::move(family)),
        layers_(layers),
        steps_(steps),
        trials_(trials),
        budget_(flags.dense_runs ? TuneBudget::dense_runs(*flags.dense_runs)
                                 : TuneBudget::seconds(60 * flags.minutes.value_or(15))) {}

  // What runs with these values of the axes.
  Result<StrategyChoice> choice_of(const OptionMap& values) const {
    StrategyChoice choice{info_.name, "", values};
    for (const std::string& s : flags_.settings) FO_RETURN_IF_ERROR(set_option(choice, s));
    return resolve_strategy(choice, family_);
  }

  double elapsed() const { return budget_.wall_seconds(); }

  // Settles what is searched, and refuses what is wrong with it before anything runs.
  Status prepare() {
    problem_.goal = goal_;
    problem_.coarse = flags_.coarse.value_or(16);
    StrategyChoice given;
    for (const std::string& s : flags_.settings) FO_RETURN_IF_ERROR(set_option(given, s));
    // Schedules in steps of these runs, unless a part of them is the user's.
    bool in_steps = true;
    for (const char* name : {"schedule_steps", "warmup", "interval", "extra_updates"}) {
      in_steps = in_steps && !given.options.contains(name);
    }
    problem_.axes = default_axes(info_, given.options, in_steps ? steps_ : kPresetSteps);
    for (const std::string& text : flags_.axes) {
      FO_RETURN_IF_ERROR(set_axis(info_, text, problem_.axes));
    }
    if (problem_.axes.empty()) {
      return invalid_argument("strategy " + info_.name +
                              " has nothing to tune here, wanted --axis");
    }
    if (in_steps) base_ = in_run_steps(info_, {}, steps_);
    for (const std::string& name : info_.presets) {
      const Result<OptionMap> preset = strategy_preset(info_.name, name, family_);
      if (!preset.ok()) continue;
      problem_.starts.emplace_back("preset " + name,
                                   in_steps ? in_run_steps(info_, *preset, steps_) : *preset);
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
    if (in_steps) {
      knob_ = schedule_knob(info_, given.options, steps_, layers_,
                            [this](const OptionMap& options) -> Result<OptionMap> {
                              FO_ASSIGN_OR_RETURN(const StrategyChoice choice,
                                                  choice_of(complete(options)));
                              return choice.options;
                            });
    }
    problem_.between = [this](const OptionMap& from, const OptionMap& to, double fraction) {
      return between(from, to, fraction, knob_);
    };
    return ok_status();
  }

  Status run() {
    if (prompts_.by_difficulty) FO_RETURN_IF_ERROR(split());
    problem_.prompts = prompts_.search.size();
    problem_.measure = [this](const OptionMap& options, size_t prompt) {
      return measure(
          options, prompts_.search[prompt],
          "search " + std::to_string(prompt + 1) + "/" + std::to_string(prompts_.search.size()));
    };
    problem_.out_of_time = [this](size_t more) {
      // On a slow machine homing in gets its share, not all of the time.
      const double kept = std::min(budget_.of_sparse(more), kMostKept * budget_.total());
      return budget_.spent() + budget_.of_sparse(1) + kept + price_of_check() > budget_.total();
    };
    FO_ASSIGN_OR_RETURN(outcome_, tune_search(problem_));
    if (outcome_.ranking.empty()) {
      return unsupported(
          "no settings were measured in " + fixed(elapsed() / 60, 1) +
          " minutes, wanted more of them (--minutes, --dense-runs) or fewer prompts");
    }
    return check();
  }

  const Prompts& prompts() const { return prompts_; }
  bool reached() const { return chosen_.has_value(); }
  const Check* last_check() const { return checks_.empty() ? nullptr : &checks_.back(); }
  const TuneCandidate& best() const { return outcome_.candidates[outcome_.ranking.front()]; }
  Result<StrategyChoice> chosen() const {
    return choice_of(complete(outcome_.candidates[*chosen_].options));
  }

  nlohmann::json evidence() const;
  std::string table() const;

 private:
  // Options of the axes with what the presets set beside them.
  OptionMap complete(const OptionMap& values) const {
    OptionMap out = base_;
    for (const auto& [name, value] : values) out[name] = value;
    return out;
  }

  // Halves that are alike in difficulty, by one setting's quality on all prompts: the last preset
  // or what is in the middle of all axes. It has seen the held-out prompts and is not chosen.
  Status split() {
    OptionMap probe;
    for (const TuneAxis& axis : problem_.axes) {
      probe[axis.option] =
          problem_.starts.empty() ? axis.values[axis.values.size() / 2] : axis.values.front();
      if (problem_.starts.empty()) continue;
      const OptionMap& preset = problem_.starts.back().second;
      const auto it = preset.find(axis.option);
      if (it != preset.end()) probe[axis.option] = it->second;
    }
    if (problem_.starts.empty()) problem_.starts.emplace_back("probe", probe);
    const std::vector<std::string> all = prompts_.search;
    std::vector<double> quality;
    for (size_t p = 0; p < all.size(); ++p) {
      FO_ASSIGN_OR_RETURN(
          const std::optional<TuneSample> sample,
          measure(probe, all[p],
                  "probe " + std::to_string(p + 1) + "/" + std::to_string(all.size()),
                  /*to_the_end=*/true));
      probe_.samples.push_back(*sample);
      quality.push_back(goal_.ssim ? sample->ssim : sample->psnr_db);
    }
    const PromptSplit parts = split_by_difficulty(quality);
    prompts_.search.clear();
    for (const size_t i : parts.search) prompts_.search.push_back(all[i]);
    for (const size_t i : parts.held_out) prompts_.held_out.push_back(all[i]);
    prompts_.split = "by difficulty: neighbours in the probe's quality, one to each half";
    probe_.options = probe;
    probe_.origin = problem_.starts.back().first;
    problem_.barred = probe;
    return ok_status();
  }

  // Of one look at the held-out prompts.
  double price_of_check() const {
    const uint64_t seed = flags_.picture.seed.value_or(0);
    size_t missing = 0;
    for (const std::string& p : prompts_.held_out) {
      missing += budget_.is_new(trials_.find(kDenseKey, {p, seed})) ? 1 : 0;
    }
    return budget_.of_dense(missing) + budget_.of_sparse(prompts_.held_out.size());
  }

  Result<std::optional<TuneSample>> measure(const OptionMap& options, const std::string& prompt,
                                            const std::string& label, bool to_the_end = false) {
    FO_ASSIGN_OR_RETURN(const StrategyChoice choice, choice_of(complete(options)));
    const TrialPoint point{prompt, flags_.picture.seed.value_or(0)};
    FO_ASSIGN_OR_RETURN(const Trial* dense, trials_.run_dense(point, label + ": dense"));
    budget_.used(*dense);
    // Slower than dense in the middle of the run already: it will not be faster at its end.
    const bool by_time = !to_the_end && (flags_.cost == "seconds" || goal_.seconds);
    const double limit = by_time ? kHopelessTime * dense->figures.seconds : 1e300;
    double spent = 0;
    FO_ASSIGN_OR_RETURN(const Trial* t,
                        trials_.run(choice, point, label, false, [&](const StepProgress& p) {
                          spent += p.seconds;
                          return spent > limit;
                        }));
    if (!t) return std::optional<TuneSample>();
    budget_.used(*t);
    const Figures& f = t->figures;
    return std::optional<TuneSample>({f.psnr_db, f.ssim, f.seconds,
                                      flags_.cost == "flops"
                                          ? 1 - f.flops_skipped_share
                                          : f.seconds / std::max(1e-9, f.dense_seconds)});
  }

  // By how many tolerances the search's prompts may miss the goal: who gives a margin means it.
  double close_miss() const { return goal_.seconds || flags_.margin ? 0 : kCloseMiss; }

  // What gets the next look: the best candidate, but quality that was not asked for has a price,
  // and where it is better than asked for by more than the tolerance, one that just misses the goal
  // and costs less is nearer.
  size_t next_to_check() const {
    size_t pick = outcome_.ranking.front();
    if (goal_.seconds) return pick;
    const auto missed = [&](size_t i) {
      return violation(problem_.goal, outcome_.candidates[i].mean()) / tolerance(goal_);
    };
    const auto price = [&](size_t i) {
      return objective(problem_.goal, outcome_.candidates[i].mean()) +
             kExcessCost * std::max(0., -missed(i) - 1);
    };
    for (const size_t i : outcome_.ranking) {
      if (missed(i) <= 0 && price(i) < price(pick)) pick = i;
    }
    if (missed(pick) >= -1) return pick;
    // The ranking goes on with those that miss it, the nearest first.
    const auto miss =
        std::ranges::find_if(outcome_.ranking, [&](size_t i) { return missed(i) > 0; });
    return miss != outcome_.ranking.end() && missed(*miss) <= close_miss() ? *miss : pick;
  }

  // The best candidate on the held-out prompts. Where it is off by more than the tolerance, to
  // either side, the search homes in again with a goal that makes up for how these prompts differ
  // from its own, and its new best gets a look; the last look is the result, whether it is the
  // luckiest or not.
  Status check() {
    TuneGoal plain = goal_;
    plain.margin = 0;
    for (int look = 0; look < kLooks; ++look) {
      const size_t pick = next_to_check();
      const TuneCandidate& candidate = outcome_.candidates[pick];
      if (violation(problem_.goal, candidate.mean()) > close_miss() * tolerance(goal_)) break;
      if (chosen_ && *chosen_ == pick) break;
      Check c{{candidate.options, candidate.origin, {}, false, false}, problem_.goal.margin};
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
      const double apart = c.missed - violation(plain, candidate.mean());
      c.hit = std::abs(c.missed) <= tolerance(goal_);
      chosen_ = pick;
      problem_.goal.margin = goal_.margin + apart;
      checks_.push_back(std::move(c));
      if (checks_.back().hit || problem_.out_of_time(0)) break;
      if (problem_.out_of_time(prompts_.search.size())) {
        // No time for new settings, but of those that are known others may be nearer now.
        TuneBook(problem_, outcome_).rank();
      } else {
        FO_RETURN_IF_ERROR(tune_home_in(problem_, outcome_));
      }
    }
    return ok_status();
  }

  const Flags& flags_;
  const TuneGoal goal_;
  Prompts prompts_;
  const StrategyInfo info_;
  const std::string family_;
  const int layers_, steps_;
  Trials& trials_;
  TuneBudget budget_;
  OptionMap base_;
  ScheduleKnob knob_;
  TuneCandidate probe_;  // on all prompts
  TuneProblem problem_;
  TuneOutcome outcome_;
  std::optional<size_t> chosen_;  // that reached the goal on the search's prompts
  std::vector<Check> checks_;
};

nlohmann::json candidate_json(const TuneCandidate& c) {
  nlohmann::json out = {{"options", nlohmann::json::object()},
                        {"origin", c.origin},
                        {"prompts", c.samples.size()},
                        {"given_up", c.hopeless},
                        {"barred", c.barred}};
  for (const auto& [name, value] : c.options) out["options"][name] = flashomni::to_json(value);
  if (c.samples.empty()) return out;
  const TuneSample m = c.mean();
  out["psnr_db"] = m.psnr_db;
  out["psnr_standard_error_db"] = c.psnr_error();
  out["psnr_spread_db"] = m.spread_db;
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
                        {"tolerance", tolerance(goal_)},
                        {"within_tolerance", !checks_.empty() && checks_.back().hit},
                        {"seconds", elapsed()},
                        {"dense_runs", budget_.work()},
                        {"out_of_time", outcome_.out_of_time},
                        {"runs", outcome_.measurements},
                        {"model_evaluations", trials_.steps_run()},
                        {"split", prompts_.split},
                        {"prompts", prompts_.search},
                        {"held_out_prompts", prompts_.held_out},
                        {"axes", nlohmann::json::object()},
                        {"checks", nlohmann::json::array()},
                        {"candidates", nlohmann::json::array()},
                        {"ranking", outcome_.ranking}};
  if (!probe_.samples.empty()) doc["probe"] = candidate_json(probe_);
  for (const TuneAxis& axis : problem_.axes) {
    for (const OptionValue& v : axis.values)
      doc["axes"][axis.option].push_back(flashomni::to_json(v));
  }
  for (const Check& c : checks_) {
    doc["checks"].push_back(candidate_json(c.measured));
    doc["checks"].back()["margin"] = c.margin;
    doc["checks"].back()["missed_by"] = c.missed;
    doc["checks"].back()["within_tolerance"] = c.hit;
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
  FO_ASSIGN_OR_RETURN(const Prompts prompts, read_all_prompts(flags));
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
  trials.share_dense_steps();
  TextToImageRequest warm = base;
  warm.steps = std::min(warm.steps, kWarmUpSteps);
  FO_ASSIGN_OR_RETURN(const TextToImageResult warmed, runtime.pipeline->generate(warm, nullptr));
  Tuner tuner(flags, goal, prompts, *info, runtime.pipeline->defaults().family,
              static_cast<int>(warmed.report.layer_names.size()), base.steps, trials);
  FO_RETURN_IF_ERROR(tuner.prepare());
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
                check.hit          ? "within the tolerance"
                : check.missed > 0 ? "the goal does NOT hold there"
                                   : "better than asked for, nothing nearer was found");
  }
  return ok_status();
}

}  // namespace

void add_tune(CLI::App& app, CommandLine& line) {
  CLI::App* sub = app.add_subcommand(
      "tune", "find the options that reach a quality at the least cost, and check them");
  const auto flags = std::make_shared<Flags>();
  add_number(*sub, "--target-psnr", flags->psnr, 0.0,
             "PSNR that the pictures are meant to have, dB");
  add_number(*sub, "--target-ssim", flags->ssim, 0.0, "SSIM that the pictures are meant to have");
  add_number(*sub, "--max-seconds", flags->seconds, 0.0,
             "seconds that a picture may take; the best PSNR in that time");
  add_number(*sub, "--margin", flags->margin, 0.0,
             "on the safe side of the goal, in its unit (default: of PSNR and SSIM 0.3 "
             "tolerances on the other side, so that results lie around the goal; else 0)");
  add_number(*sub, "--minutes", flags->minutes, 0.0, "time for all of it (default 15)");
  add_number(*sub, "--dense-runs", flags->dense_runs, 0.0,
             "work for all of it, in place of minutes: FLOPs of so many dense runs, which is the "
             "same on any machine");
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
  sub->add_option(
         "--held-out", flags->held_out,
         "file with the prompts of the check (default: half of the prompts, parted by difficulty)")
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
