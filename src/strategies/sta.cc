// SPDX-License-Identifier: Apache-2.0
//
// Sliding tile attention; see StaOptions. A block that holds parts of several tiles, as ragged ones
// never do, sees what any of them sees.
#include <algorithm>
#include <cstdlib>

#include "base/ceil_div.h"
#include "flashomni/strategies.h"
#include "strategies/options.h"
#include "strategies/static_mask.h"
#include "strategies/token_order.h"

namespace flashomni {
namespace {

class StaStrategy : public strategies::StaticMaskStrategy {
 public:
  explicit StaStrategy(const StaOptions& o)
      : StaticMaskStrategy(o.block_q, o.block_kv, o.protect_text, o.schedule), o_(o) {}
  const char* name() const override { return "sta"; }

  Result<std::vector<int>> token_order(const SequenceInfo& s) const override {
    return strategies::tile_order(name(), s.grid, tile());
  }
  Result<std::vector<int32_t>> block_starts(const SequenceInfo& s) const override {
    if (!o_.ragged) return std::vector<int32_t>{};
    return strategies::tile_blocks(name(), s, tile(), block_q_);
  }

 protected:
  Result<SparseSymbols> pattern(const SequenceInfo& s) const override {
    FO_ASSIGN_OR_RETURN(const std::vector<int> order, token_order(s));
    FO_ASSIGN_OR_RETURN(const std::vector<int32_t> starts, block_starts(s));
    const int rows = static_cast<int>(ceil_div(s.grid.rows, o_.tile_rows));
    const int cols = static_cast<int>(ceil_div(s.grid.cols, o_.tile_cols));
    const int frames = static_cast<int>(ceil_div(s.grid.frames, o_.tile_frames));
    auto tile_of = [&](int position) {
      const int token = order[size_t(position)];
      const int col = token % s.grid.cols, row = token / s.grid.cols % s.grid.rows;
      const int frame = token / s.grid.cols / s.grid.rows;
      return (frame / o_.tile_frames * rows + row / o_.tile_rows) * cols + col / o_.tile_cols;
    };
    // The window's centre is moved inwards where it would leave the grid.
    auto near = [](int q, int k, int count, int window) {
      const int half = window / 2;
      if (2 * half >= count) return true;
      return std::abs(std::clamp(q, half, count - 1 - half) - k) <= half;
    };
    return strategies::piece_pattern(
        s, block_q_, block_kv_, o_.protect_text, starts, tile_of,
        [&](const strategies::Piece& a, const strategies::Piece& b) {
          const int q = a.key, k = b.key;
          return near(q / cols / rows, k / cols / rows, frames, o_.window_frames) &&
                 near(q / cols % rows, k / cols % rows, rows, o_.window_rows) &&
                 near(q % cols, k % cols, cols, o_.window_cols);
        });
  }

 private:
  strategies::Tile tile() const { return {o_.tile_frames, o_.tile_rows, o_.tile_cols}; }

  StaOptions o_;
};

}  // namespace

Result<std::unique_ptr<Strategy>> make_sta(const StaOptions& options) {
  FO_RETURN_IF_ERROR(strategies::check_block_sizes(options.block_q, options.block_kv));
  if (options.ragged) {
    FO_RETURN_IF_ERROR(strategies::check_ragged(options.block_q, options.block_kv));
  }
  return std::unique_ptr<Strategy>(new StaStrategy(options));
}

}  // namespace flashomni
