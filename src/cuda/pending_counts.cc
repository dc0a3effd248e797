// SPDX-License-Identifier: Apache-2.0
#include "cuda/pending_counts.h"

#include <algorithm>
#include <string>

#include "cuda/error.h"

namespace flashomni::cuda {

Result<std::unique_ptr<PendingCounts>> PendingCounts::create() {
  void* memory = nullptr;
  FO_CUDA(cudaHostAlloc(&memory, kSlots * sizeof(SymbolCountParts), cudaHostAllocDefault),
          "allocating pinned memory for symbol counts");
  return std::unique_ptr<PendingCounts>(new PendingCounts(static_cast<SymbolCountParts*>(memory)));
}

PendingCounts::PendingCounts(SymbolCountParts* slots) : slots_(slots) {
  for (int slot = kSlots - 1; slot >= 0; --slot) free_.push_back(slot);
  entries_.reserve(kSlots);
}

PendingCounts::~PendingCounts() {
  cudaFreeHost(slots_);
}

Result<SymbolCountParts*> PendingCounts::add(cudaStream_t stream, const SymbolGeometry& geometry,
                                             SymbolCounts* out) {
  const auto same = [&](const Entry& e) { return e.out == out && e.stream == stream; };
  auto entry = std::find_if(entries_.begin(), entries_.end(), same);
  if (entry == entries_.end()) {
    if (free_.empty()) {
      return out_of_memory(std::to_string(kSlots) +
                           " symbol counts wait for a synchronisation, wanted fewer");
    }
    entry = entries_.insert(entry, {stream, {}, out, free_.back()});
    free_.pop_back();
  }
  entry->totals.rows = int64_t{geometry.batch} * geometry.heads * geometry.num_q_blocks();
  entry->totals.pairs = entry->totals.rows * geometry.num_kv_blocks();
  return slots_ + entry->slot;
}

void PendingCounts::deliver(cudaStream_t stream) {
  std::erase_if(entries_, [&](const Entry& entry) {
    if (entry.stream != stream) return false;
    SymbolCounts counts = entry.totals;
    for (const SymbolCountParts::Part& part : slots_[entry.slot].parts) {
      counts.active_rows += part.active_rows;
      counts.active_pairs += part.active_pairs;
    }
    *entry.out = counts;
    free_.push_back(entry.slot);
    return true;
  });
}

}  // namespace flashomni::cuda
