// SPDX-License-Identifier: Apache-2.0
//
// Sparse VideoGen; see Svg1Options. The published code orders the tokens of temporal heads anew;
// here all heads keep one order, in which both bands are narrow: tiles of some frames and some
// places. Bands lie on the blocks that they touch, a superset of the published ones. Heads choose
// by pooled attention kept, not by the error of sampled rows.
#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "flashomni/strategies.h"
#include "strategies/options.h"
#include "strategies/pooled_mask.h"
#include "strategies/token_mask.h"
#include "strategies/token_order.h"

namespace flashomni {
namespace {

using strategies::PooledScratch;

using strategies::Piece;

// The tokens [first, last] of a frame.
struct Run {
  int frame = 0;
  int first = 0;
  int last = 0;
};

// The smallest distance of two tokens that lie `frames` apart in time, `unit_t` each, and any whole
// number of places from `least` to `most`, `unit_p` each.
int nearest(int frames, int unit_t, int least, int most, int unit_p) {
  // Distances fall and rise again along the places, around where the two parts cancel.
  const int cancels = -frames * unit_t / unit_p;
  int best = 1 << 30;
  for (const int wish : {cancels - 1, cancels, cancels + 1}) {
    const int places = std::clamp(wish, least, most);
    best = std::min(best, std::abs(frames * unit_t + places * unit_p));
  }
  return best;
}

// With all tokens of a frame together, frame after frame; and with all frames of a place together.
int space_gap(const Run& a, const Run& b, int frame) {
  return nearest(a.frame - b.frame, frame, a.first - b.last, a.last - b.first, 1);
}
int time_gap(const Run& a, const Run& b, int frames) {
  return nearest(a.frame - b.frame, 1, a.first - b.last, a.last - b.first, frames);
}

class Svg1Strategy : public strategies::PooledMaskStrategy {
 public:
  explicit Svg1Strategy(const Svg1Options& o)
      : PooledMaskStrategy(o.block_q, o.block_kv, o.protect_text, o.schedule), o_(o) {}
  const char* name() const override { return "svg1"; }

  Result<std::vector<int>> token_order(const SequenceInfo& s) const override {
    if (o_.tile_frames == 0) return std::vector<int>{};
    FO_ASSIGN_OR_RETURN(const TokenGrid grid, strategies::framed_grid(name(), s.grid));
    const TokenGrid places{grid.frames, 1, grid.rows * grid.cols};
    return strategies::tile_order(name(), places, {o_.tile_frames, 1, o_.tile_places});
  }

  Status begin_run(const RunInfo& run) override {
    FO_RETURN_IF_ERROR(PooledMaskStrategy::begin_run(run));
    const SequenceInfo& s = run.sequence;
    FO_ASSIGN_OR_RETURN(const TokenGrid grid, strategies::framed_grid(name(), s.grid));
    const int frame = grid.rows * grid.cols, frames = grid.frames;
    FO_ASSIGN_OR_RETURN(const std::vector<int> order, token_order(s));
    const auto token = [&](int position) {
      return order.empty() ? position : order[size_t(position)];
    };
    // Pieces are runs of one frame within a tile; at tile borders a new one begins.
    std::vector<int> piece(size_t(grid.tokens()), 0);
    for (int p = 1; p < int(piece.size()); ++p) {
      const bool goes_on = token(p) == token(p - 1) + 1 && token(p) % frame != 0;
      piece[size_t(p)] = piece[size_t(p) - 1] + (goes_on ? 0 : 1);
    }
    const auto run_of = [&](const Piece& one) {
      const int first = token(one.first);
      return Run{first / frame, first % frame, token(one.last) % frame};
    };
    // Of the pairs, the text's rows and columns come first; the band gets what is left. The
    // published formula counts the pairs of text with text twice: all pairs have to be asked for by
    // name.
    const double n = double(s.tokens), text = double(s.text_end - s.text_begin);
    const double left = std::clamp((o_.density * n * n - 2 * n * text) / (n * n), 0.0, 1.0);
    const double band = o_.density >= 1 ? n : n * (1 - std::sqrt(1 - left));
    patterns_.clear();
    for (const bool temporal : {false, true}) {
      const SparseSymbols one = strategies::piece_pattern(
          s, block_q_, block_kv_, o_.protect_text, {},
          [&](int position) { return piece[size_t(position)]; },
          [&](const Piece& p, const Piece& q) {
            const Run a = run_of(p), b = run_of(q);
            if (o_.first_frame && b.frame == 0) return true;
            return (temporal ? time_gap(a, b, frames) : space_gap(a, b, frame)) <= band;
          });
      patterns_.insert(patterns_.end(), one.s_words().begin(), one.s_words().end());
    }
    return ok_status();
  }
  Status prepare(Backend& backend, const Exec& exec) override {
    const size_t bytes = patterns_.size() * sizeof(uint64_t);
    FO_ASSIGN_OR_RETURN(memory_, backend.allocate(bytes));
    return backend.upload(exec, memory_->data(), patterns_.data(), bytes);
  }

 protected:
  Status select(const BuildContext& c, const PooledScratch& w, SymbolsView out) override {
    SelectPatternParams p{.scores = w.scores, .keep_q = keep_q(c)};
    p.patterns = static_cast<const uint64_t*>(memory_->data());
    p.count = 2;
    p.symbols = out;
    return c.backend->select_pattern(c.exec, p);
  }

 private:
  Svg1Options o_;
  std::vector<uint64_t> patterns_;  // spatial, then temporal
  std::unique_ptr<Buffer> memory_;
};

}  // namespace

Result<std::unique_ptr<Strategy>> make_svg1(const Svg1Options& options) {
  FO_RETURN_IF_ERROR(strategies::check_block_sizes(options.block_q, options.block_kv));
  FO_RETURN_IF_ERROR(
      strategies::check_tile_sides("a tile", {options.tile_frames, options.tile_places}));
  return std::unique_ptr<Strategy>(new Svg1Strategy(options));
}

}  // namespace flashomni
