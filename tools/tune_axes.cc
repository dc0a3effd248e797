// SPDX-License-Identifier: Apache-2.0
#include "tools/tune_axes.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "io/messages.h"

namespace flashomni::tools {
namespace {

using Int = int64_t;

// Gentle to aggressive, those that matter most first.
std::vector<TuneAxis> known_axes(int steps) {
  TuneAxis warmup{"warmup", {}}, interval{"interval", {}};
  for (const double share : {0.5, 0.4, 0.35, 0.3, 0.25, 0.2, 0.15, 0.1}) {
    const OptionValue value = std::max(Int{1}, Int{std::lround(share * steps)});
    if (warmup.values.empty() || warmup.values.back() != value) warmup.values.push_back(value);
  }
  for (const Int value : {2, 3, 4, 5, 6, 8}) {
    if (value <= std::max(3, steps / 4)) interval.values.emplace_back(value);
  }
  return {
      warmup,
      interval,
      {"last_full", {true, false}},
      {"order", {Int{2}, Int{1}, Int{0}}},
      {"tau_q", {0.3, 0.6, 0.8, 0.9, 0.97, 1.0}},
      {"tau_kv", {0.0, 0.05, 0.1, 0.2, 0.35}},
      {"ramp", {2.0, 1.0, 0.0}},
      {"S_q", {0.0, 0.3, 0.6, 1.0}},
      {"degrade_order", {Int{2}, Int{1}, Int{0}}},
      {"quality", {0.95, 0.85, 0.7, 0.5, 0.3, 0.1}},
      {"window", {Int{512}, Int{256}, Int{128}, Int{64}}},
      {"groups", {Int{2}, Int{4}, Int{8}}},
  };
}

// Not a trade of quality for speed.
constexpr const char* kNotTuned[] = {"theta_sim", "schedule_steps", "seed", "block_q", "block_kv"};

bool in_range(const OptionInfo& option, const OptionValue& value) {
  if (std::holds_alternative<double>(value)) {
    return std::get<double>(value) >= option.minimum && std::get<double>(value) <= option.maximum;
  }
  if (std::holds_alternative<int64_t>(value)) {
    const auto number = double(std::get<int64_t>(value));
    return number >= option.minimum && number <= option.maximum;
  }
  return true;
}

}  // namespace

std::vector<TuneAxis> default_axes(const StrategyInfo& strategy, const OptionMap& fixed,
                                   int steps) {
  std::vector<TuneAxis> out;
  const std::vector<TuneAxis> axes = known_axes(steps);
  for (const OptionInfo& option : strategy.options) {
    if (fixed.contains(option.name)) continue;
    const auto known = std::ranges::find(axes, option.name, &TuneAxis::option);
    TuneAxis axis{option.name, {}};
    if (known != axes.end()) {
      // A known name may stand for another type in another strategy.
      if (known->values.front().index() != option.default_value.index()) continue;
      axis.values = known->values;
    } else if (std::holds_alternative<double>(option.default_value) && option.minimum >= 0 &&
               option.maximum <= 1 &&
               std::ranges::find(kNotTuned, option.name) == std::end(kNotTuned)) {
      for (const double share : {0.1, 0.3, 0.5, 0.7, 0.9}) {
        axis.values.emplace_back(option.minimum + share * (option.maximum - option.minimum));
      }
    }
    std::erase_if(axis.values, [&](const OptionValue& v) { return !in_range(option, v); });
    if (axis.values.size() > 1) out.push_back(std::move(axis));
  }
  std::ranges::stable_sort(out, {}, [&](const TuneAxis& axis) {
    return std::ranges::find(axes, axis.option, &TuneAxis::option) - axes.begin();
  });
  return out;
}

OptionMap in_run_steps(const StrategyInfo& strategy, OptionMap options, int steps) {
  const auto of = std::ranges::find(strategy.options, "schedule_steps", &OptionInfo::name);
  if (of == strategy.options.end()) return options;
  const auto given = options.find("schedule_steps");
  const auto meant = std::get<Int>(given == options.end() ? of->default_value : given->second);
  options["schedule_steps"] = Int{steps};
  if (meant == 0) return options;
  for (const OptionInfo& option : strategy.options) {
    // The rules of the strategies' own scaling.
    const Int least = option.name == "warmup" ? 1 : option.name == "interval" ? 2 : 0;
    const auto it = options.find(option.name);
    if (least == 0 || it == options.end()) continue;
    auto& value = std::get<Int>(it->second);
    if (value < least) continue;
    value = std::max(least, Int{std::lround(double(value) * steps / double(meant))});
  }
  return options;
}

Status set_axis(const StrategyInfo& strategy, const std::string& text,
                std::vector<TuneAxis>& axes) {
  const size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0 || equals + 1 == text.size()) {
    return invalid_argument("--axis is " + quote(text) + ", wanted NAME=VALUE,VALUE,...");
  }
  TuneAxis axis{text.substr(0, equals), {}};
  const auto option = std::ranges::find(strategy.options, axis.option, &OptionInfo::name);
  if (option == strategy.options.end()) {
    return invalid_argument("--axis names " + quote(axis.option) + ", strategy " + strategy.name +
                            " has no such option");
  }
  for (size_t at = equals + 1; at <= text.size();) {
    const size_t end = std::min(text.find(',', at), text.size());
    const std::string word = text.substr(at, end - at);
    const char* last = word.data() + word.size();
    const auto refuse = [&] {
      return invalid_argument("--axis " + axis.option + " has the value " + quote(word) +
                              ", wanted one that the option takes");
    };
    OptionValue value = word;
    if (std::holds_alternative<int64_t>(option->default_value)) {
      Int number = 0;
      const auto r = std::from_chars(word.data(), last, number);
      if (r.ec != std::errc() || r.ptr != last) return refuse();
      value = number;
    } else if (std::holds_alternative<double>(option->default_value)) {
      double number = 0;
      const auto r = std::from_chars(word.data(), last, number);
      if (r.ec != std::errc() || r.ptr != last || !std::isfinite(number)) return refuse();
      value = number;
    } else if (std::holds_alternative<bool>(option->default_value)) {
      if (word != "true" && word != "false") return refuse();
      value = word == "true";
    }
    if (!in_range(*option, value)) return refuse();
    axis.values.push_back(std::move(value));
    at = end + 1;
  }
  std::erase_if(axes, [&](const TuneAxis& a) { return a.option == axis.option; });
  axes.push_back(std::move(axis));
  return ok_status();
}

}  // namespace flashomni::tools
