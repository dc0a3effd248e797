// SPDX-License-Identifier: Apache-2.0
//
// A backend that replays graphs of another one. Between begin_batch() and end_batch() operations
// are held back and written down with all their parameters (op_signature.h). A batch that equals an
// earlier one, word for word, is that one's graph launched again; the second of its kind is
// captured; the first, and whatever a graph cannot hold, runs one by one. So nobody has to know
// which steps are alike: what is equal replays, and what is not cannot.
//
// Copies at the start of a batch run at once and belong to no graph: they bring what differs from
// step to step (modulations, text) to fixed places.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/forwarding_backend.h"
#include "core/op_signature.h"

namespace flashomni {

class GraphBackend : public ForwardingBackend {
 public:
  explicit GraphBackend(std::unique_ptr<Backend> inner)
      : ForwardingBackend(*inner), owned_(std::move(inner)) {}

  Status begin_batch(const Exec& exec) override;
  Result<BatchOutcome> end_batch() override;
  void forget_graphs() override { kinds_.clear(); }

  // Their callers want what was queued before them to be done or under way.
  Status synchronize(const Exec& e) override;
  Result<int64_t> mark(const Exec& e) override;
  Status upload(const Exec& e, void* dst, const void* src, size_t n) override;
  Status download(const Exec& e, void* dst, const void* src, size_t n) override;

  Status linear(const Exec& e, const LinearParams& p) override;
  Status norm_modulate(const Exec& e, const NormModulateParams& p) override;
  Status rms_norm(const Exec& e, const RmsNormParams& p) override;
  Status gemm_q(const Exec& e, const GemmQParams& p) override;
  Status gemm_qkv(const Exec& e, const GemmQkvParams& p) override;
  Status attention(const Exec& e, const AttentionParams& p) override;
  Status gemm_o(const Exec& e, const GemmOParams& p) override;
  Status gemm_o_update(const Exec& e, const GemmOUpdateParams& p) override;
  Status taylor_update(const Exec& e, const TaylorUpdateParams& p) override;
  Status taylor_forecast(const Exec& e, const TaylorForecastParams& p) override;
  Status activation(const Exec& e, const ActivationParams& p) override;
  Status combine(const Exec& e, const CombineParams& p) override;
  Status copy(const Exec& e, const CopyParams& p) override;

  Status token_mean(const Exec& e, const TokenMeanParams& p) override;
  Status pool(const Exec& e, const PoolParams& p) override;
  Status pool_pair(const Exec& e, const PoolParams& q, const PoolParams& k) override;
  Status block_scores(const Exec& e, const BlockScoresParams& p) override;
  Status select_cached_rows(const Exec& e, const SelectCachedRowsParams& p) override;
  Status select_kv_blocks(const Exec& e, const SelectKvBlocksParams& p) override;
  Status count_symbols(const Exec& e, const CountSymbolsParams& p) override;
  Status plan(const Exec& e, const PlanParams& p) override;
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
  // A run of this many different batches has none that repeat.
  static constexpr size_t kMaxKinds = 256;

  // Batches of one signature.
  struct Kind {
    std::unique_ptr<Graph> graph;  // none before the second
    std::string failure;           // of the attempt to make it
  };

  // Holds the operation back, or runs it.
  template <class Params>
  Status hold(const Exec& exec, const Params& params,
              Status (Backend::*operation)(const Exec&, const Params&));
  // Runs an operation that no graph holds, after all that were held back.
  template <class... Params>
  Status run_now(const Exec& exec, const char* name,
                 Status (Backend::*operation)(const Exec&, const Params&...),
                 const Params&... params);
  // From here on this batch runs one by one.
  Status stop_holding(const std::string& reason);
  Status run_held();

  std::unique_ptr<Backend> owned_;
  bool batch_open_ = false;
  std::string not_held_;  // why this batch runs one by one; empty: it is held back
  Exec exec_;             // of this batch
  std::vector<QueuedOperation> held_;
  OpSignature signature_;
  std::map<std::vector<uint64_t>, Kind> kinds_;
};

}  // namespace flashomni
