// SPDX-License-Identifier: Apache-2.0
//
// Small results on their way from the device to ordinary host memory. A kernel writes them into
// pinned memory, so that nothing waits; they are handed out when their stream is synchronised.
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "cuda/error.h"
#include "cuda/kernels/symbols/select.h"
#include "flashomni/selection_ops.h"
#include "flashomni/status.h"
#include "flashomni/symbols.h"

namespace flashomni::cuda {

// What is handed out: what was known when the kernel was queued, and what it wrote.
inline SymbolCounts collect(SymbolCounts totals, const SymbolCountParts& written) {
  for (const SymbolCountParts::Part& part : written.parts) {
    totals.active_rows += part.active_rows;
    totals.active_pairs += part.active_pairs;
  }
  return totals;
}
inline ChangeSums collect(const ChangeSums&, const ChangeSums& written) {
  return written;
}

// `Slot` is what a kernel writes, `Value` what the caller gets: collect(Value, Slot).
template <class Slot, class Value>
class PendingResults {
 public:
  // `what` they are, for messages.
  static Result<std::unique_ptr<PendingResults>> create(const std::string& what) {
    void* memory = nullptr;
    FO_CUDA(cudaHostAlloc(&memory, kSlots * sizeof(Slot), cudaHostAllocDefault),
            "allocating pinned memory for " + what);
    return std::unique_ptr<PendingResults>(new PendingResults(what, static_cast<Slot*>(memory)));
  }
  ~PendingResults() { cudaFreeHost(slots_); }
  PendingResults(const PendingResults&) = delete;
  PendingResults& operator=(const PendingResults&) = delete;

  // Where the kernel writes the result meant for `out`; a second request for the same `out` takes
  // the place of the first. Fails when too many wait for a synchronisation.
  Result<Slot*> add(cudaStream_t stream, const Value& known, Value* out) {
    const auto same = [&](const Entry& e) { return e.out == out && e.stream == stream; };
    auto entry = std::find_if(entries_.begin(), entries_.end(), same);
    if (entry == entries_.end()) {
      if (free_.empty()) {
        return out_of_memory(std::to_string(kSlots) + " " + what_ +
                             " wait for a synchronisation, wanted fewer");
      }
      entry = entries_.insert(entry, {stream, {}, out, free_.back()});
      free_.pop_back();
    }
    entry->known = known;
    return slots_ + entry->slot;
  }

  // Hands out the results of this stream. REQUIRES: all its work is done.
  void deliver(cudaStream_t stream) {
    std::erase_if(entries_, [&](const Entry& entry) {
      if (entry.stream != stream) return false;
      *entry.out = collect(entry.known, slots_[entry.slot]);
      free_.push_back(entry.slot);
      return true;
    });
  }

 private:
  static constexpr int kSlots = 2048;
  struct Entry {
    cudaStream_t stream;
    Value known;
    Value* out;
    int slot;
  };

  PendingResults(std::string what, Slot* slots) : what_(std::move(what)), slots_(slots) {
    for (int slot = kSlots - 1; slot >= 0; --slot) free_.push_back(slot);
    entries_.reserve(kSlots);
  }

  std::string what_;
  Slot* slots_;  // pinned
  std::vector<int> free_;
  std::vector<Entry> entries_;
};

using PendingCounts = PendingResults<SymbolCountParts, SymbolCounts>;
using PendingSums = PendingResults<ChangeSums, ChangeSums>;

}  // namespace flashomni::cuda
