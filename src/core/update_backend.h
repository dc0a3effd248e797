// SPDX-License-Identifier: Apache-2.0
//
// What an Update asks of a backend in forms that do less than Backend's. Symbols of an Update are
// followed from the next step on: of a layer's plan only the part that GEMM-O's update form reads
// is wanted in the step itself. One layer after the other, the small kernels that make plans and
// counts keep a GPU waiting for the next one for longer than they work.
#pragma once

#include <span>

#include "flashomni/ops.h"
#include "flashomni/status.h"

namespace flashomni {

struct Exec;

// slope = (fresh - previous) * inv_distance in the tiles that the symbols cache, as taylor_update
// has it; others are not touched. All of one type, contiguous, [B, N, H, d].
struct TaylorSlopeParams {
  TensorView fresh, previous, slope;
  float inv_distance = 1.f;
  SymbolsView symbols;  // only S_c is read
};

// Beside Backend, by those that gain from it. Operations queue work like those of Backend.
class UpdateBackend {
 public:
  virtual ~UpdateBackend() = default;
  // Whether to call the others at all: a wrapper offers what the backend in it does.
  virtual bool offers_update_work() const { return true; }
  // The part of plan() that gemm_o_update reads, ahead of plan_all().
  virtual Status plan_projections(const Exec& exec, const PlanParams& params) = 0;
  // The results of plan() and count_symbols() for each.
  virtual Status plan_all(const Exec& exec, std::span<const PlanParams> params) = 0;
  virtual Status count_all(const Exec& exec, std::span<const CountSymbolsParams> params) = 0;
  virtual Status taylor_slope(const Exec& exec, const TaylorSlopeParams& params) = 0;
};

}  // namespace flashomni
