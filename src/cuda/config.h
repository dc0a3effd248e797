// SPDX-License-Identifier: Apache-2.0
//
// Which kernels run where, and why not: pure functions of a description, tested without a GPU.
#pragma once

#include <cstddef>
#include <string>

#include "flashomni/status.h"
#include "flashomni/types.h"

namespace flashomni::cuda {

// Compute capabilities are 10 * major + minor.
constexpr int kLeastComputeCapability = 80;

// Whether this build has any kernels for such a device.
Status check_compute_capability(int compute_capability);

// The two sets of kernels for attention, GEMM-Q and GEMM-O. Plans are cut for the set that is in
// use, and results of the two differ in rounding.
enum class KernelPath {
  kHopper,    // sm_90a: tensor memory copies and warpgroup products
  kPortable,  // sm_80 and everything after it: asynchronous copies and warp products
};

// "hopper", "portable".
const char* kernel_path_name(KernelPath path);

// "sm_90a (hopper)", "sm_80 (portable)"
std::string describe_kernel_path(KernelPath path);

// The path for a device: its own kernels where it has them, else the portable ones. `wanted` may
// ask for one, by its name or its architecture ("sm_90a", "sm_80"); one that the device cannot run
// and an unknown one are refused by name.
Result<KernelPath> choose_kernel_path(int compute_capability, const std::string& wanted);

// The environment variable that asks for a path where the caller does not.
constexpr char kKernelPathVariable[] = "FLASHOMNI_CUDA_PATH";

// CTAs that attention plans are cut for. `shared_bytes`: the most that one CTA may have.
int plan_grid(KernelPath path, int sms, size_t shared_bytes);

struct AttentionProblem {
  DType dtype = DType::kBF16;
  int head_dim = 0;
  int block_q = 128;  // of the symbols; 128 for dense calls
  int block_kv = 128;
};

// Whether there is a kernel for this problem, on either path; the message has every reason why not.
Status check_attention_kernel(const AttentionProblem& problem);

}  // namespace flashomni::cuda
