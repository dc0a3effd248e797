// SPDX-License-Identifier: Apache-2.0
//
// The search of `tune` on models whose answer is known in closed form.
#include "tools/tune_search.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tools/tune_axes.h"

namespace flashomni::tools {
namespace {

// Prompts differ by up to 10 dB in difficulty, more than most settings do.
constexpr double kDifficulty[] = {9, -10, 3, -2, 6, -6, 1, -1};

double at(const OptionMap& options, const std::string& name) {
  const OptionValue& v = options.at(name);
  return std::holds_alternative<double>(v) ? std::get<double>(v) : double(std::get<int64_t>(v));
}

// PSNR 45 - 20 tau - 2 interval, cost 1 - 0.5 tau - 0.05 interval: at equal cost tau is the dearer
// way to save (40 dB for all of the cost against 40 dB), so ties are broken by `bonus`, an option
// that costs quality only.
TuneProblem problem(TuneGoal goal) {
  TuneProblem p{.goal = goal};
  p.axes = {{"tau", {0.0, 0.25, 0.5, 0.75, 1.0}},
            {"interval", {int64_t{2}, int64_t{3}, int64_t{4}, int64_t{6}}},
            {"bonus", {0.0, 0.5, 1.0}}};
  p.prompts = std::size(kDifficulty);
  p.measure = [](const OptionMap& o, size_t prompt) -> Result<std::optional<TuneSample>> {
    TuneSample s;
    s.psnr_db =
        45 - 20 * at(o, "tau") - 2 * at(o, "interval") - 5 * at(o, "bonus") + kDifficulty[prompt];
    s.ssim = 1 - (50 - s.psnr_db + kDifficulty[prompt]) / 100;
    s.cost = 1 - 0.5 * at(o, "tau") - 0.02 * at(o, "interval");
    s.seconds = 10 * s.cost;
    return std::optional<TuneSample>(s);
  };
  return p;
}

const TuneCandidate& best(const TuneOutcome& o) {
  return o.candidates[o.ranking.front()];
}

TEST(TuneSearch, ReachesAPsnrAtTheLeastCost) {
  // With interval 2 and no bonus, 31 dB leave 10 dB for tau: 0.5, cost 0.71. Longer intervals are
  // the dearer way to save.
  const auto out = tune_search(problem({.psnr_db = 31}));
  ASSERT_TRUE(out.ok()) << out.status().to_string();
  const TuneSample m = best(*out).mean();
  EXPECT_EQ(best(*out).samples.size(), std::size(kDifficulty));
  EXPECT_GE(m.psnr_db, 31);
  EXPECT_LT(m.psnr_db, 32);
  EXPECT_GE(m.cost, 0.71 - 1e-9);
  EXPECT_LT(m.cost, 0.78) << "steps along one axis at a time come near, not always to it";
  EXPECT_EQ(at(best(*out).options, "bonus"), 0.0);
  // Fewer than half of what all 60 settings on all prompts would take.
  EXPECT_LT(out->measurements, 60u * std::size(kDifficulty) / 2);
}

TEST(TuneSearch, TheMarginIsKept) {
  const auto out = tune_search(problem({.psnr_db = 31, .margin = 2}));
  ASSERT_TRUE(out.ok());
  EXPECT_GE(best(*out).mean().psnr_db, 33);
}

// The same mean for the same cost, but the pictures of some prompts far below it.
TEST(TuneSearch, PromptsAreTreatedAlikeWhereThatCostsLittle) {
  TuneProblem p = problem({.psnr_db = 31});
  for (const double price : {0.005, 0.3}) {
    p.axes.back() = {"even", {0.0, 1.0}};
    p.measure = [price](const OptionMap& o, size_t prompt) -> Result<std::optional<TuneSample>> {
      const bool even = at(o, "even") == 1;
      TuneSample s;
      s.psnr_db =
          45 - 20 * at(o, "tau") - 2 * at(o, "interval") + (even ? 0.3 : 1) * kDifficulty[prompt];
      s.cost = 1 - 0.5 * at(o, "tau") - 0.02 * at(o, "interval") + (even ? price : 0);
      return std::optional<TuneSample>(s);
    };
    const auto out = tune_search(p);
    ASSERT_TRUE(out.ok());
    EXPECT_GE(best(*out).mean().psnr_db, 31);
    EXPECT_EQ(at(best(*out).options, "even"), price < 0.1 ? 1.0 : 0.0) << price;
  }
  const TuneCandidate c = {{}, "", {{.psnr_db = 30}, {.psnr_db = 36}}};
  EXPECT_NEAR(c.mean().spread_db, std::sqrt(18), 1e-9);
  EXPECT_NEAR(c.psnr_error(), 3, 1e-9);
}

// The first prompts, which rank settings, are easier than the others. What the barred setting has
// on them and on all says by how much, which spares the way back.
TEST(TuneSearch, FewPromptsStandForAll) {
  const auto search = [](bool with_barred) {
    TuneProblem p = problem({.psnr_db = 31});
    p.prompts = 24;
    const auto inner = p.measure;
    p.measure = [inner](const OptionMap& o, size_t prompt) -> Result<std::optional<TuneSample>> {
      auto s = inner(o, 0);
      (*s)->psnr_db += (prompt < 4 ? 6.0 : -1.2) - kDifficulty[0];
      return s;
    };
    const OptionMap middle = {{"tau", 0.5}, {"interval", int64_t{3}}, {"bonus", 0.0}};
    p.starts = {{"middle", middle}};
    if (with_barred) p.barred = middle;
    return tune_search(p);
  };
  const auto with = search(true), without = search(false);
  ASSERT_TRUE(with.ok() && without.ok());
  for (const TuneOutcome* out : {&*with, &*without}) {
    EXPECT_GE(best(*out).mean().psnr_db, 31);
    EXPECT_LT(best(*out).mean().psnr_db, 33);
    EXPECT_EQ(best(*out).samples.size(), 24u);
  }
  // Apart from its own 24.
  EXPECT_LT(with->measurements - 24, without->measurements - 12);
}

TEST(TuneSearch, RandomCandidatesKeepWhatGoesTogether) {
  TuneProblem p = problem({.psnr_db = 31});
  // A fourth axis, which is not drawn anew.
  p.axes.push_back({"last", {0.0, 1.0, 2.0}});
  p.starts = {{"preset", {{"tau", 0.5}, {"interval", int64_t{3}}, {"bonus", 0.0}, {"last", 2.0}}}};
  p.coarse = 30;
  const auto out = tune_search(p);
  ASSERT_TRUE(out.ok());
  int mixed = 0, free = 0;
  for (const TuneCandidate& c : out->candidates) {
    free += c.origin == "random";
    if (c.origin != "random from preset") continue;
    ++mixed;
    EXPECT_EQ(at(c.options, "last"), 2);
  }
  EXPECT_GT(mixed, free);
  EXPECT_GT(free, 0);
}

TEST(TuneSearch, BestPsnrInATime) {
  // 8 seconds: cost 0.8, so tau 0.32 with interval 2: 34.6 dB. Half steps come as near as 0.25.
  const auto out = tune_search(problem({.seconds = 8}));
  ASSERT_TRUE(out.ok());
  const TuneSample m = best(*out).mean();
  EXPECT_LE(m.seconds, 8);
  EXPECT_GT(m.psnr_db, 33);
}

TEST(TuneSearch, SsimCountsToo) {
  const auto out = tune_search(problem({.ssim = 0.85}));
  ASSERT_TRUE(out.ok());
  EXPECT_GE(best(*out).mean().ssim, 0.85);
  EXPECT_LT(best(*out).mean().ssim, 0.87);
}

TEST(TuneSearch, WhatCannotBeReachedIsNotReached) {
  const TuneGoal goal{.psnr_db = 60};
  const auto out = tune_search(problem(goal));
  ASSERT_TRUE(out.ok());
  EXPECT_GT(violation(goal, best(*out).mean()), 0);
  // The nearest: everything at its gentlest.
  EXPECT_NEAR(best(*out).mean().psnr_db, 41, 1e-9);
}

TEST(TuneSearch, HopelessRunsAreDropped) {
  TuneProblem p = problem({.psnr_db = 31});
  const auto inner = p.measure;
  p.measure = [&](const OptionMap& o, size_t prompt) -> Result<std::optional<TuneSample>> {
    if (at(o, "tau") < 0.4) return std::optional<TuneSample>();
    return inner(o, prompt);
  };
  const auto out = tune_search(p);
  ASSERT_TRUE(out.ok());
  EXPECT_GE(at(best(*out).options, "tau"), 0.4);
  for (const size_t i : out->ranking) EXPECT_FALSE(out->candidates[i].hopeless);
}

TEST(TuneSearch, StopsInTimeAndOnErrors) {
  TuneProblem p = problem({.psnr_db = 31});
  int left = 20;
  p.out_of_time = [&](size_t) { return left-- <= 0; };
  const auto out = tune_search(p);
  ASSERT_TRUE(out.ok());
  EXPECT_TRUE(out->out_of_time);
  EXPECT_EQ(out->measurements, 20u);
  EXPECT_FALSE(out->ranking.empty());

  p = problem({.psnr_db = 31});
  p.measure = [](const OptionMap&, size_t) -> Result<std::optional<TuneSample>> {
    return internal_error("broken");
  };
  EXPECT_EQ(tune_search(p).status().message(), "broken");
  p.axes.clear();
  EXPECT_FALSE(tune_search(p).ok());
}

TEST(TuneSearch, OptionsWithoutEffectAreGivenUpAtOnce) {
  TuneProblem p = problem({.psnr_db = 31});
  p.axes.push_back({"nothing", {0.0, 1.0}});
  const auto out = tune_search(p);
  ASSERT_TRUE(out.ok());
  int seen = 0;
  for (const TuneCandidate& c : out->candidates) {
    if (c.origin.rfind("nothing=", 0) != 0 || c.samples.empty()) continue;
    ++seen;
    EXPECT_EQ(c.samples.size(), 1u) << c.origin;
    EXPECT_TRUE(c.hopeless);
  }
  EXPECT_GT(seen, 0);
}

TEST(TuneSearch, StartsAreTriedFirst) {
  TuneProblem p = problem({.psnr_db = 31});
  p.starts = {{"preset a", {{"tau", 0.6}, {"other", 3.0}}}};
  const auto out = tune_search(p);
  ASSERT_TRUE(out.ok());
  EXPECT_EQ(out->candidates[0].origin, "preset a");
  EXPECT_EQ(at(out->candidates[0].options, "tau"), 0.6);
  EXPECT_FALSE(out->candidates[0].options.contains("other"));
}

TEST(TuneAxes, OfEveryStrategy) {
  for (const StrategyInfo& s : list_strategies()) {
    for (const TuneAxis& axis : default_axes(s, {}, 50)) {
      EXPECT_GE(axis.values.size(), 2u) << s.name << " " << axis.option;
      EXPECT_NE(axis.option, "seed");
      EXPECT_NE(axis.option, "block_q");
    }
  }
  const StrategyInfo info = *find_strategy("flashomni");
  const auto has = [](const std::vector<TuneAxis>& axes, const std::string& name) {
    for (const TuneAxis& a : axes) {
      if (a.option == name) return true;
    }
    return false;
  };
  EXPECT_TRUE(has(default_axes(info, {}, 50), "tau_q"));
  EXPECT_TRUE(has(default_axes(info, {}, 50), "interval"));
  EXPECT_FALSE(has(default_axes(info, {{"tau_q", 0.5}}, 50), "tau_q")) << "it is fixed";
}

TEST(TuneAxes, OfTheUser) {
  const StrategyInfo info = *find_strategy("flashomni");
  std::vector<TuneAxis> axes = default_axes(info, {}, 50);
  const size_t count = axes.size();
  ASSERT_TRUE(set_axis(info, "tau_q=0.5,1", axes).ok());
  EXPECT_EQ(axes.size(), count) << "replaced";
  EXPECT_EQ(axes.back().values, (std::vector<OptionValue>{0.5, 1.0}));
  ASSERT_TRUE(set_axis(info, "sim_gate=true,false", axes).ok());
  ASSERT_TRUE(set_axis(info, "text_score=softmax_of_sum", axes).ok());
  for (const char* bad : {"tau_q", "tau_q=", "=1", "nope=1", "tau_q=0.5,", "tau_q=2",
                          "interval=1.5", "interval=-1", "sim_gate=maybe", "tau_q=nan"}) {
    const Status s = set_axis(info, bad, axes);
    EXPECT_EQ(s.code(), StatusCode::kInvalidArgument) << bad;
    EXPECT_EQ(s.message().rfind("--axis", 0), 0u) << s.message();
  }
}

}  // namespace
}  // namespace flashomni::tools
