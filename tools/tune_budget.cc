// SPDX-License-Identifier: Apache-2.0
#include "tools/tune_budget.h"

#include <algorithm>
#include <numeric>

namespace flashomni::tools {
namespace {

constexpr size_t kRecentRuns = 8;  // what the next run will take is judged by these

// Whether they were taken from the dense run, or a trial that was gone on with had to compute them.
double shared(const Figures& f) {
  return std::min(f.plain_share, Trials::kSharedSteps);
}

}  // namespace

double TuneBudget::work_of(const Trial& trial) {
  if (trial.key == kDenseKey) return 1;
  return 1 - trial.figures.flops_skipped_share - shared(trial.figures);
}

double TuneBudget::price(const Trial& trial) const {
  const Figures& f = trial.figures;
  if (by_work_) return work_of(trial);
  return trial.key == kDenseKey ? f.seconds : f.seconds - shared(f) * f.dense_seconds;
}

void TuneBudget::used(const Trial& trial) {
  if (!used_.insert(&trial).second) return;
  const double p = price(trial);
  work_ += work_of(trial);
  if (trial.key == kDenseKey) {
    dense_ += p;
    ++dense_runs_;
    return;
  }
  recent_.push_back(p);
  if (recent_.size() > kRecentRuns) recent_.pop_front();
}

double TuneBudget::wall_seconds() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
}

double TuneBudget::spent() const {
  return by_work_ ? work_ : wall_seconds();
}

double TuneBudget::of_sparse(size_t runs) const {
  if (recent_.empty()) return 0;
  const double sum = std::accumulate(recent_.begin(), recent_.end(), 0.);
  return sum / double(recent_.size()) * double(runs);
}

double TuneBudget::of_dense(size_t runs) const {
  return dense_runs_ ? dense_ / double(dense_runs_) * double(runs) : 0;
}

}  // namespace flashomni::tools
