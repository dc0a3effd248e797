// SPDX-License-Identifier: Apache-2.0
#include "strategies/plan_strategy.h"

#include <algorithm>

#include "strategies/schedule.h"
#include "strategies/token_gap.h"

namespace flashomni::strategies {

Status PlanStrategy::begin_run(const RunInfo& run) {
  layers_ = run.layers;
  const int heads = run.sequence.heads;
  table_ = PlanTable(run.steps, run.layers, heads);
  FO_RETURN_IF_ERROR(fill(run, table_));
  for (int layer = 0; layer < layers_; ++layer) {
    // There is nothing to take from before the first full step.
    for (int step = 0; step < run.steps && !table_.all(step, layer, HeadAction::kFull); ++step) {
      if (!table_.any(step, layer, HeadAction::kCached) && !settings_.residual) continue;
      for (int h = 0; h < heads; ++h) table_.at(step, layer, h) = {};
      break;
    }
  }
  in_force_.assign(size_t(layers_) * size_t(run.streams), -1);
  patterns_.clear();
  pattern_.assign(size_t(run.steps) * size_t(layers_), -1);
  for (int layer = 0; layer < layers_; ++layer) {
    for (int step = 0; step < run.steps; ++step) {
      const int shown = table_.all(step, layer, HeadAction::kFull) ? after_full(step, layer) : step;
      pattern_[size_t(step) * size_t(layers_) + size_t(layer)] =
          patterns_.add(symbols_of(run.sequence, shown, layer));
    }
  }
  return ok_status();
}

// The step whose symbols a full step already builds: the next one that needs any before the layer
// is full again, since the residual of the full step belongs to it.
int PlanStrategy::after_full(int step, int layer) const {
  int cached = step;
  for (int next = step + 1; next < table_.steps(); ++next) {
    if (table_.all(next, layer, HeadAction::kFull)) break;
    if (!table_.all(next, layer, HeadAction::kCached)) return next;
    if (cached == step) cached = next;
  }
  return cached;
}

SparseSymbols PlanStrategy::symbols_of(const SequenceInfo& s, int step, int layer) const {
  SymbolGeometry g;
  g.batch = s.batch;
  g.heads = s.heads;
  g.q_tokens = g.kv_tokens = s.tokens;
  g.block_q = settings_.block_q;
  g.block_kv = settings_.block_kv;
  SparseSymbols out(g);
  const BlockRange text_q = settings_.protect_text ? text_blocks(s, g.block_q) : BlockRange{};
  const BlockRange text_kv = settings_.protect_text ? text_blocks(s, g.block_kv) : BlockRange{};
  for (int h = 0; h < g.heads; ++h) {
    const HeadPlan& plan = table_.at(step, layer, h);
    for (int b = 0; b < g.batch; ++b) {
      for (int i = 0; i < g.num_q_blocks(); ++i) {
        if (plan.action == HeadAction::kCached) out.set_c(b, h, i, false);
        if (plan.action != HeadAction::kWindow || text_q.contains(i)) continue;
        for (int j = 0; j < g.num_kv_blocks(); ++j) {
          const bool near = token_gap(s, g.block_q, i, g.block_kv, j) <= plan.window;
          if (!near && !text_kv.contains(j)) out.set_s(b, h, i, j, false);
        }
      }
    }
  }
  out.repair();
  return out;
}

std::string PlanStrategy::dense_reason() const {
  const bool any =
      table_.any(HeadAction::kWindow) || table_.any(HeadAction::kCached) || table_.any_alias();
  return any ? "" : "the plan leaves every head of every step full";
}

CacheSpec PlanStrategy::cache_spec() const {
  CacheSpec c;
  c.features = true;
  c.order = settings_.order;
  c.project_cached = false;  // S_c may change in any step
  c.residual = settings_.residual;
  c.alias = table_.any_alias();
  // With reuse as it is, the last output counts, whatever made it.
  c.refresh_sparse = settings_.order == 0;
  c.refresh_full_from = 0;
  return c;
}

// Full steps followed by others are Updates, the rest of them plain.
StepKind PlanStrategy::begin_step(const StepContext& step) {
  bool update = false;
  for (int layer = 0; layer < layers_; ++layer) {
    if (!table_.all(step.step, layer, HeadAction::kFull) || table_.alias(step.step, layer)) {
      return StepKind::kDispatch;
    }
    update = update || after_full(step.step, layer) != step.step;
  }
  return update ? StepKind::kUpdate : StepKind::kFull;
}

LayerAction PlanStrategy::layer_action(const StepContext& step, int layer, int stream) {
  if (stream > 0 && table_.alias(step.step, layer)) return LayerAction::kAlias;
  if (table_.all(step.step, layer, HeadAction::kFull)) {
    const bool update = after_full(step.step, layer) != step.step;
    return update ? LayerAction::kUpdate : LayerAction::kDense;
  }
  if (table_.all(step.step, layer, HeadAction::kCached)) return LayerAction::kCached;
  // Symbols in force already let GEMM-Q follow them.
  const bool in_force = in_force_[slot(layer, stream)] == pattern_of(step.step, layer);
  return in_force ? LayerAction::kFollow : LayerAction::kRebuild;
}

Status PlanStrategy::build(const BuildContext& c, SymbolsView out) {
  const int pattern = pattern_of(c.step.step, c.layer);
  in_force_[slot(c.layer, c.stream)] = pattern;
  return patterns_.put(c, pattern, out);
}

}  // namespace flashomni::strategies
