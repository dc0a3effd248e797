// SPDX-License-Identifier: Apache-2.0
//
// DraftAttention; see DraftOptions. Rows that the one threshold leaves empty keep their diagonal
// block, which the published code does not guard.
#include "flashomni/strategies.h"
#include "strategies/options.h"
#include "strategies/pooled_mask.h"
#include "strategies/token_order.h"

namespace flashomni {
namespace {

using strategies::PooledScratch;

class DraftStrategy : public strategies::PooledMaskStrategy {
 public:
  explicit DraftStrategy(const DraftOptions& o)
      : PooledMaskStrategy(o.block_q, o.block_kv, o.protect_text, o.schedule), o_(o) {}
  const char* name() const override { return "draft"; }

  Result<std::vector<int>> token_order(const SequenceInfo& s) const override {
    if (o_.patch_rows == 0) return std::vector<int>{};
    return strategies::tile_order(name(), s.grid, tile());
  }
  Result<std::vector<int32_t>> block_starts(const SequenceInfo& s) const override {
    if (!o_.ragged) return std::vector<int32_t>{};
    return strategies::tile_blocks(name(), s, tile(), block_q_);
  }

 protected:
  Status select(const BuildContext& c, const PooledScratch& w, SymbolsView out) override {
    return c.backend->select_kv_share(c.exec, {.scores = w.scores,
                                               .share = static_cast<float>(o_.sparsity),
                                               .keep_q = keep_q(c),
                                               .keep_kv = keep_kv(c),
                                               .symbols = out});
  }

 private:
  strategies::Tile tile() const { return {1, o_.patch_rows, o_.patch_cols}; }

  DraftOptions o_;
};

}  // namespace

Result<std::unique_ptr<Strategy>> make_draft(const DraftOptions& options) {
  FO_RETURN_IF_ERROR(strategies::check_block_sizes(options.block_q, options.block_kv));
  FO_RETURN_IF_ERROR(
      strategies::check_tile_sides("a patch", {options.patch_rows, options.patch_cols}));
  if (options.ragged) {
    FO_RETURN_IF_ERROR(strategies::check_ragged(options.block_q, options.block_kv));
    FO_RETURN_IF_ERROR(strategies::check_ragged_tile(
        "a patch", {options.patch_rows, options.patch_cols}, options.block_q));
  }
  return std::unique_ptr<Strategy>(new DraftStrategy(options));
}

}  // namespace flashomni
