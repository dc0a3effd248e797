// SPDX-License-Identifier: Apache-2.0
//
// Which options of a strategy `tune` varies, and over which values.
#pragma once

#include <string>
#include <vector>

#include "flashomni/strategy.h"
#include "tools/tune_search.h"

namespace flashomni::tools {

// The axes of any registered strategy: known options (thresholds, interval, order, warm-up, ...)
// over the values that are worth trying, gentle ones first; other numbers between 0 and 1 over five
// values. Warm-up and interval are for a run of `steps` steps. Options in `fixed` and those that
// change shapes or seeds are left out. Values outside of an option's range are dropped.
std::vector<TuneAxis> default_axes(const StrategyInfo& strategy, const OptionMap& fixed, int steps);

// The same options with warm-up and interval meant for a run of `steps` steps. Not rounded to what
// a run of another length would make of them, neighbouring values are neighbours in effect.
OptionMap in_run_steps(const StrategyInfo& strategy, OptionMap options, int steps);

// "tau_q=0.5,0.8,1": replaces or adds an axis. kInvalidArgument for an option that the strategy
// does not have, a value that does not parse or is out of its range.
Status set_axis(const StrategyInfo& strategy, const std::string& text, std::vector<TuneAxis>& axes);

}  // namespace flashomni::tools
