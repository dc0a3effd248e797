// SPDX-License-Identifier: Apache-2.0
//
// A backend that times every operation of another one: `--profile` wraps the real backend in it, so
// that no kernel and no model carries timing code. It synchronises after each operation, which a
// CPU does anyway; on a GPU that makes steps slower and is for profiling only.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "core/forwarding_backend.h"

namespace flashomni {

// All calls of one operation in one scope.
struct ProfileRow {
  std::string op;     // "attention", "gemm_q", ...
  std::string scope;  // layer name, or "setup", "embed", "output", "sampler"
  int64_t calls = 0;
  double seconds = 0;
  double flops = 0;  // multiply-adds count twice; without symbols (dense-equivalent)
};

class ProfilingBackend : public ForwardingBackend {
 public:
  // `inner` must outlive this.
  explicit ProfilingBackend(Backend& inner) : ForwardingBackend(inner) {}

  // Sorted by seconds, largest first.
  std::vector<ProfileRow> rows() const;
  // Forgets what was recorded so far.
  void clear() { rows_.clear(); }
  // Off, operations run as if this was not there.
  void set_enabled(bool enabled) { enabled_ = enabled; }

  void set_scope(const std::string& name) override {
    scope_ = name;
    inner_.set_scope(name);
  }
  Status synchronize(const Exec& e) override;
  // Operations of a graph cannot be told apart.
  Status begin_batch(const Exec& e) override {
    return enabled_ ? ok_status() : inner_.begin_batch(e);
  }
  Result<BatchOutcome> end_batch() override;

  Status linear(const Exec& e, const LinearParams& p) override;
  Status norm_modulate(const Exec& e, const NormModulateParams& p) override;
  Status rms_norm(const Exec& e, const RmsNormParams& p) override;
  Status gemm_q(const Exec& e, const GemmQParams& p) override;
  Status gemm_qkv(const Exec& e, const GemmQkvParams& p) override;
  Status attention(const Exec& e, const AttentionParams& p) override;
  Status gemm_o(const Exec& e, const GemmOParams& p) override;
  Status gemm_o_update(const Exec& e, const GemmOUpdateParams& p) override;
  Status token_mean(const Exec& e, const TokenMeanParams& p) override;
  Status pool(const Exec& e, const PoolParams& p) override;
  Status pool_pair(const Exec& e, const PoolParams& q, const PoolParams& k) override;
  Status block_scores(const Exec& e, const BlockScoresParams& p) override;
  Status select_cached_rows(const Exec& e, const SelectCachedRowsParams& p) override;
  Status select_kv_blocks(const Exec& e, const SelectKvBlocksParams& p) override;
  Status count_symbols(const Exec& e, const CountSymbolsParams& p) override;
  Status plan(const Exec& e, const PlanParams& p) override;
  Status taylor_update(const Exec& e, const TaylorUpdateParams& p) override;
  Status taylor_forecast(const Exec& e, const TaylorForecastParams& p) override;
  Status activation(const Exec& e, const ActivationParams& p) override;
  Status combine(const Exec& e, const CombineParams& p) override;
  Status copy(const Exec& e, const CopyParams& p) override;
  Status antidiagonal_scores(const Exec& e, const AntidiagonalScoresParams& p) override;
  Status column_mass(const Exec& e, const ColumnMassParams& p) override;
  Status block_change(const Exec& e, const BlockChangeParams& p) override;
  Status select_rows(const Exec& e, const SelectRowsParams& p) override;
  Status select_kv_share(const Exec& e, const SelectKvShareParams& p) override;
  Status select_pattern(const Exec& e, const SelectPatternParams& p) override;
  Status keep_columns(const Exec& e, const KeepColumnsParams& p) override;
  Status measure_change(const Exec& e, const MeasureChangeParams& p) override;
  Status plan_projections(const Exec& e, const PlanParams& p) override;
  Status plan_all(const Exec& e, std::span<const PlanParams> p) override;
  Status count_all(const Exec& e, std::span<const CountSymbolsParams> p) override;
  Status taylor_slope(const Exec& e, const TaylorSlopeParams& p) override;

 private:
  template <class F>
  Status timed(const Exec& exec, const char* op, double flops, const F& call);

  std::string scope_ = "setup";
  bool enabled_ = true;
  std::vector<ProfileRow> rows_;
  // Calls whose seconds are known at the next synchronisation.
  struct Call {
    const char* op;
    std::string scope;
    double flops;
    int64_t begin, end;  // marks
  };
  std::vector<Call> calls_;
};

}  // namespace flashomni
