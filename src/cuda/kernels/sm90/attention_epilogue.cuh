// SPDX-License-Identifier: Apache-2.0
//
// What happens to a finished query tile: written to the output, or left in a slot for another CTA,
// or merged with what other CTAs left.
#pragma once

#include "cuda/kernels/common/tma.cuh"
#include "cuda/kernels/sm90/attention_layout.cuh"
#include "cuda/kernels/sm90/attention_producer.cuh"
#include "cuda/kernels/sm90/attention_softmax.cuh"

namespace flashomni::cuda::sm90 {

// Named barriers: 1 and 2 order the warpgroups, these two are each warpgroup's own.
__device__ __forceinline__ void warpgroup_sync(int group) {
  named_barrier_sync(8 + group, kWarpgroup);
}

__device__ __forceinline__ bool warpgroup_leader() {
  return threadIdx.x % kWarpgroup == 0;
}

// o / sum as 16-bit values into `staging`, this warpgroup's part of the shared memory of its
// queries. REQUIRES: every warp of the warpgroup has finished with those queries.
template <class T, int kHeadDim>
__device__ __forceinline__ void stage_tile(char* staging, const float (&o)[kHeadDim / 2],
                                           const SoftmaxRows& rows) {
  using Layout = AttentionLayout<kHeadDim>;
  const int lane = threadIdx.x % 32;
  const int row = 16 * (threadIdx.x % kWarpgroup / 32) + lane % 16;
  const float inverse[2] = {1.f / rows.sum[0], 1.f / rows.sum[1]};
#pragma unroll
  for (int i = 0; i < kHeadDim / 16; ++i) {
    const int unit = 2 * i + lane / 16;
    constexpr int kUnits = Layout::kChunk / 8;
    char* to = staging + unit / kUnits * Layout::kChunkBytes + Layout::swizzled(row, unit % kUnits);
    uint32_t packed[4];
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      packed[k] =
          pack_pair<T>(o[8 * i + 2 * k] * inverse[k & 1], o[8 * i + 2 * k + 1] * inverse[k & 1]);
    }
    store_matrix_x4(to, packed[0], packed[1], packed[2], packed[3]);
  }
  fence_async_proxy();
}

// Hands a staged tile to the copy engine, which reads it until tma_store_wait_read(). For one
// thread, after a barrier of the warpgroup.
template <int kHeadDim>
__device__ __forceinline__ void store_staged(const AttentionArgs& args, const char* staging,
                                             const RowPlace& place, int first_token) {
  using Layout = AttentionLayout<kHeadDim>;
#pragma unroll
  for (int c = 0; c < Layout::kChunks; ++c) {
    tma_store_5d(&args.out, staging + c * Layout::kChunkBytes, 0, first_token, c, place.head,
                 place.batch);
  }
  tma_store_commit();
}

// The rows' logarithms of sums of exponentials.
__device__ __forceinline__ void write_lse(const AttentionArgs& args, const RowPlace& place,
                                          int first_token, const SoftmaxRows& rows) {
  const int lane = threadIdx.x % 32;
  if (lane % 4 != 0) return;
  float* lse = args.lse + place.batch * args.lse_batch_stride + place.head * args.lse_head_stride;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int token = first_token + 16 * (threadIdx.x % kWarpgroup / 32) + lane / 4 + 8 * r;
    if (token < args.q_tokens) lse[token] = rows.max[r] * args.scale + logf(rows.sum[r]);
  }
}

// Slots are in register order, a thread's values 128 floats apart, so that warps write whole lines.
template <int kHeadDim>
__device__ __forceinline__ float* slot_of(const AttentionArgs& args, int cta, int group) {
  constexpr int64_t kFloats = attention_slot_floats(kHeadDim) / 2;
  return args.slots + (int64_t{cta} * 2 + group) * kFloats + threadIdx.x % kWarpgroup;
}

template <int kHeadDim>
__device__ __forceinline__ void leave_partial(const AttentionArgs& args, int group,
                                              const float (&o)[kHeadDim / 2],
                                              const SoftmaxRows& rows) {
  float* slot = slot_of<kHeadDim>(args, blockIdx.x, group);
#pragma unroll
  for (int i = 0; i < kHeadDim / 2; ++i) __stcg(slot + i * kWarpgroup, o[i]);
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    __stcg(slot + (kHeadDim / 2 + r) * kWarpgroup, rows.max[r]);
    __stcg(slot + (kHeadDim / 2 + 2 + r) * kWarpgroup, rows.sum[r]);
  }
  __threadfence();
  warpgroup_sync(group);
  if (warpgroup_leader()) atomicExch(args.flags + 2 * blockIdx.x + group, 1);
}

// Takes the slots of the next `count` CTAs, in their order.
template <int kHeadDim>
__device__ __forceinline__ void merge_partials(const AttentionArgs& args, int group, int count,
                                               float (&o)[kHeadDim / 2], SoftmaxRows& rows) {
  for (int k = 1; k <= count; ++k) {
    const int cta = static_cast<int>(blockIdx.x) + k;
    int32_t* flag = args.flags + 2 * cta + group;
    if (warpgroup_leader()) {
      while (atomicAdd(flag, 0) == 0) __nanosleep(64);
      __threadfence();
    }
    warpgroup_sync(group);
    const float* slot = slot_of<kHeadDim>(args, cta, group);
    float own[2], other[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float max = __ldcg(slot + (kHeadDim / 2 + r) * kWarpgroup);
      const float sum = __ldcg(slot + (kHeadDim / 2 + 2 + r) * kWarpgroup);
      const float both = fmaxf(rows.max[r], max);
      // A piece may have had nothing for one of two paired query blocks: its maximum is -infinity.
      const float from = both == -INFINITY ? 0.f : both;
      own[r] = exp2_fast((rows.max[r] - from) * args.scale_log2);
      other[r] = exp2_fast((max - from) * args.scale_log2);
      rows.max[r] = both;
      rows.sum[r] = rows.sum[r] * own[r] + sum * other[r];
    }
#pragma unroll
    for (int i = 0; i < kHeadDim / 2; ++i) {
      const int r = (i >> 1) & 1;
      o[i] = o[i] * own[r] + __ldcg(slot + i * kWarpgroup) * other[r];
    }
    warpgroup_sync(group);  // all have read it
    if (warpgroup_leader()) *flag = 0;
  }
}

}  // namespace flashomni::cuda::sm90
