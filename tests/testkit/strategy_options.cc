// SPDX-License-Identifier: Apache-2.0
#include "tests/testkit/strategy_options.h"

#include <map>

namespace flashomni::testkit {
namespace {

using namespace std::string_literals;

// Those of `wanted` that the strategy has.
OptionMap known_options(const StrategyInfo& info, const OptionMap& wanted) {
  OptionMap out;
  for (const OptionInfo& o : info.options) {
    const auto it = wanted.find(o.name);
    if (it != wanted.end()) out[o.name] = it->second;
  }
  return out;
}

}  // namespace

OptionMap small_options(const StrategyInfo& info, int64_t block) {
  OptionMap out = known_options(info, {{"block_q", block},
                                       {"block_kv", block},
                                       {"schedule_steps", int64_t{0}},
                                       {"warmup", int64_t{2}},
                                       {"interval", int64_t{3}},
                                       {"tau_q", 0.9},
                                       {"tau_kv", 0.5},
                                       {"ramp", 0.0},
                                       {"window", int64_t{8}},
                                       {"patch_rows", int64_t{4}},
                                       {"patch_cols", block / 4},
                                       {"tile_frames", int64_t{1}},
                                       {"coefficients", "none"s},
                                       {"S_q", 0.0},
                                       {"topk", 0.6}});
  if (info.name == "plan") {
    out["plan"] = "steps 3+5+6, heads 0-2: window 0; steps 4, layers 2-4: cached; steps 5: alias"s;
  }
  if (info.name == "sta") {
    for (const char* side : {"tile_rows", "tile_cols"}) out[side] = int64_t{4};
    for (const char* side : {"window_rows", "window_cols"}) out[side] = int64_t{1};
  }
  if (info.name == "radial" || info.name == "svg1") out["first_frame"] = false;
  if (info.name == "svg1") {
    out["density"] = 0.1;
    out["tile_frames"] = int64_t{4};
    out["tile_places"] = int64_t{8};
  }
  if (info.name == "teacache") out["threshold"] = 1.0;
  if (info.name == "first_block") out["threshold"] = 0.5;
  return out;
}

OptionMap zero_options(const StrategyInfo& info, int64_t block) {
  static const std::map<std::string, OptionMap> kZero = {
      {"block_diagonal", {{"groups", int64_t{1}}}},
      {"ditfastattn", {{"interval", int64_t{1}}}},
      {"ditfastattn-v2", {{"cached_heads", 0.0}, {"window_heads", 0.0}}},
      {"draft", {{"sparsity", 0.0}, {"patch_rows", int64_t{0}}, {"patch_cols", int64_t{0}}}},
      {"first_block", {{"threshold", 0.0}}},
      {"flashomni", {{"tau_q", 0.0}, {"tau_kv", 0.0}}},
      {"flashomni-adaptive", {{"quality", 1.0}}},
      {"fora", {{"interval", int64_t{1}}}},
      {"head_cache", {{"cached_heads", 0.0}}},
      {"pab", {{"range", int64_t{1}}}},
      {"plan", {{"plan", "full"s}}},
      // Distant frames keep their share however wide the windows are.
      {"radial", {{"warmup", int64_t{1000}}}},
      {"random", {{"cached", 0.0}, {"skipped", 0.0}}},
      {"sparge", {{"mode", "topk"s}, {"topk", 1.0}}},
      // One tile is the whole picture.
      {"sta",
       {{"tile_frames", int64_t{1}}, {"tile_rows", int64_t{1000}}, {"tile_cols", int64_t{1000}}}},
      {"svg1", {{"density", 1.0}, {"tile_frames", int64_t{0}}, {"tile_places", int64_t{0}}}},
      {"taylorseer", {{"interval", int64_t{1}}}},
      {"teacache", {{"threshold", 0.0}}},
      {"vsa",
       {{"sparsity", 0.0},
        {"tile_frames", int64_t{0}},
        {"tile_rows", int64_t{0}},
        {"tile_cols", int64_t{0}}}},
      {"window", {{"window", int64_t{1} << 20}}},
      {"xattention", {{"tau", 1.0}}},
  };
  OptionMap out = known_options(info, {{"block_q", block},
                                       {"block_kv", block},
                                       {"schedule_steps", int64_t{0}},
                                       {"warmup", int64_t{1}}});
  for (const auto& [name, value] : kZero.at(info.name)) out[name] = value;
  return out;
}

std::vector<std::string> sparse_strategy_names() {
  std::vector<std::string> out;
  for (const StrategyInfo& s : list_strategies()) {
    if (s.name != "dense") out.push_back(s.name);
  }
  return out;
}

}  // namespace flashomni::testkit
