// SPDX-License-Identifier: Apache-2.0
//
// From block scores to symbols on the device. The distributions are formed, sorted and summed in
// double precision, like on the CPU: the rows are few, and the same scores give the same symbols
// wherever they are selected. REQUIRES of each: parameters that passed the check of the same name.
#pragma once

#include <cuda_runtime_api.h>

#include <span>

#include "flashomni/ops.h"
#include "flashomni/selection_ops.h"
#include "flashomni/status.h"

namespace flashomni::cuda {

// Longest rows: kv blocks of a query block, and query blocks of a head.
constexpr int kMaxSelectKv = 8192;
constexpr int kMaxSelectRows = 4096;
// Sets of symbols that one launch takes up at most: their addresses are its arguments.
constexpr int kMaxSymbolBatch = 64;

Status select_cached_rows(cudaStream_t stream, const SelectCachedRowsParams& params);
Status select_kv_blocks(cudaStream_t stream, const SelectKvBlocksParams& params);

Status select_rows(cudaStream_t stream, const SelectRowsParams& params);
Status select_kv_share(cudaStream_t stream, const SelectKvShareParams& params);
Status select_pattern(cudaStream_t stream, const SelectPatternParams& params);
Status keep_columns(cudaStream_t stream, const KeepColumnsParams& params);

// Counts of one set of symbols, in parts: the CTA n of the kernel writes part n.
struct SymbolCountParts {
  static constexpr int kParts = 32;
  struct Part {
    int64_t active_rows;
    int64_t active_pairs;
  };
  Part parts[kParts];
};

struct SymbolCountJob {
  SymbolsView symbols;
  SymbolCountParts* parts;  // memory that the device can write
};
// One launch for every kMaxSymbolBatch jobs. REQUIRES: symbols of one geometry.
Status count_symbols(cudaStream_t stream, std::span<const SymbolCountJob> jobs);

}  // namespace flashomni::cuda
