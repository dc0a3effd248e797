// SPDX-License-Identifier: Apache-2.0
//
// Symbols that are known before a run, in the backend's memory: an Update copies them there instead
// of waiting for the host.
#pragma once

#include <memory>
#include <vector>

#include "flashomni/strategy.h"

namespace flashomni::strategies {

class StoredSymbols {
 public:
  Status store(Backend& backend, const Exec& exec, const std::vector<SparseSymbols>& symbols) {
    memory_.clear();
    for (const SparseSymbols& s : symbols) {
      const auto c = s.c_words(), bits = s.s_words();
      FO_ASSIGN_OR_RETURN(auto memory, backend.allocate(c.size_bytes() + bits.size_bytes()));
      auto* words = static_cast<uint64_t*>(memory->data());
      FO_RETURN_IF_ERROR(backend.upload(exec, words, c.data(), c.size_bytes()));
      FO_RETURN_IF_ERROR(backend.upload(exec, words + c.size(), bits.data(), bits.size_bytes()));
      memory_.push_back(std::move(memory));
    }
    return ok_status();
  }
  size_t size() const { return memory_.size(); }

  // REQUIRES: index < size(), and symbols of that geometry.
  Status copy(const BuildContext& context, size_t index, const SymbolsView& out) const {
    auto* words = static_cast<uint64_t*>(memory_[index]->data());
    const SymbolGeometry& g = out.geometry;
    const auto view = [](uint64_t* data, int64_t count) {
      return TensorView::contiguous(data, DType::kU64, {count});
    };
    FO_RETURN_IF_ERROR(context.backend->copy(
        context.exec,
        {.src = view(words, g.total_c_words()), .dst = view(out.c, g.total_c_words())}));
    return context.backend->copy(context.exec,
                                 {.src = view(words + g.total_c_words(), g.total_s_words()),
                                  .dst = view(out.s, g.total_s_words())});
  }

 private:
  std::vector<std::unique_ptr<Buffer>> memory_;
};

}  // namespace flashomni::strategies
