// SPDX-License-Identifier: Apache-2.0
#include "tools/tune_search.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/rng.h"
#include "tools/pareto.h"

namespace flashomni::tools {
namespace {

constexpr double kPsnrCap = 100;  // dB, of equal pictures: a mean needs a number
constexpr size_t kFinalists = 4;
constexpr size_t kDiagonals = 5;  // all axes from gentle to aggressive together
constexpr int kMaxPasses = 4;
constexpr double kTie = 1e-9;        // of objectives
constexpr double kLeastGain = 1e-3;  // of the cost, for a step to count

double quality(const TuneGoal& goal, const TuneSample& s) {
  return goal.ssim ? s.ssim : s.psnr_db;
}

// In what coarse rounds compare: with a goal in seconds, those are the cost.
double cost(const TuneGoal& goal, const TuneSample& s) {
  return goal.seconds ? s.seconds : s.cost;
}

class Search {
 public:
  explicit Search(const TuneProblem& p) : p_(p), rng_(p.seed) {}

  Result<TuneOutcome> run() {
    make_starts();
    FO_RETURN_IF_ERROR(halve());
    FO_RETURN_IF_ERROR(refine());
    rank();
    return std::move(out_);
  }

 private:
  TuneCandidate& at(size_t i) { return out_.candidates[i]; }

  // The candidate with these options, new or known.
  size_t add(OptionMap options, const std::string& origin) {
    for (size_t i = 0; i < out_.candidates.size(); ++i) {
      if (at(i).options == options) return i;
    }
    out_.candidates.push_back({std::move(options), origin, {}, false});
    return out_.candidates.size() - 1;
  }

  void make_starts() {
    for (const auto& [name, given] : p_.starts) {
      OptionMap options;
      for (const TuneAxis& axis : p_.axes) {
        const auto it = given.find(axis.option);
        options[axis.option] = it == given.end() ? axis.values.front() : it->second;
      }
      add(std::move(options), name);
    }
    for (size_t level = 0; level < kDiagonals; ++level) {
      OptionMap options;
      for (const TuneAxis& axis : p_.axes) {
        const double position =
            double(level) / double(kDiagonals - 1) * double(axis.values.size() - 1);
        options[axis.option] = axis.values[size_t(std::lround(position))];
      }
      add(std::move(options),
          "level " + std::to_string(level + 1) + " of " + std::to_string(kDiagonals));
    }
    // A small space may have fewer members than are asked for.
    for (int tries = 0; tries < 20 * p_.coarse && int(out_.candidates.size()) < p_.coarse;
         ++tries) {
      OptionMap options;
      for (const TuneAxis& axis : p_.axes) {
        options[axis.option] = axis.values[size_t(rng_.below(axis.values.size()))];
      }
      add(std::move(options), "random");
    }
  }

  // Measures up to `prompts` prompts. Stops early when out of time or `give_up` says so.
  Status measure(size_t i, size_t prompts,
                 const std::function<bool(const TuneCandidate&)>& give_up = {}) {
    while (at(i).samples.size() < prompts && !at(i).hopeless) {
      if (p_.out_of_time && p_.out_of_time()) {
        out_.out_of_time = true;
        return ok_status();
      }
      ++out_.measurements;
      FO_ASSIGN_OR_RETURN(std::optional<TuneSample> sample,
                          p_.measure(at(i).options, at(i).samples.size()));
      if (!sample) {
        at(i).hopeless = true;
        break;
      }
      sample->psnr_db = std::min(sample->psnr_db, kPsnrCap);
      at(i).samples.push_back(*sample);
      if (give_up && at(i).samples.size() < prompts && give_up(at(i))) at(i).hopeless = true;
    }
    return ok_status();
  }

  // Order of promotion: by layers of Pareto fronts in quality and cost, inside a layer those
  // closest to the goal first.
  std::vector<size_t> promoted(std::vector<size_t> alive, size_t keep) {
    std::vector<size_t> out;
    while (!alive.empty() && out.size() < keep) {
      std::vector<ParetoPoint> points;
      for (const size_t i : alive) {
        const TuneSample m = at(i).mean();
        points.push_back({cost(p_.goal, m), quality(p_.goal, m)});
      }
      std::vector<size_t> layer, rest;
      const std::vector<size_t> front = pareto_front(points);
      for (size_t k = 0; k < alive.size(); ++k) {
        (std::find(front.begin(), front.end(), k) != front.end() ? layer : rest)
            .push_back(alive[k]);
      }
      std::stable_sort(layer.begin(), layer.end(), [&](size_t a, size_t b) {
        return std::abs(violation(p_.goal, at(a).mean())) <
               std::abs(violation(p_.goal, at(b).mean()));
      });
      out.insert(out.end(), layer.begin(), layer.end());
      alive = rest;
    }
    if (out.size() > keep) out.resize(keep);
    return out;
  }

  Status halve() {
    std::vector<size_t> alive(out_.candidates.size());
    std::iota(alive.begin(), alive.end(), size_t{0});
    for (size_t prompts = 1;; prompts = std::min(2 * prompts, p_.prompts)) {
      for (const size_t i : alive) {
        FO_RETURN_IF_ERROR(measure(i, prompts));
        if (out_.out_of_time) return ok_status();
      }
      std::erase_if(alive, [&](size_t i) { return at(i).hopeless; });
      if (prompts == p_.prompts) return ok_status();
      const size_t keep = std::max(kFinalists, (alive.size() + 1) / 2);
      alive = promoted(std::move(alive), keep);
    }
  }

  bool better(size_t a, size_t b) {
    const TuneSample x = at(a).mean(), y = at(b).mean();
    const double vx = violation(p_.goal, x), vy = violation(p_.goal, y);
    const double ox = objective(p_.goal, x), oy = objective(p_.goal, y);
    // What saves nothing but costs nothing either leaves room for the next step.
    if (vx <= 0 && vy <= 0 && std::abs(ox - oy) < kTie) return vx < vy;
    if (vx <= 0 && vy <= 0) return ox < oy;
    return vx < vy;
  }

  void rank() {
    size_t most = 0;
    out_.ranking.clear();
    for (const TuneCandidate& c : out_.candidates) {
      if (!c.hopeless) most = std::max(most, c.samples.size());
    }
    for (size_t i = 0; i < out_.candidates.size(); ++i) {
      if (most > 0 && at(i).samples.size() == most && !at(i).hopeless) out_.ranking.push_back(i);
    }
    std::stable_sort(out_.ranking.begin(), out_.ranking.end(),
                     [&](size_t a, size_t b) { return better(a, b); });
  }

  // Whether the samples of `c`, paired with those of `best`, say that it can neither reach the goal
  // nor be better: two standard errors of the paired differences away.
  bool cannot_win(const TuneCandidate& c, const TuneCandidate& best) const {
    const size_t n = std::min(c.samples.size(), best.samples.size());
    if (n < 2) return false;
    TuneSample mean_difference;
    double squares = 0;
    for (size_t k = 0; k < n; ++k) {
      mean_difference.psnr_db += (c.samples[k].psnr_db - best.samples[k].psnr_db) / double(n);
      mean_difference.ssim += (c.samples[k].ssim - best.samples[k].ssim) / double(n);
      mean_difference.seconds += (c.samples[k].seconds - best.samples[k].seconds) / double(n);
      mean_difference.cost += (c.samples[k].cost - best.samples[k].cost) / double(n);
    }
    for (size_t k = 0; k < n; ++k) {
      const double d = quality(p_.goal, c.samples[k]) - quality(p_.goal, best.samples[k]) -
                       quality(p_.goal, mean_difference);
      squares += d * d;
    }
    const double error = std::sqrt(squares / double(n - 1) / double(n));
    TuneSample guess = best.mean();  // of all prompts
    guess.psnr_db += mean_difference.psnr_db + (p_.goal.ssim ? 0 : 2 * error);
    guess.ssim += mean_difference.ssim + (p_.goal.ssim ? 2 * error : 0);
    guess.seconds += mean_difference.seconds;
    guess.cost += mean_difference.cost;
    const TuneSample now = best.mean();
    const bool reached = violation(p_.goal, now) <= 0;
    if (reached) {
      return violation(p_.goal, guess) > 0 || objective(p_.goal, guess) > objective(p_.goal, now);
    }
    return violation(p_.goal, guess) > violation(p_.goal, now);
  }

  // The value `steps` away on its axis; of numbers, also halfway to the next one.
  static std::optional<OptionValue> moved(const TuneAxis& axis, const OptionValue& from, int steps,
                                          bool half) {
    const auto number = [](const OptionValue& v) {
      return std::holds_alternative<double>(v) ? std::get<double>(v) : std::nan("");
    };
    // A value between two of the axis (from an earlier half step) counts as next to the nearest.
    size_t nearest = 0;
    for (size_t k = 0; k < axis.values.size(); ++k) {
      if (axis.values[k] == from) nearest = k;
    }
    if (!std::isnan(number(from))) {
      for (size_t k = 0; k < axis.values.size(); ++k) {
        if (std::abs(number(axis.values[k]) - number(from)) <
            std::abs(number(axis.values[nearest]) - number(from))) {
          nearest = k;
        }
      }
    }
    const auto to = static_cast<ptrdiff_t>(nearest) + steps;
    if (to < 0 || to >= static_cast<ptrdiff_t>(axis.values.size())) return std::nullopt;
    const OptionValue& next = axis.values[size_t(to)];
    if (!half) return next;
    if (std::isnan(number(from)) || std::isnan(number(next))) return std::nullopt;
    return OptionValue((number(from) + number(next)) / 2);
  }

  Status refine() {
    for (int pass = 0; pass < kMaxPasses && !out_.out_of_time; ++pass) {
      bool improved = false;
      for (const TuneAxis& axis : p_.axes) {
        for (const auto& [steps, half] :
             {std::pair{1, false}, {1, true}, {-1, false}, {-1, true}}) {
          rank();
          if (out_.ranking.empty()) return ok_status();
          const size_t best = out_.ranking.front();
          const OptionValue from = at(best).options.at(axis.option);
          const std::optional<OptionValue> to = moved(axis, from, steps, half);
          if (!to || *to == from) continue;
          OptionMap options = at(best).options;
          options[axis.option] = *to;
          const size_t i = add(std::move(options), axis.option + "=" + option_to_string(*to) +
                                                       " from " + option_to_string(from));
          const double before = objective(p_.goal, at(best).mean());
          const double missed = violation(p_.goal, at(best).mean());
          const size_t prompts = at(best).samples.size();
          FO_RETURN_IF_ERROR(
              measure(i, prompts, [&](const TuneCandidate& c) { return cannot_win(c, at(best)); }));
          if (out_.out_of_time) return ok_status();
          if (at(i).hopeless || at(i).samples.size() < prompts || !better(i, best)) continue;
          // Steps for next to nothing would go on for ever.
          const double gain = before - objective(p_.goal, at(i).mean());
          improved = improved || missed > 0 || std::abs(gain) < kTie ||
                     gain > kLeastGain * std::abs(before);
        }
      }
      if (!improved) break;
    }
    return ok_status();
  }

  const TuneProblem& p_;
  Rng rng_;
  TuneOutcome out_;
};

}  // namespace

TuneSample TuneCandidate::mean() const {
  TuneSample m;
  for (const TuneSample& s : samples) {
    m.psnr_db += s.psnr_db / double(samples.size());
    m.ssim += s.ssim / double(samples.size());
    m.seconds += s.seconds / double(samples.size());
    m.cost += s.cost / double(samples.size());
  }
  return m;
}

double TuneCandidate::psnr_error() const {
  if (samples.size() < 2) return 0;
  const double m = mean().psnr_db;
  double squares = 0;
  for (const TuneSample& s : samples) squares += (s.psnr_db - m) * (s.psnr_db - m);
  return std::sqrt(squares / double(samples.size() - 1) / double(samples.size()));
}

double violation(const TuneGoal& goal, const TuneSample& mean) {
  if (goal.psnr_db) return *goal.psnr_db + goal.margin - mean.psnr_db;
  if (goal.ssim) return *goal.ssim + goal.margin - mean.ssim;
  return mean.seconds - (*goal.seconds - goal.margin);
}

double objective(const TuneGoal& goal, const TuneSample& mean) {
  return goal.seconds ? -mean.psnr_db : mean.cost;
}

Result<TuneOutcome> tune_search(const TuneProblem& problem) {
  if (problem.axes.empty()) return invalid_argument("nothing to tune: there are no axes");
  for (const TuneAxis& axis : problem.axes) {
    if (axis.values.empty()) {
      return invalid_argument("axis " + axis.option + " has no values");
    }
  }
  if (problem.prompts < 1) return invalid_argument("no prompts to tune on");
  return Search(problem).run();
}

}  // namespace flashomni::tools
