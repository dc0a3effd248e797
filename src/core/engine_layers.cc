// SPDX-License-Identifier: Apache-2.0
//
// The work of one layer: projections, attention and module outputs, dense, refreshing, sparse or
// reused.
#include <algorithm>

#include "core/engine_impl.h"

namespace flashomni {

void Engine::Impl::follow_symbols(int layer, GemmQParams& p) {
  const LayerState& s = state(layer);
  if (s.action != LayerAction::kFollow || !cache.features || !options.sparse_gemm_q) return;
  p.symbols = s.symbols;
  p.plan = s.plan;
  record(layer).sparse_q = true;
}

Status Engine::project_q(int layer, GemmQParams p) {
  Impl& e = *impl_;
  if (!wants_keys(layer)) {
    e.record(layer).sparse_q = true;
    return ok_status();
  }
  e.follow_symbols(layer, p);
  return e.backend.gemm_q(e.exec, p);
}

Status Engine::project_qkv(int layer, GemmQkvParams p) {
  Impl& e = *impl_;
  if (!wants_keys(layer)) {
    e.record(layer).sparse_q = true;
    return ok_status();
  }
  e.follow_symbols(layer, p.q);
  return e.backend.gemm_qkv(e.exec, p);
}

// Of an Update's plan, the step itself reads at most what the bias planes are made with.
Status Engine::Impl::plan_symbols(LayerState& s) {
  const PlanParams p{s.symbols, s.plan};
  if (!update_backend || s.action != LayerAction::kUpdate || cache.residual) {
    FO_RETURN_IF_ERROR(backend.plan(exec, p));
    return backend.count_symbols(exec, {s.symbols, &s.counts});
  }
  late_plans.push_back(p);
  late_counts.push_back({s.symbols, &s.counts});
  if (!cache.features || !projected()) return ok_status();
  return update_backend->plan_projections(exec, p);
}

Status Engine::Impl::plan_late() {
  if (late_plans.empty()) return ok_status();
  FO_RETURN_IF_ERROR(update_backend->plan_all(exec, late_plans));
  FO_RETURN_IF_ERROR(update_backend->count_all(exec, late_counts));
  late_plans.clear();
  late_counts.clear();
  return ok_status();
}

Status Engine::Impl::build_symbols(int layer, const AttentionParams& p, BuildContext c) {
  LayerState& s = state(layer);
  c.backend = &backend;
  c.exec = exec;
  c.step = context();
  c.layer = layer;
  c.stream = stream;
  c.sequence = run.sequence;
  c.block_starts = block_starts;
  c.q = p.q;
  c.k = p.k;
  c.scratch = scratch ? scratch->data() : nullptr;
  FO_RETURN_IF_ERROR(strategy->build(c, s.symbols));
  const BlockRange reference = reference_blocks();
  if (options.keep_reference && reference.size() > 0) {
    FO_RETURN_IF_ERROR(backend.keep_columns(exec, {reference, s.symbols}));
  }
  FO_RETURN_IF_ERROR(plan_symbols(s));
  s.has_symbols = true;
  s.built_step = step;
  if (options.keep_symbols) {
    SymbolSnapshot snap{step, layer, stream, SparseSymbols(s.symbols.geometry, block_starts)};
    auto c_words = snap.symbols.c_words();
    auto s_words = snap.symbols.s_words();
    FO_RETURN_IF_ERROR(backend.download(exec, c_words.data(), s.symbols.c, c_words.size_bytes()));
    FO_RETURN_IF_ERROR(backend.download(exec, s_words.data(), s.symbols.s, s_words.size_bytes()));
    snapshots.push_back(std::move(snap));
  }
  return ok_status();
}

Status Engine::Impl::forecast(const TaylorSite& site, const TensorView& out) {
  TaylorForecastParams f{.count = site.count()};
  for (int m = 0; m < f.count; ++m) f.factors[m] = merge_heads(site.factor(m));
  site.coefficients(step, f.coefficients);
  f.out = merge_heads(out);
  return backend.taylor_forecast(exec, f);
}

// What the cache would have given for this step, and how far it is from the truth.
Status Engine::Impl::measure_forecast(LayerState& s, const TensorView& attention, BuildContext& c) {
  if (!cache.measure_forecast || !s.features.valid()) return ok_status();
  c.previous = s.features.factor(0);
  c.forecast = attention_view(*work_memory, backend.activation_dtype(), run.sequence);
  FO_RETURN_IF_ERROR(forecast(s.features, c.forecast));
  MeasureChangeParams m{.x = merge_heads(c.forecast), .y = merge_heads(attention)};
  const int64_t pieces =
      (m.x.size(1) + MeasureChangeParams::kRows - 1) / MeasureChangeParams::kRows;
  m.workspace = TensorView::contiguous(sums_memory->data(), DType::kF64, {m.x.size(0), pieces, 2});
  m.out = &s.forecast_error;
  s.measured = true;
  s.forecast_distance = step - s.features.last_step();
  return backend.measure_change(exec, m);
}

// ADD mode: dense minus sparse attention under the symbols just built. Tiles that the symbols cache
// hold the whole output, so that every head of every row has exactly one remembered addend.
Status Engine::Impl::remember_residual(LayerState& s, const AttentionParams& p) {
  const TensorView work = attention_view(*work_memory, backend.activation_dtype(), run.sequence);
  // Where sparse attention writes nothing: 0 with planes, the output itself without.
  const float untouched = cache.project_cached ? 0.f : 1.f;
  FO_RETURN_IF_ERROR(backend.combine(exec, {.x = p.out, .a = untouched, .out = work}));
  AttentionParams sparse_call = p;
  sparse_call.out = work;
  sparse_call.symbols = s.symbols;
  sparse_call.plan = s.plan;
  FO_RETURN_IF_ERROR(backend.attention(exec, sparse_call));
  FO_RETURN_IF_ERROR(
      backend.combine(exec, {.x = p.out, .y = work, .a = 1.f, .b = -1.f, .out = work}));
  TaylorSite& site = cache.project_cached ? s.features : s.residual;
  return site.refresh(backend, exec, work, step);
}

Status Engine::Impl::dense_attention(int layer, const AttentionParams& p) {
  LayerState& s = state(layer);
  FO_RETURN_IF_ERROR(backend.attention(exec, p));
  if (!refreshes(s) || s.degraded) return ok_status();
  BuildContext c;
  c.attention = p.out;
  FO_RETURN_IF_ERROR(measure_forecast(s, p.out, c));
  if (s.action == LayerAction::kUpdate && cache.symbols) {
    FO_RETURN_IF_ERROR(build_symbols(layer, p, c));
    if (cache.residual) FO_RETURN_IF_ERROR(remember_residual(s, p));
  }
  const bool holds_residual = cache.residual && cache.project_cached;
  if (!s.features.allocated() || holds_residual) return ok_status();
  return refresh_features(s, p.out);
}

// Whether all that is wanted of this layer's features in this step is bias planes: the cache can
// then take attention's output as it is, and slopes only where they are cached.
bool Engine::Impl::takes_output(const LayerState& s, const TensorView& out) const {
  if (!update_backend || s.action != LayerAction::kUpdate || !refreshes(s) || s.degraded) {
    return false;
  }
  if (!cache.symbols || !s.features.allocated() || !projected()) return false;
  if (cache.residual || cache.measure_forecast || !alias_memory.empty()) return false;
  if (cache.order > 1 || (cache.order == 1 && !next_factor)) return false;
  const TensorView& f = s.features.factor(0);
  return out.dtype == f.dtype && out.rank == f.rank &&
         std::equal(f.shape, f.shape + f.rank, out.shape);
}

TensorView Engine::attention_out(int layer, const TensorView& offered) const {
  const Impl& e = *impl_;
  const LayerState& s = impl_->state(layer);
  if (!e.takes_output(s, offered)) return offered;
  TensorView out = s.features.factor(0);
  if (e.cache.order > 0) out.data = e.next_factor->data();
  return out;
}

Status Engine::Impl::refresh_features(LayerState& s, const TensorView& out) {
  if (takes_output(s, out)) {
    if (out.data == s.features.factor(0).data) {
      s.features.note_written(step);
      return ok_status();
    }
    if (next_factor && out.data == next_factor->data()) {
      return s.features.exchange(*update_backend, exec, next_factor, s.symbols, step);
    }
  }
  return s.features.refresh(backend, exec, out, step);
}

Status Engine::Impl::sparse_attention(int layer, AttentionParams p) {
  LayerState& s = state(layer);
  if (s.action == LayerAction::kRebuild) FO_RETURN_IF_ERROR(build_symbols(layer, p, {}));
  const bool tiles = s.features.valid() && !projected();
  const bool add = tiles && s.residual.valid() && s.action != LayerAction::kCached;
  if (tiles) {
    // The dense projection needs every tile: forecast all, then overwrite the computed ones. In ADD
    // mode the residual is added to all in the end, so here it is taken from the cached ones.
    FO_RETURN_IF_ERROR(forecast(s.features, p.out));
    if (add) {
      FO_RETURN_IF_ERROR(backend.combine(
          exec, {.x = p.out, .y = s.residual.factor(0), .a = 1.f, .b = -1.f, .out = p.out}));
    }
  }
  if (s.action != LayerAction::kCached) {
    p.symbols = s.symbols;
    p.plan = s.plan;
    p.softmax_skip = static_cast<float>(strategy->softmax_skip());
    p.skip_counts = &record(layer).softmax;
    FO_RETURN_IF_ERROR(backend.attention(exec, p));
  }
  if (add) {
    FO_RETURN_IF_ERROR(backend.combine(
        exec, {.x = p.out, .y = s.residual.factor(0), .a = 1.f, .b = 1.f, .out = p.out}));
  }
  if (!cache.refresh_sparse || s.action == LayerAction::kCached) return ok_status();
  return s.features.refresh(backend, exec, p.out, step);
}

// The other guidance stream's output stands for this one's, and so does what it remembered.
Status Engine::Impl::aliased_attention(int layer, const AttentionParams& p) {
  LayerState& s = state(layer);
  const LayerState& first = states[size_t(layer)];
  const TensorView output =
      attention_view(*alias_memory[size_t(layer)], backend.activation_dtype(), run.sequence);
  FO_RETURN_IF_ERROR(backend.copy(exec, {.src = output, .dst = p.out}));
  if (s.residual.allocated() && first.residual.last_step() == step) {
    FO_RETURN_IF_ERROR(s.residual.refresh(backend, exec, first.residual.factor(0), step));
  }
  if (!s.features.allocated() || first.features.last_step() != step) return ok_status();
  return s.features.refresh(backend, exec, p.out, step);
}

Status Engine::attention(int layer, AttentionParams p) {
  Impl& e = *impl_;
  switch (e.record(layer).kind) {
    case LayerKind::kSparse:
      FO_RETURN_IF_ERROR(e.sparse_attention(layer, p));
      break;
    case LayerKind::kAliased:
      return e.aliased_attention(layer, p);
    default:
      FO_RETURN_IF_ERROR(e.dense_attention(layer, p));
  }
  if (e.stream != 0 || e.alias_memory.empty() || !e.alias_memory[size_t(layer)]) {
    return ok_status();
  }
  const TensorView kept =
      attention_view(*e.alias_memory[size_t(layer)], e.backend.activation_dtype(), e.run.sequence);
  return e.backend.copy(e.exec, {.src = p.out, .dst = kept});
}

GemmOParams Engine::Impl::with_planes(const LayerState& s, GemmOParams p,
                                      const SymbolsView& symbols, const PlanView& plan) const {
  p.symbols = symbols;
  p.plan = plan;
  p.num_planes = s.features.count();
  for (int m = 0; m < p.num_planes; ++m) p.planes[m] = s.planes[m];
  return p;
}

Status Engine::project_out(int layer, GemmOParams p) {
  Impl& e = *impl_;
  LayerState& s = e.state(layer);
  LayerRecord& r = e.record(layer);
  const bool planes = e.cache.features && e.projected();
  if (planes && r.kind == LayerKind::kUpdate && s.built_step == e.step) {
    GemmOUpdateParams u;
    for (int m = 0; m < s.features.count(); ++m) u.factors[m] = s.features.factor(m);
    if (!e.cache.residual) {
      u.base = e.with_planes(s, p, s.symbols, s.plan);
      return e.backend.gemm_o_update(e.exec, u);
    }
    // The remembered addends of all heads go into the planes; the output itself is a dense sum.
    u.base = e.with_planes(s, p, e.all_cached(), e.all_cached_plan());
    u.base.out = u.base.residual = u.base.gate = {};
    FO_RETURN_IF_ERROR(e.backend.gemm_o_update(e.exec, u));
    return e.backend.gemm_o(e.exec, p);
  }
  if (planes && s.action == LayerAction::kFollow && r.kind == LayerKind::kSparse) {
    p = e.with_planes(s, p, s.symbols, s.plan);
    s.features.coefficients(e.step, p.coefficients);
    r.sparse_o = true;
  }
  return e.backend.gemm_o(e.exec, p);
}

bool Engine::wants_modules(int layer) const {
  const LayerState& s = impl_->state(layer);
  return impl_->refreshes(s) && !s.modules.empty();
}

Status Engine::store_module(int layer, int site, const TensorView& value) {
  Impl& e = *impl_;
  return e.state(layer).modules[size_t(site)].refresh(e.backend, e.exec, value, e.step);
}

Status Engine::reuse_module(int layer, int site, const TensorView& gate,
                            const TensorView& residual) {
  Impl& e = *impl_;
  const TaylorSite& m = e.state(layer).modules[size_t(site)];
  if (!m.valid()) {
    return internal_error("module " + e.layers[size_t(layer)].sites[size_t(site)].name +
                          " of layer " + e.layers[size_t(layer)].name + " was never stored");
  }
  TaylorForecastParams f{.count = m.count()};
  for (int i = 0; i < f.count; ++i) f.factors[i] = m.factor(i);
  m.coefficients(e.step, f.coefficients);
  f.gate = gate;
  f.residual = residual;
  return e.backend.taylor_forecast(e.exec, f);
}

}  // namespace flashomni
