// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>

#include "flashomni/strategy.h"

namespace flashomni::strategies {

// Tokens between the nearest ones of query block i and kv block j; below 1 where they share any.
inline int64_t token_gap(const SequenceInfo& s, int block_q, int i, int block_kv, int j) {
  const int64_t q_begin = int64_t{i} * block_q, k_begin = int64_t{j} * block_kv;
  const int64_t q_last = std::min<int64_t>(s.tokens, q_begin + block_q) - 1;
  const int64_t k_last = std::min<int64_t>(s.tokens, k_begin + block_kv) - 1;
  return std::max(q_begin - k_last, k_begin - q_last);
}

}  // namespace flashomni::strategies
