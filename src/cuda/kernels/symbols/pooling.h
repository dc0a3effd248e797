// SPDX-License-Identifier: Apache-2.0
//
// What strategies see of queries and keys: means over all tokens, means over blocks with their
// similarity gate, and the scores of pooled queries against pooled keys. x is f32, bf16 or f16;
// everything else is f32. REQUIRES of each: parameters that passed the check of the same name.
#pragma once

#include <cuda_runtime_api.h>

#include "flashomni/ops.h"
#include "flashomni/status.h"

namespace flashomni::cuda {

// Widest head that pool takes.
constexpr int64_t kMaxPoolHeadDim = 256;

Status token_mean(cudaStream_t stream, const TokenMeanParams& params);
Status pool(cudaStream_t stream, const PoolParams& params);
// Both in one launch where element types, head sizes and alignment agree.
Status pool_pair(cudaStream_t stream, const PoolParams& first, const PoolParams& second);
Status block_scores(cudaStream_t stream, const BlockScoresParams& params);

}  // namespace flashomni::cuda
