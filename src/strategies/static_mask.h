// SPDX-License-Identifier: Apache-2.0
//
// A MaskStrategy whose symbols are one static pattern of the token grid for all heads and layers.
#pragma once

#include "strategies/mask_strategy.h"
#include "strategies/pattern_store.h"
#include "strategies/token_mask.h"

namespace flashomni::strategies {

class StaticMaskStrategy : public MaskStrategy {
 public:
  using MaskStrategy::MaskStrategy;

  Status begin_run(const RunInfo& run) override {
    FO_RETURN_IF_ERROR(MaskStrategy::begin_run(run));
    FO_ASSIGN_OR_RETURN(const SparseSymbols one, pattern(run.sequence));
    patterns_.clear();
    patterns_.add(for_all_heads(one, run.sequence));
    return ok_status();
  }
  Status prepare(Backend& backend, const Exec& exec) override {
    return patterns_.prepare(backend, exec);
  }
  Status build(const BuildContext& c, SymbolsView out) override { return patterns_.put(c, 0, out); }

 protected:
  // Of one head.
  virtual Result<SparseSymbols> pattern(const SequenceInfo& sequence) const = 0;

 private:
  PatternStore patterns_;
};

}  // namespace flashomni::strategies
