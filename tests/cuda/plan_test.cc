// SPDX-License-Identifier: Apache-2.0
//
// The attention lists that the device builds are those of the host builder, entry by entry.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <sstream>

#include "core/update_backend.h"
#include "cuda/kernels/plan/attention_plan.h"
#include "tests/cuda/cuda_backend.h"
#include "tests/cuda_host/skewed_symbols.h"
#include "tests/testkit/generate.h"
#include "tests/testkit/guarded_symbols.h"

namespace flashomni::testkit {
namespace {

using cuda::AttentionPlanHeader;
using cuda::AttentionPlanLayout;
using cuda::AttentionWork;

class CudaPlan : public CudaTest {};

struct PlanCase {
  SymbolGeometry geometry;
  Pattern pattern = Pattern::kBoth;
  int grid = 132;
  int head_dim = 128;
  bool dense = false;
  bool skewed = false;
  uint64_t seed = 0;

  std::string text() const {
    std::ostringstream s;
    s << "plan seed=" << seed << " b=" << geometry.batch << " h=" << geometry.heads
      << " n=" << geometry.q_tokens << "x" << geometry.kv_tokens << " blocks of "
      << geometry.block_q << "x" << geometry.block_kv << " grid=" << grid << " d=" << head_dim
      << (dense    ? " dense"
          : skewed ? " skewed"
                   : std::string(" ") + pattern_name(pattern));
    return s.str();
  }
};

std::string entry_text(const AttentionWork& w) {
  std::ostringstream s;
  s << "{rows " << w.row0 << "," << w.row1 << " skip " << w.skip << " count " << w.count
    << " merge " << w.merge << "}";
  return s.str();
}

// Empty when both plans say the same, else the first difference.
std::string difference(const PlanCase& c, const std::vector<uint8_t>& seen,
                       const std::vector<uint8_t>& want) {
  const AttentionPlanLayout layout(c.geometry, c.grid);
  std::ostringstream s;
  AttentionPlanHeader a, b;
  std::memcpy(&a, &seen[layout.header], sizeof(a));
  std::memcpy(&b, &want[layout.header], sizeof(b));
  if (std::memcmp(&a, &b, sizeof(a)) != 0) {
    s << "header: grid " << a.grid << " rows " << a.num_rows << " blocks " << a.total_blocks
      << " work " << a.num_work << ", wanted " << b.grid << " " << b.num_rows << " "
      << b.total_blocks << " " << b.num_work;
    return s.str();
  }
  const auto* offsets = reinterpret_cast<const int32_t*>(&seen[layout.offsets]);
  const auto* want_offsets = reinterpret_cast<const int32_t*>(&want[layout.offsets]);
  for (int cta = 0; cta <= c.grid; ++cta) {
    if (offsets[cta] == want_offsets[cta]) continue;
    s << "offset " << cta << " is " << offsets[cta] << ", wanted " << want_offsets[cta];
    return s.str();
  }
  const auto* work = reinterpret_cast<const AttentionWork*>(&seen[layout.work]);
  const auto* want_work = reinterpret_cast<const AttentionWork*>(&want[layout.work]);
  for (int cta = 0; cta < c.grid; ++cta) {
    for (int n = offsets[cta]; n < offsets[cta + 1]; ++n) {
      if (std::memcmp(&work[n], &want_work[n], sizeof(AttentionWork)) == 0) continue;
      s << "CTA " << cta << " entry " << n - offsets[cta] << " is " << entry_text(work[n])
        << ", wanted " << entry_text(want_work[n]);
      return s.str();
    }
  }
  const auto* flags = reinterpret_cast<const int32_t*>(&seen[layout.flags]);
  for (int n = 0; n < 2 * c.grid; ++n) {
    if (flags[n] != 0) return "flag " + std::to_string(n) + " is not 0";
  }
  return {};
}

void expect_equal_plans(Backend& backend, const PlanCase& c, const SparseSymbols& symbols) {
  SCOPED_TRACE(c.text());
  const GuardedSymbols on_device(backend, symbols);
  const AttentionPlanLayout layout(c.geometry, c.grid);
  GuardBuffer section(backend, layout.bytes);
  const Status built = c.dense ? cuda::build_dense_attention_plan(nullptr, c.geometry, c.grid,
                                                                  c.head_dim, section.data())
                               : cuda::build_attention_plan(nullptr, on_device.view(), c.grid,
                                                            c.head_dim, section.data());
  ASSERT_TRUE(built.ok()) << built.to_string();
  std::vector<uint8_t> want(layout.bytes);
  cuda::build_attention_plan_on_host(c.geometry, c.dense ? nullptr : symbols.c_words().data(),
                                     c.dense ? nullptr : symbols.s_words().data(), c.grid,
                                     c.head_dim, want.data());
  const std::vector<uint8_t> seen = section.read();
  EXPECT_EQ(section.damage(), "");
  EXPECT_EQ(difference(c, seen, want), "");
}

void expect_equal_plans(Backend& backend, const PlanCase& c) {
  Rng rng(c.seed);
  expect_equal_plans(
      backend, c,
      c.skewed ? skewed_symbols(c.geometry, rng) : make_symbols(c.geometry, c.pattern, rng));
}

TEST_F(CudaPlan, EqualsTheHostBuilder) {
  for (uint64_t seed = 700000; seed < 700120; ++seed) {
    Rng rng(seed);
    PlanCase c;
    c.seed = seed;
    SymbolGeometry& g = c.geometry;
    g.batch = rng.range(1, 2);
    g.heads = pick<int>(rng, {1, 2, 5, 24});
    g.block_q = pick<int>(rng, {64, 128});
    g.block_kv = pick<int>(rng, {64, 128});
    g.q_tokens = pick<int>(rng, {1, 64, 129, 640, 1300, 4608, 9000});
    g.kv_tokens = rng.coin(0.7) ? g.q_tokens : pick<int>(rng, {1, 200, 5000});
    c.pattern = kPatterns[rng.below(std::size(kPatterns))];
    c.grid = pick<int>(rng, {1, 3, 7, 64, 132, 144, 264});
    c.head_dim = pick<int>(rng, {64, 128});
    c.dense = rng.coin(0.15);
    c.skewed = seed % 2 == 0;
    // Plans know of ragged blocks how many there are.
    if (seed % 5 == 0) {
      g.kv_tokens = g.q_tokens;
      g.block_kv = g.block_q;
      g.ragged_blocks = std::min(g.q_tokens, 2 * g.num_q_blocks() + 1);
    }
    expect_equal_plans(backend(), c);
  }
}

TEST_F(CudaPlan, EqualsTheHostBuilderWhereCutsCrowd) {
  PlanCase c;
  const SparseSymbols symbols = crowded_symbols();
  c.geometry = symbols.geometry();
  c.grid = 3;
  expect_equal_plans(backend(), c, symbols);
}

// More tiles than fit the shared memory of the dealing CTA, and more than one chunk of a group.
TEST_F(CudaPlan, EqualsTheHostBuilderForLongSequences) {
  for (const int block_q : {64, 128}) {
    PlanCase c;
    c.seed = 701000;
    c.geometry = {.batch = 1,
                  .heads = 12,
                  .q_tokens = 90001,
                  .kv_tokens = 90001,
                  .block_q = block_q,
                  .block_kv = 128};
    c.pattern = Pattern::kRandomS;
    expect_equal_plans(backend(), c);
    c.geometry.heads = 1;
    c.geometry.q_tokens = 400000;
    c.geometry.kv_tokens = 1000;
    expect_equal_plans(backend(), c);
  }
}

TEST_F(CudaPlan, TheBackendPutsTheAttentionPartFirst) {
  const SymbolGeometry g{
      .batch = 1, .heads = 3, .q_tokens = 1000, .kv_tokens = 1000, .block_q = 128, .block_kv = 128};
  Rng rng(5);
  const SparseSymbols symbols = make_symbols(g, Pattern::kBoth, rng);
  GuardedSymbols on_device(backend(), symbols);
  const PlanView plan = on_device.make_plan();
  AttentionPlanHeader header;
  ASSERT_TRUE(backend().download({}, &header, plan.data, sizeof(header)).ok());
  EXPECT_EQ(header.num_rows, symbols.counts().active_rows);
  EXPECT_EQ(header.total_blocks, symbols.counts().active_pairs);
  EXPECT_EQ(on_device.damage(), "");
}

// More than one launch takes, and more than one geometry.
TEST_F(CudaPlan, ManyAtOnceAreThePlansOneByOne) {
  auto* together = dynamic_cast<UpdateBackend*>(&backend());
  ASSERT_TRUE(together && together->offers_update_work());
  Rng rng(702000);
  std::vector<GuardedSymbols> symbols;
  std::vector<GuardBuffer> one_by_one, at_once, early;
  std::vector<PlanParams> plans;
  std::vector<CountSymbolsParams> counted;
  std::vector<SymbolCounts> wanted, seen(150);
  for (int i = 0; i < 150; ++i) {
    SymbolGeometry g{.batch = 1, .heads = 5, .q_tokens = 1300, .kv_tokens = 1300};
    g.block_q = i < 100 ? 128 : 64;
    g.block_kv = i < 110 ? 128 : 64;
    const SparseSymbols made = make_symbols(g, kPatterns[i % std::size(kPatterns)], rng);
    wanted.push_back(made.counts());
    symbols.emplace_back(backend(), made);
    const size_t bytes = backend().plan_bytes(g);
    for (auto* plan : {&one_by_one, &at_once, &early}) {
      plan->emplace_back(backend(), bytes);
      plan->back().write(std::vector<uint8_t>(bytes, 0).data());
    }
    plans.push_back({symbols.back().view(), {at_once.back().data(), bytes}});
    counted.push_back({symbols.back().view(), &seen[size_t(i)]});
    ASSERT_TRUE(
        backend().plan({}, {symbols.back().view(), {one_by_one.back().data(), bytes}}).ok());
    ASSERT_TRUE(
        together->plan_projections({}, {symbols.back().view(), {early.back().data(), bytes}}).ok());
  }
  ASSERT_TRUE(together->plan_all({}, plans).ok());
  ASSERT_TRUE(together->count_all({}, counted).ok());
  ASSERT_TRUE(backend().synchronize({}).ok());
  for (size_t i = 0; i < plans.size(); ++i) {
    SCOPED_TRACE(i);
    const std::vector<uint8_t> whole = one_by_one[i].read();
    EXPECT_TRUE(at_once[i].read() == whole);
    // The attention part comes first.
    const std::vector<uint8_t> part = early[i].read();
    const auto end = std::find_if(part.begin(), part.end(), [](uint8_t b) { return b != 0; });
    ASSERT_TRUE(end != part.end());  // every tile has its place in the order
    const auto begin = end - part.begin();
    EXPECT_TRUE(std::equal(end, part.end(), whole.begin() + begin));
    EXPECT_EQ(at_once[i].damage() + early[i].damage() + symbols[i].damage(), "");
    EXPECT_EQ(seen[i].rows, wanted[i].rows);
    EXPECT_EQ(seen[i].pairs, wanted[i].pairs);
    EXPECT_EQ(seen[i].active_rows, wanted[i].active_rows);
    EXPECT_EQ(seen[i].active_pairs, wanted[i].active_pairs);
  }
  EXPECT_TRUE(together->plan_all({}, {}).ok());
  EXPECT_TRUE(together->count_all({}, {}).ok());
}

}  // namespace
}  // namespace flashomni::testkit
