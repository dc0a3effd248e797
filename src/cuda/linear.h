// SPDX-License-Identifier: Apache-2.0
//
// The dense Linear layer: cuBLASLt where it takes the types and addresses, with bias and GELU in
// its epilogue, and our own f32 kernels for the rest and for a few rows.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <compare>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>

#include "flashomni/ops.h"
#include "flashomni/status.h"

namespace flashomni::cuda {

// A weight [out, in], contiguous, on the device.
struct LinearWeight {
  const void* data = nullptr;
  DType dtype = DType::kBF16;
  int64_t out_features = 0;
  int64_t in_features = 0;
  const float* bias = nullptr;        // optional
  const void* narrow_bias = nullptr;  // the same in `dtype`
};

// One product as cuBLASLt sees it: what its choice of algorithm depends on.
struct BlasProblem {
  int64_t batch = 1, rows = 0, columns = 0, depth = 0;
  int64_t x_row = 0, x_batch = 0, y_row = 0, y_batch = 0;  // strides
  DType x_dtype = DType::kBF16;
  DType y_dtype = DType::kBF16;
  int epilogue = 0;  // cublasLtEpilogue_t
  bool accumulate = false;
  uint32_t x_alignment = 16, w_alignment = 16, y_alignment = 16;  // of the addresses

  auto operator<=>(const BlasProblem&) const = default;
};

class DenseLinear {
 public:
  static Result<std::unique_ptr<DenseLinear>> create();
  ~DenseLinear();
  DenseLinear(const DenseLinear&) = delete;
  DenseLinear& operator=(const DenseLinear&) = delete;

  // REQUIRES: parameters that passed check_linear, and the workspace.
  Status run(cudaStream_t stream, void* workspace, const LinearParams& params,
             const LinearWeight& weight);

 private:
  struct Choice {
    bool found = false;
    cublasLtMatmulAlgo_t algo;
  };

  explicit DenseLinear(cublasLtHandle_t handle) : handle_(handle) {}
  // Asks cuBLASLt at the first call of a problem.
  Result<Choice> choose(const BlasProblem& problem);
  // y = act(x W^T + bias) (+ y), bias in the type of y.
  Status multiply(cudaStream_t stream, void* workspace, const BlasProblem& problem,
                  const cublasLtMatmulAlgo_t& algo, const void* x, const LinearWeight& weight,
                  const void* bias, void* y);

  cublasLtHandle_t handle_;
  std::map<BlasProblem, Choice> choices_;
};

size_t linear_workspace_bytes(const LinearParams& params, int64_t out_features);

}  // namespace flashomni::cuda
