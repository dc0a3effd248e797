// SPDX-License-Identifier: Apache-2.0
//
// Applying a strategy's order of the vision tokens to a run: everything in a DiT commutes with it,
// so it is applied once to what goes in and undone once on what comes out.
#pragma once

#include <span>
#include <vector>

#include "flashomni/strategy.h"

namespace flashomni {

// The strategy's order for this grid, checked: a permutation that keeps the first `output` tokens
// (those whose velocity is wanted) among themselves. Empty: the grid's own order. `strategy` may be
// null.
Result<std::vector<int>> strategy_token_order(const Strategy* strategy, const TokenGrid& grid,
                                              int output);

// rows[p] = old rows[order[p]], rows of `width` values. An empty order changes nothing.
template <class T>
std::vector<T> to_order(std::span<const int> order, const std::vector<T>& rows, size_t width) {
  if (order.empty()) return rows;
  std::vector<T> out(rows.size());
  for (size_t p = 0; p * width < rows.size(); ++p) {
    for (size_t i = 0; i < width; ++i) out[p * width + i] = rows[size_t(order[p]) * width + i];
  }
  return out;
}

// The inverse, for the leading rows.
template <class T>
std::vector<T> from_order(std::span<const int> order, const std::vector<T>& rows, size_t width) {
  if (order.empty()) return rows;
  std::vector<T> out(rows.size());
  for (size_t p = 0; p * width < rows.size(); ++p) {
    for (size_t i = 0; i < width; ++i) out[size_t(order[p]) * width + i] = rows[p * width + i];
  }
  return out;
}

}  // namespace flashomni
