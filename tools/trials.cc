// SPDX-License-Identifier: Apache-2.0
#include "tools/trials.h"

#include <algorithm>
#include <limits>

#include "io/json.h"
#include "io/messages.h"
#include "pipelines/run_json.h"
#include "pipelines/symbols_trace.h"
#include "tools/signals.h"

namespace flashomni::tools {
namespace {

using nlohmann::json;

constexpr int kVersion = 1;

// What all trials of a folder have in common, the first line of its journal.
json header_json(const Runtime& runtime, const TextToImageRequest& base) {
  json settings = request_json(base);
  settings.erase("seed");
  return {{"flashomni_trials", kVersion},
          {"model", runtime.folder},
          {"backend", runtime.backend->info().name},
          {"settings", std::move(settings)}};
}

// Of every layer and stream only what the run ended with: what a report shows.
std::vector<SymbolSnapshot> last_symbols(const std::vector<SymbolSnapshot>& all) {
  std::vector<SymbolSnapshot> out;
  for (auto s = all.rbegin(); s != all.rend(); ++s) {
    const bool later = std::any_of(out.begin(), out.end(), [&](const SymbolSnapshot& o) {
      return o.layer == s->layer && o.stream == s->stream;
    });
    if (!later) out.push_back(*s);
  }
  std::reverse(out.begin(), out.end());
  return out;
}

std::string point_key(const std::string& key, const TrialPoint& point) {
  return json{key, point.prompt, point.seed}.dump(-1, ' ', false, json::error_handler_t::replace);
}

json figures_json(const Figures& f) {
  json out = to_json(f);
  out.erase("dense");
  out.erase("sparse");
  out["plain_share"] = f.plain_share;
  out["dense_seconds"] = f.dense_seconds;
  out["seconds"] = f.seconds;
  return out;
}

Figures read_figures(JsonFields& f, const json& object) {
  Figures out;
  out.dense_seconds = f.number("dense_seconds", 0, 0);
  out.seconds = f.number("seconds", 0, 0);
  out.psnr_db = f.boolean("identical", false) ? std::numeric_limits<double>::infinity()
                                              : f.number("psnr_db", 0);
  out.ssim = f.number("ssim", 0, -1, 1);
  out.attention_sparsity = f.number("attention_sparsity", 0, 0, 1);
  out.dispatch_sparsity = f.number("dispatch_sparsity", 0, 0, 1);
  out.gemm_q_sparsity = f.number("gemm_q_sparsity", 0, 0, 1);
  out.gemm_o_sparsity = f.number("gemm_o_sparsity", 0, 0, 1);
  out.degraded_share = f.number("degraded_share", 0, 0, 1);
  out.flops_skipped_share = f.number("flops_skipped_share", 0, 0, 1);
  out.plain_share = f.number("plain_share", 0, 0, 1);
  out.peak_cache_bytes = static_cast<size_t>(f.integer("peak_cache_bytes", 0, 0));
  const json fallbacks = object.value("fallbacks", json::array());
  for (const json& one : fallbacks) {
    if (!one.is_object()) continue;
    JsonFields g(one, "fallback");
    const std::string where = g.text("where", ""), reason = g.text("reason", "");
    const auto count = static_cast<int>(g.integer("count", 1, 1, INT32_MAX));
    out.fallbacks.push_back({where, reason, count});
  }
  return out;
}

}  // namespace

std::string trial_key(const StrategyChoice& choice) {
  StrategyChoice plain = choice;
  plain.preset.clear();
  return to_json(plain).dump();
}

json to_json(const Trial& t) {
  json out = {{"key", t.key},
              {"strategy", to_json(t.choice)},
              {"prompt", t.point.prompt},
              {"seed", t.point.seed},
              {"picture", t.picture},
              {"figures", figures_json(t.figures)}};
  if (!t.detail.empty()) out["detail"] = to_json(t.detail);
  if (!t.symbols.empty()) out["symbols"] = t.symbols;
  return out;
}

Result<Trial> parse_trial(const json& object, const std::string& source) {
  if (!object.is_object() || !object.contains("figures") || !object["figures"].is_object()) {
    return corrupt_file(source + ": not a trial, wanted an object with 'figures'");
  }
  Trial t;
  JsonFields f(object, source);
  for (const char* name : {"key", "strategy", "prompt", "seed"}) f.require(name);
  t.key = f.text("key", "");
  t.point.prompt = f.text("prompt", "");
  t.point.seed = static_cast<uint64_t>(f.integer("seed", 0));
  t.picture = f.text("picture", "");
  t.symbols = f.text("symbols", "");
  JsonFields g(object["figures"], source + ": figures");
  for (const char* name : {"seconds", "dense_seconds", "ssim", "attention_sparsity"}) {
    g.require(name);
  }
  t.figures = read_figures(g, object["figures"]);
  for (const Status& s : {f.status(), g.status()}) {
    if (!s.ok()) return corrupt_file(s.message());
  }
  FO_ASSIGN_OR_RETURN(t.detail, parse_detail(object.value("detail", json()), source + ": detail"));
  FO_ASSIGN_OR_RETURN(t.choice, parse_strategy_choice(object["strategy"], source));
  return t;
}

Result<Trials> Trials::open(Runtime& runtime, Progress& progress, const std::string& folder,
                            const TextToImageRequest& base) {
  FO_RETURN_IF_ERROR(prepare_folder(folder));
  const std::string path = folder + "/trials.jsonl";
  FO_ASSIGN_OR_RETURN(Journal journal, Journal::open(path, header_json(runtime, base)));
  const std::vector<json> entries = journal.entries();
  Trials out(runtime, progress, base, folder, std::move(journal));
  for (size_t i = 0; i < entries.size(); ++i) {
    const std::string where = path + ": line " + std::to_string(i + 2);
    FO_ASSIGN_OR_RETURN(Trial trial, parse_trial(entries[i], where));
    out.index(std::move(trial));
  }
  return out;
}

void Trials::index(Trial trial) {
  trials_.push_back(std::move(trial));
  const Trial& t = trials_.back();
  index_[point_key(t.key, t.point)] = &t;
}

const Trial* Trials::find(const std::string& key, const TrialPoint& point) const {
  const auto it = index_.find(point_key(key, point));
  return it == index_.end() ? nullptr : it->second;
}

Result<Trials::Run> Trials::draw(Runtime& runtime, const StrategyChoice* choice,
                                 const TrialPoint& point, const std::string& label,
                                 const Hopeless& hopeless, bool keep_symbols) {
  if (stop_requested()) return cancelled("stopped before " + label);
  TextToImageRequest request = base_;
  request.prompt = point.prompt;
  request.seed = point.seed;
  std::unique_ptr<Strategy> strategy;  // none: dense
  const std::string dense_point = point_key(kDenseKey, point);
  if (choice) {
    FO_ASSIGN_OR_RETURN(strategy, make_strategy(*choice));
    const auto known = dense_steps_.find(dense_point);
    if (known != dense_steps_.end()) request.known_steps = known->second;
  } else if (share_dense_steps_) {
    request.keep_steps = static_cast<int>(kSharedSteps * base_.steps);
  }
  bool ended = false;
  const auto callback = [&, shown = progress_->track(label)](const StepProgress& p) {
    ++steps_run_;
    if (!shown(p)) return false;
    ended = hopeless && hopeless(p);
    return !ended;
  };
  Result<TextToImageResult> result = runtime.pipeline->generate(
      request, std::move(strategy), EngineOptions{.keep_symbols = keep_symbols}, callback);
  progress_->clear();
  if (ended) return Run{{}, true};
  FO_RETURN_IF_ERROR(result.status());
  if (result->kept_steps) dense_steps_[dense_point] = result->kept_steps;
  return Run{{std::move(result->image), result->seconds, std::move(result->report),
              std::move(result->snapshots)},
             false};
}

Result<const Trial*> Trials::keep(Trial trial, const Measured* kept) {
  if (kept) {
    // Numbered by what is there already: the names of a resumed folder go on where it stopped.
    char name[40];
    std::snprintf(name, sizeof(name), "picture-%05zu.png", trials_.size() + 1);
    trial.picture = name;
    FO_RETURN_IF_ERROR(save_png(folder_ + "/" + name, kept->image));
    if (!kept->snapshots.empty()) {
      std::snprintf(name, sizeof(name), "symbols-%05zu.safetensors", trials_.size() + 1);
      trial.symbols = name;
      const SymbolTrace trace = make_trace(kept->report, last_symbols(kept->snapshots));
      FO_RETURN_IF_ERROR(save_trace(trace, folder_ + "/" + name));
    }
  }
  FO_RETURN_IF_ERROR(journal_.append(to_json(trial)));
  index(std::move(trial));
  return &trials_.back();
}

Result<const Trial*> Trials::run_dense(const TrialPoint& point, const std::string& label) {
  if (const Trial* done = find(kDenseKey, point)) return done;
  FO_ASSIGN_OR_RETURN(const Run run, draw(*runtime_, nullptr, point, label, {}));
  FO_ASSIGN_OR_RETURN(const Figures figures, compare(run.measured, run.measured));
  return keep({kDenseKey, {"dense", "", {}}, point, "", {}, "", figures}, &run.measured);
}

// The dense run of a point as comparisons need it; its picture comes from the folder.
Result<Measured> Trials::dense_of(const TrialPoint& point) const {
  const Trial* dense = find(kDenseKey, point);
  if (!dense) return internal_error("no dense trial of " + quote(point.prompt));
  Measured m;
  m.seconds = dense->figures.seconds;
  FO_ASSIGN_OR_RETURN(m.image, load_image(folder_ + "/" + dense->picture));
  return m;
}

Result<const Trial*> Trials::run(const StrategyChoice& choice, const TrialPoint& point,
                                 const std::string& label, bool keep_picture,
                                 const Hopeless& hopeless) {
  const std::string key = trial_key(choice);
  if (const Trial* done = find(key, point)) return done;
  FO_RETURN_IF_ERROR(run_dense(point, label + ": dense").status());
  FO_ASSIGN_OR_RETURN(const Run run,
                      draw(*runtime_, &choice, point, label, hopeless, keep_picture));
  if (run.ended) return static_cast<const Trial*>(nullptr);
  FO_ASSIGN_OR_RETURN(const Measured dense, dense_of(point));
  FO_ASSIGN_OR_RETURN(const Figures figures, compare(dense, run.measured));
  if (!keep_picture) return keep({key, choice, point, "", {}, "", figures}, nullptr);
  return keep({key, choice, point, "", detail_of(run.measured.report), "", figures}, &run.measured);
}

Result<const Trial*> Trials::run_noise_floor(Runtime& other, const TrialPoint& point) {
  if (const Trial* done = find(kNoiseKey, point)) return done;
  FO_RETURN_IF_ERROR(run_dense(point, "dense").status());
  FO_ASSIGN_OR_RETURN(const Run run, draw(other, nullptr, point, kNoiseKey, {}));
  FO_ASSIGN_OR_RETURN(const Measured dense, dense_of(point));
  FO_ASSIGN_OR_RETURN(const Figures figures, compare(dense, run.measured));
  return keep({kNoiseKey, {"dense", "", {}}, point, "", {}, "", figures}, nullptr);
}

Result<Runtime> open_noise_runtime(const ModelFlags& flags, const Runtime& main) {
  ModelFlags other = flags;
  const BackendInfo& info = main.backend->info();
  other.device = info.name;
  other.model = main.folder;
  if (info.name == "cpu") other.threads = info.threads > 1 ? info.threads - 1 : 2;
  return open_runtime(other);
}

}  // namespace flashomni::tools
