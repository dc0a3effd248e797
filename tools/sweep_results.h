// SPDX-License-Identifier: Apache-2.0
//
// What a sweep found: the trials of every config with their means, as CSV, JSON, a table and Pareto
// plots.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "io/image.h"
#include "tools/sweep_config.h"
#include "tools/trials.h"

namespace flashomni::tools {

// One config over the prompts and seeds that it has finished.
struct SweepRow {
  SweepConfig config;
  std::vector<Trial> trials;
  Figures mean;               // of the trials
  double psnr_deviation = 0;  // standard error of the mean PSNR, dB; 0 for fewer than two
  std::string failure;        // why trials are missing; empty: none is
};

struct SweepResults {
  std::vector<TrialPoint> points;
  std::vector<SweepRow> rows;  // those with a trial or a failure
  std::vector<Trial> dense;    // of the points
  std::optional<Trial> noise_floor;
  bool complete = false;

  double dense_seconds() const;  // mean
};

// Which finished trials belong to these configs and points.
SweepResults collect(const Trials& trials, const std::vector<SweepConfig>& configs,
                     const std::vector<TrialPoint>& points,
                     const std::map<std::string, std::string>& failures);

// One line a trial (RFC 4180), dense ones included, a header first.
std::string sweep_csv(const SweepResults& results);
// {"complete", "dense", "noise_floor", "configs": [means, "pareto": {...}, "trials"]}.
nlohmann::json sweep_json(const SweepResults& results);
std::string sweep_table(const SweepResults& results);

// The four axes pairs that the Pareto plots show.
enum class SweepX { kSeconds, kSparsity };
enum class SweepY { kPsnr, kSsim };
// Rows on the Pareto front of their own curve, or of all with an empty `curve`, by ascending cost.
// Rows whose pictures all equal the dense ones have no finite PSNR and are on no PSNR curve.
std::vector<size_t> front_of(const SweepResults& results, SweepX x, SweepY y,
                             const std::string& curve);
std::vector<std::string> curves(const SweepResults& results);
// PSNR and SSIM over seconds and over attention sparsity, one curve a strategy, dense and noise
// floor marked.
Image sweep_plot(const SweepResults& results);

}  // namespace flashomni::tools
