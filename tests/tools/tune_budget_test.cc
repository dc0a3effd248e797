// SPDX-License-Identifier: Apache-2.0
#include "tools/tune_budget.h"

#include <gtest/gtest.h>

namespace flashomni::tools {
namespace {

Trial dense(double seconds) {
  Trial t;
  t.key = kDenseKey;
  t.figures.seconds = seconds;
  return t;
}
Trial sparse(double seconds, double skipped) {
  Trial t;
  t.key = "sparse";
  t.figures.seconds = seconds;
  t.figures.flops_skipped_share = skipped;
  return t;
}

TEST(TuneBudget, WorkIsFlopsInDenseRuns) {
  TuneBudget budget = TuneBudget::dense_runs(10);
  const Trial a = dense(7), b = sparse(2, 0.25), c = sparse(3, 0.5);
  EXPECT_TRUE(budget.is_new(&a));
  budget.used(a);
  budget.used(b);
  budget.used(b);  // the same one again is free
  budget.used(c);
  EXPECT_FALSE(budget.is_new(&a));
  EXPECT_DOUBLE_EQ(budget.spent(), 1 + 0.75 + 0.5);
  EXPECT_DOUBLE_EQ(budget.of_sparse(4), 4 * (0.75 + 0.5) / 2);
  EXPECT_DOUBLE_EQ(budget.of_dense(3), 3);
  EXPECT_DOUBLE_EQ(budget.total(), 10);
}

TEST(TuneBudget, SecondsAreTheClocks) {
  TuneBudget budget = TuneBudget::seconds(600);
  const Trial a = dense(7), b = sparse(2, 0.25);
  EXPECT_EQ(budget.of_sparse(3), 0);
  EXPECT_EQ(budget.of_dense(3), 0);
  EXPECT_TRUE(budget.is_new(nullptr));
  EXPECT_FALSE(budget.is_new(&a)) << "a finished run takes no more time";
  budget.used(a);
  budget.used(b);
  EXPECT_LT(budget.spent(), 60) << "not what the trials took, perhaps in another process";
  EXPECT_DOUBLE_EQ(budget.of_sparse(3), 6);
  EXPECT_DOUBLE_EQ(budget.of_dense(2), 14);
  EXPECT_DOUBLE_EQ(budget.work(), 1.75);
}

// Steps that are the dense run's are paid for once; more than half of them are never shared.
TEST(TuneBudget, SharedStepsAreFree) {
  TuneBudget budget = TuneBudget::dense_runs(10), clock = TuneBudget::seconds(60);
  Trial a = sparse(6, 0.25), b = sparse(6, 0.25), c = dense(10);
  a.figures.dense_seconds = b.figures.dense_seconds = 10;
  a.figures.plain_share = 0.2;
  b.figures.plain_share = 0.6;
  c.figures.plain_share = 1;
  budget.used(a);
  EXPECT_DOUBLE_EQ(budget.spent(), 0.55);
  budget.used(b);
  EXPECT_DOUBLE_EQ(budget.spent(), 0.55 + 0.25);
  budget.used(c);
  EXPECT_DOUBLE_EQ(budget.spent(), 0.55 + 0.25 + 1);
  clock.used(a);
  EXPECT_DOUBLE_EQ(clock.of_sparse(1), 4);
  clock.used(c);
  EXPECT_DOUBLE_EQ(clock.of_dense(1), 10);
}

TEST(TuneBudget, TheLatestRunsTellTheNext) {
  TuneBudget budget = TuneBudget::dense_runs(100);
  std::deque<Trial> trials(20, sparse(1, 0.5));
  for (Trial& t : trials) budget.used(t);
  for (int k = 0; k < 8; ++k) budget.used(trials.emplace_back(sparse(1, 0.75)));
  EXPECT_DOUBLE_EQ(budget.of_sparse(1), 0.25);
}

}  // namespace
}  // namespace flashomni::tools
