// SPDX-License-Identifier: Apache-2.0
//
// Symbol counts on their way from the device to ordinary host memory. A kernel writes them into
// pinned memory, so that nothing waits; they are handed out when their stream is synchronised.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>
#include <vector>

#include "cuda/kernels/symbols/select.h"
#include "flashomni/status.h"
#include "flashomni/symbols.h"

namespace flashomni::cuda {

class PendingCounts {
 public:
  static Result<std::unique_ptr<PendingCounts>> create();
  ~PendingCounts();
  PendingCounts(const PendingCounts&) = delete;
  PendingCounts& operator=(const PendingCounts&) = delete;

  // Where the kernel writes the counts meant for `out`; a second request for the same `out` takes
  // the place of the first. Fails when too many wait for a synchronisation.
  Result<SymbolCountParts*> add(cudaStream_t stream, const SymbolGeometry& geometry,
                                SymbolCounts* out);
  // Hands out the counts of this stream. REQUIRES: all its work is done.
  void deliver(cudaStream_t stream);

 private:
  static constexpr int kSlots = 2048;
  struct Entry {
    cudaStream_t stream;
    SymbolCounts totals;  // rows and pairs, from the geometry
    SymbolCounts* out;
    int slot;
  };

  explicit PendingCounts(SymbolCountParts* slots);

  SymbolCountParts* slots_;  // pinned
  std::vector<int> free_;
  std::vector<Entry> entries_;
};

}  // namespace flashomni::cuda
