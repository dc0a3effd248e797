// SPDX-License-Identifier: Apache-2.0
//
// Named option sets per model family, as data. emoji_flux's were chosen by measurement
// (docs/performance.md); the others are the published settings of the paper's example and artifact,
// as `quality` without and as `balanced` with degraded layers, and have not been measured here.
#include "strategies/presets.h"

#include "flashomni/strategies.h"

namespace flashomni {
namespace {

struct Preset {
  const char* strategy;
  const char* name;
  const char* family;
  OptionMap options;
};

using Int = int64_t;

// `base` with some values replaced or added.
OptionMap with(OptionMap base, const OptionMap& changes) {
  for (const auto& [name, value] : changes) base[name] = value;
  return base;
}

std::vector<Preset> make_presets() {
  // Warm-ups and intervals are for 50 steps and scale with the length of the run. On emoji_flux a
  // forecast row costs less quality than a skipped block at every budget, and a short interval less
  // than a long one, so `quality` caches every image row over short intervals; `balanced` lets
  // layers degrade as the ramp closes; `fast` degrades all of them at once.
  const OptionMap emoji = {{"order", Int{1}}, {"block_q", Int{64}}, {"block_kv", Int{64}}};
  const OptionMap emoji_quality = with(emoji, {{"tau_q", 1.0},
                                               {"tau_kv", 0.0},
                                               {"ramp", 0.0},
                                               {"S_q", 0.0},
                                               {"warmup", Int{9}},
                                               {"interval", Int{3}}});
  const OptionMap emoji_balanced = with(emoji, {{"tau_q", 0.97},
                                                {"tau_kv", 0.2},
                                                {"ramp", 1.0},
                                                {"S_q", 0.6},
                                                {"degrade_order", Int{1}},
                                                {"warmup", Int{12}},
                                                {"interval", Int{4}}});
  const OptionMap emoji_fast = with(emoji, {{"tau_q", 1.0},
                                            {"tau_kv", 0.0},
                                            {"ramp", 0.0},
                                            {"S_q", 1.0},
                                            {"degrade_order", Int{1}},
                                            {"warmup", Int{10}},
                                            {"interval", Int{5}}});

  const OptionMap flux = {{"tau_q", 0.5},       {"tau_kv", 0.15},      {"ramp", 2.0},
                          {"order", Int{2}},    {"S_q", 0.0},          {"warmup", Int{8}},
                          {"interval", Int{5}}, {"block_q", Int{128}}, {"block_kv", Int{128}}};
  // Editing: a first-order forecast is enough for tokens that hardly change (strategies 1.7).
  const OptionMap kontext = with(flux, {{"order", Int{1}}});
  const OptionMap hunyuan = with(flux, {{"tau_kv", 0.05},
                                        {"ramp", 1.7},
                                        {"order", Int{1}},
                                        {"interval", Int{6}},
                                        {"text_score", std::string("softmax_of_sum")},
                                        {"sim_gate", true},
                                        {"theta_sim", 0.1},
                                        {"smooth_k", true}});
  // Self-attention without text: only block skipping. Rows can be cached too (tau_q with row_score
  // column_mass, change or forecast_error); what that gives on Wan has not been measured.
  const OptionMap wan = with(hunyuan, {{"tau_q", 0.0}});
  const OptionMap degrade = {{"S_q", 0.3}};

  // Patches and tiles that are one block of emoji_flux's 32 x 32 grid; only the geometry is chosen
  // for it, the shares are not tuned.
  const OptionMap squares = {{"tile_frames", Int{1}}, {"tile_rows", Int{8}}, {"tile_cols", Int{8}},
                             {"block_q", Int{64}},    {"block_kv", Int{64}}, {"warmup", Int{10}}};
  const OptionMap bands = {{"tile_frames", Int{8}}, {"tile_places", Int{8}},
                           {"first_frame", false},  {"block_q", Int{64}},
                           {"block_kv", Int{64}},   {"dense_layers", Int{0}}};
  const OptionMap patches = {{"patch_rows", Int{8}}, {"patch_cols", Int{8}}, {"block_q", Int{64}},
                             {"block_kv", Int{64}},  {"warmup", Int{10}},    {"sparsity", 0.6}};

  return {
      {"flashomni", "quality", "emoji_flux", emoji_quality},
      {"flashomni", "balanced", "emoji_flux", emoji_balanced},
      {"flashomni", "fast", "emoji_flux", emoji_fast},
      {"flashomni", "quality", "flux", flux},
      {"flashomni", "balanced", "flux", with(flux, degrade)},
      {"flashomni", "quality", "flux_kontext", kontext},
      {"flashomni", "balanced", "flux_kontext", with(kontext, degrade)},
      {"flashomni", "quality", "hunyuan_video", hunyuan},
      {"flashomni", "balanced", "hunyuan_video", with(hunyuan, degrade)},
      {"draft", "balanced", "emoji_flux", patches},
      {"sta", "balanced", "emoji_flux", with(squares, {{"schedule_steps", Int{50}}})},
      {"svg1", "balanced", "emoji_flux", bands},
      {"vsa", "balanced", "emoji_flux",
       with(squares, {{"sparsity", 0.6}, {"schedule_steps", Int{50}}})},
      {"flashomni", "quality", "wan", wan},
      {"flashomni", "balanced", "wan", with(wan, degrade)},
  };
}

const std::vector<Preset>& presets() {
  static const std::vector<Preset> rows = make_presets();
  return rows;
}

void append_once(std::vector<std::string>& list, const std::string& name) {
  for (const std::string& seen : list) {
    if (seen == name) return;
  }
  list.push_back(name);
}

}  // namespace

namespace strategies {

std::vector<std::string> preset_names(const std::string& strategy) {
  std::vector<std::string> out;
  for (const Preset& p : presets()) {
    if (strategy == p.strategy) append_once(out, p.name);
  }
  return out;
}

}  // namespace strategies

Result<OptionMap> strategy_preset(const std::string& strategy, const std::string& preset,
                                  const std::string& model_family) {
  std::vector<std::string> names;
  for (const Preset& p : presets()) {
    if (strategy != p.strategy || model_family != p.family) continue;
    if (preset == p.name) return p.options;
    append_once(names, p.name);
  }
  std::string known;
  for (const std::string& n : names) known += (known.empty() ? "" : ", ") + n;
  return not_found("strategy " + strategy + " has no preset '" + preset + "' for model family '" +
                   model_family + "'; it has " + (known.empty() ? "none" : known));
}

}  // namespace flashomni
