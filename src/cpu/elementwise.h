// SPDX-License-Identifier: Apache-2.0
//
// Row-wise and element-wise operations. Memory-bound: one pass over the data, cut into pieces for
// the threads. REQUIRES of each: parameters that passed the check of the same name.
#pragma once

#include "cpu/context.h"
#include "flashomni/ops.h"

namespace flashomni::cpu {

void norm_modulate(const Context& context, const NormModulateParams& params);
void rms_norm(const Context& context, const RmsNormParams& params);
void taylor_update(const Context& context, const TaylorUpdateParams& params);
void taylor_forecast(const Context& context, const TaylorForecastParams& params);
void activation(const Context& context, const ActivationParams& params);
void combine(const Context& context, const CombineParams& params);
void copy(const Context& context, const CopyParams& params);

}  // namespace flashomni::cpu
