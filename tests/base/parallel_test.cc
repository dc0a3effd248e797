// SPDX-License-Identifier: Apache-2.0
#include "base/parallel.h"

#include <gtest/gtest.h>

#include <numeric>

namespace flashomni {
namespace {

TEST(ThreadPool, RunsEveryItemOnce) {
  for (const int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.size(), threads);
    for (const int64_t items : {0, 1, 2, 7, 1000}) {
      for (const int64_t chunk : {1, 3, 5000}) {
        std::vector<int> hits(size_t(items), 0);
        pool.run(
            items,
            [&](int64_t item, int worker) {
              ASSERT_GE(worker, 0);
              ASSERT_LT(worker, threads);
              ++hits[size_t(item)];
            },
            chunk);
        for (int h : hits) EXPECT_EQ(h, 1);
      }
    }
  }
}

// Writes of one run are visible to the next, whichever worker made them.
TEST(ThreadPool, RunsAreOrdered) {
  ThreadPool pool(4);
  std::vector<int64_t> values(257);
  std::iota(values.begin(), values.end(), 0);
  for (int round = 0; round < 2000; ++round) {
    pool.run(int64_t(values.size()), [&](int64_t i, int) { ++values[size_t(i)]; });
  }
  for (size_t i = 0; i < values.size(); ++i) EXPECT_EQ(values[i], int64_t(i) + 2000);
}

TEST(ThreadPool, ManyPoolsComeAndGo) {
  for (int i = 0; i < 50; ++i) {
    ThreadPool pool(3);
    std::atomic<int> sum{0};
    if (i % 2) pool.run(10, [&](int64_t item, int) { sum += int(item); });
    EXPECT_EQ(sum.load(), i % 2 ? 45 : 0);
  }
}

TEST(ThreadPool, DefaultIsAtLeastOne) {
  EXPECT_GE(ThreadPool::default_threads(), 1);
}

}  // namespace
}  // namespace flashomni
