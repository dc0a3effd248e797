// SPDX-License-Identifier: Apache-2.0
#include "tools/tune_book.h"

#include <algorithm>
#include <cmath>

namespace flashomni::tools {
namespace {

constexpr double kPsnrCap = 100;    // dB, of equal pictures: a mean needs a number
constexpr double kTie = 1e-9;       // of objectives
constexpr double kSamePsnr = 0.01;  // dB: pictures that differ in rounding
constexpr double kSameCost = 0.01;  // share, below which a difference may be the clock's
constexpr size_t kLeastPairs = 3;   // that a standard error is worth something
// What a decibel less of spread between prompts may cost, as a share of dense's cost.
constexpr double kSpreadCost = 0.01;

// Standard deviation of the PSNR of the first `count` samples; 0 below two.
double spread(const std::vector<TuneSample>& samples, size_t count) {
  if (count < 2) return 0;
  double mean = 0, squares = 0;
  for (size_t k = 0; k < count; ++k) mean += samples[k].psnr_db / double(count);
  for (size_t k = 0; k < count; ++k) {
    squares += (samples[k].psnr_db - mean) * (samples[k].psnr_db - mean);
  }
  return std::sqrt(squares / double(count - 1));
}

// The mean of a - b over the prompts that both ran; `count` is how many.
TuneSample mean_difference(const TuneCandidate& a, const TuneCandidate& b, size_t& count) {
  count = std::min(a.samples.size(), b.samples.size());
  TuneSample d;
  for (size_t k = 0; k < count; ++k) {
    d.psnr_db += (a.samples[k].psnr_db - b.samples[k].psnr_db) / double(count);
    d.ssim += (a.samples[k].ssim - b.samples[k].ssim) / double(count);
    d.seconds += (a.samples[k].seconds - b.samples[k].seconds) / double(count);
    d.cost += (a.samples[k].cost - b.samples[k].cost) / double(count);
  }
  if (count >= kLeastPairs) d.spread_db = spread(a.samples, count) - spread(b.samples, count);
  return d;
}

TuneSample sum(const TuneSample& a, const TuneSample& b) {
  return {a.psnr_db + b.psnr_db, a.ssim + b.ssim, a.seconds + b.seconds, a.cost + b.cost,
          std::max(0., a.spread_db + b.spread_db)};
}

}  // namespace

TuneSample TuneCandidate::mean() const {
  TuneSample m;
  for (const TuneSample& s : samples) {
    m.psnr_db += s.psnr_db / double(samples.size());
    m.ssim += s.ssim / double(samples.size());
    m.seconds += s.seconds / double(samples.size());
    m.cost += s.cost / double(samples.size());
  }
  m.spread_db = spread(samples, samples.size());
  return m;
}

double TuneCandidate::psnr_error() const {
  if (samples.size() < 2) return 0;
  return mean().spread_db / std::sqrt(double(samples.size()));
}

double quality(const TuneGoal& goal, const TuneSample& s) {
  return goal.ssim ? s.ssim : s.psnr_db;
}

double violation(const TuneGoal& goal, const TuneSample& mean) {
  if (goal.psnr_db) return *goal.psnr_db + goal.margin - mean.psnr_db;
  if (goal.ssim) return *goal.ssim + goal.margin - mean.ssim;
  return mean.seconds - (*goal.seconds - goal.margin);
}

double objective(const TuneGoal& goal, const TuneSample& mean) {
  return goal.seconds ? -mean.psnr_db : mean.cost + kSpreadCost * mean.spread_db;
}

double tolerance(const TuneGoal& goal) {
  if (goal.psnr_db) return 1;
  return goal.ssim ? 0.01 : 0.1 * *goal.seconds;
}

bool same_pictures(const TuneCandidate& a, const TuneCandidate& b) {
  const auto n = ptrdiff_t(std::min(a.samples.size(), b.samples.size()));
  return n > 0 && std::equal(a.samples.begin(), a.samples.begin() + n, b.samples.begin(),
                             [](const TuneSample& x, const TuneSample& y) {
                               return std::abs(x.psnr_db - y.psnr_db) < kSamePsnr;
                             });
}

size_t TuneBook::add(OptionMap options, const std::string& origin) {
  for (size_t i = 0; i < size(); ++i) {
    if (at(i).options == options) return i;
  }
  const bool barred = p_.barred && *p_.barred == options;
  out_.candidates.push_back({std::move(options), origin, {}, false, barred});
  return size() - 1;
}

Status TuneBook::measure(size_t i, size_t prompts, size_t more, const GiveUp& give_up) {
  while (at(i).samples.size() < prompts && !at(i).hopeless) {
    if (p_.out_of_time && p_.out_of_time(more)) {
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

bool TuneBook::better(size_t a, size_t b) const {
  const TuneSample x = at(a).mean(), y = at(b).mean();
  const double vx = violation(p_.goal, x), vy = violation(p_.goal, y);
  const double ox = objective(p_.goal, x), oy = objective(p_.goal, y);
  // What saves nothing but costs nothing either leaves room for the next step.
  if (vx <= 0 && vy <= 0 && std::abs(ox - oy) < kTie) return vx < vy;
  if (vx <= 0 && vy <= 0) return ox < oy;
  return vx < vy;
}

void TuneBook::rank() {
  size_t most = 0;
  out_.ranking.clear();
  for (const TuneCandidate& c : out_.candidates) {
    if (!c.hopeless && !c.barred) most = std::max(most, c.samples.size());
  }
  for (size_t i = 0; i < size(); ++i) {
    const TuneCandidate& c = at(i);
    if (most > 0 && c.samples.size() >= most && !c.hopeless && !c.barred) out_.ranking.push_back(i);
  }
  std::stable_sort(out_.ranking.begin(), out_.ranking.end(),
                   [&](size_t a, size_t b) { return better(a, b); });
}

TuneSample TuneBook::estimate(size_t i, size_t reference) const {
  if (at(i).samples.size() >= at(reference).samples.size()) return at(i).mean();
  size_t count = 0;
  return sum(at(reference).mean(), mean_difference(at(i), at(reference), count));
}

bool TuneBook::cannot_win(const TuneCandidate& c, const TuneCandidate& best) const {
  size_t n = 0;
  const TuneSample difference = mean_difference(c, best, n);
  // The same pictures for the same cost: the option does nothing here.
  if (same_pictures(c, best) && std::abs(difference.cost) < kSameCost * best.mean().cost) {
    return true;
  }
  if (n < kLeastPairs) return false;
  double squares = 0;
  for (size_t k = 0; k < n; ++k) {
    const double d = quality(p_.goal, c.samples[k]) - quality(p_.goal, best.samples[k]) -
                     quality(p_.goal, difference);
    squares += d * d;
  }
  const double error = std::sqrt(squares / double(n - 1) / double(n));
  const TuneSample now = best.mean();
  TuneSample guess = sum(now, difference);  // of all prompts
  (p_.goal.ssim ? guess.ssim : guess.psnr_db) += 2 * error;
  // A few prompts say little about the spread: it speaks for a candidate, not against it.
  guess.spread_db = std::min(guess.spread_db, now.spread_db);
  if (violation(p_.goal, now) <= 0) {
    return violation(p_.goal, guess) > 0 || objective(p_.goal, guess) > objective(p_.goal, now);
  }
  return violation(p_.goal, guess) > violation(p_.goal, now);
}

}  // namespace flashomni::tools
