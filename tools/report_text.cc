// SPDX-License-Identifier: Apache-2.0
#include "tools/report_text.h"

#include <cstdio>
#include <map>

#include "tools/table.h"

namespace flashomni::tools {

std::string strategy_text(const StrategyChoice& choice) {
  return choice.preset.empty() ? choice.name : choice.name + " (" + choice.preset + ")";
}

std::string sparsity_text(const RunReport& r) {
  const double flops = r.flops_dense > 0 ? r.flops_skipped / r.flops_dense : 0;
  return percent(r.attention_sparsity) + " of attention skipped (" + percent(r.dispatch_sparsity) +
         " in Dispatch steps), GEMM-Q " + percent(r.gemm_q_sparsity) + ", GEMM-O " +
         percent(r.gemm_o_sparsity) + ", layers degraded " + percent(r.degraded_share) +
         ", FLOPs " + percent(flops) + ", cache " + mebibytes(r.peak_cache_bytes) + " MiB";
}

void print_fallbacks(const std::vector<Fallback>& fallbacks) {
  std::vector<Fallback> by_reason;  // with the first place of each
  std::map<std::string, size_t> index;
  std::vector<int> places;
  for (const Fallback& f : fallbacks) {
    const auto [it, is_new] = index.try_emplace(f.reason, by_reason.size());
    if (is_new) {
      by_reason.push_back(f);
      places.push_back(1);
      continue;
    }
    by_reason[it->second].count += f.count;
    ++places[it->second];
  }
  for (size_t i = 0; i < by_reason.size(); ++i) {
    const Fallback& f = by_reason[i];
    std::string where = f.where;
    if (places[i] > 1) where += " and " + std::to_string(places[i] - 1) + " more";
    const std::string times = f.count > 1 ? " (" + std::to_string(f.count) + " times)" : "";
    std::fprintf(stderr, "ran dense: %s: %s%s\n", where.c_str(), f.reason.c_str(), times.c_str());
  }
}

}  // namespace flashomni::tools
