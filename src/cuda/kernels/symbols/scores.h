// SPDX-License-Identifier: Apache-2.0
//
// Scores that strategies other than the FlashOmni policy select by (selection_ops.h). Sums take the
// same order whatever runs beside them: the same inputs give the same bits. REQUIRES of each:
// parameters that passed the check of the same name.
#pragma once

#include <cuda_runtime_api.h>

#include "flashomni/selection_ops.h"
#include "flashomni/status.h"

namespace flashomni::cuda {

Status antidiagonal_scores(cudaStream_t stream, const AntidiagonalScoresParams& params);
Status column_mass(cudaStream_t stream, const ColumnMassParams& params);
Status block_change(cudaStream_t stream, const BlockChangeParams& params);
// `sums` is memory that the device can write; params.out is left alone.
Status measure_change(cudaStream_t stream, const MeasureChangeParams& params, ChangeSums* sums);

}  // namespace flashomni::cuda
