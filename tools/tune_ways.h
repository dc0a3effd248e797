// SPDX-License-Identifier: Apache-2.0
//
// What lies between two settings of a strategy: where `tune` homes in.
#pragma once

#include <functional>
#include <optional>

#include "flashomni/strategy.h"

namespace flashomni::tools {

// The fine knob of schedules: option extra_updates, which turns the first Dispatch steps into
// Updates, or a part of the layers in one of them.
struct ScheduleKnob {
  int layers = 0;  // 0: the strategy has no such knob
  // Dispatch steps of a run with these options, layers that refresh in one counting as a part of
  // it.
  std::function<Result<double>(const OptionMap&)> dispatch_steps;
  // Steps at the end, since the last that reused nothing.
  std::function<Result<int>(const OptionMap&)> reusing_tail;
};

// The knob of a strategy, for runs of so many steps; none where it does not have the option or
// `fixed` holds it. `complete` gives the options of a strategy for those that are searched.
ScheduleKnob schedule_knob(const StrategyInfo& strategy, const OptionMap& fixed, int steps,
                           int layers, std::function<Result<OptionMap>(const OptionMap&)> complete);

// The options at `fraction` of the way from one set of options to another. Numbers move along a
// straight line, rounded to what they may be. Where schedules differ (warmup, interval,
// extra_updates) the way keeps the second one and gives it extra Updates: as many as make it as
// dense as the first, less and less of them towards its end. Rounding goes towards `from`. What is
// reused in the last steps is mended by none after them, and no number of extra Updates stands for
// that: where there are more such steps than in `from`, the way makes the last one Full. Nothing
// where something else differs, where there is no knob, or where it leads to either end itself.
std::optional<OptionMap> between(const OptionMap& from, const OptionMap& to, double fraction,
                                 const ScheduleKnob& knob);

}  // namespace flashomni::tools
