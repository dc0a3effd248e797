// SPDX-License-Identifier: Apache-2.0
//
// What a search may spend, in seconds of the clock or in work that does not depend on the machine,
// and what the runs still to come will take.
#pragma once

#include <chrono>
#include <deque>
#include <set>

#include "tools/trials.h"

namespace flashomni::tools {

class TuneBudget {
 public:
  // Starts the clock.
  static TuneBudget seconds(double total) { return TuneBudget(total, false); }
  // FLOPs, one dense run being 1; steps that a run shares with its dense run count once. A trial
  // counts when a search first uses it, whether it was finished before or not: the same search on
  // another machine, or gone on with, ends alike.
  static TuneBudget dense_runs(double total) { return TuneBudget(total, true); }

  // Has to see every trial of the search.
  void used(const Trial& trial);
  // Whether a run is still to be paid for: one that is not finished (nullptr) or, by work, not
  // used.
  bool is_new(const Trial* trial) const { return !trial || (by_work_ && !used_.contains(trial)); }

  double total() const { return total_; }
  double spent() const;
  double wall_seconds() const;           // since the start
  double work() const { return work_; }  // of what was used, in dense runs
  // What so many runs will take, by the latest ones that were used; 0 before the first.
  double of_sparse(size_t runs) const;
  double of_dense(size_t runs) const;

 private:
  TuneBudget(double total, bool by_work) : total_(total), by_work_(by_work) {}
  static double work_of(const Trial& trial);
  double price(const Trial& trial) const;

  double total_;
  bool by_work_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::set<const Trial*> used_;
  double work_ = 0;
  std::deque<double> recent_;  // prices of sparse runs
  double dense_ = 0;
  size_t dense_runs_ = 0;
};

}  // namespace flashomni::tools
