// SPDX-License-Identifier: Apache-2.0
#include "cuda/config.h"

#include "cuda/kernels/sm80/attention_params.h"

namespace flashomni::cuda {
namespace {

constexpr int kHopper = 90;

std::string capability_text(int compute_capability) {
  return std::to_string(compute_capability / 10) + "." + std::to_string(compute_capability % 10);
}

const char* architecture(KernelPath path) {
  return path == KernelPath::kHopper ? "sm_90a" : "sm_80";
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

const char* kernel_path_name(KernelPath path) {
  return path == KernelPath::kHopper ? "hopper" : "portable";
}

std::string describe_kernel_path(KernelPath path) {
  return std::string(architecture(path)) + " (" + kernel_path_name(path) + ")";
}

Result<KernelPath> choose_kernel_path(int compute_capability, const std::string& wanted) {
  FO_RETURN_IF_ERROR(check_compute_capability(compute_capability));
  const bool hopper = compute_capability == kHopper;
  if (wanted.empty()) return hopper ? KernelPath::kHopper : KernelPath::kPortable;
  for (const KernelPath path : {KernelPath::kHopper, KernelPath::kPortable}) {
    if (wanted != kernel_path_name(path) && wanted != architecture(path)) continue;
    if (path == KernelPath::kPortable || hopper) return path;
    // The instructions of sm_90a exist on no other device, newer ones included.
    return unsupported("kernel path is '" + wanted + "', but the device has compute capability " +
                       capability_text(compute_capability) + ", wanted 9.0 for that path");
  }
  return invalid_argument("kernel path is '" + wanted +
                          "', wanted hopper (sm_90a) or portable (sm_80)");
}

int plan_grid(KernelPath path, int sms, size_t shared_bytes) {
  if (path == KernelPath::kHopper) return sms;
  // Two CTAs an SM where its memory holds them: one CTA may have all but 1 KB, and each takes 1 KB
  // more than it asks for.
  constexpr size_t kReserved = 1024;
  const size_t one = sm80::attention_shared_bytes(128) + kReserved;
  return shared_bytes + kReserved >= 2 * one ? 2 * sms : sms;
}

Status check_attention_kernel(const AttentionProblem& p) {
  std::string reasons;
  const auto refuse = [&](const std::string& reason) {
    reasons += (reasons.empty() ? "" : "; ") + reason;
  };
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
  if (reasons.empty()) return ok_status();
  return unsupported("no attention kernel for this call: " + reasons);
}

}  // namespace flashomni::cuda
