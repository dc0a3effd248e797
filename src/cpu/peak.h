// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cpu/context.h"

namespace flashomni::cpu {

// Multiply-add rate of all threads together, FLOP/s; the best of a few bursts of some milliseconds.
double measure_peak_flops(const Context& context);

}  // namespace flashomni::cpu
