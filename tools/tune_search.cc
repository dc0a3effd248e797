// SPDX-License-Identifier: Apache-2.0
#include "tools/tune_search.h"

#include <algorithm>
#include <cmath>

#include "base/rng.h"
#include "tools/pareto.h"
#include "tools/tune_book.h"
#include "tools/tune_home_in.h"

namespace flashomni::tools {
namespace {

constexpr size_t kFewPrompts = 4;  // of the coarse rounds and the steps; few settings get more
constexpr size_t kSemifinalists = 4;
constexpr size_t kFinalists = 2;
constexpr size_t kDiagonals = 5;    // all axes from gentle to aggressive together
constexpr size_t kLeadingAxes = 3;  // those that matter most
constexpr int kFreeOnesIn = 6;      // of the random candidates, one has nothing of a preset
constexpr int kMaxPasses = 4;
constexpr double kNoGain = 1e-9;
// Times all prompts: what homing in leaves for a second look.
constexpr size_t kKeptForLooks = 1;
// Times all prompts: what the first rounds and steps leave for homing in and a second look.
constexpr size_t kKeptForHomingIn = 4;

// In what coarse rounds compare: with a goal in seconds, those are the cost.
double cost(const TuneGoal& goal, const TuneSample& s) {
  return goal.seconds ? s.seconds : objective(goal, s);
}

class Search {
 public:
  explicit Search(const TuneProblem& p)
      : p_(p), few_(std::min(kFewPrompts, p.prompts)), book_(p_, out_), rng_(p.seed) {}

  Result<TuneOutcome> run() {
    const double margin = p_.goal.margin;
    make_starts();
    FO_RETURN_IF_ERROR(measure_barred());
    FO_RETURN_IF_ERROR(halve());
    if (few_ < p_.prompts && !out_.out_of_time) {
      FO_RETURN_IF_ERROR(tune_home_in(p_, out_, kept()));
    }
    FO_RETURN_IF_ERROR(refine());
    p_.goal.margin = margin;
    FO_RETURN_IF_ERROR(decide());
    FO_RETURN_IF_ERROR(tune_home_in(p_, out_, p_.between ? kKeptForLooks * p_.prompts : 0));
    // The few prompts may have led astray.
    if (few_ == p_.prompts || out_.ranking.empty()) return std::move(out_);
    const double missed = violation(p_.goal, book_.at(out_.ranking.front()).mean());
    const bool astray = missed > 0 || missed < -tolerance(p_.goal);
    if (!astray || out_.out_of_time) return std::move(out_);
    for (TuneCandidate& c : out_.candidates) c.hopeless = c.hopeless && c.samples.empty();
    FO_RETURN_IF_ERROR(refine());
    book_.rank();
    FO_RETURN_IF_ERROR(tune_home_in(p_, out_));
    return std::move(out_);
  }

 private:
  void make_starts() {
    for (const auto& [name, given] : p_.starts) {
      OptionMap options;
      for (const TuneAxis& axis : p_.axes) {
        const auto it = given.find(axis.option);
        options[axis.option] = it == given.end() ? axis.values.front() : it->second;
      }
      book_.add(std::move(options), name);
    }
    // Presets are gentle enough.
    for (size_t level = p_.starts.empty() ? 0 : kDiagonals / 2; level < kDiagonals; ++level) {
      OptionMap options;
      for (const TuneAxis& axis : p_.axes) {
        const double position =
            double(level) / double(kDiagonals - 1) * double(axis.values.size() - 1);
        options[axis.option] = axis.values[size_t(std::lround(position))];
      }
      book_.add(std::move(options),
                "level " + std::to_string(level + 1) + " of " + std::to_string(kDiagonals));
    }
    // Presets with the axes that matter most drawn anew: what goes together in them stays so. A
    // small space may have fewer members than are asked for.
    for (int tries = 0; tries < 20 * p_.coarse && int(book_.size()) < p_.coarse; ++tries) {
      const bool mixed = !p_.starts.empty() && tries % kFreeOnesIn != 0;
      const size_t start = mixed ? size_t(rng_.below(p_.starts.size())) : 0;
      OptionMap options;
      if (mixed) options = book_.at(start).options;
      for (size_t a = 0; a < p_.axes.size(); ++a) {
        const TuneAxis& axis = p_.axes[a];
        if (mixed && a >= kLeadingAxes) break;
        options[axis.option] = mixed ? near(axis, options[axis.option])
                                     : axis.values[size_t(rng_.below(axis.values.size()))];
      }
      book_.add(std::move(options), mixed ? "random from " + book_.at(start).origin : "random");
    }
  }

  // A random value at most two places away.
  OptionValue near(const TuneAxis& axis, const OptionValue& from) {
    const auto size = ptrdiff_t(axis.values.size());
    const auto at = ptrdiff_t(nearest_place(axis, from));
    const ptrdiff_t first = std::max(ptrdiff_t{0}, at - 2), last = std::min(size - 1, at + 2);
    return axis.values[size_t(first) + size_t(rng_.below(uint64_t(last - first + 1)))];
  }

  // What is barred takes no other's place, and it is known what it does: on all prompts. It tells
  // how the few prompts of the first rounds differ from all, and the goal there moves by that.
  Status measure_barred() {
    for (size_t i = 0; i < book_.size(); ++i) {
      if (!book_.at(i).barred) continue;
      FO_RETURN_IF_ERROR(book_.measure(i, p_.prompts, kept()));
      if (book_.at(i).samples.size() < p_.prompts || p_.goal.seconds) continue;
      TuneCandidate few = book_.at(i);
      few.samples.resize(few_);
      p_.goal.margin += quality(p_.goal, few.mean()) - quality(p_.goal, book_.at(i).mean());
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
        const TuneSample m = book_.at(i).mean();
        points.push_back({cost(p_.goal, m), quality(p_.goal, m)});
      }
      std::vector<size_t> layer, rest;
      const std::vector<size_t> front = pareto_front(points);
      for (size_t k = 0; k < alive.size(); ++k) {
        (std::find(front.begin(), front.end(), k) != front.end() ? layer : rest)
            .push_back(alive[k]);
      }
      std::stable_sort(layer.begin(), layer.end(), [&](size_t a, size_t b) {
        return std::abs(violation(p_.goal, book_.at(a).mean())) <
               std::abs(violation(p_.goal, book_.at(b).mean()));
      });
      out.insert(out.end(), layer.begin(), layer.end());
      alive = rest;
    }
    if (out.size() > keep) out.resize(keep);
    return out;
  }

  size_t kept() const {
    const size_t decides = few_ < p_.prompts ? kFinalists * p_.prompts : 0;
    return decides + (p_.between ? kKeptForHomingIn * p_.prompts : 0);
  }

  Status halve() {
    std::vector<size_t> alive;
    for (size_t i = 0; i < book_.size(); ++i) {
      if (!book_.at(i).barred) alive.push_back(i);
    }
    for (size_t prompts = 1;; prompts = std::min(2 * prompts, few_)) {
      for (const size_t i : alive) {
        FO_RETURN_IF_ERROR(book_.measure(i, prompts, kept()));
        if (out_.out_of_time) return ok_status();
      }
      std::erase_if(alive, [&](size_t i) { return book_.at(i).hopeless; });
      if (prompts == few_) return ok_status();
      const size_t keep = std::max(kSemifinalists, (alive.size() + 1) / 2);
      alive = promoted(std::move(alive), keep);
    }
  }

  // The best of few prompts on all of them.
  Status decide() {
    book_.rank();
    const std::vector<size_t> best(
        out_.ranking.begin(),
        out_.ranking.begin() + ptrdiff_t(std::min(kFinalists, out_.ranking.size())));
    out_.out_of_time = false;
    for (const size_t i : best) {
      FO_RETURN_IF_ERROR(book_.measure(i, p_.prompts, 0, [&](const TuneCandidate& c) {
        return i != best.front() && book_.cannot_win(c, book_.at(best.front()));
      }));
      if (out_.out_of_time) break;
    }
    book_.rank();
    return ok_status();
  }

  static double number(const OptionValue& v) {
    if (const auto* whole = std::get_if<int64_t>(&v)) return double(*whole);
    return std::holds_alternative<double>(v) ? std::get<double>(v) : std::nan("");
  }

  // A value between two of the axis (from an earlier half step) counts as the nearest.
  static size_t nearest_place(const TuneAxis& axis, const OptionValue& from) {
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
    return nearest;
  }

  // The value `steps` away on its axis; of fractional numbers, also halfway to the next one.
  static std::optional<OptionValue> moved(const TuneAxis& axis, const OptionValue& from, int steps,
                                          bool half) {
    const auto to = static_cast<ptrdiff_t>(nearest_place(axis, from)) + steps;
    if (to < 0 || to >= static_cast<ptrdiff_t>(axis.values.size())) return std::nullopt;
    const OptionValue& next = axis.values[size_t(to)];
    if (!half) return next;
    if (!std::holds_alternative<double>(from) || !std::holds_alternative<double>(next)) {
      return std::nullopt;
    }
    return OptionValue((number(from) + number(next)) / 2);
  }

  // The candidate that is so many steps along an axis from `best`; nothing at the axis's end.
  std::optional<size_t> step_from(size_t best, const TuneAxis& axis, int steps, bool half) {
    const OptionValue from = book_.at(best).options.at(axis.option);
    const std::optional<OptionValue> to = moved(axis, from, steps, half);
    if (!to || *to == from) return std::nullopt;
    OptionMap options = book_.at(best).options;
    options[axis.option] = *to;
    return book_.add(std::move(options),
                     axis.option + "=" + option_to_string(*to) + " from " + option_to_string(from));
  }

  Status refine() {
    for (int pass = 0; pass < kMaxPasses && !out_.out_of_time; ++pass) {
      bool improved = false;
      for (const TuneAxis& axis : p_.axes) {
        int idle = 0;  // the direction in which nothing happens
        for (const auto& [steps, half] :
             {std::pair{1, false}, {1, true}, {-1, false}, {-1, true}}) {
          if (half && steps == idle) continue;
          book_.rank();
          if (out_.ranking.empty()) return ok_status();
          const size_t best = out_.ranking.front();
          const std::optional<size_t> i = step_from(best, axis, steps, half);
          if (!i) continue;
          const TuneSample now = book_.at(best).mean();
          const double missed = violation(p_.goal, now);
          const size_t prompts = book_.at(best).samples.size();
          FO_RETURN_IF_ERROR(book_.measure(*i, prompts, kept(), [&](const TuneCandidate& c) {
            return book_.cannot_win(c, book_.at(best));
          }));
          if (out_.out_of_time) return ok_status();
          const TuneCandidate& c = book_.at(*i);
          // Other options may leave nothing for this one to decide: half a step is not worth a run.
          if (same_pictures(c, book_.at(best))) idle = steps;
          if (c.hopeless || c.barred || c.samples.size() < prompts || !book_.better(*i, best)) {
            continue;
          }
          // Steps for next to nothing would go on for ever.
          const double gain = objective(p_.goal, now) - objective(p_.goal, c.mean());
          improved = improved || missed > 0 || std::abs(gain) < kNoGain ||
                     gain > kLeastGain * std::abs(objective(p_.goal, now));
        }
      }
      if (!improved) break;
    }
    return ok_status();
  }

  TuneProblem p_;  // with the goal of the few prompts while those are looked at
  const size_t few_;
  TuneOutcome out_;
  TuneBook book_;
  Rng rng_;
};

}  // namespace

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
