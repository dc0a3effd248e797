// SPDX-License-Identifier: Apache-2.0
//
// A strategy with some of its parts switched off, to tell what each of them gains.
#pragma once

#include <string>
#include <vector>

#include "flashomni/engine.h"
#include "pipelines/strategy_config.h"

namespace flashomni::tools {

struct Stage {
  std::string name;  // in tables
  std::string key;   // in JSON
  EngineOptions engine;
  StrategyChoice choice;
};

// What attention alone gains, then each further part: GEMM-Q, GEMM-O, degraded layers if `choice`
// has any. The last stage is the strategy as it was asked for. `choice` must be resolved; `engine`
// is what all stages have in common.
std::vector<Stage> ablation_stages(const StrategyChoice& choice, const EngineOptions& engine);

}  // namespace flashomni::tools
