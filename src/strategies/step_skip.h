// SPDX-License-Identifier: Apache-2.0
//
// What strategies share that only decide which steps skip their layers.
#pragma once

#include "flashomni/strategy.h"

namespace flashomni::strategies {

class StepSkipStrategy : public Strategy {
 public:
  int block_q() const override { return 64; }
  int block_kv() const override { return 64; }
  CacheSpec cache_spec() const override {
    CacheSpec c;
    c.symbols = false;
    return c;
  }
  StepKind begin_step(const StepContext&) override { return StepKind::kFull; }
  Status build(const BuildContext&, SymbolsView) override {
    return internal_error("this strategy builds no symbols");
  }
};

}  // namespace flashomni::strategies
