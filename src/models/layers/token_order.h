// SPDX-License-Identifier: Apache-2.0
//
// The order of the vision tokens that a strategy asks for (Strategy::token_order), as models take
// it: nothing of a model knows it but the positions of its rotary table.
#pragma once

#include <span>
#include <vector>

#include "models/layers/rope.h"

namespace flashomni {

// Fails unless `order` is empty or names each of the `tokens` tokens of the grid once.
Status check_token_order(std::span<const int> order, int tokens);

// Position p is that of token order[p]; an empty order changes nothing. REQUIRES the check above
// for as many tokens as there are positions.
std::vector<PositionId> in_token_order(std::span<const int> order,
                                       const std::vector<PositionId>& positions);

}  // namespace flashomni
