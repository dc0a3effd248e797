// SPDX-License-Identifier: Apache-2.0
//
// What strategies share that choose kv blocks by the scores of pooled queries against pooled keys.
#pragma once

#include "strategies/mask_strategy.h"
#include "strategies/scratch.h"

namespace flashomni::strategies {

class PooledMaskStrategy : public MaskStrategy {
 public:
  using MaskStrategy::MaskStrategy;

  size_t scratch_bytes(const SequenceInfo& s) const override {
    ScratchArena arena(nullptr);
    const Result<std::vector<int32_t>> starts = block_starts(s);
    const int ragged = starts.ok() && !starts->empty() ? static_cast<int>(starts->size()) - 1 : 0;
    const PooledScratch pooled(arena, s, block_q_, block_kv_, ragged);
    return arena.bytes();
  }
  Status build(const BuildContext& c, SymbolsView out) override {
    ScratchArena arena(c.scratch);
    const PooledScratch pooled(arena, c.sequence, block_q_, block_kv_, out.geometry.ragged_blocks);
    PoolingOptions options = pooling();
    options.starts = out.starts;
    FO_RETURN_IF_ERROR(pooled_scores(c, options, pooled));
    FO_RETURN_IF_ERROR(compute_all_rows(c, pooled.scores, out));
    return select(c, pooled, out);
  }

 protected:
  virtual PoolingOptions pooling() const { return {block_q_, block_kv_}; }
  // S_s from the scores; S_c is 1 everywhere.
  virtual Status select(const BuildContext& c, const PooledScratch& pooled, SymbolsView out) = 0;
};

}  // namespace flashomni::strategies
