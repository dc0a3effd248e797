// SPDX-License-Identifier: Apache-2.0
#include "strategies/token_order.h"

#include <algorithm>

namespace flashomni::strategies {
namespace {

Status check_grid(const char* strategy, const TokenGrid& grid) {
  if (grid.tokens() >= 1) return ok_status();
  return unsupported("strategy " + std::string(strategy) +
                     ": orders tokens by tiles of the picture, and this model gives no token grid");
}

// The part [begin, end) of an axis that a tile takes.
struct Side {
  int begin, end;
};

// Calls f(frames, rows, cols) for every tile of the grid, in order.
template <class F>
void for_each_tile(const TokenGrid& grid, const Tile& tile, const F& f) {
  const auto side = [](int begin, int length, int count) {
    return Side{begin, std::min(count, begin + length)};
  };
  for (int f0 = 0; f0 < grid.frames; f0 += tile.frames) {
    for (int r0 = 0; r0 < grid.rows; r0 += tile.rows) {
      for (int c0 = 0; c0 < grid.cols; c0 += tile.cols) {
        f(side(f0, tile.frames, grid.frames), side(r0, tile.rows, grid.rows),
          side(c0, tile.cols, grid.cols));
      }
    }
  }
}

}  // namespace

Result<std::vector<int>> tile_order(const char* strategy, const TokenGrid& grid, const Tile& tile) {
  FO_RETURN_IF_ERROR(check_grid(strategy, grid));
  std::vector<int> order;
  order.reserve(size_t(grid.tokens()));
  for_each_tile(grid, tile, [&](const Side& frames, const Side& rows, const Side& cols) {
    for (int f = frames.begin; f < frames.end; ++f) {
      for (int r = rows.begin; r < rows.end; ++r) {
        for (int c = cols.begin; c < cols.end; ++c) {
          order.push_back((f * grid.rows + r) * grid.cols + c);
        }
      }
    }
  });
  return order;
}

Result<std::vector<int32_t>> tile_blocks(const char* strategy, const SequenceInfo& s,
                                         const Tile& tile, int block) {
  FO_RETURN_IF_ERROR(check_grid(strategy, s.grid));
  std::vector<int32_t> starts = {0};
  const auto add = [&](int tokens) {
    for (int left = tokens; left > 0; left -= block) {
      starts.push_back(starts.back() + std::min(left, block));
    }
  };
  const int text = s.text_end - s.text_begin;
  const bool text_first = s.text_begin == 0;
  if (text_first) add(text);
  for_each_tile(s.grid, tile, [&](const Side& frames, const Side& rows, const Side& cols) {
    add((frames.end - frames.begin) * (rows.end - rows.begin) * (cols.end - cols.begin));
  });
  if (!text_first) add(text);
  if (starts.back() == s.tokens) return starts;
  return invalid_argument("strategy " + std::string(strategy) + ": text and grid have " +
                          std::to_string(starts.back()) + " tokens, the sequence has " +
                          std::to_string(s.tokens));
}

}  // namespace flashomni::strategies
