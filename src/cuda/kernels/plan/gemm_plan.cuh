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

constexpr int kGemmPlanChunk = 2048;
constexpr int kEntryBits = 21;
static_assert(kMaxSymbolHeads < 1 << (32 - kEntryBits));

// An entry's place is the number of entries with more heads, or as many and a smaller number: equal
// symbols give equal plans. `keys`: shared memory for kGemmPlanChunk numbers, at a multiple of 16
// bytes. For kGemmPlanThreads threads.
__device__ inline void make_gemm_plan(const GemmPlanArgs& p, uint32_t* keys) {
  for (int k = threadIdx.x; k < p.batch * p.num_q_blocks; k += kGemmPlanThreads) {
    transpose_block(p, k / p.num_q_blocks, k % p.num_q_blocks);
  }
  __syncthreads();  // orders the words in global memory too: they are read by this CTA only
  const int entries = p.batch * p.tiles;
  const auto key_of = [&](int k) {  // larger ones come first
    return static_cast<uint32_t>(tile_heads(p, k)) << kEntryBits |
           static_cast<uint32_t>((1 << kEntryBits) - 1 - k);
  };
  for (int base = 0; base < entries; base += kGemmPlanThreads) {
    const int own = base + static_cast<int>(threadIdx.x);
    const uint32_t own_key = own < entries ? key_of(own) : 0;
    int place = 0;
    for (int first = 0; first < entries; first += kGemmPlanChunk) {
      const int in_chunk = min(kGemmPlanChunk, entries - first);
      __syncthreads();
      for (int k = threadIdx.x; k < (in_chunk + 3) / 4 * 4; k += kGemmPlanThreads) {
        keys[k] = k < in_chunk ? key_of(first + k) : 0;
      }
      __syncthreads();
      if (own >= entries) continue;
      for (int k = 0; k < in_chunk; k += 4) {
        const uint4 key = *reinterpret_cast<const uint4*>(keys + k);
        place += (key.x > own_key) + (key.y > own_key) + (key.z > own_key) + (key.w > own_key);
      }
    }
    if (own < entries) p.order[place] = static_cast<uint32_t>(own);
  }
}

// Fails by name on block sizes that the kernels do not have.
Result<GemmPlanArgs> gemm_plan_args(const SymbolsView& symbols, void* section);

}  // namespace flashomni::cuda
