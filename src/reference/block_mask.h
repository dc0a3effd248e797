// SPDX-License-Identifier: Apache-2.0
//
// The sparse symbols as the oracle sees them: one byte a decision, no packing, and the question
// every oracle asks ("does this token take part?") answered token by token.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace flashomni::reference {

struct BlockMask {
  int batch = 1;
  int heads = 1;
  int q_tokens = 0;
  int kv_tokens = 0;
  int block_q = 64;
  int block_kv = 64;
  std::vector<uint8_t> c;  // [B, H, nQ], 1 = compute the tile-row
  std::vector<uint8_t> s;  // [B, H, nQ, nKV], 1 = compute the product
  // Ragged blocks: block i of queries and of keys holds tokens [starts[i], starts[i + 1]). Empty:
  // blocks of block_q and block_kv tokens.
  std::vector<int> starts;

  int num_q_blocks() const { return block_of(q_tokens - 1, block_q) + 1; }
  int num_kv_blocks() const { return block_of(kv_tokens - 1, block_kv) + 1; }
  // The first token of a query block.
  int q_begin(int i) const { return starts.empty() ? i * block_q : starts[size_t(i)]; }
  // Which block holds a token.
  int block_of(int token, int block) const {
    if (starts.empty()) return token / block;
    return static_cast<int>(std::ranges::upper_bound(starts, token) - starts.begin()) - 1;
  }

  size_t row_index(int b, int h, int i) const {
    return (static_cast<size_t>(b) * heads + h) * num_q_blocks() + i;
  }
  // Is the attention output of this query token computed, not taken from the cache?
  bool computes(int b, int h, int q_token) const {
    return c[row_index(b, h, block_of(q_token, block_q))] != 0;
  }
  // Does this query token, if computed, look at this key/value token?
  bool attends(int b, int h, int q_token, int kv_token) const {
    const size_t row = row_index(b, h, block_of(q_token, block_q));
    return s[row * num_kv_blocks() + block_of(kv_token, block_kv)] != 0;
  }
};

}  // namespace flashomni::reference
