// SPDX-License-Identifier: Apache-2.0
//
// Launches of the portable GEMM-Q and GEMM-O. Their arguments are checked by gemm_q.h and gemm_o.h,
// which call them.
#pragma once

#include <cuda_runtime_api.h>

#include <span>

#include "cuda/attention.h"
#include "flashomni/ops.h"

namespace flashomni::cuda {

// Sections in the order of the kernel: at most the last one has symbols.
Status gemm_q_portable(cudaStream_t stream, const Launcher& launcher,
                       std::span<const GemmQParams* const> sections);

// `features`: one, or in the update form one for each plane.
Status gemm_o_portable(cudaStream_t stream, const GemmOParams& params,
                       std::span<const TensorView> features, bool update, const void* gemm_plan);

}  // namespace flashomni::cuda
