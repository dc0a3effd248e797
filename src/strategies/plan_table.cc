// SPDX-License-Identifier: Apache-2.0
#include "strategies/plan_table.h"

#include <algorithm>
#include <charconv>

namespace flashomni::strategies {
namespace {

std::string trimmed(const std::string& s) {
  const size_t a = s.find_first_not_of(" \t\r\n");
  if (a == std::string::npos) return {};
  return s.substr(a, s.find_last_not_of(" \t\r\n") - a + 1);
}

std::vector<std::string> split(const std::string& text, char by) {
  std::vector<std::string> out;
  for (size_t at = 0; at <= text.size();) {
    const size_t end = std::min(text.find(by, at), text.size());
    out.push_back(trimmed(text.substr(at, end - at)));
    at = end + 1;
  }
  return out;
}

bool parse_int(const std::string& text, int& out) {
  const auto r = std::from_chars(text.data(), text.data() + text.size(), out);
  return r.ec == std::errc() && r.ptr == text.data() + text.size() && out >= 0;
}

Status wrong(const std::string& rule, const std::string& why) {
  return invalid_argument("plan rule '" + rule + "': " + why);
}

// "all", "3", "0-9" or "1+4-6"
bool parse_selector(const std::string& text, Selector& out) {
  if (text == "all") return true;
  for (const std::string& part : split(text, '+')) {
    Selector::Range r{};
    const size_t dash = part.find('-');
    if (!parse_int(trimmed(part.substr(0, dash)), r.first)) return false;
    r.last = r.first;
    if (dash != std::string::npos && !parse_int(trimmed(part.substr(dash + 1)), r.last))
      return false;
    if (r.last < r.first) return false;
    out.ranges.push_back(r);
  }
  return true;
}

Result<PlanRule> parse_rule(const std::string& text) {
  PlanRule rule;
  const size_t colon = text.find(':');
  if (colon != std::string::npos) {
    for (const std::string& item : split(text.substr(0, colon), ',')) {
      const size_t space = item.find(' ');
      const std::string what = item.substr(0, space);
      Selector* to = what == "steps"    ? &rule.steps
                     : what == "layers" ? &rule.layers
                     : what == "heads"  ? &rule.heads
                                        : nullptr;
      if (!to) return wrong(text, "'" + what + "' selects nothing, wanted steps, layers or heads");
      const std::string range = space == std::string::npos ? "" : trimmed(item.substr(space + 1));
      if (!parse_selector(range, *to)) {
        return wrong(text, "'" + range + "' is no selection, wanted all, 3, 0-9 or 1+4-6");
      }
    }
  }
  const std::string action = trimmed(colon == std::string::npos ? text : text.substr(colon + 1));
  if (action == "full") {
    rule.head.action = HeadAction::kFull;
  } else if (action == "cached") {
    rule.head.action = HeadAction::kCached;
  } else if (action == "alias") {
    rule.alias = true;
    if (!rule.heads.ranges.empty()) return wrong(text, "alias is for whole layers, not for heads");
  } else if (action.rfind("window ", 0) == 0 &&
             parse_int(trimmed(action.substr(7)), rule.head.window)) {
    rule.head.action = HeadAction::kWindow;
  } else {
    return wrong(text, "'" + action + "' is no action, wanted full, window W, cached or alias");
  }
  return rule;
}

}  // namespace

bool Selector::contains(int i) const {
  return ranges.empty() || std::any_of(ranges.begin(), ranges.end(),
                                       [i](const Range& r) { return r.first <= i && i <= r.last; });
}

Result<std::vector<PlanRule>> parse_plan(const std::string& text) {
  std::vector<PlanRule> out;
  for (const std::string& rule : split(text, ';')) {
    if (rule.empty()) continue;
    FO_ASSIGN_OR_RETURN(PlanRule parsed, parse_rule(rule));
    out.push_back(std::move(parsed));
  }
  return out;
}

bool PlanTable::any_alias() const {
  return std::any_of(alias_.begin(), alias_.end(), [](char a) { return a != 0; });
}

bool PlanTable::all(int step, int layer, HeadAction action) const {
  for (int h = 0; h < heads_; ++h) {
    if (at(step, layer, h).action != action) return false;
  }
  return true;
}

bool PlanTable::any(int step, int layer, HeadAction action) const {
  for (int h = 0; h < heads_; ++h) {
    if (at(step, layer, h).action == action) return true;
  }
  return false;
}

bool PlanTable::any(HeadAction action) const {
  return std::any_of(plans_.begin(), plans_.end(),
                     [&](const HeadPlan& p) { return p.action == action; });
}

Status PlanTable::apply(const std::vector<PlanRule>& rules, int plan_steps) {
  for (size_t r = 0; r < rules.size(); ++r) {
    const PlanRule& rule = rules[r];
    bool used = false;
    for (int step = 0; step < steps_; ++step) {
      // Step t of this run does what the plan says of the step at the same share of its own.
      const int planned = plan_steps > 0 ? step * plan_steps / steps_ : step;
      if (!rule.steps.contains(planned)) continue;
      for (int layer = 0; layer < layers_; ++layer) {
        if (!rule.layers.contains(layer)) continue;
        if (rule.alias) {
          alias(step, layer) = 1;
          used = true;
          continue;
        }
        for (int head = 0; head < heads_; ++head) {
          if (!rule.heads.contains(head)) continue;
          at(step, layer, head) = rule.head;
          used = true;
        }
      }
    }
    // A rule for steps that a shorter run does not reach is no mistake; one for layers or heads
    // that do not exist is.
    bool reachable = false;
    for (int layer = 0; layer < layers_ && !reachable; ++layer) {
      for (int head = 0; head < heads_ && !reachable; ++head) {
        reachable = rule.layers.contains(layer) && rule.heads.contains(head);
      }
    }
    if (!used && !reachable) {
      return invalid_argument("plan rule " + std::to_string(r + 1) +
                              " chooses no head; this model has " + std::to_string(layers_) +
                              " layers of " + std::to_string(heads_) + " heads");
    }
  }
  return ok_status();
}

}  // namespace flashomni::strategies
