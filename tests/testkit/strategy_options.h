// SPDX-License-Identifier: Apache-2.0
//
// Options of every registered strategy for runs of a few steps on a small picture.
#pragma once

#include "flashomni/strategies.h"

namespace flashomni::testkit {

// Under which something is left out of so small and short a run, with square blocks of `block`
// tokens.
OptionMap small_options(const StrategyInfo& info, int64_t block);

// Under which nothing is left out and the tokens keep their order, so that the run has the bits of
// a dense one.
OptionMap zero_options(const StrategyInfo& info, int64_t block);

// Of all of them but `dense`.
std::vector<std::string> sparse_strategy_names();

}  // namespace flashomni::testkit
