// SPDX-License-Identifier: Apache-2.0
//
// What GEMM-Q and GEMM-O have kernels for, how they see their operands, and how a launch is cut:
// pure functions of sizes, tested without a GPU.
#pragma once

#include <cstdint>
#include <initializer_list>

#include "cuda/packed_weight.h"
#include "cuda/tensor_map.h"
#include "flashomni/ops.h"

namespace flashomni::cuda {

// Whether there is a kernel for operands of this type and heads of this size; the message names the
// operation and every reason.
Status check_gemm_kernel(const char* operation, DType dtype, int64_t head_dim);

// A tensor that the kernels read or write 16 bytes at a time: exists, has this type and shape,
// contiguous rows, and starts and strides that are multiples of 16 bytes.
Status check_operand(const char* name, const TensorView& v, DType dtype,
                     std::initializer_list<int64_t> shape);
Status check_optional_operand(const char* name, const TensorView& v, DType dtype,
                              std::initializer_list<int64_t> shape);

// [token_offset, token_offset + rows) lies inside [0, tokens).
Status check_gemm_segment(int token_offset, int64_t rows, int64_t tokens);

// Packed by this backend in this type, with these features and head structure (0: none).
Status check_gemm_weight(const PackedWeight* weight, DType dtype, int64_t in, int64_t out,
                         int64_t head_dim);

// Symbols of a projection's rows; absent is fine, half of them is not.
Status check_gemm_symbols(const SymbolsView& symbols, int64_t batch, int64_t heads, int64_t tokens);

// ---- operands as the copy engine sees them; all with the 128-byte swizzle, 128 bytes a
// row of a box.

// [B, M, K], boxes of `box_rows` rows.
TensorMapDesc rows_map(const TensorView& v, int box_rows);
// [B, N, H, d], boxes of 128 tokens of one head.
TensorMapDesc heads_map(const TensorView& v);
// cos or sin, [N, d / 2] of f32, boxes of 64 tokens by 32 columns.
TensorMapDesc rope_map(const TensorView& v);
// The weight, boxes of `columns` of its rows (columns of the result), in the order in which one
// thread's accumulators are neighbours: see kernels/sm90/gemm_tile.cuh. Coordinates: column of k,
// 0, 0, 0, group of 32 rows.
TensorMapDesc weight_map(const CudaPackedWeight& weight, int columns);

// ---- launches

// Query blocks of a window of sparse GEMM-Q, whose tiles are dealt before those of the next: of
// 1024 rows of x, or of more where the counts that the kernel keeps of `units` column groups (see
// count_windows() in kernels/sm90/gemm_q_schedule.cuh) would not fit. REQUIRES: units at most
// kGemmQMaxUnits.
int gemm_q_window(int units, int blocks, int block_rows);

// Column tiles of GEMM-O that are walked before the next row tile. Without symbols all CTAs are at
// about the same k step: all column tiles, while the columns of the weight that belong to that step
// stay in L2, else equal parts. With symbols CTAs drift apart, and a panel is as wide as its whole
// weight stays in L2.
int gemm_o_panel(int column_tiles, int64_t in_features, bool symbols);

}  // namespace flashomni::cuda
