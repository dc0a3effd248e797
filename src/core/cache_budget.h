// SPDX-License-Identifier: Apache-2.0
//
// The feature cache under a budget of bytes: decided before a run allocates anything, from the
// bytes that it would allocate. First the Taylor orders go down, the highest one at a time; if that
// is not enough, layers are left out, the first ones first: they run dense, and what is exact early
// does not disturb the layers after it.
#pragma once

#include <string>
#include <vector>

#include "flashomni/engine.h"

namespace flashomni {

// Everything that the bytes of a cache depend on.
struct CacheRequest {
  CacheSpec cache;
  SkipSpec skip;
  bool projected = false;  // bias planes stand for cached heads
  SequenceInfo sequence;
  int streams = 1;
  DType dtype = DType::kF32;  // of activations
  size_t symbol_bytes = 0;    // S_c and S_s of one layer and stream
  size_t plan_bytes = 0;      // of one layer and stream
  const std::vector<LayerDesc>* layers = nullptr;
};

struct CachePlan {
  CacheSpec cache;
  SkipSpec skip;
  std::vector<bool> left_out;  // by layer
  CacheBudget report;
  bool any_layer() const;
};

// Bytes of `plan`'s cache: what MemoryLedger::cache_total() is when the run has begun.
size_t cache_bytes(const CacheRequest& request, const CachePlan& plan);

// The largest cache within `limit` that the rules above lead to.
CachePlan fit_cache(const CacheRequest& request, size_t limit);

// "does not fit into the budget of 4.0 GiB".
std::string over_budget(size_t limit);

}  // namespace flashomni
