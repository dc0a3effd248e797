// SPDX-License-Identifier: Apache-2.0
#include "tools/ablation.h"

namespace flashomni::tools {

std::vector<Stage> ablation_stages(const StrategyChoice& choice, const EngineOptions& engine) {
  StrategyChoice not_degrading = choice;
  bool degrades = false;
  // The density below which layers degrade, and the share of layers that do.
  for (const char* option : {"S_q", "degraded"}) {
    const auto at = not_degrading.options.find(option);
    if (at == not_degrading.options.end() || at->second == OptionValue(0.0)) continue;
    at->second = 0.0;
    degrades = true;
  }
  EngineOptions attention = engine, with_q = engine;
  attention.sparse_gemm_q = attention.sparse_gemm_o = false;
  with_q.sparse_gemm_o = false;
  std::vector<Stage> stages = {{"attention", "attention", attention, not_degrading},
                               {"+ GEMM-Q", "gemm_q", with_q, not_degrading},
                               {"+ GEMM-O", "gemm_o", engine, not_degrading}};
  if (degrades) stages.push_back({"+ degrading", "degrade", engine, choice});
  return stages;
}

}  // namespace flashomni::tools
