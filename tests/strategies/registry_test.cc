// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <set>
#include <string>

#include "flashomni/strategies.h"
#include "strategies/schedule.h"

namespace flashomni {
namespace {

TEST(Registry, ListsEveryStrategyWithItsOptions) {
  std::set<std::string> names;
  for (const StrategyInfo& s : list_strategies()) {
    names.insert(s.name);
    EXPECT_FALSE(s.summary.empty());
    OptionMap defaults;
    for (const OptionInfo& o : s.options) {
      EXPECT_FALSE(o.help.empty()) << s.name << "." << o.name;
      defaults[o.name] = o.default_value;
    }
    // Defaults are themselves valid, under the same names.
    EXPECT_TRUE(make_strategy(s.name, defaults).ok()) << s.name;
    for (const std::string& p : s.presets) EXPECT_NE(p, "");
  }
  EXPECT_EQ(names, (std::set<std::string>{
                       "block_diagonal", "dense",       "ditfastattn", "ditfastattn-v2",
                       "draft",          "first_block", "flashomni",   "flashomni-adaptive",
                       "fora",           "head_cache",  "pab",         "plan",
                       "radial",         "random",      "sparge",      "sta",
                       "svg1",           "taylorseer",  "teacache",    "vsa",
                       "window",         "xattention"}));
}

TEST(Registry, TextValuesAreParsedToTheOptionsType) {
  using namespace std::string_literals;
  auto s =
      make_strategy("flashomni", {{"tau_q", "0.25"s}, {"block_q", "128"s}, {"prime", "false"s}});
  ASSERT_TRUE(s.ok()) << s.status().message();
  EXPECT_EQ((*s)->block_q(), 128);
}

TEST(Registry, RefusesByName) {
  using namespace std::string_literals;
  auto message = [](const std::string& name, const OptionMap& m) {
    const auto s = make_strategy(name, m);
    return s.ok() ? std::string("ok") : s.status().message();
  };
  EXPECT_NE(message("nope", {}).find("no strategy 'nope'"), std::string::npos);
  EXPECT_NE(message("nope", {}).find("flashomni"), std::string::npos);
  EXPECT_NE(message("flashomni", {{"tauq", 0.1}}).find("no option 'tauq'"), std::string::npos);
  EXPECT_NE(message("flashomni", {{"tau_q", 1.5}}).find("from 0 to 1"), std::string::npos);
  EXPECT_NE(message("flashomni", {{"tau_q", "x"s}}).find("'x'"), std::string::npos);
  EXPECT_NE(message("flashomni", {{"tau_q", "nan"s}}).find("nan"), std::string::npos);
  EXPECT_NE(message("flashomni", {{"order", 1.5}}).find("whole number"), std::string::npos);
  EXPECT_NE(message("flashomni", {{"block_q", int64_t{48}}}).find("48"), std::string::npos);
  EXPECT_NE(message("flashomni", {{"text_score", "sum"s}}).find("'sum'"), std::string::npos);
  EXPECT_NE(message("window", {{"protect_text", "maybe"s}}).find("'maybe'"), std::string::npos);
  EXPECT_NE(message("dense", {{"tau_q", 0.1}}).find("it has none"), std::string::npos);
}

TEST(Presets, ExistForEveryFamilyThatNamesThem) {
  for (const char* preset : {"quality", "balanced"}) {
    for (const char* family : {"emoji_flux", "flux", "flux_kontext", "hunyuan_video", "wan"}) {
      const auto options = strategy_preset("flashomni", preset, family);
      ASSERT_TRUE(options.ok()) << preset << " " << family << ": " << options.status().message();
      EXPECT_TRUE(make_strategy("flashomni", *options).ok());
    }
  }
  const auto missing = strategy_preset("flashomni", "turbo", "flux");
  ASSERT_FALSE(missing.ok());
  EXPECT_NE(missing.status().message().find("balanced"), std::string::npos);
}

// strategies 0.8: simulated Update steps of 50.
TEST(Schedule, MatchesThePublishedStateMachine) {
  auto updates = [](int warmup, int interval) {
    const strategies::UpdateSchedule s({warmup, interval, 0, true}, 50);
    std::vector<int> out;
    for (int t = 0; t < 50; ++t) {
      if (s.kind(t) == StepKind::kUpdate) out.push_back(t);
    }
    return out;
  };
  EXPECT_EQ(updates(8, 6), (std::vector<int>{7, 13, 19, 25, 31, 37, 43}));  // 49 is the last: Full
  EXPECT_EQ(updates(8, 5), (std::vector<int>{7, 12, 17, 22, 27, 32, 37, 42, 47}));
  EXPECT_EQ(updates(9, 6), (std::vector<int>{8, 14, 20, 26, 32, 38, 44}));
  const strategies::UpdateSchedule s({8, 6, 0, true}, 50);
  EXPECT_EQ(s.kind(0), StepKind::kFull);
  EXPECT_EQ(s.kind(6), StepKind::kFull);
  EXPECT_EQ(s.kind(8), StepKind::kDispatch);
  EXPECT_EQ(s.kind(49), StepKind::kFull);
}

TEST(Schedule, ScalesWithTheLengthOfTheRun) {
  const ScheduleOptions o{8, 6, 50, true};
  const strategies::UpdateSchedule at20(o, 20), at50(o, 50), at4(o, 4);
  EXPECT_EQ(at50.warmup(), 8);
  EXPECT_EQ(at50.interval(), 6);
  EXPECT_EQ(at20.warmup(), 3);
  EXPECT_EQ(at20.interval(), 2);
  EXPECT_EQ(at4.warmup(), 1);
  EXPECT_EQ(at4.interval(), 2);
  // Interval 0 never refreshes: one Update, then Dispatch to the end.
  const strategies::UpdateSchedule never({1, 0, 0, false}, 5);
  EXPECT_EQ(never.kind(0), StepKind::kUpdate);
  for (int t = 1; t < 5; ++t) EXPECT_EQ(never.kind(t), StepKind::kDispatch);
}

// Warm-up 3, interval 4, ten steps: F F U D D D U D D F.
TEST(Schedule, FirstDispatchStepsMayBeUpdatesAfterAll) {
  using strategies::ExtendedSchedule;
  const strategies::UpdateSchedule base({3, 4, 0, true}, 10);
  // What layer `layer` of four does: small letters where its action says something else than the
  // kind of the step.
  const auto row = [&](double extra, int layer) {
    const ExtendedSchedule s(base, extra, 4);
    std::string out;
    for (int t = 0; t < 10; ++t) {
      const bool follows = s.action(t, layer) == LayerAction::kFollow;
      if (!follows) {
        EXPECT_EQ(s.action(t, layer), LayerAction::kUpdate);
        EXPECT_EQ(s.kind(t), StepKind::kDispatch);
      }
      const char kind = s.kind(t) == StepKind::kFull     ? 'F'
                        : s.kind(t) == StepKind::kUpdate ? 'U'
                                                         : 'D';
      out += follows || kind == 'U' ? kind : 'u';
    }
    return out;
  };
  for (const int layer : {0, 3}) {
    EXPECT_EQ(row(0, layer), "FFUDDDUDDF");
    EXPECT_EQ(row(2, layer), "FFUUUDUDDF");
    EXPECT_EQ(row(4, layer), "FFUUUUUUDF") << "goes on behind the next Update";
    EXPECT_EQ(row(100, layer), "FFUUUUUUUF") << "no more than there are";
  }
  // One and a half: in the second one the trailing two of four.
  EXPECT_EQ(row(1.5, 0), "FFUUDDUDDF");
  EXPECT_EQ(row(1.5, 1), "FFUUDDUDDF");
  EXPECT_EQ(row(1.5, 2), "FFUUuDUDDF");
  EXPECT_EQ(row(1.5, 3), "FFUUuDUDDF");
  // To the nearest layer.
  EXPECT_EQ(row(0.3, 3), "FFUuDDUDDF");
  EXPECT_EQ(row(0.3, 2), "FFUDDDUDDF");
  EXPECT_EQ(row(0.9, 0), "FFUUDDUDDF");
}

TEST(TextBlocks, CoverEveryTextToken) {
  SequenceInfo s;
  s.tokens = 500;
  s.text_begin = 0;
  s.text_end = 77;
  EXPECT_EQ(strategies::text_blocks(s, 64).end, 2);
  s.text_begin = 400;
  s.text_end = 500;
  EXPECT_EQ(strategies::text_blocks(s, 64).begin, 6);
  EXPECT_EQ(strategies::text_blocks(s, 64).end, 8);
  s.text_begin = s.text_end = 0;
  EXPECT_EQ(strategies::text_blocks(s, 64).size(), 0);
}

}  // namespace
}  // namespace flashomni
