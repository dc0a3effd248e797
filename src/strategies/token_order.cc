// SPDX-License-Identifier: Apache-2.0
#include "strategies/token_order.h"

#include <algorithm>

namespace flashomni::strategies {

Result<std::vector<int>> tile_order(const char* strategy, const TokenGrid& grid, const Tile& tile) {
  if (grid.tokens() < 1) {
    return unsupported(
        "strategy " + std::string(strategy) +
        ": orders tokens by tiles of the picture, and this model gives no token grid");
  }
  std::vector<int> order;
  order.reserve(size_t(grid.tokens()));
  for (int f0 = 0; f0 < grid.frames; f0 += tile.frames) {
    for (int r0 = 0; r0 < grid.rows; r0 += tile.rows) {
      for (int c0 = 0; c0 < grid.cols; c0 += tile.cols) {
        for (int f = f0; f < std::min(grid.frames, f0 + tile.frames); ++f) {
          for (int r = r0; r < std::min(grid.rows, r0 + tile.rows); ++r) {
            for (int c = c0; c < std::min(grid.cols, c0 + tile.cols); ++c) {
              order.push_back((f * grid.rows + r) * grid.cols + c);
            }
          }
        }
      }
    }
  }
  return order;
}

}  // namespace flashomni::strategies
