// SPDX-License-Identifier: Apache-2.0
//
// Tiles and shared memory of the sm_90a attention kernel (two warpgroups of 64 query rows each).
#pragma once

#include <cstdint>

#include "cuda/kernels/sm90/wgmma.cuh"

namespace flashomni::cuda::sm90 {

constexpr int kWarpgroup = 128;  // threads
constexpr int kAttentionThreads = 3 * kWarpgroup;
constexpr int kQueryRows = 128;
constexpr int kWarpgroupRows = 64;
constexpr int kKvRows = 128;  // of one tile, whatever the size of the symbols' blocks

template <int kHeadDim>
struct AttentionLayout {
  // A swizzled row holds 64 columns, or 32 where 64 does not divide the head.
  static constexpr int kChunk = kHeadDim % 64 == 0 ? 64 : 32;
  static constexpr int kChunks = kHeadDim / kChunk;
  static constexpr int kRowBytes = kChunk * 2;
  static constexpr Swizzle kSwizzle = kChunk == 64 ? Swizzle::k128B : Swizzle::k64B;
  static constexpr int kChunkBytes = kKvRows * kRowBytes;  // of a tile of 128 rows
  static constexpr int kTileBytes = kChunks * kChunkBytes;

  // Keys and values share one ring of tiles, in the order in which they are used. The output is
  // staged in the query buffer that it came from. Swizzled tiles start at multiples of 1024 bytes.
  static constexpr int kSlots = kHeadDim == 128 ? 5 : kHeadDim == 96 ? 7 : 10;
  static constexpr int kQ = 0;
  static constexpr int kKv = kQ + 2 * kTileBytes;
  static constexpr int kBarriers = kKv + kSlots * kTileBytes;
  static constexpr int kBytes = kBarriers + 512;
  static constexpr int kAllocated = kBytes + 1024;  // dynamic shared memory is 16-byte aligned
  static_assert(kAllocated <= 232448);

  // Registers of a thread; two computing warpgroups and the loading one share what a launch of 384
  // threads gets, 3 * 168.
  static constexpr int consumer_registers(bool paired) {
    return kHeadDim == 128 && !paired ? 216 : 200;
  }
  static constexpr int producer_registers(bool paired) {
    return 504 - 2 * consumer_registers(paired);
  }

  // Byte of 16-byte unit `unit` of row `row` in a chunk.
  static __device__ __forceinline__ int swizzled(int row, int unit) {
    const int mask = kChunk == 64 ? (row & 7) : ((row >> 1) & 3);
    return row * kRowBytes + ((unit ^ mask) << 4);
  }
};

constexpr int kMostSlots = 10;

struct AttentionBarriers {
  uint64_t q_full[2], q_empty[2];
  uint64_t kv_full[kMostSlots], kv_empty[kMostSlots];
  // Paired query blocks, of the tile in this slot: bit 2*g + half, warpgroup g computes this half
  // of it; and its rows that exist.
  int32_t wanted[kMostSlots];
  int32_t valid[kMostSlots];
  float pinned;  // see pin()
};
static_assert(sizeof(AttentionBarriers) <= 512);

}  // namespace flashomni::cuda::sm90
