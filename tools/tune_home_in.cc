// SPDX-License-Identifier: Apache-2.0
#include "tools/tune_home_in.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "tools/tune_book.h"

namespace flashomni::tools {
namespace {

constexpr int kCheapestPoints = 4;  // tried where they promise the least cost
constexpr int kSafestPoints = 6;    // then, until the goal is met, where the ends are nearest to it
constexpr double kAim = 0.25;       // of the tolerance, on the safe side, lest every point miss
constexpr double kNearEnough = 0.5;  // of the tolerance
constexpr double kAlike = 0.05;      // of an axis
constexpr size_t kLeastSamples = 2;  // of an end of a way
constexpr size_t kGoodSamples = 4;   // below them an end is doubtful

constexpr size_t kNone = std::numeric_limits<size_t>::max();

// What a way is worse for every tolerance that lies between the qualities of its ends: the longer,
// the less does a straight line say. Twice of it where an end is doubtful.
constexpr double kGapPrice = 0.003;

struct Way {
  size_t from = 0, to = 0;  // reaches the goal, misses it
  OptionMap options;        // where the goal is reached
  double fraction = 0;
  double violation = 0;  // expected there
  double score = 0;      // less is better
};

class HomeIn {
 public:
  HomeIn(const TuneProblem& p, TuneOutcome& out, size_t kept)
      : p_(p), out_(out), book_(p, out), kept_(kept) {}

  Status run() {
    out_.out_of_time = false;
    for (int k = 0; k < kCheapestPoints + kSafestPoints && !out_.out_of_time; ++k) {
      book_.rank();
      if (out_.ranking.empty()) return ok_status();
      const std::optional<Way> way = best_way(k < kCheapestPoints);
      if (!way) break;
      const size_t i = book_.add(way->options, "between, " + share(way->fraction));
      const size_t best = out_.ranking.front();
      // An earlier goal may have given it up.
      book_.at(i).hopeless = false;
      const auto give_up = [&](const TuneCandidate& c) {
        return book_.cannot_win(c, book_.at(best));
      };
      FO_RETURN_IF_ERROR(book_.measure(i, book_.at(best).samples.size(), kept_, give_up));
      if (book_.at(i).samples.empty()) continue;
      const double actual = violation(p_.goal, book_.estimate(i, best));
      shortfall_ = std::clamp(actual - way->violation, 0., tolerance(p_.goal) / 2);
      far_ = actual > tolerance(p_.goal) / 2 ? i : kNone;
    }
    book_.rank();
    return ok_status();
  }

 private:
  static std::string share(double fraction) {
    return std::to_string(std::lround(100 * fraction)) + " % of the way";
  }

  // Equal but for numbers that differ by next to nothing of what their axis spans.
  bool alike(const OptionMap& a, const OptionMap& b) const {
    if (a.size() != b.size()) return false;
    for (const auto& [name, value] : a) {
      const auto it = b.find(name);
      if (it == b.end()) return false;
      if (it->second == value) continue;
      const auto axis = std::ranges::find(p_.axes, name, &TuneAxis::option);
      const auto *x = std::get_if<double>(&value), *y = std::get_if<double>(&it->second);
      if (axis == p_.axes.end() || !x || !y) return false;
      const auto* from = std::get_if<double>(&axis->values.front());
      const auto* to = std::get_if<double>(&axis->values.back());
      if (!from || !to || std::abs(*x - *y) > kAlike * std::abs(*to - *from)) return false;
    }
    return true;
  }

  // Measured on all prompts that the best ran on, or given up.
  bool known(const OptionMap& options) const {
    for (size_t i = 0; i < book_.size(); ++i) {
      const TuneCandidate& c = book_.at(i);
      if (!alike(c.options, options)) continue;
      return c.barred || c.samples.size() >= book_.at(out_.ranking.front()).samples.size() ||
             tried_and_given_up(i);
    }
    return false;
  }
  // Given up for good: by its samples it misses the goal of now.
  bool tried_and_given_up(size_t i) const {
    const TuneCandidate& c = book_.at(i);
    return c.hopeless && (c.samples.size() < kLeastSamples ||
                          violation(p_.goal, book_.estimate(i, out_.ranking.front())) > 0);
  }

  // The way to try next; nothing when the best is near enough or there is none.
  std::optional<Way> best_way(bool cheapest) const {
    const size_t best = out_.ranking.front();
    const TuneSample now = book_.at(best).mean();
    const double missed = violation(p_.goal, now);
    const double near = (cheapest ? kNearEnough : 1) * tolerance(p_.goal);
    if (missed <= 0 && missed >= -near) return std::nullopt;
    std::optional<Way> out;
    for (size_t i = 0; i < book_.size(); ++i) {
      if (book_.at(i).samples.size() < least(best)) continue;
      const TuneSample a = book_.estimate(i, best);
      const double va = violation(p_.goal, a);
      if (va > 0) continue;
      for (size_t j = 0; j < book_.size(); ++j) {
        if (book_.at(j).samples.size() < least(best)) continue;
        const TuneSample b = book_.estimate(j, best);
        const double vb = violation(p_.goal, b);
        const double gain = objective(p_.goal, a) - objective(p_.goal, b);
        if (vb <= 0 || gain <= 0) continue;
        const double aim =
            cheapest ? kAim * tolerance(p_.goal) + shortfall_ : kNearEnough * tolerance(p_.goal);
        double fraction = std::max(0., (-va - aim) / (vb - va));
        // Not straight at all: what missed by much is left far behind.
        if (j == far_) fraction /= 2;
        const double expected = objective(p_.goal, a) - fraction * gain;
        // Anything that reaches the goal is better than a best that misses it.
        const double least_gain = kLeastGain * std::abs(objective(p_.goal, now));
        if (missed <= 0 && expected > objective(p_.goal, now) - least_gain) continue;
        const bool doubtful =
            std::min(book_.at(i).samples.size(), book_.at(j).samples.size()) < good(best);
        const double gap = (vb - va) / tolerance(p_.goal) * (doubtful ? 2 : 1);
        const double score = cheapest ? expected + kGapPrice * gap : gap;
        if (out && score >= out->score) continue;
        std::optional<OptionMap> options =
            p_.between(book_.at(i).options, book_.at(j).options, fraction);
        if (!options || known(*options)) continue;
        out = Way{i, j, std::move(*options), fraction, va + fraction * (vb - va), score};
      }
    }
    return out;
  }

  size_t good(size_t best) const { return std::min(kGoodSamples, book_.at(best).samples.size()); }
  size_t least(size_t best) const { return std::min(kLeastSamples, book_.at(best).samples.size()); }

  const TuneProblem& p_;
  TuneOutcome& out_;
  TuneBook book_;
  const size_t kept_;
  size_t far_ = kNone;    // the last point, where it missed by much
  double shortfall_ = 0;  // of the last point against what straight lines said
};

}  // namespace

Status tune_home_in(const TuneProblem& problem, TuneOutcome& outcome, size_t kept) {
  if (problem.between) return HomeIn(problem, outcome, kept).run();
  TuneBook(problem, outcome).rank();
  return ok_status();
}

}  // namespace flashomni::tools
