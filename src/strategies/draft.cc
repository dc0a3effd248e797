// SPDX-License-Identifier: Apache-2.0
//
// DraftAttention; see DraftOptions. Rows that the one threshold leaves empty keep their diagonal
// block, which the published code does not guard.
#include "flashomni/strategies.h"
#include "strategies/mask_strategy.h"
#include "strategies/options.h"
#include "strategies/scratch.h"
#include "strategies/token_order.h"

namespace flashomni {
namespace {

using strategies::PooledScratch;
using strategies::ScratchArena;

class DraftStrategy : public strategies::MaskStrategy {
 public:
  explicit DraftStrategy(const DraftOptions& o)
      : MaskStrategy(o.block_q, o.block_kv, o.protect_text, o.schedule), o_(o) {}
  const char* name() const override { return "draft"; }

  Result<std::vector<int>> token_order(const SequenceInfo& s) const override {
    if (o_.patch_rows == 0) return std::vector<int>{};
    return strategies::tile_order(name(), s.grid, {1, o_.patch_rows, o_.patch_cols});
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
    return c.backend->select_kv_share(c.exec, {.scores = w.scores,
                                               .share = static_cast<float>(o_.sparsity),
                                               .keep_q = keep_q(c.sequence),
                                               .keep_kv = keep_kv(c.sequence),
                                               .symbols = out});
  }

 private:
  DraftOptions o_;
};

}  // namespace

Result<std::unique_ptr<Strategy>> make_draft(const DraftOptions& options) {
  FO_RETURN_IF_ERROR(strategies::check_block_sizes(options.block_q, options.block_kv));
  if ((options.patch_rows == 0) != (options.patch_cols == 0)) {
    return invalid_argument("a patch of " + std::to_string(options.patch_rows) + "x" +
                            std::to_string(options.patch_cols) + ", wanted both sides or neither");
  }
  return std::unique_ptr<Strategy>(new DraftStrategy(options));
}

}  // namespace flashomni
