// SPDX-License-Identifier: Apache-2.0
//
// Scores and selections of selection_ops.h on the GPU beside the CPU backend, which the oracle
// checks. Scores agree within rounding; selections agree bit for bit, but where a weight lies
// within rounding of the threshold. The same call twice gives the same bits.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <sstream>

#include "base/rng.h"
#include "tests/cuda/cuda_backend.h"
#include "tests/cuda/recorder.h"
#include "tests/testkit/cases.h"
#include "tests/testkit/compare.h"
#include "tests/testkit/cpu_backends.h"
#include "tests/testkit/guarded_symbols.h"

namespace flashomni::testkit {
namespace {

constexpr DType kF32 = DType::kF32, kBF16 = DType::kBF16, kF16 = DType::kF16;

class CudaSelectionOps : public CudaTest {};

bool names(const Status& status, const std::string& word) {
  return !status.ok() && status.message().find(word) != std::string::npos;
}

// Runs `call` with a fresh output twice: what it wrote, which has to be the same.
template <class Call>
std::vector<double> twice(Backend& gpu, const std::vector<int64_t>& shape, const Call& call) {
  std::vector<double> first;
  for (const Placement& placement : {Placement{}, Placement{.offset = 1, .pad = 3}}) {
    const GuardTensor out(gpu, kF32, shape, placement);
    const Status done = call(out.view());
    EXPECT_TRUE(done.ok()) << done.to_string();
    EXPECT_TRUE(gpu.synchronize({}).ok());
    EXPECT_EQ(out.damage(), "");
    const std::vector<double> seen = out.read().values;
    if (first.empty()) {
      first = seen;
    } else {
      EXPECT_EQ(seen, first);
    }
  }
  return first;
}

void expect_close(const std::vector<double>& seen, const std::vector<double>& want, double relative,
                  double absolute) {
  ASSERT_EQ(seen.size(), want.size());
  for (size_t i = 0; i < want.size(); ++i) {
    if (seen[i] == want[i]) continue;  // infinities too
    ASSERT_NEAR(seen[i], want[i], relative * std::abs(want[i]) + absolute) << "element " << i;
  }
}

struct GroupCase {
  int tokens, head_dim, stride, block_q, block_kv;
};

TEST_F(CudaSelectionOps, AntidiagonalScoresMatchTheCpu) {
  const int batch = 2, heads = 3;
  for (const auto& [tokens, d, stride, block_q, block_kv] :
       {GroupCase{1, 64, 8, 64, 64}, GroupCase{63, 64, 8, 64, 64}, GroupCase{64, 128, 8, 64, 64},
        GroupCase{65, 96, 16, 64, 64}, GroupCase{127, 64, 8, 128, 64},
        GroupCase{128, 128, 16, 128, 128}, GroupCase{129, 64, 4, 64, 128},
        GroupCase{191, 64, 64, 64, 64}, GroupCase{192, 96, 128, 128, 128},
        GroupCase{193, 32, 1, 128, 128}, GroupCase{300, 64, 2, 64, 64},
        GroupCase{1100, 64, 4, 128, 128}, GroupCase{2111, 128, 8, 128, 128}}) {
    for (const DType dtype : {kBF16, kF16}) {
      SCOPED_TRACE("tokens " + std::to_string(tokens) + " stride " + std::to_string(stride) +
                   " of " + dtype_name(dtype));
      Rng rng{uint64_t(tokens)};
      const std::vector<int64_t> shape = {batch, tokens, heads, d};
      const auto q = rounded_to(dtype, normal_values(rng, count(shape), 1));
      const auto k = rounded_to(dtype, normal_values(rng, count(shape), 1));
      const auto blocks = [&](int size) { return int64_t{tokens + size - 1} / size; };
      const std::vector<int64_t> scores = {batch, heads, blocks(block_q), blocks(block_kv)};
      const auto run = [&](Backend& backend, DType type, const TensorView& out, bool strided) {
        const Placement placement = strided ? Placement{.offset = 8, .pad = 8} : Placement{};
        const GuardTensor qt(backend, type, shape, q, placement), kt(backend, type, shape, k);
        const GuardTensor work(backend, kF32,
                               {batch, heads, blocks(stride), std::max(scores[2], scores[3])});
        AntidiagonalScoresParams p{.q = qt.view(), .k = kt.view(), .stride = stride};
        p.block_q = block_q;
        p.block_kv = block_kv;
        // Logits of about 3 at any stride, and the usual scale in one of the cases.
        if (tokens != 1100) p.scale = static_cast<float>(3 / std::sqrt(double(d) * stride));
        p.out = out;
        p.workspace = work.view();
        const Status done = backend.antidiagonal_scores({}, p);
        EXPECT_TRUE(backend.synchronize({}).ok());
        EXPECT_EQ(work.damage() + qt.damage() + kt.damage(), "");
        return done;
      };
      const GuardTensor want(cpu_backend(), kF32, scores);
      ASSERT_TRUE(run(cpu_backend(), kF32, want.view(), false).ok());
      const auto seen = twice(backend(), scores, [&](const TensorView& out) {
        return run(backend(), dtype, out, out.stride[2] != out.size(3));
      });
      expect_close(seen, want.read().values, 0, 1e-4);
    }
  }
}

TEST_F(CudaSelectionOps, ColumnMassMatchesTheCpu) {
  for (const auto& [block_q, block_kv, nq, nkv] : {std::tuple{64, 64, 1, 1},
                                                   {64, 64, 33, 33},
                                                   {128, 64, 5, 9},
                                                   {64, 128, 9, 5},
                                                   {128, 128, 130, 130},
                                                   {64, 64, 1030, 260}}) {
    Rng rng(7);
    const std::vector<int64_t> shape = {2, 3, nq, nkv};
    auto z = rounded_to(kF32, normal_values(rng, count(shape), 2));
    z[0] = kNan;  // weighs nothing
    if (nkv > 1) z[1] = -INFINITY;
    const auto run = [&, block_q = block_q, block_kv = block_kv](Backend& backend,
                                                                 const TensorView& out) {
      const GuardTensor scores(backend, kF32, shape, z, {.offset = 2, .pad = 1});
      const Status done = backend.column_mass(
          {}, {.scores = scores.view(), .block_q = block_q, .block_kv = block_kv, .out = out});
      EXPECT_TRUE(backend.synchronize({}).ok());
      return done;
    };
    const GuardTensor want(cpu_backend(), kF32, {2, 3, nq});
    ASSERT_TRUE(run(cpu_backend(), want.view()).ok());
    const auto seen =
        twice(backend(), {2, 3, nq}, [&](const TensorView& out) { return run(backend(), out); });
    // The CPU adds up single precision.
    expect_close(seen, want.read().values, 2e-5, 1e-7);
  }
}

TEST_F(CudaSelectionOps, ChangesMatchTheCpu) {
  const int batch = 2, heads = 3;
  for (const int tokens : {1, 63, 64, 65, 127, 128, 129, 700}) {
    for (const int d : {20, 64, 96, 128}) {
      for (const DType dtype : kFloatTypes) {
        SCOPED_TRACE("tokens " + std::to_string(tokens) + " width " + std::to_string(d) + " of " +
                     dtype_name(dtype));
        Rng rng{uint64_t(tokens * d)};
        const std::vector<int64_t> shape = {batch, tokens, heads, d};
        const auto x = rounded_to(dtype, normal_values(rng, count(shape), 1));
        auto y = rounded_to(dtype, normal_values(rng, count(shape), 2));
        if (tokens > 64) std::fill_n(y.begin(), 64 * heads * d, 0.0);  // a block of zeros
        const bool strided = tokens % 2 == 0;
        const Placement placement =
            strided ? Placement{.offset = 8, .pad = d % 8 == 0 ? 8 : 3} : Placement{};
        for (const bool relative : {false, true}) {
          const std::vector<int64_t> blocks = {batch, heads, (tokens + 63) / 64};
          const auto run = [&](Backend& backend, DType type, const TensorView& out) {
            const GuardTensor xt(backend, type, shape, x, placement), yt(backend, type, shape, y);
            BlockChangeParams p{.x = xt.view(), .y = yt.view(), .block = 64, .relative = relative};
            p.out = out;
            const Status done = backend.block_change({}, p);
            EXPECT_TRUE(backend.synchronize({}).ok());
            return done;
          };
          const GuardTensor want(cpu_backend(), kF32, blocks);
          ASSERT_TRUE(run(cpu_backend(), kF32, want.view()).ok());
          const auto seen = twice(
              backend(), blocks, [&](const TensorView& out) { return run(backend(), dtype, out); });
          expect_close(seen, want.read().values, 1e-5, 1e-9);
        }
        // The same numbers as rows of a whole tensor.
        const std::vector<int64_t> rows = {batch, tokens, heads * d};
        ChangeSums sums[3];
        for (int run = 0; run < 3; ++run) {  // the GPU twice
          Backend& on = run == 0 ? cpu_backend() : backend();
          const DType type = run == 0 ? kF32 : dtype;
          const GuardTensor xt(on, type, rows, x, placement), yt(on, type, rows, y);
          const GuardTensor work(on, DType::kF64, {batch, (tokens + 63) / 64, 2});
          MeasureChangeParams p{.x = xt.view(), .y = yt.view(), .workspace = work.view()};
          p.out = &sums[run];
          ASSERT_TRUE(on.measure_change({}, p).ok());
          ASSERT_TRUE(on.synchronize({}).ok());
          EXPECT_EQ(work.damage(), "");
        }
        EXPECT_NEAR(sums[1].difference, sums[0].difference, 1e-5 * sums[0].difference);
        EXPECT_NEAR(sums[1].magnitude, sums[0].magnitude, 1e-5 * sums[0].magnitude);
        EXPECT_EQ(sums[1].difference, sums[2].difference);
        EXPECT_EQ(sums[1].magnitude, sums[2].magnitude);
      }
    }
  }
}

// Several wait for one synchronisation, and a second one for the same place stands for the first.
TEST_F(CudaSelectionOps, ChangesArriveWithTheSynchronisation) {
  const GuardTensor one(backend(), kF32, {1, 1, 4}, std::vector<double>{1, 1, 1, 1});
  const GuardTensor two(backend(), kF32, {1, 1, 4}, std::vector<double>{2, 2, 2, 5});
  const GuardTensor work(backend(), DType::kF64, {1, 1, 2});
  ChangeSums a, b;
  const auto measure = [&](const GuardTensor& x, const GuardTensor& y, ChangeSums* out) {
    return backend()
        .measure_change({}, {.x = x.view(), .y = y.view(), .workspace = work.view(), .out = out})
        .ok();
  };
  ASSERT_TRUE(measure(one, one, &a) && measure(one, two, &a) && measure(two, one, &b));
  ASSERT_TRUE(backend().synchronize({}).ok());
  EXPECT_EQ(a.difference, 7);
  EXPECT_EQ(a.magnitude, 11);
  EXPECT_EQ(b.difference, 7);
  EXPECT_EQ(b.magnitude, 4);
}

SymbolGeometry geometry_of(int batch, int heads, int nq, int nkv, int block_q = 64,
                           int block_kv = 64) {
  return {.batch = batch,
          .heads = heads,
          .q_tokens = nq * block_q - 5,
          .kv_tokens = nkv * block_kv - 5,
          .block_q = block_q,
          .block_kv = block_kv};
}

std::string where(const SymbolGeometry& g) {
  std::ostringstream s;
  s << g.num_q_blocks() << " x " << g.num_kv_blocks() << " blocks of " << g.block_q << " x "
    << g.block_kv;
  return s.str();
}

// Random rows are cached.
SparseSymbols symbols_with_rows(const SymbolGeometry& g, Rng& rng) {
  SparseSymbols symbols(g);
  for (int b = 0; b < g.batch; ++b) {
    for (int h = 0; h < g.heads; ++h) {
      for (int i = 0; i < g.num_q_blocks(); ++i) symbols.set_c(b, h, i, rng.coin(0.8));
    }
  }
  return symbols;
}

std::vector<uint64_t> words_of(std::span<const uint64_t> words) {
  return {words.begin(), words.end()};
}

// Scores are whole numbers: their sums are exact, and no threshold here falls on one.
TEST_F(CudaSelectionOps, RowSelectionHasTheBitsOfTheCpu) {
  Rng rng(11);
  for (const int nq : {1, 2, 31, 32, 33, 63, 64, 65, 127, 130, 513, 1100, 4096}) {
    for (const float theta : {-1.f, 0.f, 0.0137f, 0.2371f, 0.5133f, 0.7917f, 1.f, NAN}) {
      const SymbolGeometry g = geometry_of(2, 2, nq, 3);
      SCOPED_TRACE(where(g) + " theta " + std::to_string(theta));
      const std::vector<int64_t> shape = {2, 2, nq};
      std::vector<double> scores(static_cast<size_t>(count(shape)));
      for (double& s : scores) s = rng.coin(0.1) ? -1 : rng.coin(0.1) ? 0 : rng.range(0, 1000);
      scores[0] = kNan;
      scores[scores.size() / 2] = INFINITY;
      if (rng.coin(0.2)) std::fill(scores.begin(), scores.end(), 0.0);
      std::vector<double> gate(scores.size());
      for (double& x : gate) x = rng.coin(0.8);
      const bool gated = rng.coin(0.5);
      const int from = rng.range(0, nq), to = rng.range(from, nq);
      SparseSymbols want(g);
      for (int run = 0; run < 3; ++run) {  // the GPU twice
        Backend& on = run == 0 ? cpu_backend() : backend();
        const GuardTensor st(on, kF32, shape, scores, pick_placement(rng));
        const GuardTensor gt(on, DType::kU8, shape, gate);
        const GuardedSymbols symbols(on, g);
        SelectRowsParams p{.scores = st.view(), .theta = theta, .keep = {from, to}};
        if (gated) p.gate_q = gt.view();
        p.symbols = run == 0 ? want.view() : symbols.view();
        ASSERT_TRUE(on.select_rows({}, p).ok());
        ASSERT_TRUE(on.synchronize({}).ok());
        if (run == 0) continue;
        EXPECT_EQ(symbols.damage(), "");
        EXPECT_EQ(symbols.c_words(), words_of(want.c_words()));
      }
    }
  }
}

TEST_F(CudaSelectionOps, ShareSelectionMatchesTheCpu) {
  Rng rng(12);
  for (const auto& [nq, nkv] :
       {std::pair{1, 1}, {1, 65}, {20, 63}, {33, 64}, {64, 65}, {65, 33}, {130, 130}, {17, 1030}}) {
    for (const float share : {0.f, 0.1f, 0.5f, 0.77f, 1.f}) {
      const SymbolGeometry g = geometry_of(2, 2, nq, nkv, 128, 64);
      SCOPED_TRACE(where(g) + " share " + std::to_string(share));
      const std::vector<int64_t> shape = {2, 2, nq, nkv};
      auto z = rounded_to(kF32, normal_values(rng, count(shape), 2));
      z[0] = kNan;
      const BlockRange keep_q{0, rng.range(0, nq) / 2};
      const BlockRange keep_kv{nkv - rng.range(0, nkv) / 2, nkv};
      SparseSymbols want = symbols_with_rows(g, rng);
      const SparseSymbols rows = want;
      const auto run = [&](Backend& on, const TensorView& scores, SymbolsView symbols) {
        const Status done = on.select_kv_share({}, {.scores = scores,
                                                    .share = share,
                                                    .keep_q = keep_q,
                                                    .keep_kv = keep_kv,
                                                    .symbols = symbols});
        EXPECT_TRUE(done.ok()) << done.to_string();
        EXPECT_TRUE(on.synchronize({}).ok());
      };
      const GuardTensor cpu_scores(cpu_backend(), kF32, shape, z);
      run(cpu_backend(), cpu_scores.view(), want.view());
      const auto weights = cpu_scores.read().values;

      std::vector<uint64_t> first;
      for (int again = 0; again < 2; ++again) {
        const GuardTensor scores(backend(), kF32, shape, z, pick_placement(rng));
        const GuardedSymbols symbols(backend(), rows);
        run(backend(), scores.view(), symbols.view());
        EXPECT_EQ(scores.damage() + symbols.damage(), "");
        if (again) {
          EXPECT_EQ(symbols.s_words(), first);
          continue;
        }
        first = symbols.s_words();
        EXPECT_EQ(symbols.c_words(), words_of(rows.c_words()));
        EXPECT_TRUE(padding_is_zero(symbols.s_words(), int64_t{4} * nq, nkv));
        // Weights where rows and columns are judged, scores elsewhere.
        const auto seen_weights = scores.read().values;
        const auto mask = symbols.mask();
        for (int group = 0; group < 4; ++group) {
          const int b = group / 2, h = group % 2;
          const auto at = [&](int i, int j) {
            return (size_t(group) * nq + size_t(i)) * nkv + size_t(j);
          };
          const auto judged = [&](int i, int j) {
            return rows.c(b, h, i) && !keep_q.contains(i) && !keep_kv.contains(j);
          };
          double threshold = INFINITY;
          for (int i = 0; i < nq; ++i) {
            for (int j = 0; j < nkv; ++j) {
              if (!judged(i, j)) continue;
              EXPECT_NEAR(seen_weights[at(i, j)], weights[at(i, j)], 1e-6 * weights[at(i, j)]);
              if (want.s(b, h, i, j)) threshold = std::min(threshold, weights[at(i, j)]);
            }
          }
          for (int i = 0; i < nq; ++i) {
            for (int j = 0; j < nkv; ++j) {
              const bool near =
                  judged(i, j) && std::abs(weights[at(i, j)] - threshold) < 1e-6 * threshold;
              if (near) continue;
              ASSERT_EQ(mask.s[at(i, j)] != 0, want.s(b, h, i, j))
                  << "head " << group << " row " << i << " column " << j;
            }
          }
        }
      }
    }
  }
}

// Equal values are kept together, whichever of them is the k-th.
TEST_F(CudaSelectionOps, EqualWeightsAreKeptTogether) {
  const SymbolGeometry g = geometry_of(1, 1, 8, 8);
  const GuardTensor scores(backend(), kF32, {1, 1, 8, 8}, std::vector<double>(64, 0.25));
  const GuardedSymbols symbols(backend(), SparseSymbols(g));
  ASSERT_TRUE(
      backend()
          .select_kv_share({}, {.scores = scores.view(), .share = 0.5f, .symbols = symbols.view()})
          .ok());
  EXPECT_EQ(symbols.mask().s, std::vector<uint8_t>(64, 1));
}

TEST_F(CudaSelectionOps, PatternSelectionHasTheBitsOfTheCpu) {
  Rng rng(13);
  for (const auto& [nq, nkv] :
       {std::pair{1, 1}, {5, 65}, {20, 63}, {33, 64}, {65, 130}, {130, 130}, {40, 1030}}) {
    for (const int patterns : {1, 2, 5, 9}) {
      const SymbolGeometry g = geometry_of(2, 3, nq, nkv);
      SCOPED_TRACE(where(g) + " patterns " + std::to_string(patterns));
      SymbolGeometry one = g;
      one.batch = one.heads = 1;
      std::vector<uint64_t> words;
      for (int p = 0; p < patterns; ++p) {
        SparseSymbols pattern(one);
        for (int i = 0; i < nq; ++i) {
          for (int j = 0; j < nkv; ++j) pattern.set_s(0, 0, i, j, rng.coin(0.3));
        }
        pattern.repair();
        // The last one again: equal masses go to the smaller number.
        const auto own = pattern.s_words();
        if (p + 1 == patterns && p > 0) {
          words.insert(words.end(), words.begin(), words.begin() + std::ssize(own));
        } else {
          words.insert(words.end(), own.begin(), own.end());
        }
      }
      const std::vector<int64_t> shape = {2, 3, nq, nkv};
      auto z = rounded_to(kF32, normal_values(rng, count(shape), 1));
      z[0] = kNan;
      const BlockRange keep_q{0, rng.range(0, nq) / 2};
      SparseSymbols want = symbols_with_rows(g, rng);
      const SparseSymbols rows = want;
      std::vector<int32_t> choice(6, -1);
      const auto run = [&](Backend& on, const uint64_t* bits, const TensorView& chosen,
                           SymbolsView symbols) {
        const GuardTensor scores(on, kF32, shape, z, {.offset = 1, .pad = 2});
        SelectPatternParams p{.scores = scores.view(), .keep_q = keep_q, .patterns = bits};
        p.count = patterns;
        p.choice = chosen;
        p.symbols = symbols;
        const Status done = on.select_pattern({}, p);
        EXPECT_TRUE(done.ok()) << done.to_string();
        EXPECT_TRUE(on.synchronize({}).ok());
      };
      run(cpu_backend(), words.data(), TensorView::contiguous(choice.data(), DType::kI32, {2, 3}),
          want.view());
      GuardBuffer bits(backend(), words.size() * sizeof(uint64_t));
      bits.write(words.data());
      for (const bool with_choice : {true, false}) {
        const GuardTensor chosen(backend(), DType::kI32, {2, 3});
        const GuardedSymbols symbols(backend(), rows);
        run(backend(), static_cast<const uint64_t*>(bits.data()),
            with_choice ? chosen.view() : TensorView{}, symbols.view());
        EXPECT_EQ(symbols.damage() + bits.damage(), "");
        EXPECT_EQ(symbols.s_words(), words_of(want.s_words()));
        if (with_choice) {
          EXPECT_EQ(chosen.read().values, std::vector<double>(choice.begin(), choice.end()));
        }
      }
    }
  }
}

// Nothing in them allocates or waits: all fit into one graph.
TEST_F(CudaSelectionOps, GoIntoAGraph) {
  const int tokens = 700, heads = 2, d = 64;
  const SymbolGeometry g{.batch = 1,
                         .heads = heads,
                         .q_tokens = tokens,
                         .kv_tokens = tokens,
                         .block_q = 64,
                         .block_kv = 64};
  const int64_t blocks = g.num_q_blocks();
  Rng rng(5);
  const std::vector<int64_t> shape = {1, tokens, heads, d};
  const auto values = [&] { return normal_values(rng, count(shape)); };
  const GuardTensor q(backend(), kBF16, shape, values()), k(backend(), kBF16, shape, values());
  const GuardTensor scores(backend(), kF32, {1, heads, blocks, blocks});
  const GuardTensor groups(backend(), kF32, {1, heads, (tokens + 7) / 8, blocks});
  const GuardTensor mass(backend(), kF32, {1, heads, blocks});
  const GuardTensor change(backend(), kF32, {1, heads, blocks});
  const GuardTensor pieces(backend(), DType::kF64, {1, (tokens + 63) / 64, 2});
  const GuardedSymbols pattern(backend(), [&] {
    SymbolGeometry one = g;
    one.heads = 1;
    return SparseSymbols(one);
  }());
  const GuardedSymbols symbols(backend(), g);
  ChangeSums sums;
  const auto rows = [&](const GuardTensor& t) {
    return TensorView::contiguous(t.view().data, kBF16, {1, tokens, heads * d});
  };
  const auto all = [&](const Exec& exec) -> Status {
    Backend& gpu = backend();
    AntidiagonalScoresParams a{.q = q.view(), .k = k.view(), .stride = 8};
    a.out = scores.view();
    a.workspace = groups.view();
    FO_RETURN_IF_ERROR(gpu.antidiagonal_scores(exec, a));
    FO_RETURN_IF_ERROR(gpu.column_mass(exec, {.scores = scores.view(), .out = mass.view()}));
    BlockChangeParams c{.x = q.view(), .y = k.view(), .block = 64};
    c.out = change.view();
    FO_RETURN_IF_ERROR(gpu.block_change(exec, c));
    FO_RETURN_IF_ERROR(
        gpu.select_rows(exec, {.scores = change.view(), .theta = 0.3f, .symbols = symbols.view()}));
    SelectPatternParams p{.scores = scores.view(), .patterns = pattern.view().s};
    p.count = 1;
    p.symbols = symbols.view();
    FO_RETURN_IF_ERROR(gpu.select_pattern(exec, p));
    FO_RETURN_IF_ERROR(gpu.select_kv_share(
        exec, {.scores = scores.view(), .share = 0.5f, .symbols = symbols.view()}));
    return gpu.measure_change(
        exec, {.x = rows(q), .y = rows(k), .workspace = pieces.view(), .out = &sums});
  };
  Recorder recorder;
  if (HasFatalFailure()) return;
  const Exec exec{recorder.stream()};
  const Status done = all(exec);
  ASSERT_TRUE(done.ok()) << done.to_string();
  ASSERT_TRUE(backend().synchronize(exec).ok());
  const auto c = symbols.c_words(), s = symbols.s_words();
  const auto columns = mass.read().values;
  const ChangeSums eager = sums;
  recorder.capture([&] { return all(exec); });
  if (HasFatalFailure()) return;
  sums = {};
  recorder.replay();
  ASSERT_TRUE(backend().synchronize(exec).ok());
  EXPECT_EQ(symbols.c_words(), c);
  EXPECT_EQ(symbols.s_words(), s);
  EXPECT_EQ(mass.read().values, columns);
  EXPECT_EQ(sums.difference, eager.difference);
  EXPECT_EQ(sums.magnitude, eager.magnitude);
}

TEST_F(CudaSelectionOps, AreRefusedByName) {
  Backend& gpu = backend();
  const GuardTensor f32(gpu, kF32, {1, 64, 2, 64}), bf16(gpu, kBF16, {1, 64, 2, 64});
  const GuardTensor odd(gpu, kBF16, {1, 64, 2, 40}), scores(gpu, kF32, {1, 1, 2, 2});
  const GuardedSymbols symbols(gpu, geometry_of(1, 1, 2, 2));
  EXPECT_TRUE(names(gpu.antidiagonal_scores({}, {.q = f32.view(), .k = f32.view()}), "f32"));
  EXPECT_TRUE(names(gpu.antidiagonal_scores({}, {.q = odd.view(), .k = odd.view()}), "head_dim"));
  EXPECT_TRUE(names(gpu.antidiagonal_scores({}, {.q = bf16.view(), .k = bf16.view(), .stride = 7}),
                    "stride"));
  EXPECT_TRUE(names(gpu.antidiagonal_scores({}, {.q = bf16.view(), .k = bf16.view()}), "out"));
  EXPECT_TRUE(names(gpu.column_mass({}, {.scores = scores.view(), .block_q = 0}), "block_q"));
  EXPECT_TRUE(names(gpu.block_change({}, {.x = bf16.view(), .y = odd.view()}), "y"));
  EXPECT_TRUE(
      names(gpu.select_rows({}, {.scores = scores.view(), .symbols = symbols.view()}), "rank"));
  EXPECT_TRUE(names(
      gpu.select_kv_share({}, {.scores = scores.view(), .share = 2, .symbols = symbols.view()}),
      "share"));
  EXPECT_TRUE(names(gpu.select_pattern({}, {.scores = scores.view(), .symbols = symbols.view()}),
                    "patterns"));
  EXPECT_TRUE(names(gpu.measure_change({}, {.x = f32.view(), .y = f32.view()}), "rank"));
}

}  // namespace
}  // namespace flashomni::testkit
