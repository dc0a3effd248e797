// SPDX-License-Identifier: Apache-2.0
//
// What the portable attention kernel is launched with, and what it takes of an SM.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "cuda/kernels/common/attention_call.h"
#include "flashomni/types.h"

namespace flashomni::cuda::sm80 {

// [B, N, H, d] with contiguous channels; strides count elements.
struct HeadRows {
  void* data;
  int64_t batch_stride, row_stride, head_stride;
};

struct AttentionArgs : AttentionCall {
  HeadRows q, k, v, out;
  int32_t block_q, block_kv;
  const int32_t* starts;  // of ragged blocks, see SymbolsView; null: blocks of one size
};

constexpr int kAttentionThreads = 128;
constexpr int kQueryRows = 128;
constexpr int kKvRows = 64;  // multiplied at a time, whatever the blocks of the symbols
constexpr int kKvSlots = 3;  // of a ring in which keys and values take turns

// Shared memory of a CTA: queries, the ring, and two windows of its list (see
// attention_entry.cuh). On an A100 two CTAs have just room beside each other.
constexpr size_t kWindowBytes = 624;
constexpr size_t attention_tile_bytes(int head_dim) {
  return static_cast<size_t>(kQueryRows + kKvSlots * kKvRows) * static_cast<size_t>(head_dim) * 2;
}
constexpr size_t attention_shared_bytes(int head_dim) {
  return attention_tile_bytes(head_dim) + kWindowBytes;
}

// Launches on `grid` CTAs, as many as the plan has lists. False when there is no such instance:
// head_dim 64, 96 or 128, bf16 or f16.
bool launch_attention(const AttentionArgs& args, DType dtype, int head_dim, int grid,
                      cudaStream_t stream, cudaError_t& error);

}  // namespace flashomni::cuda::sm80
