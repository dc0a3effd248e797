// SPDX-License-Identifier: Apache-2.0
#include "core/graph_backend.h"

#include "core/op_names.h"

namespace flashomni {

Status GraphBackend::begin_batch(const Exec& exec) {
  if (batch_open_) return internal_error("a batch of operations began inside of another");
  batch_open_ = true;
  not_held_.clear();
  exec_ = exec;
  held_.clear();
  signature_.clear();
  return ok_status();
}

Status GraphBackend::run_held() {
  const std::vector<QueuedOperation> held = std::exchange(held_, {});
  for (const QueuedOperation& operation : held) FO_RETURN_IF_ERROR(operation(exec_.stream));
  return ok_status();
}

Status GraphBackend::stop_holding(const std::string& reason) {
  if (!batch_open_ || !not_held_.empty()) return ok_status();
  not_held_ = reason;
  return run_held();
}

Result<BatchOutcome> GraphBackend::end_batch() {
  if (!batch_open_) return internal_error("a batch of operations ended that had not begun");
  batch_open_ = false;
  BatchOutcome out;
  if (!not_held_.empty()) {
    out.reason = not_held_;
    return out;
  }
  if (held_.empty()) {
    out.reason = "no operations";
    return out;
  }
  auto kind = kinds_.find(signature_.words());
  if (kind == kinds_.end()) {
    // The first of its kind also loads code and chooses algorithms, which a capture must not.
    const bool room = kinds_.size() < kMaxKinds;
    if (room) kinds_.emplace(signature_.words(), Kind{});
    out.reason = room ? "the first of its kind" : "too many different kinds in one run";
    FO_RETURN_IF_ERROR(run_held());
    return out;
  }
  Kind& k = kind->second;
  if (!k.graph && k.failure.empty()) {
    Result<std::unique_ptr<Graph>> made = inner_.capture(held_);
    if (made.ok()) {
      k.graph = std::move(*made);
      out.captured = true;
    } else {
      k.failure = "capturing failed: " + made.status().message();
    }
  }
  if (!k.graph) {
    out.reason = k.failure;
    FO_RETURN_IF_ERROR(run_held());
    return out;
  }
  held_.clear();
  FO_RETURN_IF_ERROR(inner_.launch(exec_, *k.graph));
  out.replayed = true;
  return out;
}

template <class Params>
Status GraphBackend::hold(const Exec& exec, const Params& params,
                          Status (Backend::*operation)(const Exec&, const Params&)) {
  if (batch_open_ && not_held_.empty() && exec.stream != exec_.stream) {
    FO_RETURN_IF_ERROR(stop_holding("it uses several streams"));
  }
  if (!batch_open_ || !not_held_.empty()) return (inner_.*operation)(exec, params);
  signature_.add(params);
  signature_.add_workspace(exec.workspace, exec.workspace_bytes);
  held_.emplace_back([this, exec, params, operation](void* stream) {
    Exec there = exec;
    there.stream = stream;
    return (inner_.*operation)(there, params);
  });
  return ok_status();
}

template <class... Params>
Status GraphBackend::run_now(const Exec& exec, const char* name,
                             Status (Backend::*operation)(const Exec&, const Params&...),
                             const Params&... params) {
  FO_RETURN_IF_ERROR(stop_holding(std::string("graphs do not hold ") + name));
  return (inner_.*operation)(exec, params...);
}

Status GraphBackend::synchronize(const Exec& e) {
  FO_RETURN_IF_ERROR(stop_holding("results were waited for"));
  return inner_.synchronize(e);
}
Result<int64_t> GraphBackend::mark(const Exec& e) {
  FO_RETURN_IF_ERROR(stop_holding("a point in time was marked"));
  return inner_.mark(e);
}
Status GraphBackend::upload(const Exec& e, void* dst, const void* src, size_t n) {
  FO_RETURN_IF_ERROR(stop_holding("something was copied from the host"));
  return inner_.upload(e, dst, src, n);
}
Status GraphBackend::download(const Exec& e, void* dst, const void* src, size_t n) {
  FO_RETURN_IF_ERROR(stop_holding("something was copied to the host"));
  return inner_.download(e, dst, src, n);
}

Status GraphBackend::attention(const Exec& e, const AttentionParams& p) {
  if (p.softmax_skip != 0) {
    return run_now(e, "attention with a threshold on the softmax", &Backend::attention, p);
  }
  AttentionParams held = p;
  held.skip_counts = nullptr;  // may be gone when the graph runs
  return hold(e, held, &Backend::attention);
}
Status GraphBackend::copy(const Exec& e, const CopyParams& p) {
  if (held_.empty()) return inner_.copy(e, p);
  return hold(e, p, &Backend::copy);
}
Status GraphBackend::linear(const Exec& e, const LinearParams& p) {
  return hold(e, p, &Backend::linear);
}
Status GraphBackend::norm_modulate(const Exec& e, const NormModulateParams& p) {
  return hold(e, p, &Backend::norm_modulate);
}
Status GraphBackend::rms_norm(const Exec& e, const RmsNormParams& p) {
  return hold(e, p, &Backend::rms_norm);
}
Status GraphBackend::gemm_q(const Exec& e, const GemmQParams& p) {
  return hold(e, p, &Backend::gemm_q);
}
Status GraphBackend::gemm_qkv(const Exec& e, const GemmQkvParams& p) {
  return hold(e, p, &Backend::gemm_qkv);
}
Status GraphBackend::gemm_o(const Exec& e, const GemmOParams& p) {
  return hold(e, p, &Backend::gemm_o);
}
Status GraphBackend::gemm_o_update(const Exec& e, const GemmOUpdateParams& p) {
  return hold(e, p, &Backend::gemm_o_update);
}
Status GraphBackend::taylor_update(const Exec& e, const TaylorUpdateParams& p) {
  return hold(e, p, &Backend::taylor_update);
}
Status GraphBackend::taylor_forecast(const Exec& e, const TaylorForecastParams& p) {
  return hold(e, p, &Backend::taylor_forecast);
}
Status GraphBackend::activation(const Exec& e, const ActivationParams& p) {
  return hold(e, p, &Backend::activation);
}
Status GraphBackend::combine(const Exec& e, const CombineParams& p) {
  return hold(e, p, &Backend::combine);
}

Status GraphBackend::token_mean(const Exec& e, const TokenMeanParams& p) {
  return run_now(e, op_name(p), &Backend::token_mean, p);
}
Status GraphBackend::pool(const Exec& e, const PoolParams& p) {
  return run_now(e, op_name(p), &Backend::pool, p);
}
Status GraphBackend::pool_pair(const Exec& e, const PoolParams& q, const PoolParams& k) {
  return run_now(e, op_name(q), &Backend::pool_pair, q, k);
}
Status GraphBackend::block_scores(const Exec& e, const BlockScoresParams& p) {
  return run_now(e, op_name(p), &Backend::block_scores, p);
}
Status GraphBackend::select_cached_rows(const Exec& e, const SelectCachedRowsParams& p) {
  return run_now(e, op_name(p), &Backend::select_cached_rows, p);
}
Status GraphBackend::select_kv_blocks(const Exec& e, const SelectKvBlocksParams& p) {
  return run_now(e, op_name(p), &Backend::select_kv_blocks, p);
}
Status GraphBackend::count_symbols(const Exec& e, const CountSymbolsParams& p) {
  return run_now(e, op_name(p), &Backend::count_symbols, p);
}
Status GraphBackend::plan(const Exec& e, const PlanParams& p) {
  return run_now(e, op_name(p), &Backend::plan, p);
}
Status GraphBackend::antidiagonal_scores(const Exec& e, const AntidiagonalScoresParams& p) {
  return run_now(e, op_name(p), &Backend::antidiagonal_scores, p);
}
Status GraphBackend::column_mass(const Exec& e, const ColumnMassParams& p) {
  return run_now(e, op_name(p), &Backend::column_mass, p);
}
Status GraphBackend::block_change(const Exec& e, const BlockChangeParams& p) {
  return run_now(e, op_name(p), &Backend::block_change, p);
}
Status GraphBackend::select_rows(const Exec& e, const SelectRowsParams& p) {
  return run_now(e, op_name(p), &Backend::select_rows, p);
}
Status GraphBackend::select_kv_share(const Exec& e, const SelectKvShareParams& p) {
  return run_now(e, op_name(p), &Backend::select_kv_share, p);
}
Status GraphBackend::select_pattern(const Exec& e, const SelectPatternParams& p) {
  return run_now(e, op_name(p), &Backend::select_pattern, p);
}
Status GraphBackend::keep_columns(const Exec& e, const KeepColumnsParams& p) {
  return run_now(e, op_name(p), &Backend::keep_columns, p);
}
Status GraphBackend::measure_change(const Exec& e, const MeasureChangeParams& p) {
  return run_now(e, op_name(p), &Backend::measure_change, p);
}

Status GraphBackend::plan_projections(const Exec& e, const PlanParams& p) {
  FO_RETURN_IF_ERROR(stop_holding("graphs do not hold plans"));
  return ForwardingBackend::plan_projections(e, p);
}
Status GraphBackend::plan_all(const Exec& e, std::span<const PlanParams> p) {
  FO_RETURN_IF_ERROR(stop_holding("graphs do not hold plans"));
  return ForwardingBackend::plan_all(e, p);
}
Status GraphBackend::count_all(const Exec& e, std::span<const CountSymbolsParams> p) {
  FO_RETURN_IF_ERROR(stop_holding("graphs do not hold counts"));
  return ForwardingBackend::count_all(e, p);
}
Status GraphBackend::taylor_slope(const Exec& e, const TaylorSlopeParams& p) {
  FO_RETURN_IF_ERROR(stop_holding("graphs do not hold slopes"));
  return ForwardingBackend::taylor_slope(e, p);
}

}  // namespace flashomni
