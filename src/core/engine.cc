// SPDX-License-Identifier: Apache-2.0
//
// The Update-Dispatch engine: runs and steps, and what each layer does in them.
#include "flashomni/engine.h"

#include <algorithm>
#include <cstring>

#include "core/engine_impl.h"
#include "core/report.h"

namespace flashomni {
namespace {

using Clock = std::chrono::steady_clock;

}  // namespace

Engine::Engine(Backend& backend, std::unique_ptr<Strategy> strategy, const EngineOptions& options)
    : impl_(std::make_unique<Impl>(backend)) {
  impl_->strategy = std::move(strategy);
  impl_->options = options;
}

// Counts of symbols may still be on their way to the states that go now.
Engine::~Engine() {
  (void)impl_->backend.synchronize(impl_->exec);
  impl_->backend.forget_graphs();
}

Status Engine::begin_run(const RunInfo& run, std::vector<LayerDesc> layers, const Exec& exec) {
  Impl& e = *impl_;
  if (run.steps < 1)
    return invalid_argument("steps is " + std::to_string(run.steps) + ", wanted >= 1");
  if (run.streams < 1) {
    return invalid_argument("streams is " + std::to_string(run.streams) + ", wanted >= 1");
  }
  if (run.layers != static_cast<int>(layers.size())) {
    return invalid_argument("run names " + std::to_string(run.layers) + " layers, got " +
                            std::to_string(layers.size()) + " descriptions");
  }
  e.backend.forget_graphs();
  e.exec = exec;
  e.run = run;
  e.layers = std::move(layers);
  e.states.clear();
  for (auto* b : {&e.scratch, &e.work_memory, &e.sums_memory, &e.all_cached_memory,
                  &e.all_cached_plan_memory, &e.next_factor}) {
    b->reset();
  }
  e.last_factor.reset();
  e.alias_memory.clear();
  e.late_plans.clear();
  e.late_counts.clear();
  e.skip = {};
  e.snapshots.clear();
  e.report = {};
  e.run.layer_names.clear();
  for (const LayerDesc& d : e.layers) e.run.layer_names.push_back(d.name);
  e.report.layer_names = e.run.layer_names;
  e.step = e.last_update = -1;
  e.stream = 0;
  e.states.resize(size_t(run.streams) * e.layers.size());
  e.sparse = e.strategy && std::strcmp(e.strategy->name(), "dense") != 0;
  e.cache = {};
  e.left_out.assign(e.layers.size(), false);
  if (e.sparse) {
    FO_ASSIGN_OR_RETURN(const std::vector<int> order, e.strategy->token_order(run.sequence));
    if (order != run.token_order) {
      return unsupported("strategy " + std::string(e.strategy->name()) +
                         " wants the vision tokens in another order, which this model does not "
                         "apply");
    }
    FO_RETURN_IF_ERROR(e.strategy->begin_run(e.run));
    e.cache = e.strategy->cache_spec();
    e.cache.degrade = e.cache.degrade && e.options.degrade;
    e.cache.modules = e.cache.modules && e.options.degrade;
    FO_RETURN_IF_ERROR(e.check_cache_spec());
    FO_RETURN_IF_ERROR(e.begin_blocks());
    const std::string reason = e.strategy->dense_reason();
    if (!reason.empty()) add_fallback(e.report.fallbacks, "run", reason);
    for (const LayerDesc& d : e.layers) {
      if (e.cache.features && !d.dense_gemm_q.empty()) {
        add_fallback(e.report.fallbacks, "GEMM-Q", d.dense_gemm_q);
      }
    }
    SkipSpec skip_spec = e.strategy->skip_spec();
    FO_RETURN_IF_ERROR(e.plan_cache(skip_spec));
    for (size_t i = 0; i < e.states.size(); ++i) {
      const size_t layer = i % e.layers.size();
      if (e.left_out[layer]) continue;
      FO_RETURN_IF_ERROR(e.allocate_state(e.states[i], e.layers[layer]));
    }
    FO_RETURN_IF_ERROR(e.allocate_shared());
    FO_RETURN_IF_ERROR(e.skip.begin_run(e.backend, skip_spec, e.run,
                                        e.layers.empty() ? 0 : e.layers[0].model_width));
    FO_RETURN_IF_ERROR(e.strategy->prepare(e.backend, exec));
  }
  e.update_ledger();
  return ok_status();
}

void Engine::set_exec(const Exec& exec) {
  impl_->exec = exec;
}

Result<StepKind> Engine::begin_step(int step) {
  Impl& e = *impl_;
  if (step != e.step + 1 || step >= e.run.steps) {
    return invalid_argument("step " + std::to_string(step) + " after step " +
                            std::to_string(e.step) + " of a run of " + std::to_string(e.run.steps));
  }
  e.step = step;
  FO_RETURN_IF_ERROR(e.plan_late());  // of a step that was not ended
  FO_RETURN_IF_ERROR(e.decide_degrading());
  e.kind = e.sparse ? e.strategy->begin_step(e.context()) : StepKind::kFull;
  if (e.kind == StepKind::kSkipModel && e.report.cache_budget.skip_left_out) {
    e.kind = StepKind::kFull;
  }
  if (e.kind == StepKind::kSkipModel && !e.skip.enabled()) {
    return internal_error("strategy " + std::string(e.strategy->name()) +
                          " skips a step without a skip_spec");
  }
  e.skip.begin_step(e.kind == StepKind::kSkipModel);
  // Until the layers before the skippable ones have run, such a step is like any other.
  if (e.kind == StepKind::kSkipModel) e.kind = StepKind::kFull;
  if (e.kind == StepKind::kUpdate) e.last_update = step;

  if (e.report.plain_steps == step && e.is_plain_step()) ++e.report.plain_steps;

  StepRecord r;
  r.step = step;
  r.kind = e.kind;
  r.layers.resize(e.states.size());
  e.report.steps.push_back(std::move(r));
  e.step_start = Clock::now();
  return e.kind;
}

void Engine::begin_stream(int stream) {
  impl_->stream = stream;
}

Status Engine::evaluate(int stream, const std::function<Status()>& model) {
  Impl& e = *impl_;
  begin_stream(stream);
  GraphUse& use = e.report.graphs;
  ++use.evaluations;
  const auto one_by_one = [&](const std::string& reason) {
    add_fallback(use.reasons, std::string(step_kind_name(e.kind)) + " step", reason);
  };
  const bool update = e.kind == StepKind::kUpdate;
  if (!e.options.graphs || update) {
    one_by_one(update ? "symbols and caches are rebuilt" : "graphs are switched off");
    return model();
  }
  FO_RETURN_IF_ERROR(e.backend.begin_batch(e.exec));
  const Status queued = model();
  // Also after an error: no batch may stay open.
  const Result<BatchOutcome> ended = e.backend.end_batch();
  FO_RETURN_IF_ERROR(queued);
  FO_RETURN_IF_ERROR(ended.status());
  use.replayed += ended->replayed;
  use.captured += ended->captured;
  if (!ended->replayed) one_by_one(ended->reason);
  return ok_status();
}

bool Engine::wants_probe() const {
  return impl_->skip.wants_probe(impl_->stream);
}

Status Engine::probe_input(const TensorView& x) {
  return impl_->skip.probe_input(impl_->exec, x);
}

Result<int> Engine::next_layer(int layer, const TensorView& x) {
  Impl& e = *impl_;
  if (!e.skip.enabled()) return layer;
  FO_ASSIGN_OR_RETURN(const int next,
                      e.skip.next_layer(e.exec, *e.strategy, e.context(), e.stream, layer, x));
  for (int l = layer; l < next; ++l) e.record(l).kind = LayerKind::kSkipped;
  if (next > layer) e.report.steps.back().kind = StepKind::kSkipModel;
  return next;
}

// The strategy's wish for this layer, or why it cannot be had.
LayerAction Engine::Impl::resolve_action(int layer) {
  const LayerState& s = state(layer);
  auto dense = [&](const char* reason) {
    add_fallback(report.fallbacks, "layer " + layers[size_t(layer)].name, reason);
    return LayerAction::kDense;
  };
  if (!sparse) return LayerAction::kDense;
  LayerAction a = strategy->layer_action(context(), layer, stream);
  if (left_out[size_t(layer)]) return LayerAction::kDense;  // reported when the run began
  if (a == LayerAction::kFollow) {
    if (kind == StepKind::kFull) return LayerAction::kDense;
    if (kind == StepKind::kUpdate) return LayerAction::kUpdate;
    if (s.degraded) return LayerAction::kReuse;
    if (s.has_symbols) return LayerAction::kFollow;
    return dense("a Dispatch step came before any Update built symbols");
  }
  if (a == LayerAction::kReuse && s.modules.empty()) {
    return dense("module outputs were to be reused, and none can be kept here");
  }
  if (a == LayerAction::kReuse &&
      !std::all_of(s.modules.begin(), s.modules.end(), [](const auto& m) { return m.valid(); })) {
    return dense("module outputs were to be reused before any were stored");
  }
  if (a == LayerAction::kCached && !s.features.valid()) {
    return dense("an attention output was to be reused before any was stored");
  }
  if (a == LayerAction::kAlias && (stream == 0 || alias_memory.empty())) {
    return dense("an attention output was to be shared, but there is one guidance stream");
  }
  return a;
}

// Whether Full steps refresh the caches by now.
bool Engine::Impl::is_primed() const {
  return cache.refresh_full_from >= 0 && step >= cache.refresh_full_from;
}

// Whether this layer refreshes its caches in this step. The last step's would never be read.
bool Engine::Impl::refreshes(const LayerState& s) const {
  if (step == run.steps - 1) return false;
  return s.action == LayerAction::kUpdate ||
         (kind == StepKind::kFull && is_primed() && s.action == LayerAction::kDense);
}

bool Engine::Impl::is_plain_step() {
  if (!sparse) return true;
  // In another order sums round differently.
  if (!run.token_order.empty()) return false;
  if (kind != StepKind::kFull || skip.enabled() || is_primed()) return false;
  for (int s = 0; s < run.streams; ++s) {
    for (int l = 0; l < static_cast<int>(layers.size()); ++l) {
      const LayerAction a = strategy->layer_action(context(), l, s);
      if (a != LayerAction::kFollow && a != LayerAction::kDense) return false;
    }
  }
  return true;
}

LayerKind Engine::begin_layer(int layer) {
  Impl& e = *impl_;
  LayerState& s = e.state(layer);
  LayerRecord& r = e.record(layer);
  e.backend.set_scope(e.layers[size_t(layer)].name);
  s.action = e.resolve_action(layer);
  s.measured = false;
  switch (s.action) {
    case LayerAction::kDense:
      break;
    case LayerAction::kUpdate:
      if (!s.degraded) r.kind = LayerKind::kUpdate;
      break;
    case LayerAction::kFollow:
    case LayerAction::kRebuild:
      r.kind = LayerKind::kSparse;
      r.counts = s.counts;  // of rebuilt symbols: once the step has ended
      break;
    case LayerAction::kReuse:
      r.kind = LayerKind::kDegraded;
      break;
    case LayerAction::kCached:
    case LayerAction::kAlias: {
      r.kind = s.action == LayerAction::kCached ? LayerKind::kSparse : LayerKind::kAliased;
      const SymbolGeometry g = e.geometry();
      r.counts = {};
      r.counts.rows = int64_t{g.batch} * g.heads * g.num_q_blocks();
      r.counts.pairs = r.counts.rows * g.num_kv_blocks();
      break;
    }
  }
  return r.kind;
}

bool Engine::wants_keys(int layer) const {
  const LayerState& s = impl_->state(layer);
  if (s.action == LayerAction::kCached || s.action == LayerAction::kAlias) return false;
  // The counts of symbols built in earlier steps are known by now.
  return !(s.action == LayerAction::kFollow && s.built_step < impl_->step &&
           s.counts.active_rows == 0);
}

Status Engine::end_step() {
  Impl& e = *impl_;
  FO_RETURN_IF_ERROR(e.plan_late());
  FO_RETURN_IF_ERROR(e.backend.synchronize(e.exec));
  StepRecord& r = e.report.steps.back();
  r.seconds = std::chrono::duration<double>(Clock::now() - e.step_start).count();
  if (e.skip.enabled() && !e.skip.was_asked(e.run.streams)) {
    return unsupported("strategy " + std::string(e.strategy->name()) +
                       " skips layers of a step, which this model does not offer");
  }
  for (size_t i = 0; i < e.states.size(); ++i) {
    LayerState& s = e.states[i];
    const int layer = static_cast<int>(i % e.layers.size());
    const int stream = static_cast<int>(i / e.layers.size());
    if (s.measured) {
      e.strategy->feedback(e.context(), layer, stream, s.forecast_distance,
                           s.forecast_error.relative());
      s.measured = false;
    }
    if (s.has_symbols && s.built_step == e.step) {
      r.layers[i].counts = s.counts;
      if (s.counts.active_pairs == s.counts.pairs) {
        add_fallback(e.report.fallbacks, "layer " + e.layers[size_t(layer)].name,
                     "the strategy found nothing to cache or skip at an Update");
      }
    }
  }
  return ok_status();
}

Status Engine::end_known_step(double seconds) {
  Impl& e = *impl_;
  if (e.report.plain_steps != e.step + 1) {
    return invalid_argument("step " + std::to_string(e.step) +
                            " is not like a dense one, it has to be computed");
  }
  FO_RETURN_IF_ERROR(e.backend.synchronize(e.exec));
  e.report.steps.back().seconds = seconds;
  return ok_status();
}

Status Engine::end_run() {
  Impl& e = *impl_;
  if (e.sparse) {
    const bool any = std::any_of(e.report.steps.begin(), e.report.steps.end(), [](const auto& s) {
      return s.kind == StepKind::kDispatch || s.kind == StepKind::kSkipModel;
    });
    if (!any) {
      add_fallback(e.report.fallbacks, "run",
                   "no Dispatch step (and none skipped) in " +
                       std::to_string(e.report.steps.size()) +
                       " steps: all were warm-up, Update or the last step");
    }
  }
  e.report.host_waits = e.skip.waits();
  e.backend.forget_graphs();  // they name memory of this run
  summarize(e.layers, e.report);
  return ok_status();
}

const RunReport& Engine::report() const {
  return impl_->report;
}

const std::vector<SymbolSnapshot>& Engine::snapshots() const {
  return impl_->snapshots;
}

}  // namespace flashomni
