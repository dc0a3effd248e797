// SPDX-License-Identifier: Apache-2.0
#include "core/report.h"

namespace flashomni {
namespace {

// Shares of one layer-step that were not computed.
struct Skipped {
  double pairs = 0;  // of attention
  double rows = 0;   // of S_c
};

Skipped skipped_of(const LayerRecord& r) {
  if (r.kind == LayerKind::kDegraded || r.kind == LayerKind::kSkipped) return {1.0, 1.0};
  if (r.kind != LayerKind::kSparse && r.kind != LayerKind::kAliased) return {0.0, 0.0};
  return {1.0 - r.counts.pair_density(), 1.0 - r.counts.row_density()};
}

}  // namespace

const char* step_kind_name(StepKind kind) {
  switch (kind) {
    case StepKind::kFull:
      return "full";
    case StepKind::kUpdate:
      return "update";
    case StepKind::kDispatch:
      return "dispatch";
    case StepKind::kSkipModel:
      return "skip_model";
  }
  return "unknown";
}

const char* layer_kind_name(LayerKind kind) {
  switch (kind) {
    case LayerKind::kDense:
      return "dense";
    case LayerKind::kUpdate:
      return "update";
    case LayerKind::kSparse:
      return "sparse";
    case LayerKind::kDegraded:
      return "degraded";
    case LayerKind::kAliased:
      return "aliased";
    case LayerKind::kSkipped:
      return "skipped";
  }
  return "unknown";
}

double StepRecord::attention_sparsity() const {
  if (layers.empty()) return 0;
  double sum = 0;
  for (const LayerRecord& r : layers) sum += skipped_of(r).pairs;
  return sum / double(layers.size());
}

void add_fallback(std::vector<Fallback>& fallbacks, const std::string& where,
                  const std::string& reason) {
  for (Fallback& f : fallbacks) {
    if (f.where == where && f.reason == reason) {
      ++f.count;
      return;
    }
  }
  fallbacks.push_back({where, reason, 1});
}

void summarize(const std::vector<LayerDesc>& layers, RunReport& report) {
  double all = 0, dispatch = 0, pairs = 0, dispatch_pairs = 0, dispatch_rows = 0;
  double q = 0, o = 0, degraded = 0, skipped = 0;
  SoftmaxSkipCounts softmax;
  report.flops_dense = report.flops_skipped = 0;
  for (const StepRecord& step : report.steps) {
    for (size_t i = 0; i < step.layers.size(); ++i) {
      const LayerRecord& r = step.layers[i];
      const LayerDesc& d = layers[i % layers.size()];
      const Skipped s = skipped_of(r);
      const bool whole = r.kind == LayerKind::kDegraded || r.kind == LayerKind::kSkipped;
      const double q_share = whole || r.sparse_q ? s.rows : 0.0;
      const double o_share = whole || r.sparse_o ? s.rows : 0.0;
      all += 1;
      pairs += s.pairs;
      q += q_share;
      o += o_share;
      degraded += r.kind == LayerKind::kDegraded ? 1 : 0;
      skipped += r.kind == LayerKind::kSkipped ? 1 : 0;
      softmax.products += r.softmax.products;
      softmax.left_out += r.softmax.left_out;
      if (step.kind == StepKind::kDispatch || step.kind == StepKind::kSkipModel) {
        dispatch += 1;
        dispatch_pairs += s.pairs;
        dispatch_rows += s.rows;
      }
      report.flops_dense += d.flops_q + d.flops_attn + d.flops_out + d.flops_other;
      report.flops_skipped += q_share * d.flops_q + s.pairs * d.flops_attn + o_share * d.flops_out +
                              (whole ? d.flops_other : 0.0);
    }
  }
  auto share = [](double part, double whole) { return whole > 0 ? part / whole : 0.0; };
  report.attention_sparsity = share(pairs, all);
  report.dispatch_sparsity = share(dispatch_pairs, dispatch);
  report.cached_sparsity = share(dispatch_rows, dispatch);
  report.gemm_q_sparsity = share(q, all);
  report.gemm_o_sparsity = share(o, all);
  report.degraded_share = share(degraded, all);
  report.skipped_share = share(skipped, all);
  report.softmax_skip_share = softmax.share();
}

}  // namespace flashomni
