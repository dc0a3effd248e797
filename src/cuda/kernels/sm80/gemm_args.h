// SPDX-License-Identifier: Apache-2.0
//
// What the portable kernels of GEMM-Q and GEMM-O are launched with. Strides count elements. Read by
// host code and kernels alike.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "cuda/kernels/sm80/attention_params.h"
#include "flashomni/types.h"

namespace flashomni::cuda::sm80 {

constexpr int kGemmBlockK = 32;
constexpr int kGemmPlanes = 4;
constexpr int kGemmHeadWords = 16;  // 1024 heads

// [B, M, columns], contiguous columns; or null.
struct RowsOf {
  void* data;
  int64_t batch_stride, row_stride;
};

// ---- GEMM-Q: tiles of 128 rows (query blocks) by one head, or two of 64.

constexpr int gemm_q_columns(int head_dim) {
  return head_dim == 96 ? 96 : 128;
}
constexpr int gemm_q_heads(int head_dim) {
  return head_dim == 64 ? 2 : 1;
}
constexpr int kGemmQSections = 3;

// One projection of x.
struct GemmQSection {
  const void* weight;       // [heads * head_dim, K]
  const float* bias;        // [heads * head_dim] or null
  const float* rms_weight;  // [head_dim] or null
  const float *cos, *sin;   // of row 0 of x, or null
  int64_t cos_stride, sin_stride;
  void* out;  // of row 0 of x
  int64_t out_batch_stride, out_row_stride, out_head_stride;
  float rms_eps;
  int32_t heads;
  int32_t groups;  // of columns: tiles side by side
};

struct GemmQArgs {
  RowsOf x;
  int32_t depth;  // K
  GemmQSection sections[kGemmQSections];
  int32_t num_dense;  // sections without symbols; they come first
  int32_t num_sections;
  int32_t batch, rows;
  // Of the last section, if it has symbols: S_c and the query blocks that the segment touches.
  const uint64_t* c;
  int32_t c_words, block_rows, first_block, end_block, token_offset;
};

// ---- GEMM-O: tiles of 128 rows by 128 columns.

struct GemmOArgs {
  // [B, N, H, d]: one, or in the update form one a plane.
  HeadRows features[kGemmPlanes];
  RowsOf mlp;
  int32_t mlp_features;
  const void* weight;  // [width, depth]
  int32_t depth;

  // Update form: planes to be written, each from its own features. Otherwise 0: planes to be read.
  int32_t num_written;
  int32_t num_read;  // those with a coefficient other than 0
  RowsOf planes[kGemmPlanes];
  float coefficients[kGemmPlanes];

  int32_t batch, rows, token_offset, heads, width;
  // Tile t of a batch item starts at token tile_origin + t * 128; the call takes `num_tiles` of
  // them from first_tile on.
  int32_t tile_origin, first_tile, num_tiles, column_tiles;
  const uint64_t* head_sets;  // of the plan; null without symbols
  const uint32_t* order;      // of the plan; null where the call takes a part of its tiles
  int32_t order_tiles;        // of a batch item
  int32_t num_q_blocks, head_words, block_rows;

  const float* bias;  // [width] or null
  RowsOf out;         // of row 0 of the segment; or null
  RowsOf residual;    // likewise
  const float* gate;  // [B, width] or null
  int64_t gate_batch_stride;
};

// `sms`: of the device. REQUIRES: bf16 or f16, head_dim 64, 96 or 128.
cudaError_t launch_gemm_q(const GemmQArgs& args, DType dtype, int head_dim, int sms,
                          cudaStream_t stream);
cudaError_t launch_gemm_o(const GemmOArgs& args, DType dtype, int head_dim, cudaStream_t stream);

}  // namespace flashomni::cuda::sm80
