// SPDX-License-Identifier: Apache-2.0
//
// Scores of blocks and selections that strategies other than FlashOmni's use, by definition.
#pragma once

#include <cstdint>
#include <vector>

#include "reference/select_symbols.h"

namespace flashomni::reference {

// XAttention's antidiagonal mass, [nQ, nKV] of one head with q, k [N, d]: the attention matrix of
// groups of `stride` tokens, queries in reverse order within a group, summed over block pairs.
// Tokens past the end count as zero vectors.
std::vector<double> antidiagonal_mass(int tokens, int head_dim, int stride, int block_q,
                                      int block_kv, const std::vector<double>& q,
                                      const std::vector<double>& k, double scale);

// [B, H, nQ]: the softmax_j(Z) mass that falls on the kv blocks sharing a token with row block i,
// summed over all rows. `shape` counts whole blocks.
std::vector<double> column_mass(const ScoreShape& shape, const std::vector<double>& scores);

// [H, nBlocks] of x, y [N, H, d]: sum |x - y|, divided by sum |y| if relative.
std::vector<double> block_change(int tokens, int heads, int head_dim, int block, bool relative,
                                 const std::vector<double>& x, const std::vector<double>& y);

// S_c [nQ] of one head from non-negative scores: DROP_CDF of their shares over the rows outside
// `keep`; rows with gate 0 (gate may be empty) and rows that are not finite are computed.
std::vector<uint8_t> select_rows(const std::vector<double>& scores, double theta, Blocks keep,
                                 const std::vector<uint8_t>& gate);

// S_s [nQ, nKV] of one head: one threshold for all free entries of the softmax over free columns.
std::vector<uint8_t> select_kv_share(const ScoreShape& shape, const std::vector<double>& scores,
                                     double share, Blocks keep_q, Blocks keep_kv,
                                     const std::vector<uint8_t>& c);

// The pattern ([nQ, nKV] masks) with the most softmax mass over the computed rows outside keep_q.
int best_pattern(const ScoreShape& shape, const std::vector<double>& scores, Blocks keep_q,
                 const std::vector<std::vector<uint8_t>>& patterns, const std::vector<uint8_t>& c);

}  // namespace flashomni::reference
