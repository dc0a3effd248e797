// SPDX-License-Identifier: Apache-2.0
//
// The Update-Dispatch engine (arXiv 2509.25401): owns the state of every layer and guidance
// stream, runs each attention layer dense, refreshing or sparse, and reports what really ran.
//
// A model drives it like this (see src/models/flux for a real one):
//   begin_run;  per step: begin_step, then per stream: begin_stream, probe_input where wants_probe,
//   and for every layer that next_layer names, begin_layer and
//     - kDegraded: reuse_module for every module output;
//     - otherwise: project_q, attention, project_out (and store_module where wants_modules);
//       keys and values are needed only where wants_keys;
//   end_step.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "flashomni/backend.h"
#include "flashomni/strategy.h"

namespace flashomni {

// How one layer runs in one step.
enum class LayerKind : uint8_t {
  kDense,
  kUpdate,    // dense, and symbols and caches are refreshed
  kSparse,    // the symbols steer it
  kDegraded,  // module outputs are reused
  kAliased,   // the attention output is the first guidance stream's
  kSkipped,   // not run: one remembered residual stands for a run of layers
};
const char* layer_kind_name(LayerKind kind);

// A module output that a degraded layer reuses: [batch, rows, width], before gating.
struct ModuleSite {
  std::string name;  // "img_attn", "img_mlp", "total", ...
  int rows = 0;
  int width = 0;
};

struct LayerDesc {
  std::string name;  // "transformer_blocks.0"
  int model_width = 0;
  std::vector<ModuleSite> sites;
  // Why the query projection cannot follow the symbols in this model; empty if it can. The model
  // then projects every query itself and never calls project_q for this layer.
  std::string dense_gemm_q;
  double flops_q = 0;      // of the query projection, dense
  double flops_attn = 0;   // of QK^T and PV, dense
  double flops_out = 0;    // of the attention part of the output projection, dense
  double flops_other = 0;  // of the rest of the layer (what degrading also saves)
};

inline constexpr size_t kNoCacheBudget = SIZE_MAX;

struct EngineOptions {
  // Parts that follow the symbols; for ablations. With gemm_q off every query is projected, with
  // gemm_o off cached tiles are forecast before a dense output projection.
  bool sparse_gemm_q = true;
  bool sparse_gemm_o = true;
  // Whether layers may degrade where the strategy asks for it. A model that cannot leave out a
  // whole block (its graph is compiled once for all steps) says no.
  bool degrade = true;
  // Whether computed rows keep every key/value block that holds reference tokens, whatever the
  // strategy chose: they are what an edit must not forget (strategies 1.7). Their own rows may be
  // cached like any vision row.
  bool keep_reference = true;
  // Bytes that the cache (MemoryLedger::cache_total) may take. To stay below, Taylor orders are
  // lowered first, then layers are left out and run dense; see CacheBudget.
  size_t cache_budget = kNoCacheBudget;
  // Whether evaluations that queue the same operations as an earlier one run as a graph, on a
  // backend that has them. Never a bit of difference.
  bool graphs = true;
  bool keep_symbols = false;  // keep a host copy of the symbols of every Update for inspection
};

// Bytes the engine holds in backend memory.
struct MemoryLedger {
  size_t symbols = 0;
  size_t plans = 0;
  size_t features = 0;  // Taylor factors of the attention site
  size_t bias_planes = 0;
  size_t modules = 0;    // Taylor factors of module outputs
  size_t residuals = 0;  // of ADD mode, of skipped layers, and attention outputs kept for aliases
  size_t scratch = 0;    // strategy scratch, intermediate tensors and operation workspace
  size_t cache_total() const {
    return symbols + plans + features + bias_planes + modules + residuals;
  }
};

// What a run did to keep its cache within EngineOptions::cache_budget.
struct CacheBudget {
  size_t limit = kNoCacheBudget;
  size_t wanted = 0;   // bytes that the strategy's cache would take
  size_t planned = 0;  // bytes allocated when the run began, which is the most it ever holds
  // Taylor orders of attention outputs, module outputs and residuals of skipped steps, 0 where
  // nothing of the kind is kept.
  int order_wanted = 0, order = 0;
  int module_order_wanted = 0, module_order = 0;
  int skip_order_wanted = 0, skip_order = 0;
  std::vector<int> left_out;   // layers that keep nothing and run dense
  bool skip_left_out = false;  // no step is skipped: its residual does not fit
};

// What one layer did in one step and stream.
struct LayerRecord {
  LayerKind kind = LayerKind::kDense;
  SymbolCounts counts;        // of the symbols in force; all active unless kSparse / kDegraded
  bool sparse_q = false;      // the query projection followed S_c
  bool sparse_o = false;      // the output projection followed S_c
  SoftmaxSkipCounts softmax;  // of a sparse layer; what the symbols leave out is not counted
};

struct StepRecord {
  int step = 0;
  StepKind kind = StepKind::kFull;
  double seconds = 0;
  std::vector<LayerRecord> layers;    // [stream * num_layers + layer]
  double attention_sparsity() const;  // share of S_c * S_s zeros; layers not run count as 1
};

// Why something ran dense although a sparse strategy was asked for.
struct Fallback {
  std::string where;  // "run", "step 3", "layer single_transformer_blocks.4"
  std::string reason;
  int count = 1;
};

// How evaluations of the model (one a step and guidance stream) were queued.
struct GraphUse {
  int64_t evaluations = 0;
  int64_t replayed = 0;           // as a graph
  int64_t captured = 0;           // graphs made, each replayed at once
  std::vector<Fallback> reasons;  // of the others, by kind of step ("dispatch step")
};

struct RunReport {
  std::vector<StepRecord> steps;
  std::vector<std::string> layer_names;
  MemoryLedger ledger;
  size_t peak_cache_bytes = 0;
  CacheBudget cache_budget;
  size_t free_bytes = 0;  // of the device before the cache was allocated; 0 if unknown
  GraphUse graphs;
  std::vector<Fallback> fallbacks;
  // So many first steps are those of a dense run: they read and leave nothing that is kept.
  int plain_steps = 0;
  double flops_dense = 0;  // of all layers and steps, had they run dense
  double flops_skipped = 0;
  // Shares over all steps, layers and streams; Full and Update steps count as dense.
  double attention_sparsity = 0;  // zeros of S_c * S_s
  double dispatch_sparsity = 0;   // the same over Dispatch steps only
  double cached_sparsity = 0;     // zeros of S_c over Dispatch steps
  double gemm_q_sparsity = 0;
  double gemm_o_sparsity = 0;
  double degraded_share = 0;  // layer-steps that ran degraded
  double skipped_share = 0;   // layer-steps that a skipped step left out
  // Products with values that a threshold on the softmax left out, of those that symbols asked for
  // where it was in force. Not part of attention_sparsity: their scores were computed.
  double softmax_skip_share = 0;
  // How often a step waited for the backend before its end, for a number that decides whether its
  // layers run (TeaCache, first-block caches). Costs nothing on the CPU.
  int host_waits = 0;
};

// A host copy of the symbols built at one Update.
struct SymbolSnapshot {
  int step = 0;
  int layer = 0;
  int stream = 0;
  SparseSymbols symbols;
};

class Engine {
 public:
  // `backend` must outlive the engine; `strategy` may be null for plain dense runs.
  Engine(Backend& backend, std::unique_ptr<Strategy> strategy, const EngineOptions& options = {});
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Allocates all state of a run, so that steps allocate nothing. May be called again for the
  // next run; state is reset. `workspace` is for the operations the engine calls.
  Status begin_run(const RunInfo& run, std::vector<LayerDesc> layers, const Exec& exec);

  // Where the next operations run, when stream or workspace are not those of begin_run.
  void set_exec(const Exec& exec);
  Result<StepKind> begin_step(int step);
  void begin_stream(int stream);
  // begin_stream and the evaluation `model` of the whole model in it, as a graph where that is
  // possible. The operands of an evaluation must not differ between steps but for what leading
  // copies bring (see core/graph_backend.h), or it never is.
  Status evaluate(int stream, const std::function<Status()>& model);
  // The layer to run next at `layer`: itself, or a later one (up to the number of layers) after the
  // residual of those between has been added to x, the residual stream [B, N, D]. Call it before
  // every layer and once after the last.
  Result<int> next_layer(int layer, const TensorView& x);
  // Whether the strategy wants to see the modulated input of the first layer in this stream.
  bool wants_probe() const;
  Status probe_input(const TensorView& x);  // [B, M, D], before next_layer(0)
  LayerKind begin_layer(int layer);
  // Whether anything of this layer reads its keys and values in this step.
  bool wants_keys(int layer) const;
  Status end_step();
  // In place of evaluations and end_step: this step, the last that report().plain_steps counts, was
  // computed elsewhere, in so many seconds.
  Status end_known_step(double seconds);
  // Closes the run and completes the report.
  Status end_run();

  // The caller fills everything but the symbols, planes and coefficients.
  Status project_q(int layer, GemmQParams params);
  Status project_qkv(int layer, GemmQkvParams params);
  // Where attention() of this layer may write now: `offered`, a contiguous tensor, or memory of the
  // feature cache, which then needs no copy. What it holds is for project_out() of the same layer.
  TensorView attention_out(int layer, const TensorView& offered) const;
  // REQUIRES q, k, v complete where the layer kind needs them.
  Status attention(int layer, AttentionParams params);
  Status project_out(int layer, GemmOParams params);

  // Whether the module outputs of this layer should be stored in this step.
  bool wants_modules(int layer) const;
  Status store_module(int layer, int site, const TensorView& value);
  // residual += gate * forecast of the stored module output.
  Status reuse_module(int layer, int site, const TensorView& gate, const TensorView& residual);

  const RunReport& report() const;
  const std::vector<SymbolSnapshot>& snapshots() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace flashomni
