// SPDX-License-Identifier: Apache-2.0
//
// Symbols that do not depend on queries and keys: made on the host once a run, kept in backend
// memory, and copied there when a layer takes them up.
#pragma once

#include <memory>
#include <vector>

#include "flashomni/backend.h"
#include "flashomni/strategy.h"

namespace flashomni::strategies {

class PatternStore {
 public:
  void clear();
  // Returns the index of the pattern; equal ones are kept once. All must have one geometry.
  int add(SparseSymbols symbols);
  const SparseSymbols& at(int index) const { return patterns_[size_t(index)]; }
  int size() const { return static_cast<int>(patterns_.size()); }

  // Puts all patterns into backend memory; not for use inside a step.
  Status prepare(Backend& backend, const Exec& exec);
  Status put(const BuildContext& c, int index, SymbolsView out) const;

 private:
  std::vector<SparseSymbols> patterns_;
  std::unique_ptr<Buffer> memory_;
};

}  // namespace flashomni::strategies
