// SPDX-License-Identifier: Apache-2.0
#include "pipelines/token_order.h"

#include <string>

#include "models/layers/token_order.h"

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
  const Status checked = check_token_order(order, s.tokens);
  if (!checked.ok()) return internal_error(who + ": " + checked.message());
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
