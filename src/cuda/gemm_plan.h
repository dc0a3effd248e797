// SPDX-License-Identifier: Apache-2.0
//
// The GEMM-O part of a plan on the device: which heads are computed in every query block, and the
// row tiles of the joint sequence in the order in which they are handed out. GEMM-Q finds its tiles
// in S_c itself: the segment of the sequence it runs on decides how active blocks share a tile.
#pragma once

#include <cstddef>
#include <cstdint>

#include "flashomni/symbols.h"

namespace flashomni::cuda {

// Rows of a GEMM-O tile: one query block of 128 or two of 64.
constexpr int kGemmTileRows = 128;

// Where each part starts, in bytes from the start of the section (a multiple of 256). A tile of the
// symbols covers tokens [tile * 128, (tile + 1) * 128) of the joint sequence.
struct GemmPlanLayout {
  int tiles;       // of one batch item
  int head_words;  // 64-bit words in a set of heads

  size_t heads;  // u64 [batch][num_q_blocks][head_words]: S_c with the heads as bits
  size_t order;  // u32 [batch * tiles]: b * tiles + tile, most active heads first
  size_t bytes;  // of everything, a multiple of 256

  // REQUIRES: geometry.validate() is ok; block_q 64 or 128.
  explicit GemmPlanLayout(const SymbolGeometry& geometry) {
    const auto align = [](size_t n) { return (n + 255) / 256 * 256; };
    tiles = (geometry.q_tokens + kGemmTileRows - 1) / kGemmTileRows;
    head_words = (geometry.heads + 63) / 64;
    heads = 0;
    order = align(sizeof(uint64_t) * static_cast<size_t>(geometry.batch) *
                  static_cast<size_t>(geometry.num_q_blocks()) * static_cast<size_t>(head_words));
    bytes = order + align(sizeof(uint32_t) * static_cast<size_t>(geometry.batch) *
                          static_cast<size_t>(tiles));
  }
};

}  // namespace flashomni::cuda
