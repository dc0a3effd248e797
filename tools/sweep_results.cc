// SPDX-License-Identifier: Apache-2.0
#include "tools/sweep_results.h"

#include <algorithm>
#include <cmath>

#include "pipelines/run_json.h"
#include "tools/pareto.h"
#include "tools/table.h"

namespace flashomni::tools {
namespace {

using nlohmann::json;

constexpr size_t kLabelColumns = 44;

double standard_error(const std::vector<Trial>& trials) {
  std::vector<double> values;
  for (const Trial& t : trials) {
    if (std::isfinite(t.figures.psnr_db)) values.push_back(t.figures.psnr_db);
  }
  if (values.size() < 2) return 0;
  double mean = 0, squares = 0;
  for (const double v : values) mean += v / double(values.size());
  for (const double v : values) squares += (v - mean) * (v - mean);
  return std::sqrt(squares / double(values.size() - 1) / double(values.size()));
}

std::string csv_cell(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string out = "\"";
  for (const char c : text) out += c == '"' ? std::string("\"\"") : std::string(1, c);
  return out + "\"";
}

std::string number_text(double x) {
  return std::isfinite(x) ? json(x).dump() : "";
}

int fallback_count(const Figures& f) {
  int n = 0;
  for (const Fallback& one : f.fallbacks) n += one.count;
  return n;
}

std::string csv_line(const std::string& label, const Trial& t) {
  const Figures& f = t.figures;
  std::string out;
  for (const std::string& cell :
       {label, t.choice.name, t.point.prompt, std::to_string(t.point.seed), number_text(f.seconds),
        number_text(f.dense_seconds), number_text(f.speedup()), number_text(f.psnr_db),
        std::string(std::isinf(f.psnr_db) ? "1" : "0"), number_text(f.ssim),
        number_text(f.attention_sparsity), number_text(f.dispatch_sparsity),
        number_text(f.gemm_q_sparsity), number_text(f.gemm_o_sparsity),
        number_text(f.degraded_share), number_text(f.flops_skipped_share),
        std::to_string(f.peak_cache_bytes), std::to_string(fallback_count(f)),
        t.choice.options.empty() ? std::string() : to_json(t.choice)["options"].dump()}) {
    out += (out.empty() ? "" : ",") + csv_cell(cell);
  }
  return out + "\n";
}

json front_flags(const SweepResults& results, size_t row) {
  const auto on = [&](SweepX x, SweepY y) {
    const std::vector<size_t> front = front_of(results, x, y, "");
    return std::find(front.begin(), front.end(), row) != front.end();
  };
  return {{"psnr_seconds", on(SweepX::kSeconds, SweepY::kPsnr)},
          {"psnr_sparsity", on(SweepX::kSparsity, SweepY::kPsnr)},
          {"ssim_seconds", on(SweepX::kSeconds, SweepY::kSsim)},
          {"ssim_sparsity", on(SweepX::kSparsity, SweepY::kSsim)}};
}

}  // namespace

double SweepResults::dense_seconds() const {
  double sum = 0;
  for (const Trial& t : dense) sum += t.figures.seconds;
  return dense.empty() ? 0 : sum / double(dense.size());
}

SweepResults collect(const Trials& trials, const std::vector<SweepConfig>& configs,
                     const std::vector<TrialPoint>& points,
                     const std::map<std::string, std::string>& failures) {
  SweepResults out;
  out.points = points;
  out.complete = true;
  for (const TrialPoint& p : points) {
    if (const Trial* t = trials.find(kDenseKey, p)) out.dense.push_back(*t);
    const Trial* noise = trials.find(kNoiseKey, p);
    if (noise && !out.noise_floor) out.noise_floor = *noise;
  }
  for (const SweepConfig& c : configs) {
    SweepRow row{c, {}, {}, 0, ""};
    const std::string key = trial_key(c.choice);
    std::vector<Figures> figures;
    for (const TrialPoint& p : points) {
      const Trial* t = trials.find(key, p);
      if (!t) continue;
      row.trials.push_back(*t);
      figures.push_back(t->figures);
    }
    out.complete = out.complete && row.trials.size() == points.size();
    const auto failed = failures.find(key);
    if (failed != failures.end()) row.failure = failed->second;
    if (figures.empty() && row.failure.empty()) continue;
    if (!figures.empty()) row.mean = mean(figures);
    row.psnr_deviation = standard_error(row.trials);
    out.rows.push_back(std::move(row));
  }
  return out;
}

std::string sweep_csv(const SweepResults& results) {
  std::string out =
      "label,strategy,prompt,seed,seconds,dense_seconds,speedup,psnr_db,identical,ssim,"
      "attention_sparsity,dispatch_sparsity,gemm_q_sparsity,gemm_o_sparsity,degraded_share,"
      "flops_skipped_share,peak_cache_bytes,fallbacks,options\n";
  for (const Trial& t : results.dense) out += csv_line(kDenseKey, t);
  if (results.noise_floor) out += csv_line(kNoiseKey, *results.noise_floor);
  for (const SweepRow& row : results.rows) {
    for (const Trial& t : row.trials) out += csv_line(row.config.label, t);
  }
  return out;
}

json sweep_json(const SweepResults& results) {
  json doc = {{"complete", results.complete},
              {"dense", {{"seconds", results.dense_seconds()}, {"runs", results.dense.size()}}},
              {"noise_floor", nullptr},
              {"configs", json::array()}};
  if (results.noise_floor) {
    const json all = to_json(results.noise_floor->figures);
    doc["noise_floor"] = {{"prompt", results.noise_floor->point.prompt},
                          {"seed", results.noise_floor->point.seed},
                          {"psnr_db", all["psnr_db"]},
                          {"identical", all["identical"]},
                          {"ssim", all["ssim"]}};
  }
  for (size_t i = 0; i < results.rows.size(); ++i) {
    const SweepRow& row = results.rows[i];
    json one = {{"label", row.config.label},
                {"curve", row.config.curve},
                {"config", to_json(row.config.choice)},
                {"runs", row.trials.size()}};
    if (!row.failure.empty()) one["failure"] = row.failure;
    if (!row.trials.empty()) {
      one.update(to_json(row.mean));
      one["psnr_standard_error_db"] = row.psnr_deviation;
      one["pareto"] = front_flags(results, i);
    }
    one["trials"] = json::array();
    for (const Trial& t : row.trials) {
      json trial = to_json(t);
      trial.erase("strategy");
      trial.erase("key");
      one["trials"].push_back(std::move(trial));
    }
    doc["configs"].push_back(std::move(one));
  }
  return doc;
}

std::string sweep_table(const SweepResults& results) {
  Table table({"config", "runs", "seconds", "speed-up", "PSNR dB", "+-", "SSIM", "attention",
               "FLOPs", "cache MiB", "front"});
  table.add({"dense", std::to_string(results.dense.size()), fixed(results.dense_seconds(), 2),
             "1.00x", "inf", "", "1.0000", percent(0), percent(0), mebibytes(0), ""});
  for (size_t i = 0; i < results.rows.size(); ++i) {
    const SweepRow& row = results.rows[i];
    const std::string name = shortened(row.config.label, kLabelColumns);
    if (row.trials.empty()) {
      table.add({name, "0", "-", "-", "-", "", "-", "-", "-", "-", "failed"});
      continue;
    }
    const Figures& f = row.mean;
    const json flags = front_flags(results, i);
    const bool time = flags["psnr_seconds"], sparsity = flags["psnr_sparsity"];
    table.add({name, std::to_string(row.trials.size()), fixed(f.seconds, 2),
               fixed(f.speedup(), 2) + "x", fixed(f.psnr_db, 2), fixed(row.psnr_deviation, 2),
               fixed(f.ssim, 4), percent(f.attention_sparsity), percent(f.flops_skipped_share),
               mebibytes(f.peak_cache_bytes),
               time && sparsity ? "both" : (time ? "seconds" : (sparsity ? "sparsity" : ""))});
  }
  return table.text();
}

std::vector<std::string> curves(const SweepResults& results) {
  std::vector<std::string> out;
  for (const SweepRow& row : results.rows) {
    if (std::find(out.begin(), out.end(), row.config.curve) == out.end()) {
      out.push_back(row.config.curve);
    }
  }
  return out;
}

std::vector<size_t> front_of(const SweepResults& results, SweepX x, SweepY y,
                             const std::string& curve) {
  std::vector<ParetoPoint> points;
  std::vector<size_t> rows;
  for (size_t i = 0; i < results.rows.size(); ++i) {
    const SweepRow& row = results.rows[i];
    if (row.trials.empty() || (!curve.empty() && row.config.curve != curve)) continue;
    const double quality = y == SweepY::kPsnr ? row.mean.psnr_db : row.mean.ssim;
    if (!std::isfinite(quality)) continue;
    points.push_back(
        {x == SweepX::kSeconds ? row.mean.seconds : -row.mean.attention_sparsity, quality});
    rows.push_back(i);
  }
  std::vector<size_t> out;
  for (const size_t p : pareto_front(points)) out.push_back(rows[p]);
  return out;
}

}  // namespace flashomni::tools
