// SPDX-License-Identifier: Apache-2.0
//
// The fine branch of Video Sparse Attention as a training-free block top-k; see VsaOptions.
#include <algorithm>
#include <cmath>

#include "flashomni/strategies.h"
#include "strategies/mask_strategy.h"
#include "strategies/options.h"
#include "strategies/scratch.h"
#include "strategies/token_order.h"

namespace flashomni {
namespace {

using strategies::PooledScratch;
using strategies::ScratchArena;

class VsaStrategy : public strategies::MaskStrategy {
 public:
  explicit VsaStrategy(const VsaOptions& o)
      : MaskStrategy(o.block_q, o.block_kv, o.protect_text, o.schedule), o_(o) {}
  const char* name() const override { return "vsa"; }

  Result<std::vector<int>> token_order(const SequenceInfo& s) const override {
    if (o_.tile_frames == 0) return std::vector<int>{};
    return strategies::tile_order(name(), s.grid, {o_.tile_frames, o_.tile_rows, o_.tile_cols});
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
    const int blocks = out.geometry.num_kv_blocks();
    // A hair below the product, so that 0.1 of 10 blocks is 1 and not 2.
    const double kept = std::ceil((1 - o_.sparsity) * blocks - 1e-9);
    return c.backend->select_kv_blocks(
        c.exec, {.scores = w.scores,
                 .rule = SelectRule::kTopK,
                 .parameter = static_cast<float>(std::clamp(kept, 1.0, double(blocks))),
                 .keep_q = keep_q(c.sequence),
                 .keep_kv = keep_kv(c.sequence),
                 .symbols = out});
  }

 private:
  VsaOptions o_;
};

}  // namespace

Result<std::unique_ptr<Strategy>> make_vsa(const VsaOptions& options) {
  FO_RETURN_IF_ERROR(strategies::check_block_sizes(options.block_q, options.block_kv));
  const int zeros =
      (options.tile_frames == 0) + (options.tile_rows == 0) + (options.tile_cols == 0);
  if (zeros != 0 && zeros != 3) {
    return invalid_argument("a tile of " + std::to_string(options.tile_frames) + "x" +
                            std::to_string(options.tile_rows) + "x" +
                            std::to_string(options.tile_cols) + ", wanted all sides or none");
  }
  return std::unique_ptr<Strategy>(new VsaStrategy(options));
}

}  // namespace flashomni
