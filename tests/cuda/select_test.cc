// SPDX-License-Identifier: Apache-2.0
//
// Symbol selection of the CUDA backend against the oracle.
//
// A selection is exact or wrong, but where a threshold falls within rounding of a partial sum both
// answers are right. Rows whose selection changes when scores and threshold are nudged by far more
// than rounding are called undecided and left out; there must be few of them.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <sstream>

#include "base/rng.h"
#include "reference/select_symbols.h"
#include "tests/cuda/cuda_backend.h"
#include "tests/testkit/cases.h"
#include "tests/testkit/compare.h"
#include "tests/testkit/cpu_backends.h"
#include "tests/testkit/guarded_symbols.h"

namespace flashomni::testkit {
namespace {

constexpr DType kF32 = DType::kF32;
using Bits = std::vector<uint8_t>;

GuardTensor gate_tensor(Backend& backend, const std::vector<int64_t>& shape, const Bits& gate,
                        const Placement& placement) {
  if (gate.empty()) return {};
  return {backend, DType::kU8, shape, std::vector<double>(gate.begin(), gate.end()), placement};
}

// A selection problem of either kind.
struct SelectCase {
  uint64_t seed = 0;
  SymbolGeometry geometry;
  BlockRange text_q, text_kv;
  TextScoreMode mode = TextScoreMode::kMeanOfSoftmaxes;
  SelectRule rule = SelectRule::kDropCdf;
  float parameter = 0;  // theta, tau or k
  Placement placement;
  std::vector<double> scores;
  Bits gate_q, gate_kv, c;

  std::string text() const {
    std::ostringstream s;
    s << "select seed=" << seed << " b=" << geometry.batch << " h=" << geometry.heads
      << " blocks=" << geometry.num_q_blocks() << "x" << geometry.num_kv_blocks() << " of "
      << geometry.block_q << "x" << geometry.block_kv << " text_q=" << text_q.begin << ".."
      << text_q.end << " text_kv=" << text_kv.begin << ".." << text_kv.end
      << " mode=" << static_cast<int>(mode) << " rule=" << static_cast<int>(rule)
      << " parameter=" << parameter << (gate_q.empty() ? "" : " gate_q")
      << (gate_kv.empty() ? "" : " gate_kv") << " " << placement_text(placement);
    return s.str();
  }
};

Bits random_bits(Rng& rng, int64_t n, double share) {
  Bits bits(static_cast<size_t>(n));
  for (uint8_t& bit : bits) bit = rng.coin(share);
  return bits;
}

enum class Length { kShort, kLongKv, kLong };

SelectCase random_select_case(uint64_t seed, Length length = Length::kShort) {
  Rng rng(seed);
  SelectCase c;
  c.seed = seed;
  SymbolGeometry& g = c.geometry;
  g.batch = rng.range(1, 2);
  g.heads = rng.range(1, 4);
  g.block_q = pick_block(rng);
  g.block_kv = pick_block(rng);
  const int blocks = pick<int>(rng, {1, 2, 3, 7, 20, 63, 64, 65, 70});
  g.q_tokens = g.kv_tokens = blocks * std::max(g.block_q, g.block_kv) - rng.range(0, 31);
  if (length != Length::kShort) {
    // Around every limit of the kernels. The oracle takes its time, so one side or one head only.
    const int many = pick<int>(rng, {96, 97, 132, 160, 161, 260, 289, 512, 513, 545, 1024, 1025});
    const int block = std::max(g.block_q, g.block_kv);
    g.batch = 1;
    if (length == Length::kLong) g.heads = 1;
    g.kv_tokens = many * (length == Length::kLong ? block : g.block_kv);
    g.q_tokens = length == Length::kLong ? g.kv_tokens : 5 * g.block_q;
  }
  // Text at the front or at the end, where its first block may be mixed.
  const int text_tokens = rng.range(1, std::min(g.q_tokens, g.kv_tokens));
  if (rng.coin(0.5)) {
    c.text_q = {0, (text_tokens + g.block_q - 1) / g.block_q};
    c.text_kv = {0, (text_tokens + g.block_kv - 1) / g.block_kv};
  } else {
    c.text_q = {(g.q_tokens - text_tokens) / g.block_q, g.num_q_blocks()};
    c.text_kv = {(g.kv_tokens - text_tokens) / g.block_kv, g.num_kv_blocks()};
  }
  c.mode =
      pick<TextScoreMode>(rng, {TextScoreMode::kMeanOfSoftmaxes, TextScoreMode::kSoftmaxOfSum});
  c.rule = pick<SelectRule>(rng, {SelectRule::kDropCdf, SelectRule::kKeepCdfLt,
                                  SelectRule::kKeepCdfGe, SelectRule::kTopK});
  c.parameter = pick<float>(rng, {-0.5f, 0.05f, 0.15f, 0.3f, 0.5f, 0.8f, 0.95f});
  if (c.rule == SelectRule::kTopK) {
    c.parameter = static_cast<float>(rng.range(0, g.num_kv_blocks() + 1));
  }
  c.placement = pick_placement(rng);
  const int64_t rows = int64_t{1} * g.batch * g.heads * g.num_q_blocks();
  const double spread = pick<double>(rng, {0.02, 0.3, 2});
  c.scores = rounded_to(kF32, normal_values(rng, rows * g.num_kv_blocks(), spread));
  if (rng.coin(0.5)) c.gate_q = random_bits(rng, rows, 0.8);
  if (rng.coin(0.5)) {
    c.gate_kv = random_bits(rng, int64_t{1} * g.batch * g.heads * g.num_kv_blocks(), 0.8);
  }
  c.c = random_bits(rng, rows, 0.7);
  return c;
}

reference::ScoreShape score_shape(const SymbolGeometry& g) {
  return {g.batch, g.heads, g.num_q_blocks(), g.num_kv_blocks(), g.block_q, g.block_kv};
}

Bits oracle_rows(const SelectCase& c, const std::vector<double>& scores, double theta) {
  reference::CachedRowsInput<double> in;
  in.shape = score_shape(c.geometry);
  in.scores = scores;
  in.text_q = {c.text_q.begin, c.text_q.end};
  in.text_kv = {c.text_kv.begin, c.text_kv.end};
  in.mode = c.mode == TextScoreMode::kMeanOfSoftmaxes ? reference::TextScore::kMeanOfSoftmaxes
                                                      : reference::TextScore::kSoftmaxOfSum;
  in.theta = theta;
  in.gate_q = c.gate_q;
  return reference::select_cached_rows(in);
}

reference::Rule oracle_rule(SelectRule rule) {
  switch (rule) {
    case SelectRule::kDropCdf:
      return reference::Rule::kDropCdf;
    case SelectRule::kKeepCdfLt:
      return reference::Rule::kKeepCdfLt;
    case SelectRule::kKeepCdfGe:
      return reference::Rule::kKeepCdfGe;
    case SelectRule::kTopK:
      break;
  }
  return reference::Rule::kTopK;
}

Bits oracle_kv(const SelectCase& c, const std::vector<double>& scores, double parameter) {
  reference::KvBlocksInput<double> in;
  in.shape = score_shape(c.geometry);
  in.scores = scores;
  in.rule = oracle_rule(c.rule);
  in.parameter = parameter;
  in.keep_q = {c.text_q.begin, c.text_q.end};
  in.keep_kv = {c.text_kv.begin, c.text_kv.end};
  in.gate_q = c.gate_q;
  in.gate_kv = c.gate_kv;
  in.c = c.c;
  return reference::select_kv_blocks(in);
}

// For every group of `group` bits: does it stay the same when everything is nudged?
template <class Select>
std::vector<bool> decided(const SelectCase& c, size_t group, const Select& select) {
  const Bits exact = select(c, c.scores, c.parameter);
  std::vector<bool> result(exact.size() / group, true);
  Rng rng(c.seed ^ 0xd1ce);
  for (int nudge = 0; nudge < 8; ++nudge) {
    std::vector<double> scores = c.scores;
    for (double& z : scores) z += 1e-5 * (1 + std::abs(z)) * (2 * rng.uniform() - 1);
    const bool is_count = c.rule == SelectRule::kTopK;
    const double parameter = c.parameter * (is_count ? 1 : 1 + (nudge % 2 ? 1e-4 : -1e-4));
    const Bits other = select(c, scores, parameter);
    for (size_t i = 0; i < exact.size(); ++i) {
      if (exact[i] != other[i]) result[i / group] = false;
    }
  }
  return result;
}

// Compares the decided groups; adds to the tallies.
void expect_same(const Bits& ours, const Bits& truth, const std::vector<bool>& is_decided,
                 int64_t& groups, int64_t& undecided) {
  ASSERT_EQ(ours.size(), truth.size());
  const size_t group = truth.size() / is_decided.size();
  for (size_t n = 0; n < is_decided.size(); ++n) {
    ++groups;
    if (!is_decided[n]) {
      ++undecided;
      continue;
    }
    const auto from = static_cast<std::ptrdiff_t>(n * group);
    const auto to = static_cast<std::ptrdiff_t>((n + 1) * group);
    ASSERT_EQ(Bits(ours.begin() + from, ours.begin() + to),
              Bits(truth.begin() + from, truth.begin() + to))
        << "group " << n;
  }
}

std::vector<int64_t> score_dims(const SymbolGeometry& g) {
  return {g.batch, g.heads, g.num_q_blocks(), g.num_kv_blocks()};
}

class CudaSelect : public CudaTest {};

TEST_F(CudaSelect, CachedRowsMatchTheOracle) {
  int64_t groups = 0, undecided = 0;
  for (uint64_t seed = 520000; seed < 520080; ++seed) {
    SelectCase c = random_select_case(seed, seed < 520060 ? Length::kShort : Length::kLong);
    c.rule = SelectRule::kDropCdf;
    c.parameter = std::min(c.parameter, 0.95f);
    if (seed % 10 == 0) c.text_q = c.text_kv = {};  // then nothing may be cached
    const SymbolGeometry& g = c.geometry;
    const Bits truth = oracle_rows(c, c.scores, c.parameter);
    const std::vector<bool> is_decided =
        decided(c, static_cast<size_t>(g.num_q_blocks()), oracle_rows);
    {
      SCOPED_TRACE(c.text());
      Backend& gpu = backend();
      const GuardTensor scores(gpu, kF32, score_dims(g), c.scores, c.placement);
      const GuardTensor gate =
          gate_tensor(gpu, {g.batch, g.heads, g.num_q_blocks()}, c.gate_q, c.placement);
      const GuardedSymbols symbols(gpu, g);
      const Status done = gpu.select_cached_rows({}, {.scores = scores.view(),
                                                      .text_q = c.text_q,
                                                      .text_kv = c.text_kv,
                                                      .mode = c.mode,
                                                      .theta = c.parameter,
                                                      .gate_q = gate.view(),
                                                      .symbols = symbols.view()});
      ASSERT_TRUE(done.ok()) << done.to_string();
      EXPECT_EQ(symbols.damage() + scores.damage() + gate.damage(), "");
      EXPECT_TRUE(padding_is_zero(symbols.c_words(), g.batch * g.heads, g.num_q_blocks()));
      expect_same(symbols.mask().c, truth, is_decided, groups, undecided);
    }
  }
  EXPECT_LT(undecided, groups / 20);
}

TEST_F(CudaSelect, KvBlocksMatchTheOracle) {
  int64_t groups = 0, undecided = 0;
  for (uint64_t seed = 530000; seed < 530120; ++seed) {
    const SelectCase c = random_select_case(seed, seed < 530060 ? Length::kShort : Length::kLongKv);
    const SymbolGeometry& g = c.geometry;
    const Bits truth = oracle_kv(c, c.scores, c.parameter);
    const std::vector<bool> is_decided =
        decided(c, static_cast<size_t>(g.num_kv_blocks()), oracle_kv);
    SparseSymbols given(g);
    const int rows = g.batch * g.heads * g.num_q_blocks();
    for (int row = 0; row < rows; ++row) {
      const int bh = row / g.num_q_blocks();
      given.set_c(bh / g.heads, bh % g.heads, row % g.num_q_blocks(), c.c[row]);
    }
    std::fill(given.s_words().begin(), given.s_words().end(), ~uint64_t{0});  // to be overwritten
    {
      SCOPED_TRACE(c.text());
      Backend& gpu = backend();
      const GuardTensor scores(gpu, kF32, score_dims(g), c.scores, c.placement);
      const GuardTensor gate_q =
          gate_tensor(gpu, {g.batch, g.heads, g.num_q_blocks()}, c.gate_q, c.placement);
      const GuardTensor gate_kv =
          gate_tensor(gpu, {g.batch, g.heads, g.num_kv_blocks()}, c.gate_kv, c.placement);
      const GuardedSymbols symbols(gpu, given);
      const Status done = gpu.select_kv_blocks({}, {.scores = scores.view(),
                                                    .rule = c.rule,
                                                    .parameter = c.parameter,
                                                    .keep_q = c.text_q,
                                                    .keep_kv = c.text_kv,
                                                    .gate_q = gate_q.view(),
                                                    .gate_kv = gate_kv.view(),
                                                    .symbols = symbols.view()});
      ASSERT_TRUE(done.ok()) << done.to_string();
      EXPECT_EQ(symbols.damage() + scores.damage() + gate_q.damage() + gate_kv.damage(), "");
      EXPECT_TRUE(padding_is_zero(symbols.s_words(), rows, g.num_kv_blocks()));
      EXPECT_EQ(symbols.mask().c, c.c);
      expect_same(symbols.mask().s, truth, is_decided, groups, undecided);

      SymbolCounts counts;
      EXPECT_TRUE(gpu.count_symbols({}, {symbols.view(), &counts}).ok());
      EXPECT_TRUE(gpu.synchronize({}).ok());
      const reference::BlockMask mask = symbols.mask();
      EXPECT_EQ(counts.rows, rows);
      EXPECT_EQ(counts.active_rows, std::count(mask.c.begin(), mask.c.end(), 1));
      EXPECT_EQ(counts.pairs, int64_t{1} * rows * g.num_kv_blocks());
      EXPECT_EQ(counts.active_pairs, std::count(mask.s.begin(), mask.s.end(), 1));
    }
  }
  EXPECT_LT(undecided, groups / 20);
}

// Rows and words around a word's border, against the CPU's symbols.
TEST_F(CudaSelect, KeepColumnsMatchesTheCpu) {
  Rng rng(31);
  for (const int blocks : {1, 5, 63, 64, 65, 129}) {
    SymbolGeometry g{.batch = 2, .heads = 3, .q_tokens = 7 * 64, .kv_tokens = blocks * 64};
    SparseSymbols want(g);
    for (int b = 0; b < g.batch; ++b) {
      for (int h = 0; h < g.heads; ++h) {
        for (int i = 0; i < g.num_q_blocks(); ++i) {
          want.set_c(b, h, i, rng.coin(0.6));
          for (int j = 0; j < blocks; ++j) want.set_s(b, h, i, j, rng.coin(0.3));
        }
      }
    }
    want.repair();
    const GuardedSymbols symbols(backend(), want);
    const int begin = rng.range(0, blocks), end = rng.range(begin, blocks);
    SCOPED_TRACE(std::to_string(begin) + " to " + std::to_string(end) + " of " +
                 std::to_string(blocks));
    ASSERT_TRUE(backend().keep_columns({}, {{begin, end}, symbols.view()}).ok());
    ASSERT_TRUE(cpu_backend().keep_columns({}, {{begin, end}, want.view()}).ok());
    ASSERT_TRUE(backend().synchronize({}).ok());
    EXPECT_EQ(symbols.damage(), "");
    const auto words = want.s_words();
    EXPECT_EQ(symbols.s_words(), std::vector<uint64_t>(words.begin(), words.end()));
  }
}

// Equal scores: every share is exactly 1/8 and every partial sum exact, so the rules must stop at
// the very same entry and take the smaller index first.
TEST_F(CudaSelect, TiesGoToTheSmallerIndex) {
  SelectCase c;
  c.geometry = {.q_tokens = 512, .kv_tokens = 512};
  c.scores.assign(64, 0.25);
  c.c.assign(8, 1);
  c.text_q = c.text_kv = {0, 0};
  for (SelectRule rule : {SelectRule::kDropCdf, SelectRule::kKeepCdfLt, SelectRule::kTopK}) {
    for (float share : {0.125f, 0.25f, 0.5f, 0.75f}) {
      c.rule = rule;
      c.parameter = rule == SelectRule::kTopK ? share * 8 : share;
      const Bits truth = oracle_kv(c, c.scores, c.parameter);
      {
        SCOPED_TRACE(c.text());
        Backend& gpu = backend();
        const GuardTensor scores(gpu, kF32, {1, 1, 8, 8}, c.scores);
        const GuardedSymbols symbols(gpu, SparseSymbols(c.geometry));
        const Status done = gpu.select_kv_blocks({}, {.scores = scores.view(),
                                                      .rule = rule,
                                                      .parameter = c.parameter,
                                                      .symbols = symbols.view()});
        ASSERT_TRUE(done.ok()) << done.to_string();
        EXPECT_EQ(symbols.mask().s, truth);
      }
    }
  }
}

// Rows of one value, of infinities and of what is not a number, which weighs nothing; thresholds at
// both ends, and one that no partial sum of these rows meets.
TEST_F(CudaSelect, OddRowsMatchTheOracle) {
  struct Row {
    double given[3], means[3];  // repeated along the row
  };
  const Row rows[] = {{{0, 0, 0}, {0, 0, 0}},
                      {{-INFINITY, -INFINITY, -INFINITY}, {0, 0, 0}},
                      {{1, -INFINITY, 1}, {1, -INFINITY, 1}},
                      {{2, NAN, 2}, {2, -INFINITY, 2}},
                      {{-0.0, 0, -0.0}, {0, 0, 0}},
                      {{3000, -3000, 3000}, {3000, -3000, 3000}}};
  constexpr int kRows = static_cast<int>(std::size(rows));
  for (const int blocks : {1, 2, 33, 132, 1030}) {
    SelectCase c;
    c.geometry = {.batch = 1,
                  .heads = 1,
                  .q_tokens = kRows * 64,
                  .kv_tokens = blocks * 64,
                  .block_q = 64,
                  .block_kv = 64};
    c.c.assign(kRows, 1);
    std::vector<double> meant;
    for (const Row& row : rows) {
      for (int j = 0; j < blocks; ++j) {
        c.scores.push_back(row.given[j % 3]);
        meant.push_back(row.means[j % 3]);
      }
    }
    for (SelectRule rule : {SelectRule::kDropCdf, SelectRule::kKeepCdfLt, SelectRule::kKeepCdfGe,
                            SelectRule::kTopK}) {
      for (float parameter : {-1.f, 0.f, 0.37f, 2.f}) {
        c.rule = rule;
        c.parameter = parameter;
        SCOPED_TRACE(c.text());
        const GuardTensor scores(backend(), kF32, score_dims(c.geometry), c.scores);
        const SparseSymbols all(c.geometry);
        const GuardedSymbols symbols(backend(), all);
        const Status done = backend().select_kv_blocks({}, {.scores = scores.view(),
                                                            .rule = rule,
                                                            .parameter = parameter,
                                                            .symbols = symbols.view()});
        ASSERT_TRUE(done.ok()) << done.to_string();
        EXPECT_EQ(symbols.mask().s, oracle_kv(c, meant, parameter));
      }
    }
  }
}

}  // namespace
}  // namespace flashomni::testkit
