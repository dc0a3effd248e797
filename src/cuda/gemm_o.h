// SPDX-License-Identifier: Apache-2.0
//
// GEMM-O on the GPU, dispatch and update form: what it takes, in words, and its launch.
#pragma once

#include <cuda_runtime_api.h>

#include "cuda/attention.h"
#include "flashomni/ops.h"

namespace flashomni::cuda {

// Why this call cannot run on either path; ok when it can.
Status check_gemm_o(const GemmOParams& params);
Status check_gemm_o_update(const GemmOUpdateParams& params);

// `gemm_plan`: what build_gemm_plan wrote for params.symbols; null without symbols. The bias of the
// weight is added rounded to the type of the activations, as plane 0 holds it. REQUIRES: the check
// is ok.
Status gemm_o(cudaStream_t stream, const Launcher& launcher, const GemmOParams& params,
              const void* gemm_plan);
Status gemm_o_update(cudaStream_t stream, const Launcher& launcher, const GemmOUpdateParams& params,
                     const void* gemm_plan);

}  // namespace flashomni::cuda
