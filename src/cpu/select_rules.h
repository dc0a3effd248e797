// SPDX-License-Identifier: Apache-2.0
//
// What selections over a row of weights share: softmax, sorted entries and the running-sum rules,
// all in double precision.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "cpu/context.h"

namespace flashomni::cpu {

inline constexpr double kNegativeInfinity = -std::numeric_limits<double>::infinity();

// An entry of a row, and where it was.
struct Entry {
  double p;
  int32_t index;
};

// Memory of one thread: a few arrays as long as a row.
struct SelectScratch {
  double* p;       // a distribution, or logits on the way to one
  double* q;       // a second one
  Entry* entries;  // sorted
  int32_t* index;  // of vision blocks

  static size_t bytes(int64_t blocks) {
    const size_t n = static_cast<size_t>(blocks);
    return kAlignment + 2 * align_up(n * sizeof(double)) + align_up(n * sizeof(Entry)) +
           align_up(n * sizeof(int32_t));
  }
  SelectScratch(void* memory, int64_t blocks) {
    Arena arena(memory);
    p = arena.take<double>(blocks);
    q = arena.take<double>(blocks);
    entries = arena.take<Entry>(blocks);
    index = arena.take<int32_t>(blocks);
  }
};

// A score that is not a number says nothing: it weighs nothing.
inline double usable(double x) {
  return std::isnan(x) ? kNegativeInfinity : x;
}

// In place; -inf becomes 0. Without any finite entry (or with +inf) the mass is spread evenly over
// the largest entries.
inline void softmax(double* x, int64_t n) {
  const double top = *std::max_element(x, x + n);
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) {
    x[i] = x[i] == top ? 1.0 : std::exp(x[i] - top);
    sum += x[i];
  }
  for (int64_t i = 0; i < n; ++i) x[i] /= sum;
}

enum class Order { kAscending, kDescending };

// entries = p with indices, sorted by value, equal values by smaller index.
inline void sort_entries(const double* p, int64_t n, Order direction, Entry* entries) {
  for (int64_t i = 0; i < n; ++i) entries[i] = {p[i], static_cast<int32_t>(i)};
  if (direction == Order::kAscending) {
    std::sort(entries, entries + n, [](const Entry& a, const Entry& b) {
      return a.p != b.p ? a.p < b.p : a.index < b.index;
    });
  } else {
    std::sort(entries, entries + n, [](const Entry& a, const Entry& b) {
      return a.p != b.p ? a.p > b.p : a.index < b.index;
    });
  }
}

// How many leading entries have a running sum of at most `limit`.
inline int64_t count_within(const Entry* entries, int64_t n, double limit) {
  double sum = 0;
  for (int64_t r = 0; r < n; ++r) {
    sum += entries[r].p;
    if (sum > limit) return r;
  }
  return n;
}

// DROP_CDF: entries[0, result) are those to drop.
inline int64_t drop_cdf(const double* p, int64_t n, double theta, Entry* entries) {
  sort_entries(p, n, Order::kAscending, entries);
  return std::min(count_within(entries, n, theta), n - 1);
}

}  // namespace flashomni::cpu
