// SPDX-License-Identifier: Apache-2.0
//
// Sparse VideoGen; see Svg1Options. All heads keep one token order, so the band of temporal heads
// lies on the blocks that its stripes touch: a superset of the published band after its
// permutation, and denser where frames are not much longer than blocks. Heads choose by pooled
// attention kept, not by the error of sampled rows.
#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "flashomni/strategies.h"
#include "strategies/mask_strategy.h"
#include "strategies/options.h"
#include "strategies/scratch.h"
#include "strategies/token_mask.h"

namespace flashomni {
namespace {

using strategies::PooledScratch;
using strategies::ScratchArena;

using strategies::Piece;

// The smallest distance of two tokens when all frames of a place lie together: place * frames +
// frame. Places differ by any whole number of an interval, of which those next to 0 come closest.
int place_gap(const Piece& a, const Piece& b, int frame, int frames) {
  const int least = a.first % frame - b.last % frame, most = a.last % frame - b.first % frame;
  int best = 1 << 30;
  for (const int wish : {-1, 0, 1}) {
    const int places = std::clamp(wish, least, most);
    best = std::min(best, std::abs(places * frames + a.key - b.key));
  }
  return best;
}

class Svg1Strategy : public strategies::MaskStrategy {
 public:
  explicit Svg1Strategy(const Svg1Options& o)
      : MaskStrategy(o.block_q, o.block_kv, o.protect_text, o.schedule), o_(o) {}
  const char* name() const override { return "svg1"; }

  Status begin_run(const RunInfo& run) override {
    FO_RETURN_IF_ERROR(MaskStrategy::begin_run(run));
    const SequenceInfo& s = run.sequence;
    FO_ASSIGN_OR_RETURN(const TokenGrid grid, strategies::framed_grid(name(), s.grid));
    const int frame = grid.rows * grid.cols, frames = grid.frames;
    // Of the pairs, the text's rows and columns come first; the band gets what is left.
    const double n = double(s.tokens), text = double(s.text_end - s.text_begin);
    const double left = std::clamp((o_.density * n * n - 2 * n * text) / (n * n), 0.0, 1.0);
    const double band = n * (1 - std::sqrt(1 - left));
    patterns_.clear();
    for (const bool temporal : {false, true}) {
      const SparseSymbols one = strategies::piece_pattern(
          s, block_q_, block_kv_, o_.protect_text,
          [frame](int position) { return position / frame; },
          [&](const Piece& a, const Piece& b) {
            if (o_.first_frame && b.key == 0) return true;
            if (!temporal) {
              return strategies::interval_gap(a.first, a.last, b.first, b.last) <= band;
            }
            return place_gap(a, b, frame, frames) <= band;
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
  size_t scratch_bytes(const SequenceInfo& s) const override {
    ScratchArena arena(nullptr);
    const PooledScratch pooled(arena, s, block_q_, block_kv_);
    return arena.bytes();
  }
  Status build(const BuildContext& c, SymbolsView out) override {
    ScratchArena arena(c.scratch);
    const PooledScratch w(arena, c.sequence, block_q_, block_kv_);
    FO_RETURN_IF_ERROR(strategies::pooled_scores(c, {block_q_, block_kv_}, w));
    FO_RETURN_IF_ERROR(strategies::compute_all_rows(c, w.scores, out));
    SelectPatternParams p{.scores = w.scores, .keep_q = keep_q(c.sequence)};
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
  return std::unique_ptr<Strategy>(new Svg1Strategy(options));
}

}  // namespace flashomni
