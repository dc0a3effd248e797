// SPDX-License-Identifier: Apache-2.0
//
// The attention part of a plan on the device: which CTA computes which query tile, over which of
// its kv blocks. Plain structs, read by host code and kernels alike.
//
// A persistent grid of `grid` CTAs (one an SM) takes fixed lists, so that two runs of the same plan
// add in the same order, bit for bit. Whole tiles are dealt longest first; what is left after the
// last full round is cut into pieces so that every CTA ends at the same time. A cut tile's later
// pieces write (O, max, sum) to the workspace slot of their CTA; the CTA with its first piece waits
// for them, which they have written first thing, and merges in CTA order.
#pragma once

#include <cstddef>
#include <cstdint>

#include "flashomni/symbols.h"

namespace flashomni::cuda {

// The query rows that one CTA works on at a time: one query block of 128, or two of 64 of the same
// head, each computed by one warpgroup that skips the kv blocks only the other one needs.
constexpr int kTileRows = 128;

// One entry of a CTA's list.
struct AttentionWork {
  static constexpr int kWhole = 0;
  static constexpr int kPartial = -1;

  int32_t row0;   // (b * heads + h) * num_q_blocks + i of the first query block
  int32_t row1;   // of the second one (block_q = 64); -1: none; block_q = 128: unused, -1
  int32_t skip;   // kv blocks (set bits of S_s[row0] | S_s[row1], descending) before the first one
  int32_t count;  // kv blocks of this entry, at least 1
  int32_t merge;  // kWhole; kPartial: to the slot of this CTA; k > 0: first piece, merge with the
                  // slots of the k next CTAs
  int32_t pad[3];
};
static_assert(sizeof(AttentionWork) == 32);

struct AttentionPlanHeader {
  int32_t grid;          // CTAs the lists were made for
  int32_t num_rows;      // active query blocks
  int64_t total_blocks;  // kv blocks over all lists
  int32_t num_work;      // entries of all lists
  int32_t pad[3];
};
static_assert(sizeof(AttentionPlanHeader) == 32);

// Where each part starts, in bytes from the start of the attention part (a multiple of 256). With
// T = tiles at most: batch*heads*num_q_blocks (block_q 128), or batch*heads*ceil(num_q_blocks / 2).
struct AttentionPlanLayout {
  size_t header;   // AttentionPlanHeader
  size_t offsets;  // i32 [grid + 1], entries of CTA c are work[offsets[c], offsets[c + 1])
  size_t work;     // AttentionWork [T + 2 * grid]
  size_t flags;    // i32 [2 * grid], zeroed by the plan: 1 while the slot of (CTA, warpgroup) is
                   // full; whoever merges it sets it back to 0
  size_t scratch;  // of the plan kernels
  size_t bytes;    // of everything, a multiple of 256

  // REQUIRES: geometry.validate() is ok; block_q 64 or 128.
  AttentionPlanLayout(const SymbolGeometry& geometry, int grid);
};

}  // namespace flashomni::cuda
