// SPDX-License-Identifier: Apache-2.0
//
// Random symbols for a stated attention sparsity over a whole run, for models whose weights mean
// nothing: which part of it S_c and S_s each bring, and how many layers degrade.
#pragma once

#include <string>

#include "flashomni/strategies.h"
#include "tools/bench_e2e.h"

namespace flashomni::tools {

struct TrajectoryPattern {
  std::string split = "both";  // "s_s", "s_c", or "both": half of the sparsity each
  double sparsity = 0.46;      // share of S_c * S_s zeros over all steps and layers
  int steps = 50;
  int warmup = 8;
  int interval = 6;
  int order = 1;
  double degraded = 0;  // share of layers; their Dispatch steps count as all zeros
  int degrade_order = 0;
  int block = 128;
};

// The strategy "random" with options that make this pattern. kInvalidArgument when Dispatch steps
// cannot be so sparse, with the most that they can.
Result<E2eWay> make_trajectory_way(const TrajectoryPattern& pattern, const SequenceInfo& sequence,
                                   int layers);

}  // namespace flashomni::tools
