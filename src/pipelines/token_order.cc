// SPDX-License-Identifier: Apache-2.0
#include "pipelines/token_order.h"

#include <string>

namespace flashomni {

Result<std::vector<int>> strategy_token_order(const Strategy* strategy, const TokenGrid& grid,
                                              int output) {
  if (!strategy) return std::vector<int>{};
  SequenceInfo s;
  s.tokens = static_cast<int>(grid.tokens());
  s.grid = grid;
  FO_ASSIGN_OR_RETURN(std::vector<int> order, strategy->token_order(s));
  if (order.empty()) return order;
  const std::string who = "strategy " + std::string(strategy->name());
  std::vector<char> seen(size_t(grid.tokens()), 0);
  bool permutation = order.size() == seen.size();
  for (size_t p = 0; permutation && p < order.size(); ++p) {
    permutation = order[p] >= 0 && size_t(order[p]) < seen.size() && !seen[size_t(order[p])]++;
  }
  if (!permutation) return internal_error(who + " gives a token order that is no permutation");
  for (int p = 0; p < output; ++p) {
    if (order[size_t(p)] >= output) {
      return unsupported(who +
                         " mixes tokens of the picture with those of the reference; its "
                         "tiles must hold one frame here");
    }
  }
  return order;
}

}  // namespace flashomni
