// SPDX-License-Identifier: Apache-2.0
#include "python/csrc/engine/merged_report.h"

#include <algorithm>

#include "core/report.h"

namespace flashomni::python {
namespace {

// Adds up weight * share and divides at the end.
struct Mean {
  double sum = 0, weight = 0;
  void add(double share, double w) {
    sum += share * w;
    weight += w;
  }
  double value() const { return weight > 0 ? sum / weight : 0; }
};

void add_bytes(MemoryLedger& to, const MemoryLedger& from) {
  to.symbols += from.symbols;
  to.plans += from.plans;
  to.features += from.features;
  to.bias_planes += from.bias_planes;
  to.modules += from.modules;
  to.scratch += from.scratch;
}

}  // namespace

RunReport merge_reports(const std::vector<LaneReport>& lanes) {
  RunReport out;
  Mean attention, dispatch, cached, gemm_q, gemm_o, degraded;
  for (const auto& [first, r] : lanes) {
    if (out.layer_names.empty()) out.layer_names = r.layer_names;
    double all_steps = 0, dispatch_steps = 0;
    for (const StepRecord& step : r.steps) {
      const int number = first + step.step;
      auto at = std::find_if(out.steps.begin(), out.steps.end(),
                             [&](const StepRecord& s) { return s.step >= number; });
      if (at == out.steps.end() || at->step != number) {
        at = out.steps.insert(at, StepRecord{number, step.kind, 0, {}});
      }
      at->seconds = std::max(at->seconds, step.seconds);
      at->layers.insert(at->layers.end(), step.layers.begin(), step.layers.end());
      all_steps += 1;
      dispatch_steps += step.kind == StepKind::kDispatch ? 1 : 0;
    }
    attention.add(r.attention_sparsity, all_steps);
    gemm_q.add(r.gemm_q_sparsity, all_steps);
    gemm_o.add(r.gemm_o_sparsity, all_steps);
    degraded.add(r.degraded_share, all_steps);
    dispatch.add(r.dispatch_sparsity, dispatch_steps);
    cached.add(r.cached_sparsity, dispatch_steps);
    out.flops_dense += r.flops_dense;
    out.flops_skipped += r.flops_skipped;
    out.peak_cache_bytes += r.peak_cache_bytes;
    add_bytes(out.ledger, r.ledger);
    for (const Fallback& f : r.fallbacks) {
      for (int i = 0; i < f.count; ++i) add_fallback(out.fallbacks, f.where, f.reason);
    }
  }
  out.attention_sparsity = attention.value();
  out.dispatch_sparsity = dispatch.value();
  out.cached_sparsity = cached.value();
  out.gemm_q_sparsity = gemm_q.value();
  out.gemm_o_sparsity = gemm_o.value();
  out.degraded_share = degraded.value();
  return out;
}

}  // namespace flashomni::python
