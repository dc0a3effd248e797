// SPDX-License-Identifier: Apache-2.0
//
// Named option sets per model family, as data. `paper` is the published configuration; `quality`
// and `balanced` were chosen by measurement where docs/performance.md says so.
#include "strategies/presets.h"

#include "flashomni/strategies.h"

namespace flashomni {
namespace {

struct Preset {
  const char* strategy;
  const char* name;
  const char* family;  // "" = any family without its own row
  OptionMap options;
};

const std::vector<Preset>& presets() {
  using namespace std::string_literals;
  static const std::vector<Preset> rows = {
      // 50 steps; steps and intervals scale with the length of the run.
      {"flashomni",
       "quality",
       "emoji_flux",
       {{"tau_q", 0.9},
        {"tau_kv", 0.30},
        {"ramp", 2.0},
        {"order", int64_t{1}},
        {"S_q", 0.0},
        {"warmup", int64_t{8}},
        {"interval", int64_t{6}}}},
      {"flashomni",
       "balanced",
       "emoji_flux",
       {{"tau_q", 0.9},
        {"tau_kv", 0.30},
        {"ramp", 2.0},
        {"order", int64_t{1}},
        {"S_q", 0.6},
        {"degrade_order", int64_t{1}},
        {"warmup", int64_t{8}},
        {"interval", int64_t{6}}}},
      {"flashomni",
       "paper",
       "",
       {{"tau_q", 0.5},
        {"tau_kv", 0.15},
        {"ramp", 2.0},
        {"order", int64_t{2}},
        {"S_q", 0.3},
        {"warmup", int64_t{8}},
        {"interval", int64_t{5}},
        {"block_q", int64_t{128}},
        {"block_kv", int64_t{128}}}},
      {"flashomni",
       "paper",
       "hunyuan_video",
       {{"tau_q", 0.5},
        {"tau_kv", 0.05},
        {"ramp", 1.7},
        {"order", int64_t{1}},
        {"S_q", 0.3},
        {"warmup", int64_t{8}},
        {"interval", int64_t{6}},
        {"block_q", int64_t{128}},
        {"block_kv", int64_t{128}},
        {"text_score", "softmax_of_sum"s},
        {"sim_gate", true},
        {"theta_sim", 0.1},
        {"smooth_k", true}}},
  };
  return rows;
}

}  // namespace

namespace strategies {

std::vector<std::string> preset_names(const std::string& strategy) {
  std::vector<std::string> out;
  for (const Preset& p : presets()) {
    if (strategy != p.strategy) continue;
    bool seen = false;
    for (const std::string& name : out) seen = seen || name == p.name;
    if (!seen) out.push_back(p.name);
  }
  return out;
}

}  // namespace strategies

Result<OptionMap> strategy_preset(const std::string& strategy, const std::string& preset,
                                  const std::string& model_family) {
  const Preset* any = nullptr;
  for (const Preset& p : presets()) {
    if (strategy != p.strategy || preset != p.name) continue;
    if (model_family == p.family) return p.options;
    if (!*p.family) any = &p;
  }
  if (any) return any->options;
  std::string known;
  for (const Preset& p : presets()) {
    if (strategy != p.strategy) continue;
    if (!*p.family || model_family == p.family) {
      known += (known.empty() ? "" : ", ") + std::string(p.name);
    }
  }
  return not_found("strategy " + strategy + " has no preset '" + preset + "' for model family '" +
                   model_family + "'; it has " + (known.empty() ? "none" : known));
}

}  // namespace flashomni
