// SPDX-License-Identifier: Apache-2.0
//
// The last part of the search of `tune`: the neighbours of the best settings are steps of several
// dB on short runs, so the goal is met with much to spare. Between settings that reach the goal and
// cheaper ones that miss it lies what just reaches it.
#pragma once

#include "tools/tune_search.h"

namespace flashomni::tools {

// Goes on from what `outcome` has measured: of all pairs of candidates with a way between them, one
// on either side of the goal, that whose way promises the least cost where it crosses the goal (by
// straight lines through the means, each paired with the best's) is tried a little before that
// point, and so on with the point among them, until the best is as near to the goal as half the
// tolerance or no pair promises a gain. After some points, while the best is still farther than the
// tolerance, the pair that is nearest to the goal on both sides is halved instead. By how much a
// point falls short of its line is added to the aim of the next. Sets the ranking. Meant to be
// called again with another margin: see the check. Leaves time for `kept` more runs.
Status tune_home_in(const TuneProblem& problem, TuneOutcome& outcome, size_t kept = 0);

}  // namespace flashomni::tools
