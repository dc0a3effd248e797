// SPDX-License-Identifier: Apache-2.0
//
// Config files and settings become the same typed options, whatever they were written as.
#include "pipelines/strategy_config.h"

#include <gtest/gtest.h>

#include "io/json.h"

namespace flashomni {
namespace {

using nlohmann::json;

TEST(StrategyConfig, AnEmptyObjectIsFlashOmniWithItsDefaults) {
  const auto choice = parse_strategy_choice(json::object(), "test");
  ASSERT_TRUE(choice.ok());
  EXPECT_EQ(choice->name, "flashomni");
  const auto resolved = resolve_strategy(*choice, "emoji_flux");
  ASSERT_TRUE(resolved.ok());
  const auto info = find_strategy("flashomni");
  ASSERT_TRUE(info.ok());
  ASSERT_EQ(resolved->options.size(), info->options.size());
  for (const OptionInfo& o : info->options) {
    EXPECT_EQ(resolved->options.at(o.name), o.default_value) << o.name;
  }
}

TEST(StrategyConfig, OptionsGoOnTopOfThePreset) {
  auto choice = parse_strategy_choice(
      json::parse(R"({"preset": "balanced", "options": {"tau_q": 0.25, "order": 0}})"), "test");
  ASSERT_TRUE(choice.ok());
  ASSERT_TRUE(set_option(*choice, "order=2").ok());
  const auto resolved = resolve_strategy(*choice, "emoji_flux");
  ASSERT_TRUE(resolved.ok()) << resolved.status().to_string();
  const auto preset = strategy_preset("flashomni", "balanced", "emoji_flux");
  ASSERT_TRUE(preset.ok());
  EXPECT_EQ(resolved->options.at("tau_q"), OptionValue(0.25));
  EXPECT_EQ(resolved->options.at("order"), OptionValue(int64_t{2}));
  EXPECT_EQ(resolved->options.at("S_q"), preset->at("S_q"));
}

TEST(StrategyConfig, ValuesTakeTheTypeOfTheOption) {
  StrategyChoice choice{"random", "", {}};
  choice.options["cached"] = int64_t{1};
  choice.options["order"] = 2.0;
  choice.options["protect_text"] = std::string("0");
  ASSERT_TRUE(set_option(choice, "skipped=0.5").ok());
  ASSERT_TRUE(set_option(choice, "warmup=3.0").ok());
  // Above 2^53: a detour through double would change it.
  ASSERT_TRUE(set_option(choice, "seed=9007199254740993").ok());
  const auto resolved = resolve_strategy(choice, "emoji_flux");
  ASSERT_TRUE(resolved.ok()) << resolved.status().to_string();
  EXPECT_EQ(resolved->options.at("cached"), OptionValue(1.0));
  EXPECT_EQ(resolved->options.at("order"), OptionValue(int64_t{2}));
  EXPECT_EQ(resolved->options.at("protect_text"), OptionValue(false));
  EXPECT_EQ(resolved->options.at("skipped"), OptionValue(0.5));
  EXPECT_EQ(resolved->options.at("warmup"), OptionValue(int64_t{3}));
  EXPECT_EQ(resolved->options.at("seed"), OptionValue(int64_t{9007199254740993}));
}

TEST(StrategyConfig, ARecordIsAConfig) {
  StrategyChoice choice{"flashomni", "quality", {}};
  ASSERT_TRUE(set_option(choice, "text_score=softmax_of_sum").ok());
  const auto resolved = resolve_strategy(choice, "flux");
  ASSERT_TRUE(resolved.ok()) << resolved.status().to_string();
  const auto parsed = parse_json(json_text(to_json(*resolved)), "record");
  ASSERT_TRUE(parsed.ok());
  const auto read = parse_strategy_choice(*parsed, "record");
  ASSERT_TRUE(read.ok()) << read.status().to_string();
  const auto again = resolve_strategy(*read, "flux");
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->name, resolved->name);
  EXPECT_EQ(again->preset, resolved->preset);
  EXPECT_EQ(again->options, resolved->options);
  EXPECT_TRUE(make_strategy(*again).ok());
}

TEST(StrategyConfig, EveryStrategyAndPresetResolves) {
  for (const StrategyInfo& s : list_strategies()) {
    const auto plain = resolve_strategy({s.name, "", {}}, "emoji_flux");
    EXPECT_TRUE(plain.ok()) << s.name << ": " << plain.status().to_string();
    for (const std::string& preset : s.presets) {
      const auto resolved = resolve_strategy({s.name, preset, {}}, "emoji_flux");
      EXPECT_TRUE(resolved.ok()) << s.name << " " << preset << resolved.status().to_string();
    }
  }
}

void expect_invalid(const Status& status, const std::string& what) {
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << status.to_string();
  EXPECT_NE(status.message().find(what), std::string::npos) << status.message();
}

TEST(StrategyConfig, MistakesAreNamed) {
  auto parse = [](const char* text) {
    return parse_strategy_choice(json::parse(text), "c.json").status();
  };
  expect_invalid(parse("[]"), "c.json");
  expect_invalid(parse(R"({"option": {}})"), "'option'");
  expect_invalid(parse(R"({"strategy": "none"})"), "c.json: no strategy 'none'");
  expect_invalid(parse(R"({"preset": 1})"), "'preset'");
  expect_invalid(parse(R"({"options": null})"), "'options' is null");
  expect_invalid(parse(R"({"options": {"a": {}}})"), "'a' is object");

  StrategyChoice choice;
  expect_invalid(set_option(choice, "tau_q"), "'tau_q'");
  expect_invalid(set_option(choice, "=1"), "'=1'");
  EXPECT_TRUE(choice.options.empty());

  auto resolve = [](const std::string& name, const std::string& preset, const OptionMap& options) {
    return resolve_strategy({name, preset, options}, "emoji_flux").status();
  };
  expect_invalid(resolve("none", "", {}), "'none'");
  expect_invalid(resolve("flashomni", "none", {}), "'none'");
  expect_invalid(resolve("flashomni", "", {{"none", 1.0}}), "'none'");
  expect_invalid(resolve("flashomni", "", {{"tau_q", std::string("x")}}), "tau_q is 'x'");
  expect_invalid(resolve("flashomni", "", {{"tau_q", true}}), "tau_q is 'true'");
  expect_invalid(resolve("flashomni", "", {{"order", 1.5}}), "order is '1.5'");
  expect_invalid(resolve("flashomni", "", {{"prime", int64_t{2}}}), "prime is '2'");
}

}  // namespace
}  // namespace flashomni
