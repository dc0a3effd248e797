// SPDX-License-Identifier: Apache-2.0
#include "cuda/config.h"

namespace flashomni::cuda {
namespace {

constexpr int kHopper = 90;

std::string capability_text(int compute_capability) {
  return std::to_string(compute_capability / 10) + "." + std::to_string(compute_capability % 10);
}

std::string device_reason(int compute_capability) {
  // The instructions of sm_90a exist on no other device, newer ones included.
  return "the device has compute capability " + capability_text(compute_capability) +
         ", wanted 9.0 (Hopper)";
}

bool is_block(int size) {
  return size == 64 || size == 128;
}

}  // namespace

Status check_compute_capability(int compute_capability) {
  if (compute_capability >= kLeastComputeCapability) return ok_status();
  return unsupported("the device has compute capability " + capability_text(compute_capability) +
                     ", wanted " + capability_text(kLeastComputeCapability) + " or newer");
}

std::string kernel_architecture(int compute_capability) {
  return compute_capability == kHopper ? "sm_90a" : "sm_80";
}

Result<AttentionKernel> choose_attention_kernel(const AttentionProblem& p) {
  std::string reasons;
  const auto refuse = [&](const std::string& reason) {
    reasons += (reasons.empty() ? "" : "; ") + reason;
  };
  if (p.compute_capability != kHopper) refuse(device_reason(p.compute_capability));
  if (p.dtype != DType::kBF16 && p.dtype != DType::kF16) {
    refuse(std::string("the element type is ") + dtype_name(p.dtype) + ", wanted bf16 or f16");
  }
  if (p.head_dim != 64 && p.head_dim != 96 && p.head_dim != 128) {
    refuse("head_dim is " + std::to_string(p.head_dim) + ", wanted 64, 96 or 128");
  }
  if (!is_block(p.block_q)) {
    refuse("block_q is " + std::to_string(p.block_q) + ", wanted 64 or 128");
  }
  if (!is_block(p.block_kv)) {
    refuse("block_kv is " + std::to_string(p.block_kv) + ", wanted 64 or 128");
  }
  if (!reasons.empty()) return unsupported("no attention kernel for this call: " + reasons);
  return AttentionKernel::kSm90;
}

Status check_sparse_gemm_device(const char* operation, int compute_capability) {
  if (compute_capability == kHopper) return ok_status();
  return unsupported("no " + std::string(operation) +
                     " kernel: " + device_reason(compute_capability));
}

}  // namespace flashomni::cuda
