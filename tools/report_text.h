// SPDX-License-Identifier: Apache-2.0
//
// What a run did, in words for people.
#pragma once

#include <string>
#include <vector>

#include "flashomni/engine.h"
#include "pipelines/strategy_config.h"

namespace flashomni::tools {

// "flashomni (balanced)".
std::string strategy_text(const StrategyChoice& choice);
// The shares that were skipped and the cache's size, on one line.
std::string sparsity_text(const RunReport& report);
// What ran dense although sparsity was asked for, on stderr: one line a reason.
void print_fallbacks(const std::vector<Fallback>& fallbacks);
// What was done to stay within a budget, on stderr; nothing if there was none or all fitted.
void print_cache_budget(const CacheBudget& budget);

}  // namespace flashomni::tools
