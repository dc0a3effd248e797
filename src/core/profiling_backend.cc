// SPDX-License-Identifier: Apache-2.0
#include "core/profiling_backend.h"

#include <algorithm>

#include "core/op_names.h"

namespace flashomni {
namespace {

// Rows of [B, M, K] or [M, K].
double rows_of(const TensorView& x) {
  return x.rank == 3 ? double(x.size(0)) * double(x.size(1)) : double(x.size(0));
}

double linear_flops(double rows, const PackedWeight* w) {
  return w ? 2.0 * rows * double(w->in_features()) * double(w->out_features()) : 0.0;
}

double gemm_o_flops(const GemmOParams& p) {
  const TensorView& wide = p.attn ? p.attn : p.residual ? p.residual : p.out;
  return linear_flops(double(wide.size(0)) * p.rows, p.weight);
}

}  // namespace

template <class F>
Status ProfilingBackend::timed(const Exec& exec, const char* op, double flops, const F& call) {
  if (!enabled_) return call();
  FO_ASSIGN_OR_RETURN(const int64_t begin, inner_.mark(exec));
  FO_RETURN_IF_ERROR(call());
  FO_ASSIGN_OR_RETURN(const int64_t end, inner_.mark(exec));
  calls_.push_back({op, scope_, flops, begin, end});
  return ok_status();
}

Status ProfilingBackend::synchronize(const Exec& exec) {
  FO_RETURN_IF_ERROR(inner_.synchronize(exec));
  for (const Call& c : calls_) {
    FO_ASSIGN_OR_RETURN(const double seconds, inner_.seconds_between(c.begin, c.end));
    auto row = std::find_if(rows_.begin(), rows_.end(), [&](const ProfileRow& r) {
      return r.op == c.op && r.scope == c.scope;
    });
    if (row == rows_.end()) row = rows_.insert(rows_.end(), {c.op, c.scope, 0, 0, 0});
    row->calls += 1;
    row->seconds += seconds;
    row->flops += c.flops;
  }
  calls_.clear();
  inner_.clear_marks();
  return ok_status();
}

Result<BatchOutcome> ProfilingBackend::end_batch() {
  if (enabled_) return BatchOutcome{.reason = "operations are timed one by one"};
  return inner_.end_batch();
}

std::vector<ProfileRow> ProfilingBackend::rows() const {
  std::vector<ProfileRow> out = rows_;
  std::stable_sort(out.begin(), out.end(),
                   [](const ProfileRow& a, const ProfileRow& b) { return a.seconds > b.seconds; });
  return out;
}

Status ProfilingBackend::linear(const Exec& e, const LinearParams& p) {
  return timed(e, op_name(p), linear_flops(rows_of(p.x), p.weight),
               [&] { return inner_.linear(e, p); });
}
Status ProfilingBackend::norm_modulate(const Exec& e, const NormModulateParams& p) {
  return timed(e, op_name(p), 0, [&] { return inner_.norm_modulate(e, p); });
}
Status ProfilingBackend::rms_norm(const Exec& e, const RmsNormParams& p) {
  return timed(e, op_name(p), 0, [&] { return inner_.rms_norm(e, p); });
}
Status ProfilingBackend::gemm_q(const Exec& e, const GemmQParams& p) {
  return timed(e, op_name(p), linear_flops(rows_of(p.x), p.weight),
               [&] { return inner_.gemm_q(e, p); });
}
Status ProfilingBackend::gemm_qkv(const Exec& e, const GemmQkvParams& p) {
  double flops = 0;
  for (const GemmQParams* one : {&p.q, &p.k, &p.v}) {
    flops += linear_flops(rows_of(one->x), one->weight);
  }
  return timed(e, op_name(p), flops, [&] { return inner_.gemm_qkv(e, p); });
}
Status ProfilingBackend::attention(const Exec& e, const AttentionParams& p) {
  const double flops = 4.0 * double(p.q.numel()) * double(p.k.size(1));
  return timed(e, op_name(p), flops, [&] { return inner_.attention(e, p); });
}
Status ProfilingBackend::gemm_o(const Exec& e, const GemmOParams& p) {
  return timed(e, op_name(p), gemm_o_flops(p), [&] { return inner_.gemm_o(e, p); });
}
Status ProfilingBackend::gemm_o_update(const Exec& e, const GemmOUpdateParams& p) {
  return timed(e, op_name(p), gemm_o_flops(p.base), [&] { return inner_.gemm_o_update(e, p); });
}
Status ProfilingBackend::token_mean(const Exec& e, const TokenMeanParams& p) {
  return timed(e, op_name(p), 0, [&] { return inner_.token_mean(e, p); });
}
Status ProfilingBackend::pool(const Exec& e, const PoolParams& p) {
  return timed(e, op_name(p), 0, [&] { return inner_.pool(e, p); });
}
Status ProfilingBackend::pool_pair(const Exec& e, const PoolParams& q, const PoolParams& k) {
  return timed(e, op_name(q), 0, [&] { return inner_.pool_pair(e, q, k); });
}
Status ProfilingBackend::block_scores(const Exec& e, const BlockScoresParams& p) {
  return timed(e, op_name(p), 0, [&] { return inner_.block_scores(e, p); });
}
Status ProfilingBackend::select_cached_rows(const Exec& e, const SelectCachedRowsParams& p) {
  return timed(e, op_name(p), 0, [&] { return inner_.select_cached_rows(e, p); });
}
Status ProfilingBackend::select_kv_blocks(const Exec& e, const SelectKvBlocksParams& p) {
  return timed(e, op_name(p), 0, [&] { return inner_.select_kv_blocks(e, p); });
}
Status ProfilingBackend::count_symbols(const Exec& e, const CountSymbolsParams& p) {
  return timed(e, op_name(p), 0, [&] { return inner_.count_symbols(e, p); });
}
Status ProfilingBackend::plan(const Exec& e, const PlanParams& p) {
  return timed(e, op_name(p), 0, [&] { return inner_.plan(e, p); });
}
Status ProfilingBackend::taylor_update(const Exec& e, const TaylorUpdateParams& p) {
  return timed(e, op_name(p), 0, [&] { return inner_.taylor_update(e, p); });
}
Status ProfilingBackend::taylor_forecast(const Exec& e, const TaylorForecastParams& p) {
  return timed(e, op_name(p), 0, [&] { return inner_.taylor_forecast(e, p); });
}
Status ProfilingBackend::activation(const Exec& e, const ActivationParams& p) {
  return timed(e, op_name(p), 0, [&] { return inner_.activation(e, p); });
}
Status ProfilingBackend::combine(const Exec& e, const CombineParams& p) {
  return timed(e, op_name(p), 0, [&] { return inner_.combine(e, p); });
}
Status ProfilingBackend::copy(const Exec& e, const CopyParams& p) {
  return timed(e, op_name(p), 0, [&] { return inner_.copy(e, p); });
}
Status ProfilingBackend::antidiagonal_scores(const Exec& e, const AntidiagonalScoresParams& p) {
  return timed(e, op_name(p), 0, [&] { return inner_.antidiagonal_scores(e, p); });
}
Status ProfilingBackend::column_mass(const Exec& e, const ColumnMassParams& p) {
  return timed(e, op_name(p), 0, [&] { return inner_.column_mass(e, p); });
}
Status ProfilingBackend::block_change(const Exec& e, const BlockChangeParams& p) {
  return timed(e, op_name(p), 0, [&] { return inner_.block_change(e, p); });
}
Status ProfilingBackend::select_rows(const Exec& e, const SelectRowsParams& p) {
  return timed(e, op_name(p), 0, [&] { return inner_.select_rows(e, p); });
}
Status ProfilingBackend::select_kv_share(const Exec& e, const SelectKvShareParams& p) {
  return timed(e, op_name(p), 0, [&] { return inner_.select_kv_share(e, p); });
}
Status ProfilingBackend::select_pattern(const Exec& e, const SelectPatternParams& p) {
  return timed(e, op_name(p), 0, [&] { return inner_.select_pattern(e, p); });
}
Status ProfilingBackend::keep_columns(const Exec& e, const KeepColumnsParams& p) {
  return timed(e, op_name(p), 0, [&] { return inner_.keep_columns(e, p); });
}
Status ProfilingBackend::measure_change(const Exec& e, const MeasureChangeParams& p) {
  return timed(e, op_name(p), 0, [&] { return inner_.measure_change(e, p); });
}

Status ProfilingBackend::plan_projections(const Exec& e, const PlanParams& p) {
  return timed(e, op_name(p), 0, [&] { return ForwardingBackend::plan_projections(e, p); });
}
Status ProfilingBackend::plan_all(const Exec& e, std::span<const PlanParams> p) {
  return timed(e, op_name(PlanParams{}), 0, [&] { return ForwardingBackend::plan_all(e, p); });
}
Status ProfilingBackend::count_all(const Exec& e, std::span<const CountSymbolsParams> p) {
  return timed(e, op_name(CountSymbolsParams{}), 0,
               [&] { return ForwardingBackend::count_all(e, p); });
}
Status ProfilingBackend::taylor_slope(const Exec& e, const TaylorSlopeParams& p) {
  return timed(e, op_name(p), 0, [&] { return ForwardingBackend::taylor_slope(e, p); });
}

}  // namespace flashomni
