// SPDX-License-Identifier: Apache-2.0
//
// What the CUDA backend asks of the arguments of its operations, attention, GEMM-Q and GEMM-O
// excepted, which check their own. Messages name the tensor, what was seen and what was wanted, and
// are put together only when a check fails. A check passes exactly when the operation can run.
#pragma once

#include <initializer_list>
#include <string>

#include "core/update_backend.h"
#include "flashomni/backend.h"

namespace flashomni::cuda {

// "<what> is <seen>, wanted <want>"
Status wanted(const std::string& what, const std::string& seen, const std::string& want);

Status check_weight_desc(const WeightDesc& desc);
// The weight itself is the packing backend's to check.
Status check_linear(const LinearParams& params, int64_t in_features, int64_t out_features);

Status check_norm_modulate(const NormModulateParams& params);
Status check_rms_norm(const RmsNormParams& params);
Status check_token_mean(const TokenMeanParams& params);
Status check_pool(const PoolParams& params);
Status check_block_scores(const BlockScoresParams& params);
Status check_select_cached_rows(const SelectCachedRowsParams& params);
Status check_select_kv_blocks(const SelectKvBlocksParams& params);
Status check_taylor_update(const TaylorUpdateParams& params);
Status check_taylor_slope(const TaylorSlopeParams& params);
Status check_taylor_forecast(const TaylorForecastParams& params);
Status check_activation(const ActivationParams& params);
Status check_combine(const CombineParams& params);
Status check_copy(const CopyParams& params);

Status check_antidiagonal_scores(const AntidiagonalScoresParams& params);
Status check_column_mass(const ColumnMassParams& params);
Status check_block_change(const BlockChangeParams& params);
Status check_measure_change(const MeasureChangeParams& params);
Status check_select_rows(const SelectRowsParams& params);
Status check_select_kv_share(const SelectKvShareParams& params);
Status check_select_pattern(const SelectPatternParams& params);
Status check_keep_columns(const KeepColumnsParams& params);
Status check_count_symbols(const CountSymbolsParams& params);
Status check_plan(const PlanParams& params, size_t bytes);
Status check_workspace(const char* operation, const Exec& exec, size_t bytes);

}  // namespace flashomni::cuda
