// SPDX-License-Identifier: Apache-2.0
#include "pipelines/run_json.h"

namespace flashomni {

using nlohmann::json;

namespace {

// Share left out by a layer that keeps `density` when it runs sparse.
double left_out(LayerKind kind, double density) {
  if (kind == LayerKind::kDegraded || kind == LayerKind::kSkipped) return 1;
  return kind == LayerKind::kSparse || kind == LayerKind::kAliased ? 1 - density : 0;
}

}  // namespace

double attention_sparsity(const LayerRecord& r) {
  return left_out(r.kind, r.counts.pair_density());
}

double cached_sparsity(const LayerRecord& r) {
  return left_out(r.kind, r.counts.row_density());
}

json machine_json(const BackendInfo& info) {
  return {{"backend", info.name},
          {"device", info.device},
          {"isa", info.isa},
          {"threads", info.threads},
          {"memory_bytes", info.memory_bytes ? json(info.memory_bytes) : json()}};
}

json request_json(const TextToImageRequest& request) {
  return {{"steps", request.steps},
          {"width", request.width},
          {"height", request.height},
          {"guidance", request.guidance},
          {"negative_prompt", request.negative_prompt},
          {"seed", request.seed}};
}

json fallbacks_json(const std::vector<Fallback>& fallbacks) {
  json out = json::array();
  for (const Fallback& f : fallbacks) {
    out.push_back({{"where", f.where}, {"reason", f.reason}, {"count", f.count}});
  }
  return out;
}

json ledger_json(const MemoryLedger& l) {
  return {{"symbols", l.symbols},   {"plans", l.plans},
          {"features", l.features}, {"bias_planes", l.bias_planes},
          {"modules", l.modules},   {"residuals", l.residuals},
          {"scratch", l.scratch},   {"cache_total", l.cache_total()}};
}

json cache_budget_json(const RunReport& r) {
  const CacheBudget& b = r.cache_budget;
  if (b.limit == kNoCacheBudget) return {};
  json left_out = json::array();
  for (const int layer : b.left_out) {
    left_out.push_back({{"index", layer}, {"name", r.layer_names[size_t(layer)]}});
  }
  const auto change = [](int wanted, int kept) { return json{{"wanted", wanted}, {"kept", kept}}; };
  return {{"limit", b.limit},
          {"wanted", b.wanted},
          {"planned", b.planned},
          {"order", change(b.order_wanted, b.order)},
          {"module_order", change(b.module_order_wanted, b.module_order)},
          {"skip_order", change(b.skip_order_wanted, b.skip_order)},
          {"skip_left_out", b.skip_left_out},
          {"layers_left_out", std::move(left_out)}};
}

json graphs_json(const GraphUse& g) {
  return {{"evaluations", g.evaluations},
          {"replayed", g.replayed},
          {"captured", g.captured},
          {"one_by_one", fallbacks_json(g.reasons)}};
}

json summary_json(const RunReport& r) {
  return {{"attention_sparsity", r.attention_sparsity},
          {"dispatch_sparsity", r.dispatch_sparsity},
          {"cached_sparsity", r.cached_sparsity},
          {"gemm_q_sparsity", r.gemm_q_sparsity},
          {"gemm_o_sparsity", r.gemm_o_sparsity},
          {"degraded_share", r.degraded_share},
          {"skipped_share", r.skipped_share},
          {"softmax_skip_share", r.softmax_skip_share},
          {"host_waits", r.host_waits},
          {"flops_dense", r.flops_dense},
          {"flops_skipped", r.flops_skipped},
          {"peak_cache_bytes", r.peak_cache_bytes},
          {"cache_budget", cache_budget_json(r)},
          {"graphs", graphs_json(r.graphs)},
          {"fallbacks", fallbacks_json(r.fallbacks)}};
}

json steps_json(const RunReport& report) {
  json out = json::array();
  for (const StepRecord& step : report.steps) {
    json layers = json::object();
    for (const LayerRecord& layer : step.layers) {
      json& count = layers[layer_kind_name(layer.kind)];
      count = count.is_null() ? 1 : count.get<int>() + 1;
    }
    out.push_back({{"step", step.step},
                   {"kind", step_kind_name(step.kind)},
                   {"seconds", step.seconds},
                   {"attention_sparsity", step.attention_sparsity()},
                   {"layers", std::move(layers)}});
  }
  return out;
}

json layers_json(const RunReport& report) {
  const size_t num_layers = report.layer_names.size();
  json out = json::array();
  for (const StepRecord& step : report.steps) {
    json streams = json::array();
    for (size_t i = 0; i < step.layers.size(); ++i) {
      if (i % num_layers == 0) streams.push_back(json::array());
      const LayerRecord& layer = step.layers[i];
      streams.back().push_back({{"kind", layer_kind_name(layer.kind)},
                                {"attention_sparsity", attention_sparsity(layer)},
                                {"cached_sparsity", cached_sparsity(layer)}});
    }
    out.push_back(std::move(streams));
  }
  return out;
}

}  // namespace flashomni
