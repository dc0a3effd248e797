// SPDX-License-Identifier: Apache-2.0
#include "tools/draw_report.h"

#include "reports/html.h"
#include "reports/html_sections.h"
#include "tools/report_text.h"
#include "tools/table.h"

namespace flashomni::tools {

Result<std::string> draw_report(const std::string& command, const Runtime& runtime,
                                const TextToImageRequest& request, const StrategyChoice& choice,
                                const TextToImageResult& result) {
  const RunReport& r = result.report;
  const RunDetail detail = detail_of(r);
  std::vector<html::CaptionedPicture> pictures = {{request.prompt, result.image}};
  if (!request.reference.rgb.empty()) {
    pictures.insert(pictures.begin(), {"the picture that was edited", request.reference});
  }
  FO_ASSIGN_OR_RETURN(const std::string images,
                      html::pictures(pictures, pictures.size() > 1 ? "" : "one"));
  FO_ASSIGN_OR_RETURN(const std::string maps, html::symbol_maps(result.snapshots, r.layer_names));
  const double flops = r.flops_dense > 0 ? r.flops_skipped / r.flops_dense : 0;

  std::vector<std::pair<std::string, std::string>> facts = {
      {"strategy", strategy_text(choice)},
      {"seconds", fixed(result.seconds, 2)},
      {"steps", std::to_string(request.steps)},
      {"size", std::to_string(request.width) + " x " + std::to_string(request.height)},
      {"seed", std::to_string(request.seed)},
      {"guidance", fixed(request.guidance, 2)},
      {"attention left out", percent(r.attention_sparsity)},
      {"in Dispatch steps", percent(r.dispatch_sparsity)},
      {"GEMM-Q", percent(r.gemm_q_sparsity)},
      {"GEMM-O", percent(r.gemm_o_sparsity)},
      {"layers reused whole", percent(r.degraded_share)},
      {"FLOPs left out", percent(flops)},
      {"cache, MiB", mebibytes(r.peak_cache_bytes)}};
  if (r.softmax_skip_share > 0) {
    facts.emplace_back("below the softmax threshold", percent(r.softmax_skip_share));
  }
  if (r.host_waits > 0) facts.emplace_back("waits inside steps", std::to_string(r.host_waits));
  std::string body = html::section("Picture", images + html::facts(facts));
  body += html::section("What ran dense", html::fallbacks(r.fallbacks));
  body += html::section("Steps and layers", html::run_charts(detail));
  body += html::section("Symbols", maps);
  body += html::section("Memory", html::memory_table(detail));
  body += html::section("Strategy", html::config(choice));
  body += html::section("How it was made", html::origin(command, origin_of(runtime)));
  return html::page(request.prompt, body);
}

}  // namespace flashomni::tools
