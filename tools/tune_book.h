// SPDX-License-Identifier: Apache-2.0
//
// What a search has measured so far, and what follows from it: which candidate is better, and how
// one that ran on a few prompts would do on all.
#pragma once

#include "tools/tune_search.h"

namespace flashomni::tools {

// The gain below which a step is not worth its runs, as a share of the cost.
inline constexpr double kLeastGain = 1e-3;

class TuneBook {
 public:
  // Both must outlive the object.
  TuneBook(const TuneProblem& problem, TuneOutcome& outcome) : p_(problem), out_(outcome) {}

  TuneCandidate& at(size_t i) { return out_.candidates[i]; }
  const TuneCandidate& at(size_t i) const { return out_.candidates[i]; }
  size_t size() const { return out_.candidates.size(); }
  // The candidate with these options, new or known.
  size_t add(OptionMap options, const std::string& origin);

  using GiveUp = std::function<bool(const TuneCandidate&)>;
  // Measures up to `prompts` prompts. Stops early when there is no time for them and `more` runs
  // after them, or when `give_up` says so.
  Status measure(size_t i, size_t prompts, size_t more, const GiveUp& give_up = {});

  // Whether a is better than b, by their means.
  bool better(size_t a, size_t b) const;
  // Sets the outcome's ranking.
  void rank();
  // The mean of i on all prompts: where it lacks some, those of `reference` and the mean difference
  // between the two on the prompts that both ran. REQUIRES a sample of each.
  TuneSample estimate(size_t i, size_t reference) const;
  // Whether the samples of `c`, paired with those of `best`, say that it can neither reach the goal
  // nor be better: two standard errors of the paired differences away, or the same pictures.
  bool cannot_win(const TuneCandidate& c, const TuneCandidate& best) const;

 private:
  const TuneProblem& p_;
  TuneOutcome& out_;
};

// On the prompts that both ran; not where there are none.
bool same_pictures(const TuneCandidate& a, const TuneCandidate& b);

// What the goal is about.
double quality(const TuneGoal& goal, const TuneSample& s);

}  // namespace flashomni::tools
