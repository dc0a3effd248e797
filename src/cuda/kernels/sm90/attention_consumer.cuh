// SPDX-License-Identifier: Apache-2.0
//
// What the computing warpgroups of both attention kernels share: taking tiles from the ring, the
// two matrix products, and the end of a query tile.
#pragma once

#include "cuda/kernels/common/pace.cuh"
#include "cuda/kernels/common/softmax.cuh"
#include "cuda/kernels/sm90/attention_epilogue.cuh"
#include "cuda/kernels/sm90/attention_layout.cuh"
#include "cuda/kernels/sm90/attention_params.h"
#include "cuda/kernels/sm90/attention_producer.cuh"

namespace flashomni::cuda::sm90 {

template <class T, int kHeadDim, int kBlockKv, bool kPaired, class Pace>
class ConsumerBase {
 protected:
  using Layout = AttentionLayout<kHeadDim>;
  static constexpr int kScores = kKvRows / 2;  // registers of 64 x 128 scores
  static constexpr int kOut = kHeadDim / 2;    // registers of 64 x head_dim outputs
  static constexpr int kWeightSteps = kKvRows / 16;

  __device__ __forceinline__ ConsumerBase(const AttentionArgs& args, char* smem,
                                          AttentionBarriers& bars, int group)
      : args_(args), smem_(smem), bars_(bars), group_(group) {}

  static __device__ __forceinline__ int tiles_of(const AttentionWork& work) {
    constexpr int kBlocks = kKvRows / kBlockKv;
    return (work.count + kBlocks - 1) / kBlocks;
  }

  // Who hands slots and buffers back. Turns keep the warps of a warpgroup together, so that one
  // thread may speak for all four; without turns a warp that passes over tiles could fall behind
  // the others, and every warp counts.
  static __device__ __forceinline__ bool speaks() {
    return kPaired ? threadIdx.x % 32 == 0 : warpgroup_leader();
  }

  __device__ __forceinline__ void wait_query(int entry) {
    Pace::pause();
    barrier_wait(&bars_.q_full[entry & 1], (entry >> 1) & 1);
  }
  // The next tile of the ring, once it is there.
  __device__ __forceinline__ int take_tile() {
    const int slot = ring_.stage;
    Pace::pause();
    barrier_wait(&bars_.kv_full[slot], ring_.phase);
    ring_.advance();
    return slot;
  }
  __device__ __forceinline__ void release_tile(int slot) {
    Pace::pause();
    if constexpr (kPaired) __syncwarp();  // no lane waits for the slot any more
    if (speaks()) barrier_arrive(&bars_.kv_empty[slot]);
  }
  // The two halves of handing out a finished tile, each when there is time for it: its store, and
  // the return of the query buffer in which it was staged. Branches here are the leader's alone and
  // hold no barrier: one that all threads took would make the ring's position non-uniform in the
  // eyes of the compiler, and every descriptor with it (4 % of the speed).
  __device__ __forceinline__ void store_output() {
    Pace::pause();
    warpgroup_sync(group_);
    if (warpgroup_leader() && staged_row_ >= 0) {
      const RowPlace place(args_, staged_row_);
      store_staged<kHeadDim>(args_, staging(), place, first_token(place));
    }
    staged_row_ = -1;
  }
  __device__ __forceinline__ void release_query() {
    if (warpgroup_leader()) tma_store_wait_read<0>();
    if (speaks() && held_ >= 0) barrier_arrive(&bars_.q_empty[held_]);
    held_ = -1;
  }
  // This warpgroup's part of the held query buffer.
  __device__ __forceinline__ char* staging() const {
    return smem_ + Layout::kQ + held_ * Layout::kTileBytes +
           group_ * kWarpgroupRows * Layout::kRowBytes;
  }

  // What was last written by ordinary instructions must be so before the fence.
  static __device__ __forceinline__ void keep_operands(float (&o)[kOut],
                                                       uint32_t (&p)[kWeightSteps][4]) {
    wgmma_keep(o);
#pragma unroll
    for (int i = 0; i < kWeightSteps; ++i) {
#pragma unroll
      for (int k = 0; k < 4; ++k) asm volatile("" : "+r"(p[i][k])::"memory");
    }
  }

  // s = this warpgroup's 64 queries times kRows of the kv tile's keys, from row `begin` on.
  template <int kRows>
  __device__ __forceinline__ void issue_scores(float (&s)[kRows / 2], int buffer, int slot,
                                               int begin) {
    const uint64_t q =
        matrix_descriptor<Layout::kSwizzle>(smem_ + Layout::kQ + buffer * Layout::kTileBytes +
                                                group_ * kWarpgroupRows * Layout::kRowBytes,
                                            16, 8 * Layout::kRowBytes);
    const uint64_t k = matrix_descriptor<Layout::kSwizzle>(
        smem_ + Layout::kKv + slot * Layout::kTileBytes + begin * Layout::kRowBytes, 16,
        8 * Layout::kRowBytes);
    wgmma_keep(s);
    wgmma_fence();
#pragma unroll
    for (int i = 0; i < kHeadDim / 16; ++i) {
      constexpr int kSteps = Layout::kChunk / 16;
      const int offset = (i / kSteps * Layout::kChunkBytes + i % kSteps * 32) >> 4;
      Wgmma<T, kRows>::template ss<0>(s, q + offset, k + offset, i > 0);
    }
    wgmma_commit();
  }
  __device__ __forceinline__ void issue_scores(float (&s)[kScores], int buffer, int slot) {
    issue_scores<kKvRows>(s, buffer, slot, 0);
  }

  // o (+)= weights times 16 * kSteps of the kv tile's values, from row `begin` on.
  template <int kSteps>
  __device__ __forceinline__ void issue_output(float (&o)[kOut], const uint32_t (&p)[kSteps][4],
                                               bool accumulate, int slot, int begin) {
    const uint64_t v = matrix_descriptor<Layout::kSwizzle>(
        smem_ + Layout::kKv + slot * Layout::kTileBytes + begin * Layout::kRowBytes,
        Layout::kChunkBytes, 8 * Layout::kRowBytes);
    wgmma_fence();
#pragma unroll
    for (int i = 0; i < kSteps; ++i) {
      const int offset = (i * 16 * Layout::kRowBytes) >> 4;
      Wgmma<T, kHeadDim>::template rs<1>(o, p[i], v + offset, i > 0 || accumulate);
    }
    wgmma_commit();
  }
  __device__ __forceinline__ void issue_output(float (&o)[kOut],
                                               const uint32_t (&p)[kWeightSteps][4],
                                               bool accumulate, int slot) {
    issue_output<kWeightSteps>(o, p, accumulate, slot, 0);
  }

  // Of this warpgroup's 64 query rows.
  __device__ __forceinline__ int first_token(const RowPlace& place) const {
    if constexpr (kPaired) return place.block * kWarpgroupRows;
    return place.block * kQueryRows + group_ * kWarpgroupRows;
  }

  // The end of one list entry, whose query block has this row number; store_output() and
  // release_query() must follow. REQUIRES: all warps have finished with the entry's queries.
  __device__ __forceinline__ void finish(const AttentionWork& work, int row, float (&o)[kOut],
                                         SoftmaxRows& rows, int entry, bool last) {
    rows.reduce();
    held_ = entry & 1;
    if (work.merge == AttentionWork::kPartial) {
      leave_partial<kHeadDim>(args_, group_, o, rows);
      return;
    }
    // A list's last entry is the only one that can be a cut tile's first piece.
    if (last && work.merge > 0) merge_partials<kHeadDim>(args_, group_, work.merge, o, rows);
    stage_tile<T, kHeadDim>(staging(), o, rows);
    staged_row_ = row;
    if (args_.lse) {
      const RowPlace place(args_, row);
      write_lse(args_, place, first_token(place), rows);
    }
  }

  const AttentionArgs& args_;
  char* smem_;
  AttentionBarriers& bars_;
  const int group_;
  RingState<Layout::kSlots> ring_;
  int held_ = -1;        // query buffer that a finished tile still needs
  int staged_row_ = -1;  // the row whose output is staged there and not yet on its way
};

}  // namespace flashomni::cuda::sm90
