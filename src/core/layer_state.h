// SPDX-License-Identifier: Apache-2.0
//
// Everything the engine keeps for one layer and guidance stream.
#pragma once

#include <memory>
#include <vector>

#include "core/feature_cache.h"
#include "flashomni/strategy.h"

namespace flashomni {

struct LayerState {
  std::unique_ptr<Buffer> symbol_memory;
  std::unique_ptr<Buffer> plan_memory;
  SymbolsView symbols;
  PlanView plan;
  bool has_symbols = false;
  int built_step = -1;  // of the symbols in force
  SymbolCounts counts;  // of them; final once their step has ended

  // Attention output [B, N, H, d]; with projected ADD mode, what sparse attention lacked of it.
  TaylorSite features;
  TaylorSite residual;  // ADD mode without projection: what sparse attention lacked
  std::vector<std::unique_ptr<Buffer>> plane_memory;
  TensorView planes[GemmOParams::kMaxPlanes];  // [B, N, D]
  std::vector<TaylorSite> modules;             // one per ModuleSite
  bool degraded = false;

  LayerAction action = LayerAction::kDense;  // of this step
  ChangeSums forecast_error;                 // of the last Update
  int forecast_distance = 0;                 // steps it looked ahead
  bool measured = false;                     // in this step

  size_t symbol_bytes() const { return symbol_memory ? symbol_memory->bytes() : 0; }
  size_t plan_bytes() const { return plan_memory ? plan_memory->bytes() : 0; }
  size_t plane_bytes() const {
    size_t n = 0;
    for (const auto& b : plane_memory) n += b->bytes();
    return n;
  }
  size_t module_bytes() const {
    size_t n = 0;
    for (const TaylorSite& s : modules) n += s.bytes();
    return n;
  }
  // A degraded layer never runs sparse again in this run.
  void drop_attention_state() {
    features.release();
    plane_memory.clear();
    for (TensorView& p : planes) p = {};
    symbol_memory.reset();
    plan_memory.reset();
    has_symbols = false;
  }
};

}  // namespace flashomni
