// SPDX-License-Identifier: Apache-2.0
//
// GEMM-Q: a projection into heads with bias, RMSNorm and rotary embedding, for the (query block,
// head) tiles whose S_c is 1.
#pragma once

#include <cstddef>

#include "cpu/context.h"
#include "flashomni/ops.h"

namespace flashomni::cpu {

size_t gemm_q_workspace_bytes(const Context& context);

// REQUIRES: parameters that passed check_gemm_q, and the workspace.
void gemm_q(const Context& context, void* workspace, const GemmQParams& params);

}  // namespace flashomni::cpu
