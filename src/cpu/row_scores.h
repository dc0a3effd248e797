// SPDX-License-Identifier: Apache-2.0
//
// Scores that selections other than the FlashOmni policy start from; see selection_ops.h.
#pragma once

#include "cpu/context.h"
#include "flashomni/selection_ops.h"

namespace flashomni::cpu {

// REQUIRES of all: parameters that passed the check of the same name.
void column_mass(const Context& context, const ColumnMassParams& params);
void block_change(const Context& context, const BlockChangeParams& params);
void measure_change(const Context& context, const MeasureChangeParams& params);

}  // namespace flashomni::cpu
