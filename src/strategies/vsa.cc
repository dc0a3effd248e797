// SPDX-License-Identifier: Apache-2.0
//
// The fine branch of Video Sparse Attention as a training-free block top-k; see VsaOptions.
#include <algorithm>
#include <cmath>

#include "flashomni/strategies.h"
#include "strategies/options.h"
#include "strategies/pooled_mask.h"
#include "strategies/token_order.h"

namespace flashomni {
namespace {

using strategies::PooledScratch;

class VsaStrategy : public strategies::PooledMaskStrategy {
 public:
  explicit VsaStrategy(const VsaOptions& o)
      : PooledMaskStrategy(o.block_q, o.block_kv, o.protect_text, o.schedule), o_(o) {}
  const char* name() const override { return "vsa"; }

  Result<std::vector<int>> token_order(const SequenceInfo& s) const override {
    if (o_.tile_frames == 0) return std::vector<int>{};
    return strategies::tile_order(name(), s.grid, tile());
  }
  Result<std::vector<int32_t>> block_starts(const SequenceInfo& s) const override {
    if (!o_.ragged) return std::vector<int32_t>{};
    return strategies::tile_blocks(name(), s, tile(), block_q_);
  }

 protected:
  Status select(const BuildContext& c, const PooledScratch& w, SymbolsView out) override {
    const int blocks = out.geometry.num_kv_blocks();
    // A hair below the product, so that 0.1 of 10 blocks is 1 and not 2.
    const double kept = std::ceil((1 - o_.sparsity) * blocks - 1e-9);
    return c.backend->select_kv_blocks(
        c.exec, {.scores = w.scores,
                 .rule = SelectRule::kTopK,
                 .parameter = static_cast<float>(std::clamp(kept, 1.0, double(blocks))),
                 .keep_q = keep_q(c),
                 .keep_kv = keep_kv(c),
                 .symbols = out});
  }

 private:
  strategies::Tile tile() const { return {o_.tile_frames, o_.tile_rows, o_.tile_cols}; }

  VsaOptions o_;
};

}  // namespace

Result<std::unique_ptr<Strategy>> make_vsa(const VsaOptions& options) {
  FO_RETURN_IF_ERROR(strategies::check_block_sizes(options.block_q, options.block_kv));
  FO_RETURN_IF_ERROR(strategies::check_tile_sides(
      "a tile", {options.tile_frames, options.tile_rows, options.tile_cols}));
  if (options.ragged) {
    FO_RETURN_IF_ERROR(strategies::check_ragged(options.block_q, options.block_kv));
    FO_RETURN_IF_ERROR(strategies::check_ragged_tile(
        "a tile", {options.tile_frames, options.tile_rows, options.tile_cols}, options.block_q));
  }
  return std::unique_ptr<Strategy>(new VsaStrategy(options));
}

}  // namespace flashomni
