// SPDX-License-Identifier: Apache-2.0
//
// Products of rows with rows in f32 arithmetic, for what tensor cores do not take: block scores,
// mixed element types, tensors at odd addresses, and linear layers of a few rows, which wait for
// their weight and not for arithmetic.
#pragma once

#include <cuda_runtime_api.h>

#include "flashomni/ops.h"
#include "flashomni/status.h"

namespace flashomni::cuda {

// y[b,h,i,j] = act(scale * sum_k x[b,h,i,k] w[b,h,j,k] + bias[j]);  out = y and
// residual += gate[b,j] * y, each when given. x and w contiguous in k; x, w, out, residual and gate
// f32, bf16 or f16 each, bias f32.
struct PlainMatmul {
  int64_t batch = 1, heads = 1, rows = 0, columns = 0, depth = 0;
  TensorView x, w, out, residual;  // only data and dtype of the views are used
  int64_t x_batch = 0, x_head = 0, x_row = 0;
  int64_t w_batch = 0, w_head = 0, w_row = 0;
  int64_t out_batch = 0, out_head = 0, out_row = 0;
  int64_t residual_batch = 0, residual_row = 0;
  TensorView gate;
  int64_t gate_batch = 0;
  const float* bias = nullptr;
  float scale = 1.f;
  Activation activation = Activation::kNone;
};

// Products of at most this many rows go to a kernel that reads w at the speed of memory.
constexpr int64_t kFewRows = 8;

Status plain_matmul(cudaStream_t stream, const PlainMatmul& m);

}  // namespace flashomni::cuda
