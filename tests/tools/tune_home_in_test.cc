// SPDX-License-Identifier: Apache-2.0
//
// Where `tune` lands: on many made-up models whose quality is known, prompts differing far more
// than settings do.
#include "tools/tune_home_in.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/rng.h"
#include "tools/tune_search.h"
#include "tools/tune_split.h"
#include "tools/tune_ways.h"

namespace flashomni::tools {
namespace {

constexpr int kSteps = 20, kLayers = 10;

double number(const OptionMap& options, const std::string& name) {
  const auto it = options.find(name);
  if (it == options.end()) return 0;
  return std::holds_alternative<double>(it->second) ? std::get<double>(it->second)
                                                    : double(std::get<int64_t>(it->second));
}

double uniform(Rng& rng, double from, double to) {
  return from + (to - from) * double(rng.below(1 << 20)) / double(1 << 20);
}
// Sum of twelve uniform ones.
double normal(Rng& rng) {
  double sum = -6;
  for (int i = 0; i < 12; ++i) sum += uniform(rng, 0, 1);
  return sum;
}

// Steps that are reused, of a schedule as UpdateSchedule has it.
double dispatch_steps(const OptionMap& o) {
  const auto warmup = int(number(o, "warmup")), interval = int(number(o, "interval"));
  int n = 0;
  for (int t = warmup; t < kSteps - 1; ++t) n += (t - warmup + 1) % interval != 0;
  return std::max(0., n - number(o, "extra_updates"));
}

// A model: dB lost for every reused step, the earlier ones more; dB for a threshold; prompts that
// differ by 5 dB and answer to settings each in its own way.
class Landscape {
 public:
  explicit Landscape(uint64_t seed) : rng_(seed) {
    top_ = uniform(rng_, 44, 56);
    per_step_ = uniform(rng_, 1.2, 2.2);
    per_warmup_ = uniform(rng_, 0.3, 1.5);
    per_tau_ = uniform(rng_, 1, 4);
    saved_by_tau_ = uniform(rng_, 0.01, 0.05);
    for (int i = 0; i < 64; ++i) {
      difficulty_.push_back(5 * normal(rng_));
      slope_.push_back(1 + 0.15 * normal(rng_));
      noise_.push_back(rng_.below(1 << 30));
    }
  }

  TuneSample sample(const OptionMap& o, size_t prompt) const {
    const double loss = per_step_ * dispatch_steps(o) + per_tau_ * number(o, "tau") -
                        per_warmup_ * (number(o, "warmup") + number(o, "extra_updates") - 5);
    // The same for the same settings and prompt, as real runs are.
    Rng own(noise_[prompt] + uint64_t(1000 * number(o, "tau")) +
            10007 * uint64_t(100 * dispatch_steps(o) + number(o, "warmup")));
    TuneSample s;
    s.psnr_db = top_ - loss * slope_[prompt] + difficulty_[prompt] + 0.8 * normal(own);
    s.ssim = 1 - std::exp2((20 - s.psnr_db) / 6) / 10;
    s.cost = 1 - dispatch_steps(o) / kSteps - saved_by_tau_ * number(o, "tau");
    s.seconds = 10 * s.cost;
    return s;
  }

 private:
  Rng rng_;
  double top_ = 0, per_step_ = 0, per_warmup_ = 0, per_tau_ = 0, saved_by_tau_ = 0;
  std::vector<double> difficulty_, slope_;
  std::vector<uint64_t> noise_;
};

// A problem over `prompts`, indices into those of the landscape.
TuneProblem problem(const Landscape& model, std::vector<size_t> prompts, TuneGoal goal) {
  TuneProblem p{.goal = goal};
  p.axes = {{"warmup", {int64_t{8}, int64_t{6}, int64_t{5}, int64_t{4}, int64_t{3}}},
            {"interval", {int64_t{2}, int64_t{3}, int64_t{4}, int64_t{5}}},
            {"tau", {0.0, 0.5, 1.0}}};
  p.prompts = prompts.size();
  p.measure = [&model, prompts](const OptionMap& o,
                                size_t prompt) -> Result<std::optional<TuneSample>> {
    return std::optional<TuneSample>(model.sample(o, prompts[prompt]));
  };
  ScheduleKnob knob;
  knob.layers = kLayers;
  knob.dispatch_steps = [](const OptionMap& o) -> Result<double> { return dispatch_steps(o); };
  p.between = [knob](const OptionMap& a, const OptionMap& b, double fraction) {
    return between(a, b, fraction, knob);
  };
  return p;
}

std::vector<size_t> first(size_t count) {
  std::vector<size_t> out(count);
  std::iota(out.begin(), out.end(), size_t{0});
  return out;
}

double mean_psnr(const Landscape& model, const OptionMap& o, const std::vector<size_t>& prompts) {
  double mean = 0;
  for (const size_t i : prompts) mean += model.sample(o, i).psnr_db / double(prompts.size());
  return mean;
}

// Whether there are settings on both sides of a goal.
bool can_be_met(const Landscape& model, double psnr_db) {
  const OptionMap gentle = {{"warmup", int64_t{8}}, {"interval", int64_t{2}}, {"tau", 0.0}};
  const OptionMap rough = {{"warmup", int64_t{3}}, {"interval", int64_t{5}}, {"tau", 1.0}};
  return mean_psnr(model, gentle, first(8)) >= psnr_db &&
         mean_psnr(model, rough, first(8)) <= psnr_db;
}

TEST(TuneHomeIn, LandsOnTheGoalFromAbove) {
  int landed = 0, goals = 0;
  size_t measurements = 0;
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    const Landscape model(seed);
    for (const double target : {28., 33., 38.}) {
      if (!can_be_met(model, target)) continue;
      const auto out = tune_search(problem(model, first(8), {.psnr_db = target}));
      ASSERT_TRUE(out.ok()) << out.status().to_string();
      const TuneSample m = out->candidates[out->ranking.front()].mean();
      EXPECT_GE(m.psnr_db, target) << "landscape " << seed;
      landed += m.psnr_db <= target + 1;
      measurements += out->measurements;
      ++goals;
    }
  }
  EXPECT_GT(goals, 300);
  EXPECT_GE(landed, 0.98 * goals);
  EXPECT_LT(double(measurements) / goals, 100) << "12 settings on 8 prompts";

  // Without it, the settings next to the best are steps of more than a decibel.
  int without = 0;
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    const Landscape model(seed);
    TuneProblem p = problem(model, first(8), {.psnr_db = 33});
    p.between = {};
    const auto out = tune_search(p);
    ASSERT_TRUE(out.ok());
    const double psnr = out->candidates[out->ranking.front()].mean().psnr_db;
    without += psnr >= 33 && psnr <= 34;
  }
  EXPECT_LT(without, 35);
}

TEST(TuneHomeIn, OtherGoalsToo) {
  int near_ssim = 0, near_seconds = 0;
  constexpr int kModels = 50;
  for (uint64_t seed = 1; seed <= kModels; ++seed) {
    const Landscape model(seed);
    const auto ssim = tune_search(problem(model, first(8), {.ssim = 0.97}));
    ASSERT_TRUE(ssim.ok());
    const TuneSample s = ssim->candidates[ssim->ranking.front()].mean();
    EXPECT_GE(s.ssim, 0.97);
    near_ssim += s.ssim <= 0.98;
    const auto seconds = tune_search(problem(model, first(8), {.seconds = 6.2}));
    ASSERT_TRUE(seconds.ok());
    const TuneSample t = seconds->candidates[seconds->ranking.front()].mean();
    EXPECT_LE(t.seconds, 6.2);
    near_seconds += t.seconds >= 0.9 * 6.2;
  }
  EXPECT_GE(near_ssim, kModels - 3);
  EXPECT_GE(near_seconds, kModels - 3);
}

// What the tool does: halves by a probe, a search on one of them, a look at the other, and where it
// is off by more than a decibel the search homes in again with a goal that makes up for that.
TEST(TuneHomeIn, HeldOutPromptsAreWithinADecibel) {
  constexpr int kModels = 100;
  constexpr double kTarget = 33;
  int at_first = 0, in_the_end = 0, in_order = 0;
  for (uint64_t seed = 1; seed <= kModels; ++seed) {
    const Landscape model(seed);
    const OptionMap probe = {{"warmup", int64_t{4}}, {"interval", int64_t{2}}, {"tau", 0.0}};
    std::vector<double> quality;
    for (size_t i = 0; i < 24; ++i) quality.push_back(model.sample(probe, i).psnr_db);
    const PromptSplit split = split_by_difficulty(quality);
    TuneProblem p = problem(model, split.search, {.psnr_db = kTarget});
    p.barred = probe;
    auto out = tune_search(p);
    ASSERT_TRUE(out.ok());
    const auto held_out = [&](const TuneOutcome& o, const std::vector<size_t>& prompts) {
      const TuneCandidate& c = o.candidates[o.ranking.front()];
      EXPECT_NE(c.options, probe);
      double mean = 0;
      for (const size_t i : prompts) mean += model.sample(c.options, i).psnr_db / 12;
      return mean;
    };
    double mean = held_out(*out, split.held_out);
    at_first += std::abs(mean - kTarget) <= 1;
    for (int look = 1; look < 3 && std::abs(mean - kTarget) > 1; ++look) {
      p.goal.margin = out->candidates[out->ranking.front()].mean().psnr_db - mean;
      ASSERT_TRUE(tune_home_in(p, *out).ok());
      mean = held_out(*out, split.held_out);
    }
    in_the_end += std::abs(mean - kTarget) <= 1;
    // For comparison: halves as the prompts come.
    std::vector<size_t> second(12);
    std::iota(second.begin(), second.end(), size_t{12});
    const auto plain = tune_search(problem(model, first(12), {.psnr_db = kTarget}));
    in_order += std::abs(held_out(*plain, second) - kTarget) <= 1;
  }
  RecordProperty("at_first", at_first);
  RecordProperty("in_the_end", in_the_end);
  RecordProperty("in_order", in_order);
  EXPECT_GE(in_the_end, 95);
  EXPECT_GE(at_first, 70);
  EXPECT_LE(in_order, at_first - 20) << "the halves need to be alike";
}

TEST(TuneHomeIn, BarredSettingsShowTheWayButAreNotChosen) {
  const Landscape model(3);
  TuneProblem p = problem(model, first(8), {.psnr_db = 33});
  const auto free = tune_search(p);
  ASSERT_TRUE(free.ok());
  p.barred = free->candidates[free->ranking.front()].options;
  const auto out = tune_search(p);
  ASSERT_TRUE(out.ok());
  for (const size_t i : out->ranking) {
    EXPECT_FALSE(out->candidates[i].barred);
    EXPECT_NE(out->candidates[i].options, *p.barred);
  }
}

TEST(TuneSplit, HalvesAreAlike) {
  // Sorted: 10 11 | 20 21 | 30 31 | 40 41 | 50. Pairs go to search, held out, search, held out.
  const PromptSplit s = split_by_difficulty({50, 10, 41, 20, 31, 11, 40, 21, 30});
  EXPECT_EQ(s.held_out, (std::vector<size_t>{5, 3, 4, 6}));  // 11, 20, 31, 40
  // 10, 21, 30, 41, 50: the median, then the middles of 10, 21 and of 41, 50, then what is left.
  EXPECT_EQ(s.search, (std::vector<size_t>{8, 1, 2, 7, 0}));
  EXPECT_TRUE(split_by_difficulty({}).search.empty());
  // Of 24 the first four to be searched are one of each quarter, symmetric about the middle.
  std::vector<double> quality(24);
  std::iota(quality.begin(), quality.end(), 0.);
  const std::vector<size_t> many = split_by_difficulty(quality).search;
  ASSERT_EQ(many.size(), 12u);
  std::vector<size_t> sorted = many;
  std::ranges::sort(sorted);
  EXPECT_EQ((std::vector<size_t>(many.begin(), many.begin() + 4)),
            (std::vector<size_t>{sorted[4], sorted[7], sorted[1], sorted[10]}));
  EXPECT_TRUE(std::ranges::adjacent_find(sorted) == sorted.end()) << "each once";
}

TEST(TuneWays, Numbers) {
  const ScheduleKnob none;
  const OptionMap a = {{"x", 0.0}, {"n", int64_t{4}}, {"b", true}};
  OptionMap b = {{"x", 1.0}, {"n", int64_t{8}}, {"b", true}};
  EXPECT_EQ(*between(a, b, 0.5, none), (OptionMap{{"x", 0.5}, {"n", int64_t{6}}, {"b", true}}));
  // Rounded towards the first.
  EXPECT_EQ(std::get<int64_t>(between(a, b, 0.49, none)->at("n")), 5);
  EXPECT_EQ(std::get<int64_t>(between(b, a, 0.49, none)->at("n")), 7);
  EXPECT_FALSE(between(a, b, 0, none)) << "an end";
  b["b"] = false;
  EXPECT_FALSE(between(a, b, 0.5, none)) << "not a number";
  b["b"] = true;
  b["n"] = int64_t{5};
  EXPECT_FALSE(between(a, b, 0.5, none)) << "no whole number between 4 and 5";
  b = {{"x", 1.0}, {"n", int64_t{4}}};
  EXPECT_FALSE(between(a, b, 0.5, none)) << "another set of options";
}

TEST(TuneWays, SchedulesAreJoinedByExtraUpdates) {
  const StrategyInfo info = *find_strategy("flashomni");
  const auto complete = [](const OptionMap& o) -> Result<OptionMap> {
    OptionMap all = o;
    all["schedule_steps"] = int64_t{20};
    return all;
  };
  const ScheduleKnob knob = schedule_knob(info, {}, 20, 10, complete);
  const auto set = [](int warmup, int interval, double extra) {
    OptionMap o = {{"warmup", int64_t{warmup}}, {"interval", int64_t{interval}}};
    if (extra > 0) o["extra_updates"] = extra;
    return o;
  };
  // Warm-up 5, interval 3: steps 0-3 Full, Updates 4 7 10 13 16, 19 Full: 10 of 20 dispatch.
  EXPECT_DOUBLE_EQ(*knob.dispatch_steps(set(5, 3, 0)), 10);
  EXPECT_DOUBLE_EQ(*knob.dispatch_steps(set(5, 3, 1.3)), 8.7);
  // Warm-up 6: Updates 5 8 11 14 17: 9 dispatch. As dense is warm-up 5 with one extra Update; half
  // the way is half of that.
  EXPECT_DOUBLE_EQ(*knob.dispatch_steps(set(6, 3, 0)), 9);
  EXPECT_EQ(*between(set(6, 3, 0), set(5, 3, 0), 0.5, knob), set(5, 3, 0.5));
  EXPECT_EQ(*between(set(6, 3, 0), set(5, 3, 0), 0.0, knob), set(5, 3, 1));
  // To whole layers, ten of them, towards the first.
  EXPECT_EQ(*between(set(6, 3, 0), set(5, 3, 0), 0.55, knob), set(5, 3, 0.5));
  // From what has extra Updates already.
  EXPECT_EQ(*between(set(5, 3, 1), set(5, 3, 0), 0.5, knob), set(5, 3, 0.5));
  EXPECT_EQ(*between(set(6, 3, 0.5), set(5, 3, 0.5), 0.5, knob), set(5, 3, 1));
  EXPECT_FALSE(between(set(5, 3, 1), set(5, 3, 0), 1.0, knob)) << "an end";
  // Without a Full last step one more dispatches, but on the way to such a schedule there is one.
  OptionMap open_end = set(5, 4, 0);
  open_end["last_full"] = false;
  OptionMap full_end = set(5, 3, 0);
  full_end["last_full"] = true;
  EXPECT_DOUBLE_EQ(*knob.dispatch_steps(open_end), 12);
  const std::optional<OptionMap> half = between(full_end, open_end, 0.5, knob);
  ASSERT_TRUE(half);
  EXPECT_EQ(half->at("last_full"), OptionValue(true));
  EXPECT_EQ(half->at("interval"), OptionValue(int64_t{4}));
  EXPECT_EQ(half->at("extra_updates"), OptionValue(0.5));
  const std::optional<OptionMap> whole = between(full_end, open_end, 1.0, knob);
  ASSERT_TRUE(whole);
  EXPECT_EQ(whole->at("last_full"), OptionValue(true));
  EXPECT_FALSE(whole->contains("extra_updates"));
  // Not where as many steps at the end reuse something already: of warm-up 5, Updates 4 7 10 13 16
  // 19 and 4 8 12 16.
  OptionMap often = set(5, 3, 0);
  often["last_full"] = false;
  EXPECT_EQ(*knob.reusing_tail(often), 0);
  EXPECT_EQ(*knob.reusing_tail(open_end), 3);
  EXPECT_EQ(*knob.reusing_tail(full_end), 0);
  EXPECT_EQ(between(often, open_end, 0.5, knob)->at("last_full"), OptionValue(true));
  OptionMap denser = set(5, 4, 1);
  denser["last_full"] = false;
  EXPECT_EQ(*knob.reusing_tail(denser), 3);
  EXPECT_EQ(between(denser, open_end, 0.5, knob)->at("last_full"), OptionValue(false));
  // No knob: held by the user, or another strategy.
  EXPECT_FALSE(between(set(6, 3, 0), set(5, 3, 0), 0.5,
                       schedule_knob(info, {{"extra_updates", 1.0}}, 20, 10, complete)));
  EXPECT_FALSE(between(set(6, 3, 0), set(5, 3, 0), 0.5,
                       schedule_knob(*find_strategy("fora"), {}, 20, 10, complete)));
}

}  // namespace
}  // namespace flashomni::tools
