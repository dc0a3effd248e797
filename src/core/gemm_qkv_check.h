// SPDX-License-Identifier: Apache-2.0
//
// What the three projections of a grouped GEMM-Q must have in common, on every backend.
#pragma once

#include "flashomni/ops.h"
#include "flashomni/status.h"

namespace flashomni {

// One x, one segment, one head_dim; no symbols but those of q. REQUIRES: x and out of each are of
// rank 3 and 4.
Status check_gemm_qkv_agreement(const GemmQkvParams& params);

}  // namespace flashomni
