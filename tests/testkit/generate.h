// SPDX-License-Identifier: Apache-2.0
//
// Seeded inputs: values as networks produce them, and symbols in every shape that has a special
// path somewhere.
#pragma once

#include <span>
#include <vector>

#include "base/rng.h"
#include "flashomni/symbols.h"

namespace flashomni::testkit {

// Normal values times `scale`.
std::vector<double> normal_values(Rng& rng, int64_t n, double scale = 1);

// Normal values, one in fifty of them twenty times as large: activations of real models have such
// outliers, and they show where a sum loses its small terms.
std::vector<double> outlier_values(Rng& rng, int64_t n, double scale = 1);

// Any element of a list.
template <class T>
T pick(Rng& rng, const std::vector<T>& choices) {
  return choices[rng.below(choices.size())];
}

enum class Pattern {
  kAllOnes,      // nothing is skipped
  kRandomC,      // random rows are cached, the others see everything
  kRandomS,      // every row is computed and sees a random half
  kBoth,         // random rows are cached, the others see a random third
  kWindow,       // a band around the diagonal
  kOneActive,    // every row sees exactly one block
  kAllCached,    // nothing is computed
  kOneHead,      // one head is computed, the others are cached
  kLastBlock,    // only the last, ragged, row block is computed, and sees only the last kv block
  kDeadColumns,  // random kv blocks are seen by no row at all
};
inline constexpr Pattern kPatterns[] = {
    Pattern::kAllOnes,   Pattern::kRandomC,    Pattern::kRandomS,   Pattern::kBoth,
    Pattern::kWindow,    Pattern::kOneActive,  Pattern::kAllCached, Pattern::kOneHead,
    Pattern::kLastBlock, Pattern::kDeadColumns};
const char* pattern_name(Pattern pattern);

// Valid symbols of this pattern.
SparseSymbols make_symbols(const SymbolGeometry& geometry, Pattern pattern, Rng& rng,
                           std::span<const int32_t> starts = {});

}  // namespace flashomni::testkit
