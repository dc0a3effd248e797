// SPDX-License-Identifier: Apache-2.0
//
// GEMM-Q on the GPU: what it takes, in words, and its launch.
#pragma once

#include <cuda_runtime_api.h>

#include "cuda/attention.h"
#include "flashomni/ops.h"

namespace flashomni::cuda {

// Why this call cannot run on either path; ok when it can.
Status check_gemm_q(const GemmQParams& params);
Status check_gemm_qkv(const GemmQkvParams& params);

// The tiles follow from S_c alone, so the plan may be null with symbols too. REQUIRES:
// check_gemm_q(params) is ok.
Status gemm_q(cudaStream_t stream, const Launcher& launcher, const GemmQParams& params,
              const void* gemm_plan);

// The dense tiles of k and v fill the gaps that the sparse ones of q leave. REQUIRES:
// check_gemm_qkv(params) is ok.
Status gemm_qkv(cudaStream_t stream, const Launcher& launcher, const GemmQkvParams& params,
                const void* gemm_plan);

}  // namespace flashomni::cuda
