// SPDX-License-Identifier: Apache-2.0
#include "tools/report_text.h"

#include <algorithm>
#include <cstdio>

#include "base/byte_size.h"
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
         ", FLOPs " + percent(flops) + ", cache " + mebibytes(r.peak_cache_bytes) + " MiB" +
         (r.softmax_skip_share > 0 ? ", products with values below the softmax threshold " +
                                         percent(r.softmax_skip_share)
                                   : "") +
         (r.host_waits > 0 ? ", " + std::to_string(r.host_waits) +
                                 " waits inside steps for a number to decide by"
                           : "");
}

void print_fallbacks(const std::vector<Fallback>& fallbacks) {
  struct Group {
    Fallback first;  // its count is that of all
    int places = 1;
  };
  std::vector<Group> groups;
  for (const Fallback& f : fallbacks) {
    const auto same = std::find_if(groups.begin(), groups.end(),
                                   [&](const Group& g) { return g.first.reason == f.reason; });
    if (same == groups.end()) {
      groups.push_back({f});
    } else {
      same->first.count += f.count;
      ++same->places;
    }
  }
  for (const auto& [f, places] : groups) {
    const std::string more = places > 1 ? " and " + std::to_string(places - 1) + " more" : "";
    const std::string times = f.count > 1 ? " (" + std::to_string(f.count) + " times)" : "";
    std::fprintf(stderr, "ran dense: %s%s: %s%s\n", f.where.c_str(), more.c_str(), f.reason.c_str(),
                 times.c_str());
  }
}

void print_cache_budget(const CacheBudget& b) {
  if (b.planned == b.wanted) return;
  std::string text = "cache budget " + byte_size_text(b.limit) + ": " + byte_size_text(b.wanted) +
                     " -> " + byte_size_text(b.planned);
  const auto order = [&](const char* what, int wanted, int kept) {
    if (wanted == kept) return;
    text += std::string(", ") + what + " of order " + std::to_string(wanted) + " -> " +
            std::to_string(kept);
  };
  order("features", b.order_wanted, b.order);
  order("module outputs", b.module_order_wanted, b.module_order);
  order("skipped steps", b.skip_order_wanted, b.skip_order);
  if (!b.left_out.empty()) text += ", " + std::to_string(b.left_out.size()) + " layers left out";
  std::fprintf(stderr, "%s\n", text.c_str());
}

}  // namespace flashomni::tools
