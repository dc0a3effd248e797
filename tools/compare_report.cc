// SPDX-License-Identifier: Apache-2.0
#include "tools/compare_report.h"

#include <cmath>

#include "reports/html.h"
#include "reports/html_sections.h"
#include "tools/report_text.h"
#include "tools/table.h"

namespace flashomni::tools {

Result<std::string> compare_report(const std::string& command, const Runtime& runtime,
                                   const TextToImageRequest& settings, const StrategyChoice& choice,
                                   const std::vector<Comparison>& all) {
  std::vector<Figures> figures;
  std::vector<std::vector<std::string>> rows;
  for (const Comparison& c : all) {
    figures.push_back(c.figures);
    rows.push_back(table_row(c.prompt, c.figures));
  }
  const Figures m = mean(figures);
  if (all.size() > 1) rows.push_back(table_row("mean", m));

  std::string body =
      html::section("Figures", html::facts({{"strategy", strategy_text(choice)},
                                            {"speed-up", fixed(m.speedup(), 2) + "x"},
                                            {"PSNR, dB", fixed(m.psnr_db, 2)},
                                            {"SSIM", fixed(m.ssim, 4)},
                                            {"attention left out", percent(m.attention_sparsity)},
                                            {"FLOPs left out", percent(m.flops_skipped_share)},
                                            {"steps", std::to_string(settings.steps)},
                                            {"seed", std::to_string(settings.seed)}}) +
                                   "<br>" + html::table(table_header("prompt"), rows));
  body += html::section("What ran dense", html::fallbacks(m.fallbacks));
  for (size_t i = 0; i < all.size(); ++i) {
    const Comparison& c = all[i];
    const std::string gain = "their difference, times " + std::to_string(kDifferenceGain);
    FO_ASSIGN_OR_RETURN(
        const std::string images,
        html::pictures(
            {{"dense, " + fixed(c.dense.seconds, 2) + " s", c.dense.image},
             {strategy_text(choice) + ", " + fixed(c.sparse.seconds, 2) + " s", c.sparse.image},
             {gain, c.difference}}));
    const RunDetail detail = detail_of(c.sparse.report);
    std::string more = html::run_charts(detail) + "<h3>Memory</h3>\n" + html::memory_table(detail);
    if (!c.sparse.snapshots.empty()) {
      FO_ASSIGN_OR_RETURN(const std::string maps,
                          html::symbol_maps(c.sparse.snapshots, c.sparse.report.layer_names));
      more += "<h3>Symbols</h3>\n" + maps;
    }
    body += html::section(
        c.prompt,
        images + html::details("Steps, layers, memory" + std::string(i == 0 ? ", symbols" : ""),
                               more, i == 0));
  }
  body += html::section("Strategy", html::config(choice));
  body += html::section("How it was made", html::origin(command, origin_of(runtime)));
  return html::page("Dense and " + strategy_text(choice), body);
}

}  // namespace flashomni::tools
