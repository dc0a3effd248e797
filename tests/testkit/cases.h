// SPDX-License-Identifier: Apache-2.0
//
// The sizes where kernels break: one token, a block less one, a block, a block and one more,
// primes, head dims below, at and between vector widths; and the ways a tensor can lie in memory.
#pragma once

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "base/rng.h"
#include "flashomni/status.h"
#include "flashomni/types.h"
#include "tests/testkit/generate.h"
#include "tests/testkit/guard_buffer.h"

namespace flashomni::testkit {

inline constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

inline int pick_block(Rng& rng) {
  return pick<int>(rng, {32, 32, 64, 64, 128});
}

inline int pick_tokens(Rng& rng, int block) {
  return pick<int>(rng, {1, 7, 61, 97, block - 1, block, block + 1, 2 * block, 2 * block + 3,
                         block + block / 2});
}

// Where blocks start that hold `shortest` to `longest` of the tokens each, the last one what is
// left, and their end.
inline std::vector<int> pick_starts(Rng& rng, int tokens, int shortest, int longest) {
  std::vector<int> starts = {0};
  while (starts.back() < tokens) {
    const int length = shortest < longest ? rng.range(shortest, longest) : longest;
    starts.push_back(std::min(tokens, starts.back() + length));
  }
  return starts;
}

inline int pick_head_dim(Rng& rng) {
  return pick<int>(rng, {2, 8, 10, 16, 40, 64, 72, 96, 128});
}

// Input and model widths of projections: around vector widths and register tiles.
inline int pick_width(Rng& rng) {
  return pick<int>(rng, {1, 3, 8, 15, 16, 17, 31, 33, 48, 64, 65, 96, 127, 160});
}

inline Placement pick_placement(Rng& rng) {
  return {.offset = pick<int>(rng, {0, 0, 0, 1, 3, 8}), .pad = pick<int>(rng, {0, 0, 0, 1, 4, 7})};
}

inline std::string placement_text(const Placement& p) {
  return "offset=" + std::to_string(p.offset) + " pad=" + std::to_string(p.pad);
}

inline int64_t count(const std::vector<int64_t>& shape) {
  int64_t n = 1;
  for (int64_t extent : shape) n *= extent;
  return n;
}

// "activation seed=7 shape=[2,3,17] offset=0 pad=4 isa=AVX2"
inline std::string case_text(const char* op, uint64_t seed, const std::vector<int64_t>& shape,
                             const Placement& placement, const std::string& isa) {
  std::string text = std::string(op) + " seed=" + std::to_string(seed) + " shape=[";
  for (size_t i = 0; i < shape.size(); ++i) text += (i ? "," : "") + std::to_string(shape[i]);
  return text + "] " + placement_text(placement) + " isa=" + isa;
}

// A refusal must say which type it does not take.
inline bool names_dtype(const Status& refusal, DType dtype) {
  return refusal.message().find(dtype_name(dtype)) != std::string::npos;
}

}  // namespace flashomni::testkit
