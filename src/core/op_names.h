// SPDX-License-Identifier: Apache-2.0
//
// What each operation is called wherever somebody looks at a run: in profiles (ProfilingBackend)
// and in the ranges of GPU profilers. Operations that follow symbols go by another name than their
// dense selves, since they cost something else.
#pragma once

#include "core/update_backend.h"
#include "flashomni/ops.h"
#include "flashomni/selection_ops.h"

namespace flashomni {

// clang-format off
inline const char* op_name(const LinearParams&) { return "linear"; }
inline const char* op_name(const NormModulateParams&) { return "norm_modulate"; }
inline const char* op_name(const RmsNormParams&) { return "rms_norm"; }
inline const char* op_name(const GemmQParams& p) { return p.symbols ? "gemm_q sparse" : "gemm_q"; }
inline const char* op_name(const GemmQkvParams& p) {
  return p.q.symbols ? "gemm_qkv sparse" : "gemm_qkv";
}
inline const char* op_name(const AttentionParams& p) {
  return p.symbols ? "attention sparse" : "attention";
}
inline const char* op_name(const GemmOParams& p) { return p.symbols ? "gemm_o sparse" : "gemm_o"; }
inline const char* op_name(const GemmOUpdateParams&) { return "gemm_o_update"; }
inline const char* op_name(const TokenMeanParams&) { return "token_mean"; }
inline const char* op_name(const PoolParams&) { return "pool"; }
inline const char* op_name(const BlockScoresParams&) { return "block_scores"; }
inline const char* op_name(const SelectCachedRowsParams&) { return "select_cached_rows"; }
inline const char* op_name(const SelectKvBlocksParams&) { return "select_kv_blocks"; }
inline const char* op_name(const CountSymbolsParams&) { return "count_symbols"; }
inline const char* op_name(const PlanParams&) { return "plan"; }
inline const char* op_name(const TaylorUpdateParams&) { return "taylor_update"; }
// A taylor_update of what is read of it.
inline const char* op_name(const TaylorSlopeParams&) { return "taylor_update"; }
inline const char* op_name(const TaylorForecastParams&) { return "taylor_forecast"; }
inline const char* op_name(const ActivationParams&) { return "activation"; }
inline const char* op_name(const CombineParams&) { return "combine"; }
inline const char* op_name(const CopyParams&) { return "copy"; }
inline const char* op_name(const AntidiagonalScoresParams&) { return "antidiagonal_scores"; }
inline const char* op_name(const ColumnMassParams&) { return "column_mass"; }
inline const char* op_name(const BlockChangeParams&) { return "block_change"; }
inline const char* op_name(const SelectRowsParams&) { return "select_rows"; }
inline const char* op_name(const SelectKvShareParams&) { return "select_kv_share"; }
inline const char* op_name(const SelectPatternParams&) { return "select_pattern"; }
inline const char* op_name(const KeepColumnsParams&) { return "keep_columns"; }
inline const char* op_name(const MeasureChangeParams&) { return "measure_change"; }
// clang-format on

}  // namespace flashomni
