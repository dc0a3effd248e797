// SPDX-License-Identifier: Apache-2.0
//
// Block-sparse attention for sm_90a: a persistent, warp-specialised kernel. One warp loads (see
// attention_producer.cuh), two warpgroups of 64 query rows compute.
#pragma once

#include "cuda/kernels/common/chain.cuh"
#include "cuda/kernels/sm90/attention_paired.cuh"
#include "cuda/kernels/sm90/attention_whole.cuh"

namespace flashomni::cuda::sm90 {

// kPaired: query blocks of 64 rows, otherwise of 128.
template <class T, int kHeadDim, int kBlockKv, bool kPaired, class Pace>
__global__ void __launch_bounds__(kAttentionThreads, 1)
    attention_kernel(const __grid_constant__ AttentionArgs args) {
  using Layout = AttentionLayout<kHeadDim>;
  extern __shared__ char raw[];
  char* smem = raw + ((1024 - (smem_address(raw) & 1023)) & 1023);
  AttentionBarriers& bars = *reinterpret_cast<AttentionBarriers*>(smem + Layout::kBarriers);

  if (threadIdx.x == 0) {
    const int speakers = kPaired ? 2 * kWarpgroup / 32 : 2;  // see ConsumerBase::speaks()
    for (int i = 0; i < 2; ++i) {
      barrier_init(&bars.q_full[i], 1);
      barrier_init(&bars.q_empty[i], speakers);
    }
    for (int i = 0; i < Layout::kSlots; ++i) {
      barrier_init(&bars.kv_full[i], 1);
      barrier_init(&bars.kv_empty[i], speakers);
    }
    fence_barrier_init();
    prefetch_tensor_map(&args.q);
    prefetch_tensor_map(&args.k);
    prefetch_tensor_map(&args.v);
    prefetch_tensor_map(&args.out);
  }
  chain_release();
  chain_wait();
  __syncthreads();

  const int role = uniform(threadIdx.x / kWarpgroup);
  if (role == 0) {
    registers_shrink<Layout::producer_registers(kPaired)>();
    if (threadIdx.x < 32) produce<kHeadDim, kBlockKv, kPaired, Pace>(args, smem, bars);
  } else {
    registers_grow<Layout::consumer_registers(kPaired)>();
    if constexpr (kPaired) {
      PairedConsumer<T, kHeadDim, kBlockKv, Pace>(args, smem, bars, role - 1).run();
    } else {
      Consumer<T, kHeadDim, kBlockKv, Pace>(args, smem, bars, role - 1).run();
    }
  }
}

}  // namespace flashomni::cuda::sm90
