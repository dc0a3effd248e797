// SPDX-License-Identifier: Apache-2.0
//
// Block-sparse attention: which keys and values to bring into f32, which query blocks to run
// against which of them, and on which thread.
#pragma once

#include <cstddef>

#include "cpu/context.h"
#include "flashomni/ops.h"

namespace flashomni::cpu {

size_t attention_workspace_bytes(const Context& context, const AttentionParams& params);

// REQUIRES: parameters that passed check_attention, and the workspace.
void attention(const Context& context, void* workspace, const AttentionParams& params);

}  // namespace flashomni::cpu
