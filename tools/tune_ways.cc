// SPDX-License-Identifier: Apache-2.0
#include "tools/tune_ways.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <numeric>
#include <string>

namespace flashomni::tools {
namespace {

constexpr double kFine = 1e4;       // values are multiples of 1 / kFine
constexpr double kRounding = 1e-6;  // of a layer
// Of a way along which the schedule changes too, which matters far more: two points on it differ by
// something worth a run, or not at all.
constexpr double kParts = 4;
constexpr double kSame = 0.03;  // of a number, there: not worth a point of its own
constexpr const char* kExtra = "extra_updates";
constexpr const char* kLastFull = "last_full";
constexpr const char* kScheduleOptions[] = {"warmup", "interval", kLastFull, kExtra};

bool has_option(const StrategyInfo& strategy, const char* name) {
  return std::ranges::find(strategy.options, name, &OptionInfo::name) != strategy.options.end();
}

double extra_of(const OptionMap& options) {
  const auto it = options.find(kExtra);
  const auto* value = it == options.end() ? nullptr : std::get_if<double>(&it->second);
  return value ? *value : 0;
}

bool same_schedule(const OptionMap& a, const OptionMap& b) {
  return std::ranges::all_of(kScheduleOptions, [&](const char* name) {
    const auto x = a.find(name), y = b.find(name);
    if (x == a.end() || y == b.end()) return x == a.end() && y == b.end();
    return x->second == y->second;
  });
}

// The schedule of `to` with extra Updates.
bool join_schedules(const OptionMap& from, const OptionMap& to, double fraction,
                    const ScheduleKnob& knob, OptionMap& out) {
  if (knob.layers < 1) return false;
  const Result<double> a = knob.dispatch_steps(from), b = knob.dispatch_steps(to);
  if (!a.ok() || !b.ok()) return false;
  const double layers = knob.layers;
  const double exact = (extra_of(to) + (1 - fraction) * (*b - *a)) * layers;
  // More of them are nearer to a denser `from`.
  const double count = *b > *a ? std::ceil(exact - kRounding) : std::floor(exact + kRounding);
  if (count < 0) return false;
  for (const char* name : kScheduleOptions) {
    const auto it = to.find(name);
    if (it != to.end()) out[name] = it->second;
  }
  if (count == 0) {
    out.erase(kExtra);
  } else {
    out[kExtra] = std::round(kFine * count / layers) / kFine;
  }
  return true;
}

// A number `fraction` of the way, rounded towards `from`; other values have to be equal.
std::optional<OptionValue> value_between(const OptionValue& from, const OptionValue& to,
                                         double fraction) {
  if (from == to) return from;
  if (from.index() != to.index()) return std::nullopt;
  if (const auto* a = std::get_if<double>(&from)) {
    const double b = std::get<double>(to);
    return OptionValue(std::round(kFine * (*a + fraction * (b - *a))) / kFine);
  }
  if (const auto* a = std::get_if<int64_t>(&from)) {
    const int64_t b = std::get<int64_t>(to);
    if (std::abs(b - *a) < 2) return std::nullopt;
    return OptionValue(*a + static_cast<int64_t>(fraction * double(b - *a)));
  }
  return std::nullopt;
}

bool is_same(const OptionValue& a, const OptionValue& b) {
  const auto *x = std::get_if<double>(&a), *y = std::get_if<double>(&b);
  return x && y && std::abs(*x - *y) <= kSame * std::max(std::abs(*x), std::abs(*y));
}

}  // namespace

ScheduleKnob schedule_knob(const StrategyInfo& strategy, const OptionMap& fixed, int steps,
                           int layers,
                           std::function<Result<OptionMap>(const OptionMap&)> complete) {
  ScheduleKnob knob;
  if (!has_option(strategy, kExtra) || fixed.contains(kExtra)) return knob;
  knob.layers = layers;
  // Layers that reuse something, of every step.
  const auto reusing = [name = strategy.name, steps, layers, complete = std::move(complete)](
                           const OptionMap& options) -> Result<std::vector<int64_t>> {
    FO_ASSIGN_OR_RETURN(const OptionMap all, complete(options));
    FO_ASSIGN_OR_RETURN(const std::unique_ptr<Strategy> s, make_strategy(name, all));
    RunInfo run;
    run.steps = steps;
    run.layers = layers;
    FO_RETURN_IF_ERROR(s->begin_run(run));
    std::vector<int64_t> out(size_t(steps), 0);
    StepContext step{0, steps, -1};
    for (; step.step < steps; ++step.step) {
      if (s->begin_step(step) != StepKind::kDispatch) continue;
      for (int layer = 0; layer < layers; ++layer) {
        out[size_t(step.step)] += s->layer_action(step, layer, 0) == LayerAction::kFollow ? 1 : 0;
      }
    }
    return out;
  };
  knob.dispatch_steps = [reusing, layers](const OptionMap& options) -> Result<double> {
    FO_ASSIGN_OR_RETURN(const std::vector<int64_t> of_steps, reusing(options));
    return double(std::accumulate(of_steps.begin(), of_steps.end(), int64_t{0})) / layers;
  };
  knob.reusing_tail = [reusing](const OptionMap& options) -> Result<int> {
    FO_ASSIGN_OR_RETURN(const std::vector<int64_t> of_steps, reusing(options));
    const auto last = std::find(of_steps.rbegin(), of_steps.rend(), int64_t{0});
    return static_cast<int>(last - of_steps.rbegin());
  };
  return knob;
}

std::optional<OptionMap> between(const OptionMap& from, const OptionMap& end, double fraction,
                                 const ScheduleKnob& knob) {
  OptionMap to = end;
  if (knob.reusing_tail && to.contains(kLastFull) && !same_schedule(from, to)) {
    const Result<int> a = knob.reusing_tail(from), b = knob.reusing_tail(to);
    if (a.ok() && b.ok() && *b > *a) to[kLastFull] = true;
  }
  OptionMap out = from;
  const bool join = !same_schedule(from, to) && join_schedules(from, to, fraction, knob, out);
  for (const auto& [name, value] : from) {
    if (join && std::ranges::find(kScheduleOptions, name) != std::end(kScheduleOptions)) continue;
    const auto it = to.find(name);
    if (it == to.end()) return std::nullopt;
    const double rough = std::floor(kParts * fraction) / kParts;
    std::optional<OptionValue> v = value_between(value, it->second, join ? rough : fraction);
    if (v && join && is_same(*v, value)) v = value;
    if (!v) return std::nullopt;
    out[name] = *v;
  }
  const bool lacks = std::ranges::any_of(to, [&](const auto& option) {
    return !from.contains(option.first) && !(join && option.first == kExtra);
  });
  if (lacks || out == from || out == end) return std::nullopt;
  return out;
}

}  // namespace flashomni::tools
