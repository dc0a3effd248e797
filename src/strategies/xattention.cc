// SPDX-License-Identifier: Apache-2.0
//
// XAttention; see XAttentionOptions. Tokens past the end of the sequence have no weight, and block
// 0 is treated like any other (both differ from the published code).
#include <algorithm>

#include "flashomni/strategies.h"
#include "strategies/mask_strategy.h"
#include "strategies/options.h"
#include "strategies/scratch.h"

namespace flashomni {
namespace {

using strategies::block_count;
using strategies::ScratchArena;

class XAttentionStrategy : public strategies::MaskStrategy {
 public:
  explicit XAttentionStrategy(const XAttentionOptions& o)
      : MaskStrategy(o.block_q, o.block_kv, o.protect_text, o.schedule), o_(o) {}
  const char* name() const override { return "xattention"; }

  size_t scratch_bytes(const SequenceInfo& s) const override {
    ScratchArena arena(nullptr);
    const Scratch scratch(arena, s, o_);
    return arena.bytes();
  }
  Status build(const BuildContext& c, SymbolsView out) override {
    ScratchArena arena(c.scratch);
    const Scratch w(arena, c.sequence, o_);
    AntidiagonalScoresParams a{.q = c.q, .k = c.k, .stride = o_.stride};
    a.block_q = block_q_;
    a.block_kv = block_kv_;
    a.out = w.scores;
    a.workspace = w.groups;
    FO_RETURN_IF_ERROR(c.backend->antidiagonal_scores(c.exec, a));
    FO_RETURN_IF_ERROR(strategies::compute_all_rows(c, w.scores, out));
    return c.backend->select_kv_blocks(c.exec, {.scores = w.scores,
                                                .rule = SelectRule::kKeepCdfGe,
                                                .parameter = static_cast<float>(o_.tau),
                                                .keep_q = keep_q(c),
                                                .keep_kv = keep_kv(c),
                                                .symbols = out});
  }

 private:
  struct Scratch {
    TensorView scores, groups;
    Scratch(ScratchArena& arena, const SequenceInfo& s, const XAttentionOptions& o) {
      const int64_t nq = block_count(s.tokens, o.block_q), nkv = block_count(s.tokens, o.block_kv);
      scores = arena.take(DType::kF32, {s.batch, s.heads, nq, nkv});
      groups = arena.take(DType::kF32,
                          {s.batch, s.heads, block_count(s.tokens, o.stride), std::max(nq, nkv)});
    }
  };
  XAttentionOptions o_;
};

}  // namespace

Result<std::unique_ptr<Strategy>> make_xattention(const XAttentionOptions& options) {
  FO_RETURN_IF_ERROR(strategies::check_block_sizes(options.block_q, options.block_kv));
  for (const int block : {options.block_q, options.block_kv}) {
    if (block % options.stride != 0) {
      return invalid_argument("stride is " + std::to_string(options.stride) +
                              ", wanted a divisor of the block size " + std::to_string(block));
    }
  }
  return std::unique_ptr<Strategy>(new XAttentionStrategy(options));
}

}  // namespace flashomni
