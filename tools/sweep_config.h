// SPDX-License-Identifier: Apache-2.0
//
// What `flashomni sweep` is asked to run: a JSON file that lists strategies, with lists in place of
// option values spanning grids.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "pipelines/strategy_config.h"

namespace flashomni::tools {

struct SweepConfig {
  std::string label;  // "flashomni quality tau_q=0.5"; unique
  std::string curve;  // configs of one curve are joined in plots
  StrategyChoice choice;
};

// Reads {"configs": [{"strategy": "flashomni", "preset": "quality", "label": "...", "curve": "...",
// "options": {"tau_q": [0.5, 0.8], "order": 1}}, ...]}: every entry is a config file of `generate`
// whose option values may be lists; all combinations are made. label and curve are optional (curve:
// the strategy's name). Checked against the registry and resolved for `model_family`; configs that
// come out the same are kept once. Whatever is wrong is kInvalidArgument with `source` in front.
Result<std::vector<SweepConfig>> parse_sweep(const nlohmann::json& json, const std::string& source,
                                             const std::string& model_family);
inline constexpr size_t kMaxSweepConfigs = 10000;

}  // namespace flashomni::tools
