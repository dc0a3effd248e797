// SPDX-License-Identifier: Apache-2.0
//
// What both kernels of select_kv_blocks are launched with.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "flashomni/ops.h"

namespace flashomni::cuda {

struct SelectKvArgs {
  const float* scores;
  int64_t score_batch, score_head, score_row;
  const uint8_t* gate_q;
  const uint8_t* gate_kv;
  int64_t gate_q_batch, gate_q_head, gate_kv_batch, gate_kv_head;
  const uint64_t* c;
  uint64_t* s;
  BlockRange keep_q, keep_kv;
  SelectRule rule;
  float parameter;
  int64_t rows;  // batch * heads * num_q
  int heads, num_q, num_kv, c_words, s_words;
  int block_q, block_kv;
};

// exp() of anything below is 0 in double precision: such entries weigh the same, nothing.
constexpr double kLowestExponent = -745.13321910194122;

// Longest row of the kernel that gives each row to a warp; see select_kv_short.cu.
constexpr int kMaxShortRow = 1024;

// REQUIRES: num_kv <= kMaxShortRow.
cudaError_t launch_select_kv_short(const SelectKvArgs& args, cudaStream_t stream);

}  // namespace flashomni::cuda
