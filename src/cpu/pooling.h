// SPDX-License-Identifier: Apache-2.0
//
// Block means, the self-similarity gate and pooled scores: what the strategies look at. REQUIRES of
// each: parameters that passed the check of the same name. `scratch` holds head_dim floats a
// thread, kAlignment apart from each other at least.
#pragma once

#include "cpu/context.h"
#include "flashomni/ops.h"

namespace flashomni::cpu {

// Floats of scratch a thread needs for the pool.
int64_t pool_scratch_floats(const PoolParams& params);

void token_mean(const Context& context, const TokenMeanParams& params);
void pool(const Context& context, float* scratch, const PoolParams& params);
void block_scores(const Context& context, const BlockScoresParams& params);

}  // namespace flashomni::cpu
