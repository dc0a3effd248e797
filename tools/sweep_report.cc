// SPDX-License-Identifier: Apache-2.0
#include "tools/sweep_report.h"

#include <algorithm>
#include <cmath>

#include "pipelines/symbols_trace.h"
#include "reports/html.h"
#include "reports/html_charts.h"
#include "reports/html_sections.h"
#include "tools/table.h"

namespace flashomni::tools {
namespace {

html::Scatter scatter_of(const SweepResults& results, SweepX x, SweepY y) {
  html::Scatter out;
  const bool seconds = x == SweepX::kSeconds, psnr = y == SweepY::kPsnr;
  out.x_label = seconds ? "seconds a picture" : "attention sparsity";
  out.y_label = psnr ? "PSNR, dB" : "SSIM";
  out.marked_x = seconds ? results.dense_seconds() : 0;
  for (const std::string& curve : curves(results)) {
    html::ScatterCurve c{curve, {}, {}};
    const std::vector<size_t> front = front_of(results, x, y, curve);
    std::vector<size_t> index(results.rows.size(), 0);
    for (size_t i = 0; i < results.rows.size(); ++i) {
      const SweepRow& row = results.rows[i];
      const double quality = psnr ? row.mean.psnr_db : row.mean.ssim;
      if (row.config.curve != curve || row.trials.empty() || !std::isfinite(quality)) continue;
      index[i] = c.points.size();
      c.points.push_back({seconds ? row.mean.seconds : row.mean.attention_sparsity, quality,
                          row.config.label + ": " + fixed(row.mean.psnr_db, 2) + " dB, SSIM " +
                              fixed(row.mean.ssim, 4) + ", " + fixed(row.mean.seconds, 2) + " s, " +
                              percent(row.mean.attention_sparsity) + " left out"});
    }
    for (const size_t i : front) c.front.push_back(index[i]);
    out.curves.push_back(std::move(c));
  }
  return out;
}

std::string curves_section(const SweepResults& results) {
  std::string out;
  for (const SweepY y : {SweepY::kPsnr, SweepY::kSsim}) {
    for (const SweepX x : {SweepX::kSeconds, SweepX::kSparsity}) {
      const html::Scatter plot = scatter_of(results, x, y);
      out += "<h3>" + html::escape(plot.y_label + " over " + plot.x_label) + "</h3>\n" +
             html::scatter(plot) + html::curve_legend(plot.curves);
    }
  }
  const std::string floor =
      !results.noise_floor ? "not measured"
                           : (std::isinf(results.noise_floor->figures.psnr_db)
                                  ? "none, dense repeats bit for bit on another number of threads"
                                  : fixed(results.noise_floor->figures.psnr_db, 2) + " dB");
  return out +
         "<p class=\"quiet\">Lines join the configs that no other of their strategy beats. "
         "Noise floor: " +
         html::escape(floor) + ".</p>\n";
}

// The symbols that a kept run ended with.
Result<std::string> maps_of(const Trial& trial, const std::string& folder) {
  std::vector<SymbolSnapshot> snapshots;
  if (!trial.symbols.empty()) {
    FO_ASSIGN_OR_RETURN(SymbolTrace trace, load_trace(folder + "/" + trial.symbols));
    for (TraceEntry& e : trace.entries) {
      snapshots.push_back({e.step, e.layer, e.stream, std::move(e.symbols)});
    }
  }
  return html::last_symbol_maps(snapshots, trial.detail.layers);
}

std::string figures_table(const SweepResults& results) {
  std::vector<std::vector<std::string>> rows = {
      {"dense", std::to_string(results.dense.size()), fixed(results.dense_seconds(), 2), "1.00x",
       "inf", "", "1.0000", percent(0), percent(0), percent(0), mebibytes(0)}};
  for (const SweepRow& row : results.rows) {
    if (row.trials.empty()) continue;
    const Figures& f = row.mean;
    rows.push_back({row.config.label, std::to_string(row.trials.size()), fixed(f.seconds, 2),
                    fixed(f.speedup(), 2) + "x", fixed(f.psnr_db, 2), fixed(row.psnr_deviation, 2),
                    fixed(f.ssim, 4), percent(f.attention_sparsity), percent(f.degraded_share),
                    percent(f.flops_skipped_share), mebibytes(f.peak_cache_bytes)});
  }
  return html::table({"config", "runs", "seconds", "speed-up", "PSNR dB", "+-", "SSIM", "attention",
                      "reused", "FLOPs", "cache MiB"},
                     rows);
}

}  // namespace

Result<std::string> sweep_report(const std::string& command, const Runtime& runtime,
                                 const SweepResults& results, const std::string& folder) {
  std::vector<html::CaptionedPicture> pictures;
  std::string runs;
  std::vector<Fallback> fallbacks;
  if (!results.dense.empty()) {
    FO_ASSIGN_OR_RETURN(Image dense, load_image(folder + "/" + results.dense.front().picture));
    pictures.push_back({"dense", std::move(dense)});
  }
  for (const SweepRow& row : results.rows) {
    for (Fallback f : row.mean.fallbacks) {
      f.where = row.config.label + ", " + f.where;
      fallbacks.push_back(std::move(f));
    }
    if (!row.failure.empty()) {
      fallbacks.push_back({row.config.label, "failed: " + row.failure});
    }
    for (const Trial& t : row.trials) {
      if (t.picture.empty()) continue;
      FO_ASSIGN_OR_RETURN(Image image, load_image(folder + "/" + t.picture));
      pictures.push_back(
          {row.config.label + ", " + fixed(t.figures.psnr_db, 1) + " dB", std::move(image)});
      if (t.detail.empty()) continue;
      FO_ASSIGN_OR_RETURN(const std::string maps, maps_of(t, folder));
      runs +=
          html::details(row.config.label, html::run_charts(t.detail) +
                                              "<h3>Symbols at the end of the run</h3>\n" + maps +
                                              "<h3>Memory</h3>\n" + html::memory_table(t.detail));
    }
  }
  FO_ASSIGN_OR_RETURN(const std::string images, html::pictures(pictures, "many"));

  std::string body;
  if (!results.complete) {
    body += html::section("Not finished",
                          "<p class=\"warn\">Runs are missing; the same command "
                          "goes on.</p>\n");
  }
  body += html::section("Quality and cost", curves_section(results));
  body += html::section("Figures", figures_table(results));
  body += html::section("What ran dense or failed", html::fallbacks(fallbacks));
  if (!results.points.empty()) {
    body += html::section("Pictures: " + results.points.front().prompt, images);
  }
  if (!runs.empty())
    body += html::section("Steps, layers, symbols and memory of these pictures", runs);
  body += html::section("How it was made", html::origin(command, origin_of(runtime)));
  return html::page("Sweep of " + std::to_string(results.rows.size()) + " configs over " +
                        std::to_string(results.points.size()) + " pictures",
                    body);
}

}  // namespace flashomni::tools
