// SPDX-License-Identifier: Apache-2.0
//
// Attention under symbols on the GPU: what it takes, in words, and its launch.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "cuda/config.h"
#include "cuda/dense_plans.h"
#include "cuda/tensor_map.h"
#include "flashomni/ops.h"

namespace flashomni::cuda {

// What launches need beside its arguments.
struct Launcher {
  int sms;
  TensorMapCache& maps;  // of this device
  DensePlans& dense;     // work lists of calls without symbols, cut as all attention plans are
  KernelPath path = KernelPath::kHopper;
};

// Why this call cannot run on either path; ok when it can.
Status check_attention(const AttentionParams& params);

// Partial results of query tiles that several CTAs share.
size_t attention_workspace_bytes(const AttentionParams& params, int plan_grid);

// REQUIRES: check_attention(params) is ok, and the workspace.
Status attention(cudaStream_t stream, const Launcher& launcher, void* workspace,
                 const AttentionParams& params);

}  // namespace flashomni::cuda
