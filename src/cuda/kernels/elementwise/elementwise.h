// SPDX-License-Identifier: Apache-2.0
//
// Row-wise and element-wise operations: one pass over the data, bound by memory. f32, bf16 and f16
// may be mixed; the arithmetic is f32. REQUIRES of each: parameters that passed the check of the
// same name.
#pragma once

#include <cuda_runtime_api.h>

#include "core/update_backend.h"
#include "flashomni/ops.h"
#include "flashomni/status.h"

namespace flashomni::cuda {

// Widest row that norm_modulate keeps in registers.
constexpr int64_t kMaxNormWidth = 16384;

Status norm_modulate(cudaStream_t stream, const NormModulateParams& params);
Status rms_norm(cudaStream_t stream, const RmsNormParams& params);
Status taylor_update(cudaStream_t stream, const TaylorUpdateParams& params);
Status taylor_slope(cudaStream_t stream, const TaylorSlopeParams& params);
Status taylor_forecast(cudaStream_t stream, const TaylorForecastParams& params);
Status activation(cudaStream_t stream, const ActivationParams& params);
Status combine(cudaStream_t stream, const CombineParams& params);
Status copy(cudaStream_t stream, const CopyParams& params);

}  // namespace flashomni::cuda
