// SPDX-License-Identifier: Apache-2.0
//
// Linear layers and GEMM-O, which are one product: y = sum over active heads of attn_h W_h (GEMM-O
// only) + tail W_tail + bias. In the update form the heads that are not active are summed too, into
// the bias planes, so that every weight element is used once for either.
#pragma once

#include <cstddef>

#include "cpu/context.h"
#include "flashomni/ops.h"

namespace flashomni::cpu {

// Enough for any of the three operations.
size_t projection_workspace_bytes(const Context& context);

// REQUIRES of each: parameters that passed the check of the same name, and the workspace.
void linear(const Context& context, void* workspace, const LinearParams& params);
void gemm_o(const Context& context, void* workspace, const GemmOParams& params);
void gemm_o_update(const Context& context, void* workspace, const GemmOUpdateParams& params);

}  // namespace flashomni::cpu
