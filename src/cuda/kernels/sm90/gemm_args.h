// SPDX-License-Identifier: Apache-2.0
//
// What the sm_90a kernels of GEMM-Q and GEMM-O are launched with, and which instances there are.
// Strides count elements. Read by host code and kernels alike.
#pragma once

#include <cuda.h>
#include <cuda_runtime_api.h>

#include <cstdint>

#include "flashomni/types.h"

namespace flashomni::cuda::sm90 {

constexpr int kGemmBlockK = 64;
constexpr int kGemmThreads = 384;

// ---- GEMM-Q: tiles of 256 rows (four slots of 64, two query blocks of 128 or four of 64) by
// ---- kGemmQColumns columns: one head, or two of 64.
constexpr int kGemmQRows = 256;
constexpr int kGemmQSlotRows = 64;
constexpr int kGemmQRopeColumns = 32;  // of cos and sin in a box
constexpr int gemm_q_columns(int head_dim) {
  return head_dim == 96 ? 96 : 128;
}
constexpr int gemm_q_heads(int head_dim) {
  return head_dim == 64 ? 2 : 1;
}
constexpr int kGemmQSections = 3;
// Column groups of the sparse section over the batch, and the numbers that are kept of all of them
// in shared memory: see count_windows() in gemm_q_schedule.cuh.
constexpr int kGemmQMaxUnits = 2048;
constexpr int kGemmQMaxCounts = 3 * kGemmQMaxUnits;
// Rows of x whose tiles are dealt before the next ones: 6 MiB of 3072 columns.
constexpr int kGemmQWindowRows = 1024;

// One projection of x.
struct GemmQSection {
  CUtensorMap weight;       // see weight_map() in gemm_config.h; box: the columns of a tile
  const float* bias;        // [heads * head_dim] or null
  const float* rms_weight;  // [head_dim] or null
  CUtensorMap cos, sin;     // see rope_map()
  void* out;                // of row 0 of x
  int64_t out_batch_stride, out_row_stride, out_head_stride;
  float rms_eps;
  int32_t rope;  // whether there are cos and sin
  int32_t heads;
  int32_t groups;  // of columns: tiles side by side
};

struct GemmQArgs {
  CUtensorMap x128, x64;  // [K, M, B], boxes of 128 and 64 rows
  GemmQSection sections[kGemmQSections];
  int32_t num_dense;  // sections without symbols; they come first
  int32_t num_sections;
  int32_t batch, rows, k_steps;
  // Of the last section, if it has symbols: S_c and the query blocks that the segment touches.
  const uint64_t* c;
  int32_t c_words, block_rows, first_block, end_block, token_offset;
  int32_t windows, window_blocks;  // of the blocks from first_block to end_block
};

// ---- GEMM-O: tiles of 128 rows by 256 columns.
constexpr int kGemmORows = 128;
constexpr int kGemmOColumns = 256;
constexpr int kGemmOMaxPlanes = 4;
constexpr int kGemmOHeadWords = 16;  // 1024 heads
// Row tiles over the batch of a call on a part of the sequence: they are picked in shared memory.
constexpr int kGemmOMaxPicked = 16384;

struct GemmOPlane {
  void* data;
  int64_t batch_stride, row_stride;
  float coefficient;
};

struct GemmOArgs {
  CUtensorMap features[kGemmOMaxPlanes];    // [d, H, N, B], box 64 x 1 x 128 x 1
  CUtensorMap mlp;                          // [Kmlp, M, B], box 64 x 128 x 1
  CUtensorMap weight, half_weight;          // see weight_map(), boxes of 256 and 128 columns
  CUtensorMap plane_rows[kGemmOMaxPlanes];  // those to be read: [width, N, B], box 64 x 128 x 1
  CUtensorMap residual_rows;                // [width, M, B], box 64 x 128 x 1
  // Update form: planes to be written, each from its own features. Otherwise 0: planes to be read.
  int32_t num_written;
  int32_t num_read;  // those with a coefficient other than 0
  GemmOPlane planes[kGemmOMaxPlanes];
  int32_t has_symbols;
  int32_t batch, tokens, rows, token_offset, heads, width;
  int32_t mlp_steps, mlp_column;

  // Tile t of a batch item starts at token tile_origin + t * 128; the call takes `num_tiles` of
  // them from first_tile on.
  int32_t tile_origin, first_tile, num_tiles, column_tiles;
  int32_t panel;              // column tiles that are walked before the next row tile
  const uint64_t* head_sets;  // of the plan, null without symbols
  const uint32_t* order;      // of the plan: order_tiles a batch item
  int32_t order_tiles, num_q_blocks, head_words, block_rows;

  const float* bias;  // [width] or null
  void* out;          // of row 0 of the segment; or null
  int64_t out_batch_stride, out_row_stride;
  void* residual;  // or null
  int64_t residual_batch_stride, residual_row_stride;
  const float* gate;  // or null
  int64_t gate_batch_stride;
};

// `grid` CTAs, at most one an SM. REQUIRES: bf16 or f16, head_dim 64, 96 or 128.
cudaError_t launch_gemm_q(const GemmQArgs& args, DType dtype, int head_dim, int grid,
                          cudaStream_t stream);
cudaError_t launch_gemm_o(const GemmOArgs& args, DType dtype, int head_dim, int grid,
                          cudaStream_t stream);

}  // namespace flashomni::cuda::sm90
