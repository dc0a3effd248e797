// SPDX-License-Identifier: Apache-2.0
//
// Static patterns over the grid of vision tokens (frames of rows of columns). A picture is a grid
// of one frame; for the patterns that compare frames its rows then stand for frames.
#pragma once

#include <memory>
#include <string>

#include "flashomni/schedule_options.h"
#include "flashomni/strategy.h"

namespace flashomni {

// Radial attention (arXiv 2506.19852): the window between two frames halves with every doubling of
// their distance, and distant pairs of frames thin out.
struct RadialOptions {
  double decay = 0.2;       // f: 0.95 HunyuanVideo, 0.2 Wan 2.1, 0.8 Wan 2.2
  bool first_frame = true;  // every query sees frame 0 (Wan)
  int block_q = 128;
  int block_kv = 128;
  bool protect_text = true;
  MaskScheduleOptions schedule{12, 50, 1 << 16, 1, false};
};

// Sliding tile attention (arXiv 2502.04507): tokens in tile order, each tile sees a window of tiles
// whose centre stays inside the grid. Where tiles are no multiple of a block, a block sees what any
// of its tiles sees, or with `ragged` ends with its tile: then the mask is exactly that of tiles.
struct StaOptions {
  int tile_frames = 6;  // tokens of a tile along each axis
  int tile_rows = 8;
  int tile_cols = 8;
  int window_frames = 3;  // tiles of the window along each axis
  int window_rows = 3;
  int window_cols = 3;
  bool ragged = false;  // blocks end where tiles do, and so does the text; block_q == block_kv
  int block_q = 128;
  int block_kv = 128;
  bool protect_text = true;
  MaskScheduleOptions schedule{12, 50, 1 << 16, 0, false};
};

// Sparse VideoGen (arXiv 2502.01776): each head attends in a band over tokens in frame order or in
// a band over tokens in position order, whichever keeps more of its attention.
struct Svg1Options {
  double density = 0.3;     // share of all pairs the band is sized for (0.25 HunyuanVideo, 0.3 Wan)
  bool first_frame = true;  // every query sees frame 0 (Wan)
  // One order of the tokens for all heads, in tiles of some frames and neighbouring places that a
  // block should hold: where frames are not much longer than blocks, bands over time cover nearly
  // everything in the grid's own order (both 0).
  int tile_frames = 0;
  int tile_places = 0;
  int block_q = 128;
  int block_kv = 128;
  bool protect_text = true;
  MaskScheduleOptions schedule{10, 50, 1, 1, false};
};

Result<std::unique_ptr<Strategy>> make_radial(const RadialOptions& options);
Result<std::unique_ptr<Strategy>> make_sta(const StaOptions& options);
Result<std::unique_ptr<Strategy>> make_svg1(const Svg1Options& options);

}  // namespace flashomni
