// SPDX-License-Identifier: Apache-2.0
#include "models/layers/token_order.h"

#include <algorithm>
#include <string>

namespace flashomni {

Status check_token_order(std::span<const int> order, int tokens) {
  std::vector<int> sorted(order.begin(), order.end());
  std::ranges::sort(sorted);
  bool permutation = sorted.empty() || int(sorted.size()) == tokens;
  for (size_t p = 0; permutation && p < sorted.size(); ++p) permutation = sorted[p] == int(p);
  if (permutation) return ok_status();
  return invalid_argument("the token order of " + std::to_string(order.size()) +
                          " tokens is no permutation of the " + std::to_string(tokens) +
                          " of the grid");
}

std::vector<PositionId> in_token_order(std::span<const int> order,
                                       const std::vector<PositionId>& positions) {
  std::vector<PositionId> out = positions;
  for (size_t p = 0; p < order.size(); ++p) out[p] = positions[size_t(order[p])];
  return out;
}

}  // namespace flashomni
