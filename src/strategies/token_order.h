// SPDX-License-Identifier: Apache-2.0
//
// One static order of the vision tokens for a whole run: tokens of a tile of the grid lie next to
// each other, so that a symbol block is a patch of the picture (and of a few frames).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "flashomni/strategy.h"

namespace flashomni::strategies {

struct Tile {
  int frames = 1;
  int rows = 1;
  int cols = 1;
};

// order[p] is the grid index of the token at position p: tiles in frame, row, column order, and the
// tokens of each tile likewise; tiles at the far edges are smaller where the grid is no multiple.
// Fails by name without a grid.
Result<std::vector<int>> tile_order(const char* strategy, const TokenGrid& grid, const Tile& tile);

// Starts of ragged blocks (Strategy::block_starts) of at most `block` tokens over a sequence whose
// vision tokens lie in tile_order: every tile begins a block, and so does the text.
Result<std::vector<int32_t>> tile_blocks(const char* strategy, const SequenceInfo& sequence,
                                         const Tile& tile, int block);

}  // namespace flashomni::strategies
