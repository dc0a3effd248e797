// SPDX-License-Identifier: Apache-2.0
//
// Block-diagonal attention: the tokens are cut into `groups` equal runs of blocks, and a query
// block sees the kv blocks that overlap its own run.
#include <algorithm>

#include "strategies/options.h"
#include "strategies/static_pattern.h"

namespace flashomni {
namespace {

class BlockDiagonalStrategy : public strategies::StaticStrategy {
 public:
  explicit BlockDiagonalStrategy(const BlockDiagonalOptions& o)
      : StaticStrategy(o.block_q, o.block_kv, o.schedule), o_(o) {}
  const char* name() const override { return "block_diagonal"; }

 protected:
  SparseSymbols pattern(const SequenceInfo& s) const override {
    // Group borders lie on the coarser block size, so that unequal blocks agree on them.
    const int block = std::max(block_q_, block_kv_);
    const int blocks = (s.tokens + block - 1) / block;
    const int per_group = std::max(1, (blocks + o_.groups - 1) / o_.groups);
    return strategies::make_pattern(s, block_q_, block_kv_, o_.protect_text, [&](int i, int j) {
      const int64_t q = int64_t{i} * block_q_ / block / per_group;
      const int64_t k = int64_t{j} * block_kv_ / block / per_group;
      return q == k;
    });
  }

 private:
  BlockDiagonalOptions o_;
};

}  // namespace

Result<std::unique_ptr<Strategy>> make_block_diagonal(const BlockDiagonalOptions& options) {
  FO_RETURN_IF_ERROR(strategies::check_block_sizes(options.block_q, options.block_kv));
  return std::unique_ptr<Strategy>(new BlockDiagonalStrategy(options));
}

}  // namespace flashomni
