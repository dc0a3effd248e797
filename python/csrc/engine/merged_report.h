// SPDX-License-Identifier: Apache-2.0
//
// One report of a run whose guidance streams had an engine each.
#pragma once

#include <vector>

#include "flashomni/engine.h"

namespace flashomni::python {

struct LaneReport {
  int first_step = 0;  // of the run, in which this engine's step 0 ran
  RunReport report;
};

// Streams become streams of one report: layers one after the other in each step, seconds, bytes and
// FLOPs summed, shares weighted by the layer-steps that they are over. REQUIRES equal layers.
RunReport merge_reports(const std::vector<LaneReport>& lanes);

}  // namespace flashomni::python
