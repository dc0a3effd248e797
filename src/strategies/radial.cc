// SPDX-License-Identifier: Apache-2.0
//
// Radial attention; see RadialOptions. Computed from the tokens themselves: a block pair is kept if
// any of its token pairs is, so that no row of a frame is lost at block borders (the published code
// thins partly filled blocks out).
#include <bit>
#include <cstdlib>

#include "flashomni/strategies.h"
#include "strategies/options.h"
#include "strategies/static_mask.h"

namespace flashomni {
namespace {

using strategies::Piece;

class RadialStrategy : public strategies::StaticMaskStrategy {
 public:
  explicit RadialStrategy(const RadialOptions& o)
      : StaticMaskStrategy(o.block_q, o.block_kv, o.protect_text, o.schedule), o_(o) {}
  const char* name() const override { return "radial"; }

 protected:
  Result<SparseSymbols> pattern(const SequenceInfo& s) const override {
    FO_ASSIGN_OR_RETURN(const TokenGrid grid, strategies::framed_grid(name(), s.grid));
    const int frame = grid.rows * grid.cols;
    const double top = double(uint64_t{1} << std::bit_width(unsigned(frame)));
    return strategies::piece_pattern(
        s, block_q_, block_kv_, o_.protect_text, {},
        [frame](int position) { return position / frame; },
        [&, frame, top](const Piece& a, const Piece& b) {
          if (o_.first_frame && b.key == 0) return true;
          const auto distance = unsigned(std::abs(a.key - b.key));
          if (distance <= 1) return true;
          const double halved = top / double(uint64_t{1} << std::bit_width(distance));
          // A window narrower than a block would be: only every so many frames keep one.
          if (halved < block_kv_ && distance % unsigned(block_kv_ / halved) != 0) return false;
          return strategies::interval_gap(a.first % frame, a.last % frame, b.first % frame,
                                          b.last % frame) <=
                 std::max(halved * o_.decay, double(block_kv_));
        });
  }

 private:
  RadialOptions o_;
};

}  // namespace

Result<std::unique_ptr<Strategy>> make_radial(const RadialOptions& options) {
  FO_RETURN_IF_ERROR(strategies::check_block_sizes(options.block_q, options.block_kv));
  return std::unique_ptr<Strategy>(new RadialStrategy(options));
}

}  // namespace flashomni
