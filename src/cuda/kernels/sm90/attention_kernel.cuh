// SPDX-License-Identifier: Apache-2.0
//
// Block-sparse attention for sm_90a: a persistent, warp-specialised kernel. One warp loads (see
// attention_producer.cuh), two warpgroups of 64 query rows compute.
//
// Inside a query tile the scores of kv tile j + 1 are issued together with the output product of
// tile j, and the two warpgroups take turns on the tensor cores, so that one computes exponentials
// while the other multiplies. The first scores of the next query tile are issued with the last
// output product of this one in the same way: tile borders do not drain the tensor cores, which is
// what keeps short rows as efficient as long ones.
#pragma once

#include "cuda/kernels/sm90/attention_epilogue.cuh"
#include "cuda/kernels/sm90/attention_layout.cuh"
#include "cuda/kernels/sm90/attention_params.h"
#include "cuda/kernels/sm90/attention_producer.cuh"
#include "cuda/kernels/sm90/attention_softmax.cuh"

namespace flashomni::cuda::sm90 {

// One of the two computing warpgroups and all that it holds in registers.
template <class T, int kHeadDim, int kBlockKv>
class Consumer {
  using Layout = AttentionLayout<kHeadDim>;
  static constexpr int kScores = kKvRows / 2;  // registers of 64 x 128 scores
  static constexpr int kOut = kHeadDim / 2;    // registers of 64 x head_dim outputs
  static constexpr int kWeightSteps = kKvRows / 16;

 public:
  __device__ __forceinline__ Consumer(const AttentionArgs& args, char* smem,
                                      AttentionBarriers& bars, int group)
      : args_(args), smem_(smem), bars_(bars), group_(group) {}

  __device__ __forceinline__ void run() {
    const WorkList list(args_, blockIdx.x, gridDim.x);
    const int entries = list.size();
    if (entries == 0) return;

    float s[kScores], o[kOut];
    uint32_t p[kWeightSteps][4];
    SoftmaxRows rows;
    AttentionWork work = list.at(0);
    AttentionWork next = list.at(min(1, entries - 1));
    // The first warpgroup goes first.
    if (group_ == 1) named_barrier_arrive(1, 2 * kWarpgroup);

    wait_query(0);
    const int k = take_tile();
    issue_scores(s, 0, k);
    wgmma_wait<0>();
    wgmma_keep(s);
    const int valid = bars_.valid[k];
    release_tile(k);
    first_softmax(s, rows, valid);
    pack_weights<T>(s, p);

    int entry = 0;
    while (true) {
      const int tiles = tiles_of(work);
      for (int j = 0; j + 1 < tiles; ++j) step(s, o, p, rows, entry & 1, j != 0);
      if (entry + 1 == entries) break;

      // Loaded here, wanted at the next border.
      const AttentionWork after = list.at(min(entry + 2, entries - 1));
      SoftmaxRows next_rows;
      border(s, o, p, next_rows, entry, tiles > 1);
      finish(work, o, rows, entry, false);
      // A tile of one step wants the other buffer's next queries at once.
      if (tiles_of(next) == 1) release_query();
      work = next;
      next = after;
      rows = next_rows;
      ++entry;
    }
    const int v = take_tile();
    take_turn();
    keep_operands(o, p);
    issue_output(o, p, tiles_of(work) > 1, v);
    give_turn();
    wgmma_wait<0>();
    wgmma_keep(o);
    finish(work, o, rows, entry, true);
    if (warpgroup_leader()) tma_store_wait();
  }

 private:
  static __device__ __forceinline__ int tiles_of(const AttentionWork& work) {
    constexpr int kBlocks = kKvRows / kBlockKv;
    return (work.count + kBlocks - 1) / kBlocks;
  }

  // Between the warpgroups: whoever holds the turn issues products.
  __device__ __forceinline__ void take_turn() { named_barrier_sync(1 + group_, 2 * kWarpgroup); }
  __device__ __forceinline__ void give_turn() { named_barrier_arrive(2 - group_, 2 * kWarpgroup); }

  __device__ __forceinline__ void wait_query(int entry) {
    barrier_wait(&bars_.q_full[entry & 1], (entry >> 1) & 1);
  }
  // The next tile of the ring, once it is there.
  __device__ __forceinline__ int take_tile() {
    const int slot = ring_.stage;
    barrier_wait(&bars_.kv_full[slot], ring_.phase);
    ring_.advance();
    return slot;
  }
  __device__ __forceinline__ void release_tile(int slot) {
    if (warpgroup_leader()) barrier_arrive(&bars_.kv_empty[slot]);
  }
  // The buffer of the last finished tile: its output has been read from there.
  __device__ __forceinline__ void release_query() {
    if (held_ < 0) return;
    if (warpgroup_leader()) {
      tma_store_wait_read<0>();
      barrier_arrive(&bars_.q_empty[held_]);
    }
    held_ = -1;
  }

  __device__ __forceinline__ void first_softmax(float (&s)[kScores], SoftmaxRows& rows, int valid) {
    if (valid < kKvRows) mask_columns(s, valid);
    softmax_first(s, rows, args_.scale_log2);
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

  // s = this warpgroup's 64 queries times the kv tile's keys.
  __device__ __forceinline__ void issue_scores(float (&s)[kScores], int buffer, int slot) {
    const uint64_t q =
        matrix_descriptor<Layout::kSwizzle>(smem_ + Layout::kQ + buffer * Layout::kTileBytes +
                                                group_ * kWarpgroupRows * Layout::kRowBytes,
                                            16, 8 * Layout::kRowBytes);
    const uint64_t k = matrix_descriptor<Layout::kSwizzle>(
        smem_ + Layout::kKv + slot * Layout::kTileBytes, 16, 8 * Layout::kRowBytes);
    wgmma_keep(s);
    wgmma_fence();
#pragma unroll
    for (int i = 0; i < kHeadDim / 16; ++i) {
      constexpr int kSteps = Layout::kChunk / 16;
      const int offset = (i / kSteps * Layout::kChunkBytes + i % kSteps * 32) >> 4;
      Wgmma<T, kKvRows>::template ss<0>(s, q + offset, k + offset, i > 0);
    }
    wgmma_commit();
  }

  // o (+)= weights times the kv tile's values.
  __device__ __forceinline__ void issue_output(float (&o)[kOut],
                                               const uint32_t (&p)[kWeightSteps][4],
                                               bool accumulate, int slot) {
    const uint64_t v =
        matrix_descriptor<Layout::kSwizzle>(smem_ + Layout::kKv + slot * Layout::kTileBytes,
                                            Layout::kChunkBytes, 8 * Layout::kRowBytes);
    wgmma_fence();
#pragma unroll
    for (int i = 0; i < kWeightSteps; ++i) {
      const int offset = (i * 16 * Layout::kRowBytes) >> 4;
      Wgmma<T, kHeadDim>::template rs<1>(o, p[i], v + offset, i > 0 || accumulate);
    }
    wgmma_commit();
  }

  // Scores of the next kv tile beside the output product of this one.
  __device__ __forceinline__ void step(float (&s)[kScores], float (&o)[kOut],
                                       uint32_t (&p)[kWeightSteps][4], SoftmaxRows& rows,
                                       int buffer, bool accumulate) {
    const int k = take_tile();
    take_turn();
    keep_operands(o, p);
    issue_scores(s, buffer, k);
    const int v = take_tile();
    issue_output(o, p, accumulate, v);
    give_turn();
    wgmma_wait<1>();
    wgmma_keep(s);
    release_tile(k);
    release_query();
    float alpha[2];
    const bool rescale = softmax_next(s, rows, args_.scale_log2, alpha);
    wgmma_wait<0>();
    wgmma_keep(s);
    wgmma_keep(o);
    release_tile(v);
    if (rescale) scale_rows(o, alpha);
    pack_weights<T>(s, p);
  }

  // The same across the border of two query tiles.
  __device__ __forceinline__ void border(float (&s)[kScores], float (&o)[kOut],
                                         uint32_t (&p)[kWeightSteps][4], SoftmaxRows& next,
                                         int entry, bool accumulate) {
    wait_query(entry + 1);
    const int k = take_tile();
    take_turn();
    keep_operands(o, p);
    issue_scores(s, (entry + 1) & 1, k);
    const int v = take_tile();
    issue_output(o, p, accumulate, v);
    give_turn();
    wgmma_wait<1>();
    wgmma_keep(s);
    const int valid = bars_.valid[k];
    release_tile(k);
    first_softmax(s, next, valid);
    wgmma_wait<0>();
    wgmma_keep(s);
    wgmma_keep(o);
    release_tile(v);
    pack_weights<T>(s, p);
  }

  __device__ __forceinline__ void finish(const AttentionWork& work, float (&o)[kOut],
                                         SoftmaxRows& rows, int entry, bool last) {
    rows.reduce();
    held_ = entry & 1;
    if (work.merge == AttentionWork::kPartial) {
      leave_partial<kHeadDim>(args_, group_, o, rows);
      return;
    }
    // A list's last entry is the only one that can be a cut tile's first piece.
    if (last && work.merge > 0) merge_partials<kHeadDim>(args_, group_, work.merge, o, rows);
    const RowPlace place(args_, work.row0);
    write_tile<T, kHeadDim>(args_, smem_ + Layout::kQ + held_ * Layout::kTileBytes, group_, place,
                            place.block * kQueryRows + group_ * kWarpgroupRows, o, rows);
  }

  const AttentionArgs& args_;
  char* smem_;
  AttentionBarriers& bars_;
  const int group_;
  RingState<Layout::kSlots> ring_;
  int held_ = -1;  // query buffer whose output may still be read by a store
};

template <class T, int kHeadDim, int kBlockKv>
__global__ void __launch_bounds__(kAttentionThreads, 1)
    attention_kernel(const __grid_constant__ AttentionArgs args) {
  using Layout = AttentionLayout<kHeadDim>;
  extern __shared__ char raw[];
  char* smem = raw + ((1024 - (smem_address(raw) & 1023)) & 1023);
  AttentionBarriers& bars = *reinterpret_cast<AttentionBarriers*>(smem + Layout::kBarriers);

  if (threadIdx.x == 0) {
    for (int i = 0; i < 2; ++i) {
      barrier_init(&bars.q_full[i], 1);
      barrier_init(&bars.q_empty[i], 2);
    }
    for (int i = 0; i < Layout::kSlots; ++i) {
      barrier_init(&bars.kv_full[i], 1);
      barrier_init(&bars.kv_empty[i], 2);
    }
    fence_barrier_init();
    prefetch_tensor_map(&args.q);
    prefetch_tensor_map(&args.k);
    prefetch_tensor_map(&args.v);
    prefetch_tensor_map(&args.out);
  }
  __syncthreads();

  const int role = threadIdx.x / kWarpgroup;
  if (role == 0) {
    registers_shrink<Layout::kProducerRegisters>();
    if (threadIdx.x < 32) produce<kHeadDim, kBlockKv>(args, smem, bars);
  } else {
    registers_grow<Layout::kConsumerRegisters>();
    Consumer<T, kHeadDim, kBlockKv>(args, smem, bars, role - 1).run();
  }
}

}  // namespace flashomni::cuda::sm90
