// SPDX-License-Identifier: Apache-2.0
//
// How one CTA builds the GEMM-O part of a plan: by itself, or beside the CTA that deals the tiles
// of attention.
#pragma once

#include "core/symbols_view.h"
#include "cuda/gemm_plan.h"
#include "cuda/kernels/common/block.cuh"
#include "flashomni/status.h"

namespace flashomni::cuda {

// One CTA does it all: a layer has at most a few thousand query blocks, and a second launch would
// cost more than the rest of the GPU could save.
constexpr int kGemmPlanThreads = 1024;

struct GemmPlanArgs {
  const uint64_t* c;  // S_c [batch * heads][c_words]
  uint64_t* heads;
  uint32_t* order;
  int32_t batch, num_heads, c_words, head_words, num_q_blocks, tiles, blocks_per_tile;
};

// The heads with S_c = 1 in query block i.
__device__ inline void transpose_block(const GemmPlanArgs& p, int b, int i) {
  uint64_t* out = p.heads + (int64_t{b} * p.num_q_blocks + i) * p.head_words;
  for (int w = 0; w < p.head_words; ++w) {
    const int first = w * 64;
    const int count = min(64, p.num_heads - first);
    const uint64_t* c = p.c + (int64_t{b} * p.num_heads + first) * p.c_words + i / 64;
    uint64_t word = 0;
#pragma unroll 8
    for (int h = 0; h < count; ++h) word |= (c[int64_t{h} * p.c_words] >> (i % 64) & 1) << h;
    out[w] = word;
  }
}

// Heads that a tile has to read: those computed in any of its blocks.
__device__ inline int tile_heads(const GemmPlanArgs& p, int entry) {
  const int b = entry / p.tiles;
  const int first = entry % p.tiles * p.blocks_per_tile;
  const int last = min(first + p.blocks_per_tile, p.num_q_blocks) - 1;
  const uint64_t* heads = p.heads + int64_t{b} * p.num_q_blocks * p.head_words;
  int count = 0;
  for (int w = 0; w < p.head_words; ++w) {
    count += __popcll(heads[int64_t{first} * p.head_words + w] |
                      heads[int64_t{last} * p.head_words + w]);
  }
  return count;
}

// `places`: shared memory for kMaxSymbolHeads + 1 numbers. For kGemmPlanThreads threads.
__device__ inline void make_gemm_plan(const GemmPlanArgs& p, uint32_t* places) {
  // Tiles with this many heads; then the place in the order of the next one of them.
  for (int n = threadIdx.x; n <= p.num_heads; n += kGemmPlanThreads) places[n] = 0;
  for (int k = threadIdx.x; k < p.batch * p.num_q_blocks; k += kGemmPlanThreads) {
    transpose_block(p, k / p.num_q_blocks, k % p.num_q_blocks);
  }
  __syncthreads();  // orders the words in global memory too: they are read by this CTA only
  const int entries = p.batch * p.tiles;
  for (int k = threadIdx.x; k < entries; k += kGemmPlanThreads)
    atomicAdd(&places[tile_heads(p, k)], 1u);
  __syncthreads();
  if (threadIdx.x == 0) {
    uint32_t place = 0;
    for (int n = p.num_heads; n >= 0; --n) {
      const uint32_t count = places[n];
      places[n] = place;
      place += count;
    }
  }
  __syncthreads();
  if (threadIdx.x >= 32) return;

  // A stable counting sort by one warp: equal tiles keep their order, so equal symbols give equal
  // plans.
  const int lane = static_cast<int>(threadIdx.x);
  for (int k0 = 0; k0 < entries; k0 += 32) {
    const int k = k0 + lane;
    const int heads = k < entries ? tile_heads(p, k) : -1;
    const unsigned alike = __match_any_sync(kAllLanes, heads);
    const unsigned before = alike & ((1u << lane) - 1);
    uint32_t place = 0;
    if (k < entries) place = places[heads];
    __syncwarp();
    if (k < entries) {
      p.order[place + __popc(before)] = static_cast<uint32_t>(k);
      if (before == 0) places[heads] = place + __popc(alike);
    }
    __syncwarp();
  }
}

// Fails by name on block sizes that the kernels do not have.
Result<GemmPlanArgs> gemm_plan_args(const SymbolsView& symbols, void* section);

}  // namespace flashomni::cuda
