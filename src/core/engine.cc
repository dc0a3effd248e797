// SPDX-License-Identifier: Apache-2.0
//
// The Update-Dispatch engine: step control and per-layer dispatch. What a cached tensor is lives in
// feature_cache, what is reported in report.
#include "flashomni/engine.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "core/feature_cache.h"
#include "core/report.h"

namespace flashomni {
namespace {

using Clock = std::chrono::steady_clock;

// Everything one layer keeps for one guidance stream.
struct LayerState {
  std::unique_ptr<Buffer> symbol_memory;
  std::unique_ptr<Buffer> plan_memory;
  SymbolsView symbols;
  PlanView plan;
  bool has_symbols = false;
  SymbolCounts counts;

  TaylorSite features;  // attention output [B, N, H, d]
  std::vector<std::unique_ptr<Buffer>> plane_memory;
  TensorView planes[GemmOParams::kMaxPlanes];  // [B, N, D]
  std::vector<TaylorSite> modules;             // one per ModuleSite
  bool degraded = false;

  size_t symbol_bytes() const { return symbol_memory ? symbol_memory->bytes() : 0; }
  size_t plan_bytes() const { return plan_memory ? plan_memory->bytes() : 0; }
  size_t plane_bytes() const {
    size_t n = 0;
    for (const auto& b : plane_memory) n += b->bytes();
    return n;
  }
  size_t module_bytes() const {
    size_t n = 0;
    for (const TaylorSite& s : modules) n += s.bytes();
    return n;
  }
  // A degraded layer never runs sparse again in this run.
  void drop_attention_state() {
    features.release();
    plane_memory.clear();
    for (TensorView& p : planes) p = {};
    symbol_memory.reset();
    plan_memory.reset();
    has_symbols = false;
  }
};

// [B, N, H, d] as [B, N, H*d]. REQUIRES contiguous heads.
TensorView merge_heads(TensorView v) {
  v.rank = 3;
  v.shape[2] *= v.shape[3];
  v.stride[2] = 1;
  return v;
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
  RunReport report;
  std::vector<SymbolSnapshot> snapshots;

  int step = -1;
  int stream = 0;
  int last_update = -1;
  StepKind kind = StepKind::kFull;
  bool refresh = false;  // this step refreshes features and module outputs
  Clock::time_point step_start;

  explicit Impl(Backend& b) : backend(b) {}

  LayerState& state(int layer) { return states[size_t(stream) * layers.size() + size_t(layer)]; }
  LayerRecord& record(int layer) {
    return report.steps.back().layers[size_t(stream) * layers.size() + size_t(layer)];
  }

  Status allocate_state(LayerState& s, const LayerDesc& desc);
  void update_ledger();
  // What makes a query projection follow the symbols of its layer, if it may.
  void follow_symbols(int layer, GemmQParams& p);
  Status decide_degrading();
  Status build_symbols(int layer, const AttentionParams& p);
};

Status Engine::Impl::allocate_state(LayerState& s, const LayerDesc& desc) {
  const SequenceInfo& q = run.sequence;
  SymbolGeometry g;
  g.batch = q.batch;
  g.heads = q.heads;
  g.q_tokens = g.kv_tokens = q.tokens;
  g.block_q = strategy->block_q();
  g.block_kv = strategy->block_kv();
  FO_RETURN_IF_ERROR(g.validate());

  const size_t c_bytes = size_t(g.total_c_words()) * sizeof(uint64_t);
  const size_t s_bytes = size_t(g.total_s_words()) * sizeof(uint64_t);
  FO_ASSIGN_OR_RETURN(s.symbol_memory, backend.allocate(c_bytes + s_bytes));
  s.symbols.geometry = g;
  s.symbols.c = static_cast<uint64_t*>(s.symbol_memory->data());
  s.symbols.s = s.symbols.c + g.total_c_words();
  FO_ASSIGN_OR_RETURN(s.plan_memory, backend.allocate(backend.plan_bytes(g)));
  s.plan = {s.plan_memory->data(), s.plan_memory->bytes()};

  const DType dtype = backend.activation_dtype();
  if (cache.features) {
    TensorView last;
    if (options.sparse_gemm_o) {
      last = TensorView::contiguous(nullptr, dtype, {q.batch, q.tokens, q.heads, q.head_dim});
      if (!last_factor) {
        FO_ASSIGN_OR_RETURN(last_factor, backend.allocate(last.bytes()));
      }
      last.data = last_factor->data();
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
  if (cache.degrade) {
    s.modules.resize(desc.sites.size());
    for (size_t i = 0; i < desc.sites.size(); ++i) {
      FO_RETURN_IF_ERROR(s.modules[i].allocate(
          backend, dtype, {q.batch, desc.sites[i].rows, desc.sites[i].width}, cache.degrade_order));
    }
  }
  return ok_status();
}

void Engine::Impl::update_ledger() {
  MemoryLedger l;
  for (const LayerState& s : states) {
    l.symbols += s.symbol_bytes();
    l.plans += s.plan_bytes();
    l.features += s.features.bytes();
    l.bias_planes += s.plane_bytes();
    l.modules += s.module_bytes();
  }
  if (last_factor) l.features += last_factor->bytes();
  l.scratch = (scratch ? scratch->bytes() : 0) + exec.workspace_bytes;
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
  e.scratch.reset();
  e.last_factor.reset();
  e.snapshots.clear();
  e.report = {};
  for (const LayerDesc& d : e.layers) e.report.layer_names.push_back(d.name);
  e.step = e.last_update = -1;
  e.stream = 0;
  e.states.resize(size_t(run.streams) * e.layers.size());
  e.sparse = e.strategy && std::strcmp(e.strategy->name(), "dense") != 0;
  e.cache = {};
  if (e.sparse) {
    FO_RETURN_IF_ERROR(e.strategy->begin_run(run));
    FO_RETURN_IF_ERROR(e.strategy->prepare(e.backend, exec));
    e.cache = e.strategy->cache_spec();
    e.cache.degrade = e.cache.degrade && e.options.degrade;
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
    const size_t bytes = e.strategy->scratch_bytes(run.sequence);
    if (bytes > 0) {
      FO_ASSIGN_OR_RETURN(e.scratch, e.backend.allocate(bytes));
    }
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
  e.kind = e.sparse ? e.strategy->begin_step({step, e.run.steps, e.last_update}) : StepKind::kFull;
  if (e.kind == StepKind::kSkipModel) {
    return unsupported("strategy " + std::string(e.strategy->name()) +
                       " skips whole model evaluations, which this engine does not do");
  }
  // The last step's features would never be read.
  const bool last = step == e.run.steps - 1;
  const bool primed = e.cache.refresh_full_from >= 0 && step >= e.cache.refresh_full_from;
  e.refresh = !last && (e.kind == StepKind::kUpdate || (e.kind == StepKind::kFull && primed));
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

LayerKind Engine::begin_layer(int layer) {
  Impl& e = *impl_;
  LayerState& s = e.state(layer);
  LayerRecord& r = e.record(layer);
  e.backend.set_scope(e.layers[size_t(layer)].name);
  if (e.kind == StepKind::kDispatch) {
    if (s.degraded) {
      r.kind = LayerKind::kDegraded;
    } else if (s.has_symbols) {
      r.kind = LayerKind::kSparse;
      r.counts = s.counts;
    } else {
      r.kind = LayerKind::kDense;
      add_fallback(e.report.fallbacks, "layer " + e.layers[size_t(layer)].name,
                   "a Dispatch step came before any Update built symbols");
    }
  } else if (e.kind == StepKind::kUpdate && !s.degraded) {
    r.kind = LayerKind::kUpdate;
  }
  return r.kind;
}

void Engine::Impl::follow_symbols(int layer, GemmQParams& p) {
  if (record(layer).kind != LayerKind::kSparse || !cache.features || !options.sparse_gemm_q) return;
  p.symbols = state(layer).symbols;
  p.plan = state(layer).plan;
}

Status Engine::project_q(int layer, GemmQParams p) {
  impl_->follow_symbols(layer, p);
  return impl_->backend.gemm_q(impl_->exec, p);
}

Status Engine::project_qkv(int layer, GemmQkvParams p) {
  impl_->follow_symbols(layer, p.q);
  return impl_->backend.gemm_qkv(impl_->exec, p);
}

Status Engine::Impl::build_symbols(int layer, const AttentionParams& p) {
  LayerState& s = state(layer);
  BuildContext c;
  c.backend = &backend;
  c.exec = exec;
  c.step = {step, run.steps, last_update};
  c.layer = layer;
  c.stream = stream;
  c.sequence = run.sequence;
  c.q = p.q;
  c.k = p.k;
  c.scratch = scratch ? scratch->data() : nullptr;
  FO_RETURN_IF_ERROR(strategy->build(c, s.symbols));
  FO_RETURN_IF_ERROR(backend.plan(exec, {s.symbols, s.plan}));
  FO_RETURN_IF_ERROR(backend.count_symbols(exec, {s.symbols, &s.counts}));
  s.has_symbols = true;
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

Status Engine::attention(int layer, AttentionParams p) {
  Impl& e = *impl_;
  LayerState& s = e.state(layer);
  const LayerKind kind = e.record(layer).kind;
  if (kind == LayerKind::kSparse) {
    if (e.cache.features && !e.options.sparse_gemm_o) {
      // The dense projection needs every tile: forecast all, then overwrite the computed ones.
      TaylorForecastParams f{.count = s.features.count()};
      for (int m = 0; m < f.count; ++m) f.factors[m] = merge_heads(s.features.factor(m));
      s.features.coefficients(e.step, f.coefficients);
      f.out = merge_heads(p.out);
      FO_RETURN_IF_ERROR(e.backend.taylor_forecast(e.exec, f));
    }
    p.symbols = s.symbols;
    p.plan = s.plan;
    return e.backend.attention(e.exec, p);
  }
  FO_RETURN_IF_ERROR(e.backend.attention(e.exec, p));
  if (kind == LayerKind::kUpdate && e.refresh) FO_RETURN_IF_ERROR(e.build_symbols(layer, p));
  if (e.refresh && !s.degraded && s.features.allocated()) {
    FO_RETURN_IF_ERROR(s.features.refresh(e.backend, e.exec, p.out, e.step));
  }
  return ok_status();
}

Status Engine::project_out(int layer, GemmOParams p) {
  Impl& e = *impl_;
  LayerState& s = e.state(layer);
  const LayerKind kind = e.record(layer).kind;
  const bool planes = e.cache.features && e.options.sparse_gemm_o;
  if (kind == LayerKind::kUpdate && planes && s.has_symbols && e.refresh) {
    GemmOUpdateParams u{.base = p};
    u.base.symbols = s.symbols;
    u.base.plan = s.plan;
    u.base.num_planes = s.features.count();
    for (int m = 0; m < s.features.count(); ++m) {
      u.base.planes[m] = s.planes[m];
      u.factors[m] = s.features.factor(m);
    }
    return e.backend.gemm_o_update(e.exec, u);
  }
  if (kind == LayerKind::kSparse && planes) {
    p.symbols = s.symbols;
    p.plan = s.plan;
    p.num_planes = s.features.count();
    for (int m = 0; m < p.num_planes; ++m) p.planes[m] = s.planes[m];
    s.features.coefficients(e.step, p.coefficients);
  }
  return e.backend.gemm_o(e.exec, p);
}

bool Engine::wants_modules(int layer) const {
  return impl_->refresh && !impl_->state(layer).modules.empty();
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
  if (r.kind != StepKind::kUpdate) return ok_status();
  for (size_t i = 0; i < e.states.size(); ++i) {
    const LayerState& s = e.states[i];
    r.layers[i].counts = s.counts;
    if (s.has_symbols && s.counts.active_pairs == s.counts.pairs) {
      add_fallback(e.report.fallbacks, "layer " + e.layers[i % e.layers.size()].name,
                   "the strategy found nothing to cache or skip at an Update");
    }
  }
  return ok_status();
}

Status Engine::end_run() {
  Impl& e = *impl_;
  if (e.sparse) {
    const bool any = std::any_of(e.report.steps.begin(), e.report.steps.end(),
                                 [](const auto& s) { return s.kind == StepKind::kDispatch; });
    if (!any) {
      add_fallback(e.report.fallbacks, "run",
                   "no Dispatch step in " + std::to_string(e.report.steps.size()) +
                       " steps: all were warm-up, Update or the last step");
    }
  }
  summarize(e.layers, e.options, e.cache.features, e.report);
  return ok_status();
}

const RunReport& Engine::report() const {
  return impl_->report;
}

const std::vector<SymbolSnapshot>& Engine::snapshots() const {
  return impl_->snapshots;
}

}  // namespace flashomni
