// SPDX-License-Identifier: Apache-2.0
//
// What a report shows of one run beyond its figures: steps, layers and memory, small enough to be
// kept with every trial.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "flashomni/engine.h"

namespace flashomni {

struct RunDetail {
  struct Step {
    std::string kind;  // "full", "update", "dispatch", ...
    double seconds = 0;
  };
  std::vector<Step> steps;
  std::vector<std::string> layers;  // names
  int streams = 0;
  // [step][stream * layers + layer]: share of the attention that was left out, 0 to 1.
  std::vector<std::vector<double>> sparsity;
  // [step]: one letter for each of the same: d(ense), u(pdate), s(parse) or r(eused).
  std::vector<std::string> kinds;
  std::vector<std::pair<std::string, size_t>> memory;  // bytes by purpose

  bool empty() const { return steps.empty(); }
};

RunDetail detail_of(const RunReport& report);
// "sparse" for 's'; "unknown" for a letter that stands for nothing.
const char* layer_kind_text(char letter);

nlohmann::json to_json(const RunDetail& detail);
// kCorruptFile with `source` in front for what to_json() does not write. null is an empty one.
Result<RunDetail> parse_detail(const nlohmann::json& json, const std::string& source);

}  // namespace flashomni
