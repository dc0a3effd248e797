// SPDX-License-Identifier: Apache-2.0
//
// Inside of the engine: its state and its parts. Memory is in engine_memory.cc, runs and steps in
// engine.cc, the work of one layer in engine_layers.cc.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "core/layer_state.h"
#include "core/model_skip.h"
#include "core/update_backend.h"
#include "flashomni/engine.h"

namespace flashomni {

// [B, N, H, d] as [B, N, H*d]. REQUIRES contiguous heads.
inline TensorView merge_heads(TensorView v) {
  v.rank = 3;
  v.shape[2] *= v.shape[3];
  v.stride[2] = 1;
  return v;
}

// A contiguous tensor of one attention output over a buffer.
inline TensorView attention_view(const Buffer& buffer, DType dtype, const SequenceInfo& s) {
  return TensorView::contiguous(buffer.data(), dtype, {s.batch, s.tokens, s.heads, s.head_dim});
}

struct Engine::Impl {
  Backend& backend;
  UpdateBackend* update_backend;  // null: plans are made layer by layer
  std::unique_ptr<Strategy> strategy;
  EngineOptions options;

  Exec exec;
  RunInfo run;
  std::vector<LayerDesc> layers;
  CacheSpec cache;
  // Of the strategy's ragged blocks (Strategy::block_starts); empty and null for others.
  std::vector<int32_t> block_starts;
  std::unique_ptr<Buffer> starts_memory;
  std::vector<bool> left_out;      // by layer: the budget has no room for its cache
  bool sparse = false;             // the strategy may produce Dispatch steps
  std::vector<LayerState> states;  // [stream * layers + layer]
  // The highest Taylor factor of whatever layer is at work, when bias planes take it up at once.
  std::unique_ptr<Buffer> last_factor;
  // Where attention writes what becomes the lowest factor; the factor's former memory is next.
  std::unique_ptr<Buffer> next_factor;
  std::unique_ptr<Buffer> scratch;
  ModelSkip skip;
  // Intermediate attention outputs and, where the strategy asks, those of the first stream.
  std::unique_ptr<Buffer> work_memory, sums_memory, all_cached_memory, all_cached_plan_memory;
  std::vector<std::unique_ptr<Buffer>> alias_memory;  // by layer; null for those left out
  RunReport report;
  std::vector<SymbolSnapshot> snapshots;

  // Of the states whose symbols have no plan yet, and no counts.
  std::vector<PlanParams> late_plans;
  std::vector<CountSymbolsParams> late_counts;

  int step = -1;
  int stream = 0;
  int last_update = -1;
  StepKind kind = StepKind::kFull;
  std::chrono::steady_clock::time_point step_start;

  explicit Impl(Backend& b) : backend(b), update_backend(dynamic_cast<UpdateBackend*>(&b)) {
    if (update_backend && !update_backend->offers_update_work()) update_backend = nullptr;
  }

  LayerState& state(int layer) { return states[size_t(stream) * layers.size() + size_t(layer)]; }
  LayerRecord& record(int layer) {
    return report.steps.back().layers[size_t(stream) * layers.size() + size_t(layer)];
  }

  // Whether cached heads reach the output as projected bias planes.
  bool projected() const { return cache.project_cached && options.sparse_gemm_o; }
  StepContext context() const { return {step, run.steps, last_update}; }
  SymbolGeometry geometry() const;
  BlockRange reference_blocks() const;
  bool is_primed() const;
  bool is_plain_step();
  bool refreshes(const LayerState& s) const;
  LayerAction resolve_action(int layer);

  Status check_cache_spec() const;
  // Asks the strategy for ragged blocks and puts their starts into backend memory.
  Status begin_blocks();
  Status check_ragged_attention() const;
  // Settles what is kept, within the budget, and says what is not.
  Status plan_cache(SkipSpec& skip_spec);
  Status allocate_state(LayerState& s, const LayerDesc& desc);
  Status allocate_shared();
  void update_ledger();
  // What makes a query projection follow the symbols of its layer, if it may.
  void follow_symbols(int layer, GemmQParams& p);
  Status decide_degrading();
  Status build_symbols(int layer, const AttentionParams& p, BuildContext c);
  Status plan_symbols(LayerState& s);
  // Makes the plans and counts that plan_symbols() left for the end of the step.
  Status plan_late();
  bool takes_output(const LayerState& s, const TensorView& out) const;
  Status refresh_features(LayerState& s, const TensorView& out);
  Status forecast(const TaylorSite& site, const TensorView& out);
  Status measure_forecast(LayerState& s, const TensorView& attention, BuildContext& c);
  Status remember_residual(LayerState& s, const AttentionParams& p);
  Status dense_attention(int layer, const AttentionParams& p);
  Status sparse_attention(int layer, AttentionParams p);
  Status aliased_attention(int layer, const AttentionParams& p);
  GemmOParams with_planes(const LayerState& s, GemmOParams p, const SymbolsView& symbols,
                          const PlanView& plan) const;
  SymbolsView all_cached() const;
  PlanView all_cached_plan() const;
};

}  // namespace flashomni
