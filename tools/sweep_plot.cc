// SPDX-License-Identifier: Apache-2.0
//
// The Pareto plots of a sweep: PSNR and SSIM over seconds and over attention sparsity.
#include <algorithm>
#include <cmath>

#include "reports/number_text.h"
#include "tools/pictures.h"
#include "tools/plot.h"
#include "tools/sweep_results.h"

namespace flashomni::tools {
namespace {

constexpr int kPanelWidth = 860, kPanelHeight = 620;

double x_of(const SweepRow& row, SweepX x) {
  return x == SweepX::kSeconds ? row.mean.seconds : row.mean.attention_sparsity;
}

double y_of(const SweepRow& row, SweepY y) {
  return y == SweepY::kPsnr ? row.mean.psnr_db : row.mean.ssim;
}

// An interval a little wider than the values.
void span(const std::vector<double>& values, double least_width, double& low, double& high) {
  low = high = values.empty() ? 0 : values.front();
  for (const double v : values) {
    low = std::min(low, v);
    high = std::max(high, v);
  }
  const double margin = std::max(0.06 * (high - low), least_width);
  low -= margin;
  high += margin;
}

Image panel(const SweepResults& results, SweepX x, SweepY y) {
  Plot plot;
  const bool seconds = x == SweepX::kSeconds, psnr = y == SweepY::kPsnr;
  plot.title = std::string(psnr ? "PSNR" : "SSIM") + (seconds ? " over seconds" : " over sparsity");
  plot.x_label = seconds ? "seconds a picture" : "attention sparsity";
  plot.y_label = psnr ? "PSNR, dB" : "SSIM";
  plot.legend_right = !seconds;  // quality falls with sparsity and rises with seconds
  const double dense_x = seconds ? results.dense_seconds() : 0;

  std::vector<double> xs = {dense_x}, ys;
  for (const SweepRow& row : results.rows) {
    if (row.trials.empty() || !std::isfinite(y_of(row, y))) continue;
    xs.push_back(x_of(row, x));
    ys.push_back(y_of(row, y));
  }
  if (!psnr) ys.push_back(1);
  const Figures* noise = results.noise_floor ? &results.noise_floor->figures : nullptr;
  const double floor = noise ? (psnr ? noise->psnr_db : noise->ssim) : 0;
  const bool finite_floor = noise && std::isfinite(floor) && !std::isinf(noise->psnr_db);
  if (finite_floor) ys.push_back(floor);
  span(xs, seconds ? 0.05 * dense_x + 1e-3 : 0.02, plot.x_min, plot.x_max);
  span(ys, psnr ? 1 : 0.002, plot.y_min, plot.y_max);
  plot.x_min = std::max(seconds ? 0 : -0.02, plot.x_min);
  // Room for the legend above the curves.
  plot.y_max += (plot.y_max - plot.y_min) * 0.05 * double(curves(results).size() + 2);
  plot.x_ticks = round_ticks(plot.x_min, plot.x_max, 8);
  plot.y_ticks = round_ticks(plot.y_min, plot.y_max, 8);

  for (const std::string& curve : curves(results)) {
    PlotLine front{.name = curve};
    for (const size_t i : front_of(results, x, y, curve)) {
      front.x.push_back(x_of(results.rows[i], x));
      front.y.push_back(y_of(results.rows[i], y));
    }
    PlotLine all{.name = curve, .joined = false, .in_legend = false};
    for (const SweepRow& row : results.rows) {
      if (row.config.curve != curve || row.trials.empty() || !std::isfinite(y_of(row, y))) continue;
      all.x.push_back(x_of(row, x));
      all.y.push_back(y_of(row, y));
    }
    plot.lines.push_back(std::move(front));
    plot.lines.push_back(std::move(all));
  }
  plot.lines.push_back({.name = "dense",
                        .x = {dense_x, dense_x},
                        .y = {plot.y_min, plot.y_max},
                        .dashed = true,
                        .markers = false});
  if (finite_floor) {
    plot.lines.push_back({.name = "noise floor",
                          .x = {plot.x_min, plot.x_max},
                          .y = {floor, floor},
                          .dashed = true,
                          .markers = false});
  } else if (noise) {
    // Dense repeats bit for bit: every difference in this plot is the strategy's.
    plot.lines.back().name = "dense (noise floor: none)";
  }
  return draw_plot(plot, kPanelWidth, kPanelHeight);
}

}  // namespace

Image sweep_plot(const SweepResults& results) {
  const auto row = [&](SweepY y) {
    return std::vector<Image>{panel(results, SweepX::kSeconds, y),
                              panel(results, SweepX::kSparsity, y)};
  };
  return contact_sheet({row(SweepY::kPsnr), row(SweepY::kSsim)});
}

}  // namespace flashomni::tools
