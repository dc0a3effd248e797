// SPDX-License-Identifier: Apache-2.0
//
// What each head of each layer does in each step, and the text form of it (plan_strategies.h).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "flashomni/status.h"

namespace flashomni::strategies {

enum class HeadAction : uint8_t { kFull, kWindow, kCached };

struct HeadPlan {
  HeadAction action = HeadAction::kFull;
  int window = 0;  // tokens
  bool operator==(const HeadPlan&) const = default;
};

// Inclusive ranges; empty for all.
struct Selector {
  struct Range {
    int first, last;
  };
  std::vector<Range> ranges;
  bool contains(int i) const;
};

struct PlanRule {
  Selector steps, layers, heads;
  bool alias = false;
  HeadPlan head;
};

// "steps 0-9, layers 2: window 256; ..."; fails by name with the rule that is wrong.
Result<std::vector<PlanRule>> parse_plan(const std::string& text);

class PlanTable {
 public:
  PlanTable() = default;
  PlanTable(int steps, int layers, int heads)
      : steps_(steps),
        layers_(layers),
        heads_(heads),
        plans_(size_t(steps) * size_t(layers) * size_t(heads)),
        alias_(size_t(steps) * size_t(layers), 0) {}

  int steps() const { return steps_; }
  HeadPlan& at(int step, int layer, int head) { return plans_[index(step, layer, head)]; }
  const HeadPlan& at(int step, int layer, int head) const {
    return plans_[index(step, layer, head)];
  }
  char& alias(int step, int layer) {
    return alias_[size_t(step) * size_t(layers_) + size_t(layer)];
  }
  bool alias(int step, int layer) const {
    return alias_[size_t(step) * size_t(layers_) + size_t(layer)] != 0;
  }
  bool any_alias() const;
  // Whether every head of the layer has this action in this step.
  bool all(int step, int layer, HeadAction action) const;
  bool any(int step, int layer, HeadAction action) const;
  bool any(HeadAction action) const;

  // Applies the rules in order. Steps of the rules are meant for a run of `plan_steps` (0: as they
  // are). Fails for rules that choose nothing.
  Status apply(const std::vector<PlanRule>& rules, int plan_steps);

 private:
  size_t index(int step, int layer, int head) const {
    return (size_t(step) * size_t(layers_) + size_t(layer)) * size_t(heads_) + size_t(head);
  }
  int steps_ = 0, layers_ = 0, heads_ = 0;
  std::vector<HeadPlan> plans_;
  std::vector<char> alias_;  // by step and layer
};

}  // namespace flashomni::strategies
