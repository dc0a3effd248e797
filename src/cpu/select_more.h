// SPDX-License-Identifier: Apache-2.0
//
// Selections of strategies other than the FlashOmni policy; see selection_ops.h.
#pragma once

#include "cpu/context.h"
#include "flashomni/selection_ops.h"

namespace flashomni::cpu {

// REQUIRES of all: parameters that passed the check of the same name; of select_rows also
// select_scratch_bytes() for each thread.
void select_rows(const Context& context, void* scratch, const SelectRowsParams& params);
void select_kv_share(const Context& context, const SelectKvShareParams& params);
void select_pattern(const Context& context, const SelectPatternParams& params);
void keep_columns(const Context& context, const KeepColumnsParams& params);

}  // namespace flashomni::cpu
