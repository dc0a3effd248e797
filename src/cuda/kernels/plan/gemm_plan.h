// SPDX-License-Identifier: Apache-2.0
//
// Builds the GEMM-O part of a plan on the device.
#pragma once

#include <cuda_runtime_api.h>

#include "cuda/gemm_plan.h"
#include "flashomni/status.h"

namespace flashomni::cuda {

// One launch on the stream. The symbols and `section` (GemmPlanLayout::bytes at a multiple of 256)
// are device memory. Fails by name on block sizes that the kernels do not have.
Status build_gemm_plan(cudaStream_t stream, const SymbolsView& symbols, void* section);

}  // namespace flashomni::cuda
