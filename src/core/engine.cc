// SPDX-License-Identifier: Apache-2.0
//
// The Update-Dispatch engine: step control and per-layer dispatch. What a cached tensor is lives in
// feature_cache, what is reported in report.
#include "flashomni/engine.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "core/layer_state.h"
#include "core/model_skip.h"
#include "core/report.h"

namespace flashomni {
namespace {

using Clock = std::chrono::steady_clock;

// [B, N, H, d] as [B, N, H*d]. REQUIRES contiguous heads.
TensorView merge_heads(TensorView v) {
  v.rank = 3;
  v.shape[2] *= v.shape[3];
  v.stride[2] = 1;
  return v;
}

// A contiguous tensor of one attention output over a buffer.
TensorView attention_view(const Buffer& buffer, DType dtype, const SequenceInfo& s) {
  return TensorView::contiguous(buffer.data(), dtype, {s.batch, s.tokens, s.heads, s.head_dim});
}

}  // namespace

struct Engine::Impl {
  Backend& backend;
  std::unique_ptr<Strategy> strategy;
  EngineOptions options;

  Exec exec;
  RunInfo run;
  std::vector<LayerDesc> layers;
  CacheSpec cache;
  bool sparse = false;             // the strategy may produce Dispatch steps
  std::vector<LayerState> states;  // [stream * layers + layer]
  // The highest Taylor factor of whatever layer is at work, when bias planes take it up at once.
  std::unique_ptr<Buffer> last_factor;
  std::unique_ptr<Buffer> scratch;
  ModelSkip skip;
  // Intermediate attention outputs and, where the strategy asks, those of the first stream.
  std::unique_ptr<Buffer> work_memory, sums_memory, all_cached_memory, all_cached_plan_memory;
  std::vector<std::unique_ptr<Buffer>> alias_memory;
  RunReport report;
  std::vector<SymbolSnapshot> snapshots;

  int step = -1;
  int stream = 0;
  int last_update = -1;
  StepKind kind = StepKind::kFull;
  Clock::time_point step_start;

  explicit Impl(Backend& b) : backend(b) {}

  LayerState& state(int layer) { return states[size_t(stream) * layers.size() + size_t(layer)]; }
  LayerRecord& record(int layer) {
    return report.steps.back().layers[size_t(stream) * layers.size() + size_t(layer)];
  }

  // Whether cached heads reach the output as projected bias planes.
  bool projected() const { return cache.project_cached && options.sparse_gemm_o; }
  StepContext context() const { return {step, run.steps, last_update}; }
  SymbolGeometry geometry() const;
  BlockRange reference_blocks() const;
  bool refreshes(const LayerState& s) const;
  LayerAction resolve_action(int layer);

  Status check_cache_spec() const;
  Status allocate_state(LayerState& s, const LayerDesc& desc);
  Status allocate_shared();
  void update_ledger();
  // What makes a query projection follow the symbols of its layer, if it may.
  void follow_symbols(int layer, GemmQParams& p);
  Status decide_degrading();
  Status build_symbols(int layer, const AttentionParams& p, BuildContext c);
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

SymbolGeometry Engine::Impl::geometry() const {
  const SequenceInfo& q = run.sequence;
  SymbolGeometry g;
  g.batch = q.batch;
  g.heads = q.heads;
  g.q_tokens = g.kv_tokens = q.tokens;
  g.block_q = strategy->block_q();
  g.block_kv = strategy->block_kv();
  return g;
}

// The kv blocks that hold any reference token.
BlockRange Engine::Impl::reference_blocks() const {
  const SequenceInfo& q = run.sequence;
  const int block = strategy->block_kv();
  if (q.reference_end <= q.reference_begin) return {};
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
    FO_ASSIGN_OR_RETURN(auto memory, backend.allocate(output));
    alias_memory.push_back(std::move(memory));
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
  for (const auto& b : alias_memory) l.residuals += b->bytes();
  l.scratch = exec.workspace_bytes + skip.scratch_bytes();
  for (const auto* b :
       {&scratch, &work_memory, &sums_memory, &all_cached_memory, &all_cached_plan_memory}) {
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
  if (!cache.degrade || last_update < 0 || last_update != step - 1) return ok_status();
  FO_RETURN_IF_ERROR(backend.synchronize(exec));
  for (LayerState& s : states) {
    if (s.degraded || !s.has_symbols) continue;
    if (s.counts.row_density() > cache.degrade_density) continue;
    s.degraded = true;
    s.drop_attention_state();
  }
  const auto forecasts = [](const LayerState& s) { return s.features.allocated(); };
  if (std::none_of(states.begin(), states.end(), forecasts)) last_factor.reset();
  update_ledger();
  return ok_status();
}

Engine::Engine(Backend& backend, std::unique_ptr<Strategy> strategy, const EngineOptions& options)
    : impl_(std::make_unique<Impl>(backend)) {
  impl_->strategy = std::move(strategy);
  impl_->options = options;
}

// Counts of symbols may still be on their way to the states that go now.
Engine::~Engine() {
  (void)impl_->backend.synchronize(impl_->exec);
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
  e.exec = exec;
  e.run = run;
  e.layers = std::move(layers);
  e.states.clear();
  for (auto* b : {&e.scratch, &e.work_memory, &e.sums_memory, &e.all_cached_memory,
                  &e.all_cached_plan_memory}) {
    b->reset();
  }
  e.last_factor.reset();
  e.alias_memory.clear();
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
    const std::string reason = e.strategy->dense_reason();
    if (!reason.empty()) add_fallback(e.report.fallbacks, "run", reason);
    for (const LayerDesc& d : e.layers) {
      if (e.cache.features && !d.dense_gemm_q.empty()) {
        add_fallback(e.report.fallbacks, "GEMM-Q", d.dense_gemm_q);
      }
    }
    for (size_t i = 0; i < e.states.size(); ++i) {
      FO_RETURN_IF_ERROR(e.allocate_state(e.states[i], e.layers[i % e.layers.size()]));
    }
    FO_RETURN_IF_ERROR(e.allocate_shared());
    FO_RETURN_IF_ERROR(e.skip.begin_run(e.backend, e.strategy->skip_spec(), e.run,
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
  FO_RETURN_IF_ERROR(e.decide_degrading());
  e.kind = e.sparse ? e.strategy->begin_step(e.context()) : StepKind::kFull;
  if (e.kind == StepKind::kSkipModel && !e.skip.enabled()) {
    return internal_error("strategy " + std::string(e.strategy->name()) +
                          " skips a step without a skip_spec");
  }
  e.skip.begin_step(e.kind == StepKind::kSkipModel);
  // Until the layers before the skippable ones have run, such a step is like any other.
  if (e.kind == StepKind::kSkipModel) e.kind = StepKind::kFull;
  if (e.kind == StepKind::kUpdate) e.last_update = step;

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

// Whether this layer refreshes its caches in this step. The last step's would never be read.
bool Engine::Impl::refreshes(const LayerState& s) const {
  if (step == run.steps - 1) return false;
  const bool primed = cache.refresh_full_from >= 0 && step >= cache.refresh_full_from;
  return s.action == LayerAction::kUpdate ||
         (kind == StepKind::kFull && primed && s.action == LayerAction::kDense);
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

Status Engine::Impl::build_symbols(int layer, const AttentionParams& p, BuildContext c) {
  LayerState& s = state(layer);
  c.backend = &backend;
  c.exec = exec;
  c.step = context();
  c.layer = layer;
  c.stream = stream;
  c.sequence = run.sequence;
  c.q = p.q;
  c.k = p.k;
  c.scratch = scratch ? scratch->data() : nullptr;
  FO_RETURN_IF_ERROR(strategy->build(c, s.symbols));
  const BlockRange reference = reference_blocks();
  if (options.keep_reference && reference.size() > 0) {
    FO_RETURN_IF_ERROR(backend.keep_columns(exec, {reference, s.symbols}));
  }
  FO_RETURN_IF_ERROR(backend.plan(exec, {s.symbols, s.plan}));
  FO_RETURN_IF_ERROR(backend.count_symbols(exec, {s.symbols, &s.counts}));
  s.has_symbols = true;
  s.built_step = step;
  if (options.keep_symbols) {
    SymbolSnapshot snap{step, layer, stream, SparseSymbols(s.symbols.geometry)};
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
  return s.features.refresh(backend, exec, p.out, step);
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
  if (e.stream != 0 || e.alias_memory.empty()) return ok_status();
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

Status Engine::end_step() {
  Impl& e = *impl_;
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
