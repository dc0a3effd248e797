// SPDX-License-Identifier: Apache-2.0
//
// What the engine keeps for a run: allocation, the ledger, and what layers that degrade give back.
#include <algorithm>

#include "base/byte_size.h"
#include "core/block_range.h"
#include "core/cache_budget.h"
#include "core/engine_impl.h"
#include "core/report.h"
#include "core/symbols_view.h"

namespace flashomni {
namespace {

// Beside the cache: scratch, work lists, and what the driver takes for itself.
constexpr size_t kSpare = size_t{256} << 20;

}  // namespace

SymbolGeometry Engine::Impl::geometry() const {
  const SequenceInfo& q = run.sequence;
  SymbolGeometry g;
  g.batch = q.batch;
  g.heads = q.heads;
  g.q_tokens = g.kv_tokens = q.tokens;
  g.block_q = strategy->block_q();
  g.block_kv = strategy->block_kv();
  if (!block_starts.empty()) g.ragged_blocks = static_cast<int>(block_starts.size()) - 1;
  return g;
}

// Whether the backend has attention with these blocks, asked with addresses that stand for memory.
Status Engine::Impl::check_ragged_attention() const {
  alignas(256) static uint64_t stand_in[1];
  const SequenceInfo& q = run.sequence;
  AttentionParams p;
  p.q = p.k = p.v = p.out = TensorView::contiguous(stand_in, backend.activation_dtype(),
                                                   {q.batch, q.tokens, q.heads, q.head_dim});
  p.symbols = {geometry(), stand_in, stand_in, block_starts.data()};
  p.plan = {stand_in, backend.plan_bytes(geometry())};
  return backend.supports(p);
}

Status Engine::Impl::begin_blocks() {
  block_starts.clear();
  starts_memory.reset();
  FO_ASSIGN_OR_RETURN(std::vector<int32_t> starts, strategy->block_starts(run.sequence));
  if (starts.empty()) return ok_status();
  block_starts = std::move(starts);
  const std::string who = "strategy " + std::string(strategy->name()) + ": ";
  const auto named = [&](const Status& s) {
    return s.ok() ? s : Status(s.code(), who + s.message());
  };
  FO_RETURN_IF_ERROR(named(geometry().validate()));
  FO_RETURN_IF_ERROR(named(validate_starts(geometry(), block_starts)));
  if (cache.features) {
    return unsupported(who + "has ragged blocks, and the feature cache keeps blocks of one size");
  }
  if (strategy->softmax_skip() > 0) {
    return unsupported(who + "has ragged blocks, which a threshold on the softmax cannot have");
  }
  FO_RETURN_IF_ERROR(named(check_ragged_attention()));
  const size_t bytes = block_starts.size() * sizeof(int32_t);
  FO_ASSIGN_OR_RETURN(starts_memory, backend.allocate(bytes));
  return backend.upload(exec, starts_memory->data(), block_starts.data(), bytes);
}

// The kv blocks that hold any reference token.
BlockRange Engine::Impl::reference_blocks() const {
  const SequenceInfo& q = run.sequence;
  const int block = strategy->block_kv();
  if (q.reference_end <= q.reference_begin) return {};
  if (!block_starts.empty()) {
    return blocks_holding(block_starts, q.reference_begin, q.reference_end);
  }
  return {q.reference_begin / block, (q.reference_end + block - 1) / block};
}

// What combinations of CacheSpec mean nothing.
Status Engine::Impl::check_cache_spec() const {
  const std::string who = "strategy " + std::string(strategy->name()) + ": ";
  if (cache.residual && !cache.features) {
    return invalid_argument(who + "a residual is kept with the features, which are off");
  }
  if (cache.residual && cache.project_cached && !options.sparse_gemm_o) {
    return unsupported(who + "adds a projected residual, which needs the sparse output projection");
  }
  if (cache.residual && cache.project_cached && cache.measure_forecast) {
    return unsupported(who + "a projected residual has no forecast of the attention output");
  }
  return ok_status();
}

Status Engine::Impl::plan_cache(SkipSpec& skip_spec) {
  CacheRequest r{.cache = cache,
                 .skip = skip_spec,
                 .projected = projected(),
                 .sequence = run.sequence,
                 .streams = run.streams,
                 .dtype = backend.activation_dtype(),
                 .layers = &layers};
  if (cache.symbols) {
    const SymbolGeometry g = geometry();
    FO_RETURN_IF_ERROR(g.validate());
    r.symbol_bytes = size_t(g.total_c_words() + g.total_s_words()) * sizeof(uint64_t);
    r.plan_bytes = backend.plan_bytes(g);
  }
  CachePlan plan = fit_cache(r, options.cache_budget);
  report.free_bytes = backend.free_memory_bytes();
  if (report.free_bytes > 0 && plan.report.planned + kSpare > report.free_bytes) {
    return out_of_memory(
        "the cache of strategy " + std::string(strategy->name()) + " takes " +
        byte_size_text(plan.report.planned) + ", and beside weights and activations " +
        byte_size_text(report.free_bytes) + " of the device's " +
        byte_size_text(backend.info().memory_bytes) + " are free; wanted " +
        byte_size_text(kSpare) +
        " more than the cache, or a cache budget (--cache-budget) that leaves as much");
  }
  cache = plan.cache;
  skip_spec = plan.skip;
  left_out = plan.left_out;
  const std::string reason = over_budget(options.cache_budget);
  for (const int layer : plan.report.left_out) {
    add_fallback(report.fallbacks, "layer " + layers[size_t(layer)].name, "its cache " + reason);
  }
  if (plan.report.skip_left_out) {
    add_fallback(report.fallbacks, "skipped steps",
                 "the residual that stands for their layers " + reason);
  }
  report.cache_budget = std::move(plan.report);
  return ok_status();
}

Status Engine::Impl::allocate_state(LayerState& s, const LayerDesc& desc) {
  const SequenceInfo& q = run.sequence;
  const SymbolGeometry g = geometry();
  FO_RETURN_IF_ERROR(g.validate());

  if (cache.symbols) {
    const size_t c_bytes = size_t(g.total_c_words()) * sizeof(uint64_t);
    const size_t s_bytes = size_t(g.total_s_words()) * sizeof(uint64_t);
    FO_ASSIGN_OR_RETURN(s.symbol_memory, backend.allocate(c_bytes + s_bytes));
    s.symbols.geometry = g;
    s.symbols.c = static_cast<uint64_t*>(s.symbol_memory->data());
    s.symbols.s = s.symbols.c + g.total_c_words();
    if (starts_memory) s.symbols.starts = static_cast<const int32_t*>(starts_memory->data());
    FO_ASSIGN_OR_RETURN(s.plan_memory, backend.allocate(backend.plan_bytes(g)));
    s.plan = {s.plan_memory->data(), s.plan_memory->bytes()};
  }

  const DType dtype = backend.activation_dtype();
  if (cache.features) {
    TensorView last;
    if (projected()) {
      last = TensorView::contiguous(nullptr, dtype, {q.batch, q.tokens, q.heads, q.head_dim});
      // A strategy that looks at forecasts needs every factor of a layer between its refreshes.
      if (!last_factor && !cache.measure_forecast) {
        FO_ASSIGN_OR_RETURN(last_factor, backend.allocate(last.bytes()));
      }
      if (last_factor) last.data = last_factor->data();
      for (int m = 0; m <= cache.order; ++m) {
        s.planes[m] = TensorView::contiguous(nullptr, dtype, {q.batch, q.tokens, desc.model_width});
        FO_ASSIGN_OR_RETURN(auto memory, backend.allocate(s.planes[m].bytes()));
        s.planes[m].data = memory->data();
        s.plane_memory.push_back(std::move(memory));
      }
    }
    FO_RETURN_IF_ERROR(s.features.allocate(backend, dtype, {q.batch, q.tokens, q.heads, q.head_dim},
                                           cache.order, last));
  }
  if (cache.residual && !cache.project_cached) {
    FO_RETURN_IF_ERROR(
        s.residual.allocate(backend, dtype, {q.batch, q.tokens, q.heads, q.head_dim}, 0));
  }
  if (cache.degrade || cache.modules) {
    s.modules.resize(desc.sites.size());
    for (size_t i = 0; i < desc.sites.size(); ++i) {
      FO_RETURN_IF_ERROR(s.modules[i].allocate(
          backend, dtype, {q.batch, desc.sites[i].rows, desc.sites[i].width}, cache.degrade_order));
    }
  }
  return ok_status();
}

// What all layers share.
Status Engine::Impl::allocate_shared() {
  const SequenceInfo& q = run.sequence;
  const size_t output = size_t(q.batch) * size_t(q.tokens) * size_t(q.heads) * size_t(q.head_dim) *
                        dtype_bytes(backend.activation_dtype());
  if (cache.residual || cache.measure_forecast) {
    FO_ASSIGN_OR_RETURN(work_memory, backend.allocate(output));
  }
  if (cache.measure_forecast) {
    const size_t pieces = size_t(q.tokens) / MeasureChangeParams::kRows + 1;
    FO_ASSIGN_OR_RETURN(sums_memory,
                        backend.allocate(size_t(q.batch) * pieces * 2 * sizeof(double)));
  }
  if (cache.residual && cache.project_cached) {
    const SymbolGeometry g = geometry();
    const std::vector<uint64_t> zeros(size_t(g.total_c_words() + g.total_s_words()), 0);
    const size_t bytes = zeros.size() * sizeof(uint64_t);
    FO_ASSIGN_OR_RETURN(all_cached_memory, backend.allocate(bytes));
    FO_RETURN_IF_ERROR(backend.upload(exec, all_cached_memory->data(), zeros.data(), bytes));
    FO_ASSIGN_OR_RETURN(all_cached_plan_memory, backend.allocate(backend.plan_bytes(g)));
    FO_RETURN_IF_ERROR(backend.plan(exec, {all_cached(), all_cached_plan()}));
  }
  for (size_t i = 0; cache.alias && run.streams > 1 && i < layers.size(); ++i) {
    alias_memory.emplace_back();
    if (left_out[i]) continue;
    FO_ASSIGN_OR_RETURN(alias_memory.back(), backend.allocate(output));
  }
  // Not at the price of a run: where memory is short, features are copied as ever.
  const bool room =
      report.free_bytes == 0 || report.cache_budget.planned + output + kSpare <= report.free_bytes;
  if (update_backend && last_factor && cache.order == 1 && !cache.residual &&
      alias_memory.empty() && room) {
    FO_ASSIGN_OR_RETURN(next_factor, backend.allocate(output));
  }
  const size_t bytes = strategy->scratch_bytes(q);
  if (bytes == 0) return ok_status();
  FO_ASSIGN_OR_RETURN(scratch, backend.allocate(bytes));
  return ok_status();
}

// Symbols under which every head of every row is cached.
SymbolsView Engine::Impl::all_cached() const {
  SymbolsView v;
  v.geometry = geometry();
  v.c = static_cast<uint64_t*>(all_cached_memory->data());
  v.s = v.c + v.geometry.total_c_words();
  return v;
}
PlanView Engine::Impl::all_cached_plan() const {
  return {all_cached_plan_memory->data(), all_cached_plan_memory->bytes()};
}

void Engine::Impl::update_ledger() {
  MemoryLedger l;
  for (const LayerState& s : states) {
    l.symbols += s.symbol_bytes();
    l.plans += s.plan_bytes();
    l.features += s.features.bytes();
    l.bias_planes += s.plane_bytes();
    l.modules += s.module_bytes();
    l.residuals += s.residual.bytes();
  }
  l.residuals += skip.bytes();
  for (const auto& b : alias_memory) l.residuals += b ? b->bytes() : 0;
  l.scratch = exec.workspace_bytes + skip.scratch_bytes();
  for (const auto* b : {&scratch, &work_memory, &sums_memory, &all_cached_memory,
                        &all_cached_plan_memory, &starts_memory, &next_factor}) {
    if (*b) l.scratch += (*b)->bytes();
  }
  if (last_factor) l.features += last_factor->bytes();
  report.ledger = l;
  report.peak_cache_bytes = std::max(report.peak_cache_bytes, l.cache_total());
}

// The degrade rule (strategies 1.6), evaluated between steps so that reading the counts never
// stalls a step: the Update stored both the features and the module outputs, and whichever the
// layer will not use again is freed here.
Status Engine::Impl::decide_degrading() {
  const auto built = [&](const LayerState& s) { return s.has_symbols && s.built_step == step - 1; };
  if (!cache.degrade || std::none_of(states.begin(), states.end(), built)) return ok_status();
  FO_RETURN_IF_ERROR(backend.synchronize(exec));
  for (LayerState& s : states) {
    if (s.degraded || !s.has_symbols) continue;
    if (s.counts.row_density() > cache.degrade_density) continue;
    s.degraded = true;
    s.drop_attention_state();
  }
  const auto forecasts = [](const LayerState& s) { return s.features.allocated(); };
  if (std::none_of(states.begin(), states.end(), forecasts)) {
    last_factor.reset();
    next_factor.reset();
  }
  update_ledger();
  return ok_status();
}

}  // namespace flashomni
