// SPDX-License-Identifier: Apache-2.0
#include "tools/tune_split.h"

#include <algorithm>
#include <iterator>
#include <numeric>
#include <utility>

namespace flashomni::tools {
namespace {

// Of sorted items: the middle one, then the middles of the two parts, and so on.
std::vector<size_t> middles_first(const std::vector<size_t>& sorted) {
  std::vector<size_t> out;
  std::vector<std::pair<size_t, size_t>> parts = {{0, sorted.size()}};
  for (size_t k = 0; k < parts.size(); ++k) {
    const auto [begin, end] = parts[k];
    if (begin == end) continue;
    const size_t middle = begin + (end - begin - 1) / 2;
    out.push_back(sorted[middle]);
    parts.emplace_back(begin, middle);
    parts.emplace_back(middle + 1, end);
  }
  return out;
}

// The few that come first stand for all: one of each quarter, symmetric about the middle, the inner
// ones first. Too few for that: the middles.
std::vector<size_t> representative_first(const std::vector<size_t>& sorted) {
  constexpr size_t kQuarters[] = {1, 2, 0, 3};
  const size_t n = sorted.size();
  if (n < 2 * std::size(kQuarters)) return middles_first(sorted);
  std::vector<size_t> out;
  for (const size_t k : kQuarters) {
    // Mirrored in the upper half, whatever n is.
    out.push_back(k < 2 ? sorted[(2 * k + 1) * n / 8] : sorted[n - 1 - (7 - 2 * k) * n / 8]);
  }
  for (const size_t i : middles_first(sorted)) {
    if (std::ranges::find(out, i) == out.end()) out.push_back(i);
  }
  return out;
}

}  // namespace

PromptSplit split_by_difficulty(const std::vector<double>& quality) {
  std::vector<size_t> order(quality.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, {}, [&](size_t i) { return quality[i]; });
  PromptSplit out;
  for (size_t k = 0; k < order.size(); k += 2) {
    if (k + 1 == order.size()) {
      out.search.push_back(order[k]);
      break;
    }
    const bool swap = k / 2 % 2 == 1;
    out.search.push_back(order[swap ? k + 1 : k]);
    out.held_out.push_back(order[swap ? k : k + 1]);
  }
  out.search = representative_first(out.search);
  return out;
}

}  // namespace flashomni::tools
