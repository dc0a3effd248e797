// SPDX-License-Identifier: Apache-2.0
//
// From pooled scores to symbols. Rows hold at most a few thousand blocks, so this is scalar code in
// double precision: its cost is small, and thresholds fall where the formulas say.
#pragma once

#include <cstddef>

#include "cpu/context.h"
#include "flashomni/ops.h"

namespace flashomni::cpu {

// Scratch a thread needs for rows of up to `blocks` blocks.
size_t select_scratch_bytes(int64_t blocks);

// REQUIRES of both: parameters that passed the check of the same name, and select_scratch_bytes()
// for each thread, for the larger number of blocks of the two directions.
void select_cached_rows(const Context& context, void* scratch,
                        const SelectCachedRowsParams& params);
void select_kv_blocks(const Context& context, void* scratch, const SelectKvBlocksParams& params);

}  // namespace flashomni::cpu
