// SPDX-License-Identifier: Apache-2.0
//
// Scores and selections of selection_ops.h on the CPU against the oracle, and what they refuse.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/rng.h"
#include "reference/row_scores.h"
#include "tests/testkit/cpu_backends.h"
#include "tests/testkit/guard_buffer.h"
#include "tests/testkit/guarded_symbols.h"

namespace flashomni::testkit {
namespace {

constexpr DType kF32 = DType::kF32;

std::vector<double> normals(Rng& rng, size_t n, double spread) {
  std::vector<double> out(n);
  for (double& x : out) x = double(static_cast<float>(spread * rng.normal()));
  return out;
}

// One head of [B, N, H, d].
std::vector<double> head_of(const std::vector<double>& x, int tokens, int heads, int d, int h) {
  std::vector<double> out;
  for (int t = 0; t < tokens; ++t) {
    for (int c = 0; c < d; ++c) out.push_back(x[(size_t(t) * heads + h) * d + c]);
  }
  return out;
}

TEST(SelectionOps, AntidiagonalScoresMatchTheOracle) {
  struct Case {
    int tokens, stride, block_q, block_kv;
  };
  // Also under AMX, whose other products are bf16.
  for (const auto& isa : all_cpu_isas()) {
    Backend& backend = cpu_backend(isa);
    for (const auto& [tokens, stride, block_q, block_kv] :
         {Case{1, 8, 64, 32}, Case{63, 8, 64, 32}, Case{64, 8, 64, 32}, Case{65, 8, 64, 32},
          Case{200, 8, 64, 32}, Case{193, 1, 64, 128}, Case{300, 12, 96, 36},
          Case{257, 32, 128, 64}, Case{700, 4, 32, 64}}) {
      SCOPED_TRACE(isa + ", tokens " + std::to_string(tokens));
      Rng rng{uint64_t(tokens)};
      const int heads = 2, d = 12;
      const int nq = (tokens + block_q - 1) / block_q, nkv = (tokens + block_kv - 1) / block_kv;
      const auto q = normals(rng, size_t(tokens) * heads * d, 1);
      const auto k = normals(rng, size_t(tokens) * heads * d, 1);
      GuardTensor qt(backend, kF32, {1, tokens, heads, d}, q, {.offset = 1, .pad = 3});
      GuardTensor kt(backend, kF32, {1, tokens, heads, d}, k);
      GuardTensor out(backend, kF32, {1, heads, nq, nkv});
      GuardTensor work(backend, kF32,
                       {1, heads, (tokens + stride - 1) / stride, std::max(nq, nkv)});
      AntidiagonalScoresParams p{.q = qt.view(), .k = kt.view(), .stride = stride};
      p.block_q = block_q;
      p.block_kv = block_kv;
      p.scale = 0.05f;
      p.out = out.view();
      p.workspace = work.view();
      ASSERT_TRUE(backend.antidiagonal_scores({}, p).ok());
      const auto seen = out.read().values;
      for (int h = 0; h < heads; ++h) {
        const auto want = reference::antidiagonal_mass(
            tokens, d, stride, block_q, block_kv, head_of(q, tokens, heads, d, h),
            head_of(k, tokens, heads, d, h), double(p.scale));
        for (size_t i = 0; i < want.size(); ++i) {
          EXPECT_NEAR(seen[size_t(h) * want.size() + i], std::log(want[i]), 2e-5) << tokens;
        }
      }
      EXPECT_EQ(out.damage() + work.damage(), "");
    }
  }
}

TEST(SelectionOps, ColumnMassMatchesTheOracle) {
  Backend& backend = cpu_backend();
  for (const auto& [block_q, block_kv, nq, nkv] :
       {std::tuple{64, 64, 9, 9}, {128, 64, 5, 9}, {64, 128, 9, 5}, {32, 32, 1, 1}}) {
    Rng rng(7);
    const reference::ScoreShape shape{2, 3, nq, nkv, block_q, block_kv};
    const auto z = normals(rng, size_t(6 * nq) * nkv, 2);
    GuardTensor scores(backend, kF32, {2, 3, nq, nkv}, z, {.offset = 2, .pad = 1});
    GuardTensor out(backend, kF32, {2, 3, nq});
    ASSERT_TRUE(backend
                    .column_mass({}, {.scores = scores.view(),
                                      .block_q = block_q,
                                      .block_kv = block_kv,
                                      .out = out.view()})
                    .ok());
    const auto want = reference::column_mass(shape, z);
    const auto seen = out.read().values;
    for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(seen[i], want[i], 1e-5);
  }
}

TEST(SelectionOps, ChangesMatchTheOracle) {
  const int tokens = 150, heads = 3, d = 20;
  Rng rng(3);
  const auto x = normals(rng, size_t(tokens) * heads * d, 1);
  auto y = normals(rng, size_t(tokens) * heads * d, 2);
  std::fill_n(y.begin(), 64 * heads * d, 0.0);  // a block of zeros
  double difference = 0, magnitude = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    difference += std::abs(x[i] - y[i]);
    magnitude += std::abs(y[i]);
  }
  ChangeSums sums[2];
  for (const int threads : {1, 3}) {
    Backend& backend = cpu_backend("", threads);
    GuardTensor xt(backend, kF32, {1, tokens, heads, d}, x, {.pad = 4});
    GuardTensor yt(backend, kF32, {1, tokens, heads, d}, y);
    for (const bool relative : {false, true}) {
      GuardTensor out(backend, kF32, {1, heads, 3});
      BlockChangeParams p{.x = xt.view(), .y = yt.view(), .block = 64, .relative = relative};
      p.out = out.view();
      ASSERT_TRUE(backend.block_change({}, p).ok());
      const auto want = reference::block_change(tokens, heads, d, 64, relative, x, y);
      const auto seen = out.read().values;
      for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(seen[i], want[i], 1e-5 * want[i] + 1e-9);
    }
    GuardTensor x3(backend, kF32, {1, tokens, heads * d}, x, {.pad = 2});
    GuardTensor y3(backend, kF32, {1, tokens, heads * d}, y);
    GuardTensor work(backend, DType::kF64, {1, 3, 2});
    ChangeSums& s = sums[threads == 3];
    ASSERT_TRUE(backend
                    .measure_change(
                        {}, {.x = x3.view(), .y = y3.view(), .workspace = work.view(), .out = &s})
                    .ok());
    EXPECT_NEAR(s.difference, difference, 1e-5 * difference);
    EXPECT_NEAR(s.magnitude, magnitude, 1e-5 * magnitude);
  }
  EXPECT_EQ(sums[0].difference, sums[1].difference);
  EXPECT_EQ(ChangeSums{}.relative(), 0.0);
  EXPECT_EQ((ChangeSums{1, 0}).relative(), 1.0);
}

SymbolGeometry geometry_of(int heads, int nq, int nkv) {
  SymbolGeometry g;
  g.heads = heads;
  g.block_q = g.block_kv = 32;
  g.q_tokens = nq * 32 - 5;
  g.kv_tokens = nkv * 32 - 5;
  return g;
}

TEST(SelectionOps, RowSelectionMatchesTheOracle) {
  Backend& backend = cpu_backend();
  Rng rng(11);
  for (int round = 0; round < 60; ++round) {
    const int heads = 2, nq = rng.range(1, 70);
    const SymbolGeometry g = geometry_of(heads, nq, nq);
    auto scores = normals(rng, size_t(heads) * nq, 1);
    for (double& s : scores) s = rng.coin(0.1) ? -1 : std::abs(s);
    if (round % 7 == 0) std::fill(scores.begin(), scores.end(), 0.0);
    std::vector<double> gate(scores.size());
    for (double& x : gate) x = rng.coin(0.8);
    const bool gated = rng.coin(0.5);
    const float theta = round == 0 ? -1.f : float(rng.range(0, 20)) / 20.f;
    const int from = rng.range(0, nq), to = rng.range(from, nq);
    GuardTensor st(backend, kF32, {1, heads, nq}, scores);
    GuardTensor gt(backend, DType::kU8, {1, heads, nq}, gate);
    SparseSymbols symbols(g);
    SelectRowsParams p{.scores = st.view(), .theta = theta, .keep = {from, to}};
    if (gated) p.gate_q = gt.view();
    p.symbols = symbols.view();
    ASSERT_TRUE(backend.select_rows({}, p).ok());
    for (int h = 0; h < heads; ++h) {
      const std::vector<double> own(scores.begin() + h * nq, scores.begin() + (h + 1) * nq);
      std::vector<uint8_t> own_gate;
      if (gated) own_gate.assign(gate.begin() + h * nq, gate.begin() + (h + 1) * nq);
      const auto want = reference::select_rows(own, double(theta), {from, to}, own_gate);
      for (int i = 0; i < nq; ++i) EXPECT_EQ(symbols.c(0, h, i), want[size_t(i)] != 0) << round;
    }
  }
}

TEST(SelectionOps, ShareSelectionMatchesTheOracle) {
  Backend& backend = cpu_backend();
  Rng rng(12);
  for (int round = 0; round < 60; ++round) {
    const int heads = 2, nq = rng.range(1, 20), nkv = rng.range(1, 70);
    const SymbolGeometry g = geometry_of(heads, nq, nkv);
    const auto z = normals(rng, size_t(heads) * nq * nkv, 2);
    // The rounding of the weights to single precision may move the threshold; shares that fall
    // between two entries cannot.
    const float share = float(rng.range(0, 10)) / 10.f;
    const int keep_q = rng.range(0, nq), keep_kv = rng.range(0, nkv);
    SparseSymbols symbols(g);
    std::vector<std::vector<uint8_t>> c(heads, std::vector<uint8_t>(size_t(nq)));
    for (int h = 0; h < heads; ++h) {
      for (int i = 0; i < nq; ++i) {
        c[size_t(h)][size_t(i)] = rng.coin(0.8);
        symbols.set_c(0, h, i, c[size_t(h)][size_t(i)]);
      }
    }
    GuardTensor zt(backend, kF32, {1, heads, nq, nkv}, z, {.pad = 2});
    ASSERT_TRUE(backend
                    .select_kv_share({}, {.scores = zt.view(),
                                          .share = share,
                                          .keep_q = {0, keep_q},
                                          .keep_kv = {0, keep_kv},
                                          .symbols = symbols.view()})
                    .ok());
    EXPECT_EQ(zt.damage(), "");
    EXPECT_TRUE(symbols.validate().ok()) << symbols.validate().message();
    const reference::ScoreShape shape{1, 1, nq, nkv, 32, 32};
    for (int h = 0; h < heads; ++h) {
      const std::vector<double> own(z.begin() + h * nq * nkv, z.begin() + (h + 1) * nq * nkv);
      const auto want = reference::select_kv_share(shape, own, double(share), {0, keep_q},
                                                   {0, keep_kv}, c[size_t(h)]);
      for (int i = 0; i < nq; ++i) {
        for (int j = 0; j < nkv; ++j) {
          EXPECT_EQ(symbols.s(0, h, i, j), want[size_t(i * nkv + j)] != 0)
              << round << " " << i << "," << j << " share " << share;
        }
      }
    }
  }
}

TEST(SelectionOps, PatternSelectionMatchesTheOracle) {
  Backend& backend = cpu_backend();
  Rng rng(13);
  for (int round = 0; round < 40; ++round) {
    const int heads = 3, nq = rng.range(1, 20), nkv = rng.range(1, 70), count = 3;
    const SymbolGeometry g = geometry_of(heads, nq, nkv);
    SymbolGeometry one = g;
    one.heads = 1;
    const auto z = normals(rng, size_t(heads) * nq * nkv, 1);
    std::vector<std::vector<uint8_t>> masks;
    std::vector<uint64_t> words;
    for (int p = 0; p < count; ++p) {
      SparseSymbols pattern(one);
      for (int i = 0; i < nq; ++i) {
        for (int j = 0; j < nkv; ++j) pattern.set_s(0, 0, i, j, rng.coin(0.3));
      }
      pattern.repair();
      masks.push_back(to_masks(pattern).s);
      words.insert(words.end(), pattern.s_words().begin(), pattern.s_words().end());
    }
    SparseSymbols symbols(g);
    std::vector<std::vector<uint8_t>> c(heads, std::vector<uint8_t>(size_t(nq)));
    for (int h = 0; h < heads; ++h) {
      for (int i = 0; i < nq; ++i) {
        c[size_t(h)][size_t(i)] = rng.coin(0.8);
        symbols.set_c(0, h, i, c[size_t(h)][size_t(i)]);
      }
    }
    const int keep_q = rng.range(0, nq);
    GuardTensor zt(backend, kF32, {1, heads, nq, nkv}, z);
    std::vector<int32_t> choice(heads, -1);
    SelectPatternParams p{.scores = zt.view(), .keep_q = {0, keep_q}, .patterns = words.data()};
    p.count = count;
    p.choice = TensorView::contiguous(choice.data(), DType::kI32, {1, heads});
    p.symbols = symbols.view();
    ASSERT_TRUE(backend.select_pattern({}, p).ok());
    EXPECT_TRUE(symbols.validate().ok());
    const reference::ScoreShape shape{1, 1, nq, nkv, 32, 32};
    for (int h = 0; h < heads; ++h) {
      const std::vector<double> own(z.begin() + h * nq * nkv, z.begin() + (h + 1) * nq * nkv);
      const int want = reference::best_pattern(shape, own, {0, keep_q}, masks, c[size_t(h)]);
      EXPECT_EQ(choice[size_t(h)], want);
      for (int i = 0; i < nq; ++i) {
        for (int j = 0; j < nkv; ++j) {
          const bool kept = c[size_t(h)][size_t(i)] && masks[size_t(want)][size_t(i * nkv + j)];
          EXPECT_EQ(symbols.s(0, h, i, j), kept);
        }
      }
    }
  }
}

// Worked by hand, then against a loop over single symbols at sizes around a word.
TEST(SelectionOps, KeepColumnsPutsBlocksBack) {
  Backend& backend = cpu_backend();
  SparseSymbols hand(geometry_of(1, 3, 4));
  hand.set_c(0, 0, 1, false);  // cached: stays without blocks
  for (int i = 0; i < 3; ++i) {
    for (int j = 0; j < 4; ++j) hand.set_s(0, 0, i, j, i != 1 && j == 0);
  }
  ASSERT_TRUE(backend.keep_columns({}, {{2, 4}, hand.view()}).ok());
  const bool want[3][4] = {{1, 0, 1, 1}, {0, 0, 0, 0}, {1, 0, 1, 1}};
  for (int i = 0; i < 3; ++i) {
    for (int j = 0; j < 4; ++j) EXPECT_EQ(hand.s(0, 0, i, j), want[i][j]) << i << ", " << j;
  }
  Rng rng(29);
  for (const int nkv : {1, 63, 64, 65, 128, 130}) {
    SparseSymbols symbols(geometry_of(3, 5, nkv));
    for (int h = 0; h < 3; ++h) {
      for (int i = 0; i < 5; ++i) {
        symbols.set_c(0, h, i, rng.coin(0.7));
        for (int j = 0; j < nkv; ++j) symbols.set_s(0, h, i, j, rng.coin(0.3));
      }
    }
    symbols.repair();
    const SparseSymbols before = symbols;
    const int begin = rng.range(0, nkv), end = rng.range(begin, nkv);
    ASSERT_TRUE(backend.keep_columns({}, {{begin, end}, symbols.view()}).ok());
    EXPECT_TRUE(symbols.validate().ok());
    for (int h = 0; h < 3; ++h) {
      for (int i = 0; i < 5; ++i) {
        EXPECT_EQ(symbols.c(0, h, i), before.c(0, h, i));
        for (int j = 0; j < nkv; ++j) {
          const bool kept = before.c(0, h, i) && j >= begin && j < end;
          EXPECT_EQ(symbols.s(0, h, i, j), before.s(0, h, i, j) || kept);
        }
      }
    }
  }
}

TEST(SelectionOps, AreRefusedByName) {
  Backend& backend = cpu_backend();
  std::vector<float> x(64 * 4);
  std::vector<double> sums(2);
  const TensorView q = TensorView::contiguous(x.data(), kF32, {1, 16, 2, 4});
  const TensorView z = TensorView::contiguous(x.data(), kF32, {1, 1, 2, 2});
  SparseSymbols symbols(geometry_of(1, 2, 2));
  ChangeSums out;
  auto message = [](const Status& s) { return s.ok() ? std::string("ok") : s.message(); };
  EXPECT_NE(message(backend.antidiagonal_scores({}, {.q = q, .k = q, .stride = 7})).find("stride"),
            std::string::npos);
  EXPECT_NE(message(backend.column_mass({}, {.scores = z, .block_q = 0})).find("block"),
            std::string::npos);
  EXPECT_NE(message(backend.block_change({}, {.x = q, .y = z})).find("y is"), std::string::npos);
  EXPECT_NE(message(backend.select_rows({}, {.scores = z, .symbols = symbols.view()})).find("rank"),
            std::string::npos);
  EXPECT_NE(
      message(backend.select_kv_share({}, {.scores = z, .share = 1.5f, .symbols = symbols.view()}))
          .find("share"),
      std::string::npos);
  EXPECT_NE(message(backend.select_pattern({}, {.scores = z, .symbols = symbols.view()}))
                .find("patterns"),
            std::string::npos);
  EXPECT_NE(message(backend.keep_columns({}, {{0, 3}, symbols.view()})).find("keep"),
            std::string::npos);
  EXPECT_NE(message(backend.keep_columns({}, {{0, 1}, {}})).find("symbols"), std::string::npos);
  MeasureChangeParams m{.x = TensorView::contiguous(x.data(), kF32, {1, 4, 4})};
  m.y = m.x;
  EXPECT_NE(message(backend.measure_change({}, m)).find("sums"), std::string::npos);
  m.out = &out;
  EXPECT_NE(message(backend.measure_change({}, m)).find("workspace"), std::string::npos);
  m.workspace = TensorView::contiguous(sums.data(), DType::kF64, {1, 1, 2});
  EXPECT_EQ(message(backend.measure_change({}, m)), "ok");
}

}  // namespace
}  // namespace flashomni::testkit
