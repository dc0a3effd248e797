// SPDX-License-Identifier: Apache-2.0
//
// Token means, block means with their similarity gate, and block scores of the CPU backend against
// the oracle.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "reference/pooling.h"
#include "tests/testkit/cases.h"
#include "tests/testkit/compare.h"
#include "tests/testkit/cpu_backends.h"
#include "tests/testkit/tolerances.h"

namespace flashomni::testkit {
namespace {

constexpr DType kF32 = DType::kF32;

TEST(PoolProperty, MatchesTheOracle) {
  for (uint64_t seed = 500000; seed < 500040; ++seed) {
    Rng rng(seed);
    const int batch = rng.range(1, 2), heads = rng.range(1, 4), block = pick_block(rng);
    const int tokens = pick_tokens(rng, block), d = pick_head_dim(rng);
    // Blocks of one size, or of their own length.
    const bool ragged = seed % 2 == 1;
    const std::vector<int> starts = pick_starts(rng, tokens, ragged ? 1 : block, block);
    const int blocks = static_cast<int>(starts.size()) - 1;
    const Placement placement = pick_placement(rng);
    const bool smooth = rng.coin(0.5);
    std::vector<double> x = outlier_values(rng, int64_t{1} * batch * tokens * heads * d);
    for (size_t i = 0; i < x.size(); ++i) x[i] += static_cast<double>(i % 3);  // a common direction
    x = rounded_to(kF32, x);
    const std::vector<double> mean = reference::token_mean(batch, tokens, heads, d, x);
    const std::vector<double> shift = smooth ? rounded_to(kF32, mean) : std::vector<double>{};
    const auto truth = reference::pool(batch, tokens, heads, d, starts, x, shift);
    const auto naive = reference::pool(batch, tokens, heads, d, starts, to_f32(x), to_f32(shift));
    std::vector<double> negative = shift;
    for (double& v : negative) v = -std::abs(v);
    const auto size = reference::pool(batch, tokens, heads, d, starts, absolute(x), negative);
    std::vector<double> by_value = truth.similarity;
    std::sort(by_value.begin(), by_value.end());
    // Halfway between two blocks, so that rounding cannot decide.
    const size_t middle = by_value.size() / 2;
    const double theta =
        middle > 0 ? (by_value[middle - 1] + by_value[middle]) / 2 : by_value[0] / 2;

    for (const std::string& isa : cpu_isas()) {
      SCOPED_TRACE("pool seed=" + std::to_string(seed) + " b=" + std::to_string(batch) +
                   " h=" + std::to_string(heads) + " n=" + std::to_string(tokens) +
                   " d=" + std::to_string(d) + " block=" + std::to_string(block) +
                   (ragged ? " ragged" : "") + (smooth ? " smooth " : " ") +
                   placement_text(placement) + " isa=" + isa);
      Backend& backend = cpu_backend(isa);
      const GuardTensor in(backend, kF32, {batch, tokens, heads, d}, x, placement);
      const GuardTensor mean_out(backend, kF32, {batch, heads, d}, placement);
      Status done = backend.token_mean({}, {.x = in.view(), .out = mean_out.view()});
      EXPECT_TRUE(done.ok()) << done.to_string();
      EXPECT_EQ(mean_out.damage(), "");
      EXPECT_TRUE(compare(
          mean_out.read(),
          within(mean, {.naive = to_f64(reference::token_mean(batch, tokens, heads, d, to_f32(x))),
                        .magnitude = reference::token_mean(batch, tokens, heads, d, absolute(x)),
                        .row = d,
                        .slack = kSumSlack})));

      GuardTensor shift_in;
      if (smooth) shift_in = GuardTensor(backend, kF32, {batch, heads, d}, shift, placement);
      const GuardTensor out(backend, kF32, {batch, heads, blocks, d}, placement);
      const GuardTensor gate(backend, DType::kU8, {batch, heads, blocks}, placement);
      done = backend.pool({}, {.x = in.view(),
                               .block = block,
                               .mean = shift_in.view(),
                               .out = out.view(),
                               .gate = gate.view(),
                               .theta_sim = static_cast<float>(theta),
                               .starts = ragged ? starts.data() : nullptr});
      EXPECT_TRUE(done.ok()) << done.to_string();
      EXPECT_EQ(in.damage() + out.damage() + gate.damage(), "");
      EXPECT_TRUE(compare(out.read(), within(truth.mean, {.naive = to_f64(naive.mean),
                                                          .magnitude = size.mean,
                                                          .row = d,
                                                          .slack = kSumSlack})));
      const Output gates = gate.read();
      for (size_t i = 0; i < truth.similarity.size(); ++i) {
        if (std::abs(truth.similarity[i] - theta) < 1e-6) continue;
        EXPECT_EQ(gates.values[i], truth.similarity[i] > theta ? 1 : 0)
            << coordinates(i, gates.shape) << " similarity " << truth.similarity[i] << " theta "
            << theta;
      }
    }
  }
}

TEST(BlockScoresProperty, MatchesTheOracle) {
  for (uint64_t seed = 510000; seed < 510030; ++seed) {
    Rng rng(seed);
    const int batch = rng.range(1, 2), heads = rng.range(1, 4), d = pick_head_dim(rng);
    const int num_q = rng.range(1, 70), num_kv = rng.range(1, 70);
    const Placement placement = pick_placement(rng);
    const float scale = pick<float>(rng, {0.f, 0.3f});
    const auto q = rounded_to(kF32, outlier_values(rng, int64_t{1} * batch * heads * num_q * d));
    const auto k = rounded_to(kF32, normal_values(rng, int64_t{1} * batch * heads * num_kv * d));
    const int groups = batch * heads;
    const Expected expected = within(
        reference::block_scores(groups, num_q, num_kv, d, q, k, scale),
        {.naive =
             to_f64(reference::block_scores(groups, num_q, num_kv, d, to_f32(q), to_f32(k), scale)),
         .magnitude =
             reference::block_scores(groups, num_q, num_kv, d, absolute(q), absolute(k), scale),
         .row = num_kv,
         .slack = kSumSlack});
    for (const std::string& isa : cpu_isas()) {
      SCOPED_TRACE("block_scores seed=" + std::to_string(seed) + " nq=" + std::to_string(num_q) +
                   " nkv=" + std::to_string(num_kv) + " d=" + std::to_string(d) + " " +
                   placement_text(placement) + " isa=" + isa);
      Backend& backend = cpu_backend(isa);
      const GuardTensor q_in(backend, kF32, {batch, heads, num_q, d}, q, placement);
      const GuardTensor k_in(backend, kF32, {batch, heads, num_kv, d}, k, placement);
      const GuardTensor out(backend, kF32, {batch, heads, num_q, num_kv}, placement);
      const Status done = backend.block_scores(
          {}, {.q = q_in.view(), .k = k_in.view(), .scale = scale, .out = out.view()});
      EXPECT_TRUE(done.ok()) << done.to_string();
      EXPECT_EQ(out.damage(), "");
      EXPECT_TRUE(compare(out.read(), expected));
    }
  }
}

}  // namespace
}  // namespace flashomni::testkit
