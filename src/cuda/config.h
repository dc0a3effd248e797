// SPDX-License-Identifier: Apache-2.0
//
// Which kernels run where, and why not: pure functions of a description, tested without a GPU.
#pragma once

#include <string>

#include "flashomni/status.h"
#include "flashomni/types.h"

namespace flashomni::cuda {

// Compute capabilities are 10 * major + minor.
constexpr int kLeastComputeCapability = 80;

// Whether this build has any kernels for such a device.
Status check_compute_capability(int compute_capability);

// "sm_90a" on the device whose kernels use its own instructions, "sm_80" on others.
std::string kernel_architecture(int compute_capability);

enum class AttentionKernel {
  kSm90,  // tensor memory copies and warpgroup products
};

struct AttentionProblem {
  int compute_capability = 0;
  DType dtype = DType::kBF16;
  int head_dim = 0;
  int block_q = 128;  // of the symbols; 128 for dense calls
  int block_kv = 128;
};

// The kernel for this problem, or every reason why there is none.
Result<AttentionKernel> choose_attention_kernel(const AttentionProblem& problem);

// GEMM-Q and GEMM-O have kernels for the same devices as attention.
Status check_sparse_gemm_device(const char* operation, int compute_capability);

}  // namespace flashomni::cuda
