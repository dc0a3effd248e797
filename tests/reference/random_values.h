// SPDX-License-Identifier: Apache-2.0
//
// Seeded values for checking identities of the oracle.
#pragma once

#include <cstdint>
#include <vector>

#include "base/rng.h"

namespace flashomni::reference {

inline std::vector<double> random_values(uint64_t seed, size_t n) {
  Rng rng(seed);
  std::vector<double> values(n);
  for (double& v : values) v = rng.normal();
  return values;
}

}  // namespace flashomni::reference
