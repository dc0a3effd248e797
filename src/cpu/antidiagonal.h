// SPDX-License-Identifier: Apache-2.0
//
// XAttention's scores; see AntidiagonalScoresParams.
#pragma once

#include "cpu/context.h"
#include "flashomni/selection_ops.h"

namespace flashomni::cpu {

// Of one thread.
size_t antidiagonal_scratch_bytes(const Context& context, const AntidiagonalScoresParams& params);
// REQUIRES: parameters that passed the check of the same name, and that much scratch a thread.
void antidiagonal_scores(const Context& context, void* scratch,
                         const AntidiagonalScoresParams& params);

}  // namespace flashomni::cpu
