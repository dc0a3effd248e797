// SPDX-License-Identifier: Apache-2.0
//
// One build of the FlashOmni policy for given thresholds: which rows are cached by which score, and
// which blocks of the others are skipped.
#pragma once

#include "flashomni/strategies.h"
#include "strategies/scratch.h"

namespace flashomni::strategies {

// What a row is worth, or what caching it costs; DROP_CDF of it is cached.
enum class RowScore : uint8_t {
  kText,           // how much it and the text read each other; needs text in the sequence
  kColumnMass,     // how much pooled attention it receives
  kChange,         // how much its output changed since the last refresh, relative to its size
  kForecastError,  // how far its forecast was off; the thresholds are shares of the whole error
};
// By option name ("text", "column_mass", "change", "forecast_error"); fails by name.
Result<RowScore> parse_row_score(const std::string& name);

struct PolicyScratch {
  PooledScratch pooled;
  TensorView rows;  // [B, H, nQ]
  PolicyScratch(ScratchArena& arena, const SequenceInfo& s, int block_q, int block_kv)
      : pooled(arena, s, block_q, block_kv),
        rows(arena.take(DType::kF32, {s.batch, s.heads, block_count(s.tokens, block_q)})) {}
};
size_t policy_scratch_bytes(const SequenceInfo& s, int block_q, int block_kv);

struct PolicyOptions {
  PoolingOptions pooling;
  RowScore row_score = RowScore::kText;
  TextScoreMode text_mode = TextScoreMode::kMeanOfSoftmaxes;
  bool protect_text = true;
  double theta_q = -1;   // below 0: nothing is cached
  double theta_kv = -1;  // below 0: nothing is skipped
};

Status build_policy(const BuildContext& c, const PolicyOptions& o, SymbolsView out);

}  // namespace flashomni::strategies
