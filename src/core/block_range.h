// SPDX-License-Identifier: Apache-2.0
//
// Which blocks hold a range of tokens.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "flashomni/ops.h"

namespace flashomni {

// The ragged blocks (see SymbolsView::starts) that hold any of the tokens [begin, end). REQUIRES:
// the tokens are some of those in the blocks.
inline BlockRange blocks_holding(std::span<const int32_t> starts, int begin, int end) {
  if (end <= begin) return {};
  const auto first = std::ranges::upper_bound(starts, begin) - 1;
  const auto last = std::ranges::lower_bound(starts, end);
  return {static_cast<int>(first - starts.begin()), static_cast<int>(last - starts.begin())};
}

}  // namespace flashomni
