// SPDX-License-Identifier: Apache-2.0
#include "tests/testkit/generate.h"

#include <cstdlib>

namespace flashomni::testkit {
namespace {

// What the pattern says about one (b, h).
struct HeadChoice {
  bool active = true;
  std::vector<bool> dead;  // per kv block
};

bool computes_row(Pattern pattern, const HeadChoice& head, int i, int num_rows, Rng& rng) {
  switch (pattern) {
    case Pattern::kRandomC:
    case Pattern::kBoth:
      return rng.coin(0.5);
    case Pattern::kAllCached:
      return false;
    case Pattern::kOneHead:
      return head.active;
    case Pattern::kLastBlock:
      return i == num_rows - 1;
    default:
      return true;
  }
}

bool sees_block(Pattern pattern, const HeadChoice& head, int i, int j, const SymbolGeometry& g,
                int only, Rng& rng) {
  switch (pattern) {
    case Pattern::kRandomS:
      return rng.coin(0.5);
    case Pattern::kBoth:
      return rng.coin(0.33);
    case Pattern::kWindow:
      return std::abs(i * g.block_q - j * g.block_kv) < g.block_q + g.block_kv;
    case Pattern::kOneActive:
      return j == only;
    case Pattern::kLastBlock:
      return j == g.num_kv_blocks() - 1;
    case Pattern::kDeadColumns:
      return !head.dead[static_cast<size_t>(j)] && rng.coin(0.8);
    default:
      return true;
  }
}

// The first block that the pattern allows, for a row that random choices left empty.
int fallback_block(const HeadChoice& head) {
  int j = 0;
  while (head.dead[static_cast<size_t>(j)]) ++j;
  return j;
}

}  // namespace

std::vector<double> normal_values(Rng& rng, int64_t n, double scale) {
  std::vector<double> values(static_cast<size_t>(n));
  for (double& v : values) v = scale * rng.normal();
  return values;
}

std::vector<double> outlier_values(Rng& rng, int64_t n, double scale) {
  std::vector<double> values = normal_values(rng, n, scale);
  for (double& v : values) {
    if (rng.coin(0.02)) v *= 20;
  }
  return values;
}

const char* pattern_name(Pattern pattern) {
  switch (pattern) {
    case Pattern::kAllOnes:
      return "all_ones";
    case Pattern::kRandomC:
      return "random_c";
    case Pattern::kRandomS:
      return "random_s";
    case Pattern::kBoth:
      return "both";
    case Pattern::kWindow:
      return "window";
    case Pattern::kOneActive:
      return "one_active";
    case Pattern::kAllCached:
      return "all_cached";
    case Pattern::kOneHead:
      return "one_head";
    case Pattern::kLastBlock:
      return "last_block";
    case Pattern::kDeadColumns:
      return "dead_columns";
  }
  return "unknown";
}

SparseSymbols make_symbols(const SymbolGeometry& geometry, Pattern pattern, Rng& rng,
                           std::span<const int32_t> starts) {
  SparseSymbols symbols(geometry, starts);
  const int num_rows = geometry.num_q_blocks();
  const int num_columns = geometry.num_kv_blocks();
  for (int b = 0; b < geometry.batch; ++b) {
    const int active_head = rng.range(0, geometry.heads - 1);
    for (int h = 0; h < geometry.heads; ++h) {
      HeadChoice head;
      head.active = h == active_head;
      head.dead.assign(static_cast<size_t>(num_columns), false);
      if (pattern == Pattern::kDeadColumns) {
        for (int j = 0; j < num_columns; ++j) head.dead[static_cast<size_t>(j)] = rng.coin(0.5);
        head.dead[rng.below(static_cast<uint64_t>(num_columns))] = false;
      }
      for (int i = 0; i < num_rows; ++i) {
        const bool computed = computes_row(pattern, head, i, num_rows, rng);
        symbols.set_c(b, h, i, computed);
        const int only = rng.range(0, num_columns - 1);
        bool any = false;
        for (int j = 0; j < num_columns; ++j) {
          const bool on = computed && sees_block(pattern, head, i, j, geometry, only, rng);
          symbols.set_s(b, h, i, j, on);
          any = any || on;
        }
        if (computed && !any) symbols.set_s(b, h, i, fallback_block(head), true);
      }
    }
  }
  return symbols;
}

}  // namespace flashomni::testkit
