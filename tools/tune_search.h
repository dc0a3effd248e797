// SPDX-License-Identifier: Apache-2.0
//
// The search behind `flashomni tune`: which options reach a goal at the least cost. It knows no
// model: somebody else measures one set of options on one prompt.
//
// Coarse: presets, gentle to aggressive settings and seeded random ones (most of them a preset with
// other values on the leading axes) on one prompt; the half that others beat in quality and cost at
// once is dropped, the rest goes on with twice the prompts, and so on (successive halving), up to
// four. Prompts differ far more in difficulty than in which options they favour, so a few of them
// rank options well but say little about the level: where something barred is known on all prompts,
// its means tell how far the goal lies elsewhere on the few. Home in (tune_home_in.h): between what
// reaches the goal and what is cheaper and just misses it. Fine: steps along one axis at a time
// from the best, half steps where whole ones fail; a step is given up as soon as its prompts,
// paired with those of the best, say that it cannot win. The best two run on all prompts, and it is
// homed in on the goal once more, on all of them.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "flashomni/strategy.h"

namespace flashomni::tools {

// One option and the values to try, neighbours being close in effect.
struct TuneAxis {
  std::string option;
  std::vector<OptionValue> values;
};

// Exactly one of the first three is set.
struct TuneGoal {
  std::optional<double> psnr_db;  // at least, at the least cost
  std::optional<double> ssim;     // at least, at the least cost
  std::optional<double> seconds;  // at most, at the best PSNR
  double margin = 0;              // in the goal's unit, on the safe side; negative: the other
};

struct TuneSample {
  double psnr_db = 0;
  double ssim = 0;
  double seconds = 0;
  double cost = 0;  // less is better: seconds, or the share of FLOPs that is left
  // Of a mean: standard deviation of the PSNR from prompt to prompt, dB; 0 of one sample.
  double spread_db = 0;
};

struct TuneCandidate {
  OptionMap options;                // those of the axes, and what lies between two of them
  std::string origin;               // "preset fast", "random", "interval=4 from 3"
  std::vector<TuneSample> samples;  // of the first prompts
  bool hopeless = false;            // given up before its last prompt
  bool barred = false;              // shows the way, but is not chosen

  TuneSample mean() const;    // REQUIRES a sample
  double psnr_error() const;  // standard error of the mean PSNR; 0 below two samples
};

// How far a mean is from the goal, at most 0 when it is reached, and what is minimised once it is:
// the cost, of settings that cost about the same those that treat all prompts alike. Their mean
// says most about prompts that nobody has seen, and they have the fewest pictures far below it.
double violation(const TuneGoal& goal, const TuneSample& mean);
double objective(const TuneGoal& goal, const TuneSample& mean);
// How far from the goal is near enough: 1 dB, 0.01 of SSIM, a tenth of the seconds.
double tolerance(const TuneGoal& goal);

struct TuneProblem {
  TuneGoal goal;
  std::vector<TuneAxis> axes;
  std::vector<std::pair<std::string, OptionMap>> starts;  // named; values of other options ignored
  size_t prompts = 1;
  int coarse = 16;  // candidates of the first round
  uint64_t seed = 1;
  // Options that may be tried but not chosen, as they have been seen where the winner is checked.
  std::optional<OptionMap> barred;
  // The options at `fraction` of the way from one set of options to another, nearer to `from` where
  // there is nothing just there; nothing: no way leads there. Without it nothing is homed in on.
  std::function<std::optional<OptionMap>(const OptionMap& from, const OptionMap& to,
                                         double fraction)>
      between;
  // nothing: the run was not worth finishing. An error ends the search.
  std::function<Result<std::optional<TuneSample>>(const OptionMap&, size_t prompt)> measure;
  // Checked before every measurement: whether there is no time for one and `more` after it.
  std::function<bool(size_t more)> out_of_time;
};

struct TuneOutcome {
  std::vector<TuneCandidate> candidates;  // in the order in which they were tried
  // Measured on all prompts (or on as many as time allowed), best first; none is barred.
  std::vector<size_t> ranking;
  bool out_of_time = false;
  size_t measurements = 0;
};

Result<TuneOutcome> tune_search(const TuneProblem& problem);

}  // namespace flashomni::tools
