// SPDX-License-Identifier: Apache-2.0
//
// Token means, block means with their similarity gate, and block scores of the CUDA backend
// against the oracle, for every element type of queries and keys.
#include "reference/pooling.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tests/cuda/cuda_backend.h"
#include "tests/testkit/cases.h"
#include "tests/testkit/compare.h"
#include "tests/testkit/tolerances.h"

namespace flashomni::testkit {
namespace {

constexpr DType kF32 = DType::kF32;

class CudaPool : public CudaTest {};

TEST_F(CudaPool, MatchesTheOracle) {
  for (uint64_t seed = 500000; seed < 500040; ++seed) {
    Rng rng(seed);
    const int batch = rng.range(1, 2), heads = rng.range(1, 4), block = pick_block(rng);
    const int tokens = pick_tokens(rng, block), d = pick_head_dim(rng);
    // Blocks of one size, or of their own length, whose starts lie on the device.
    const bool ragged = seed % 2 == 1;
    const std::vector<int> starts = pick_starts(rng, tokens, ragged ? 1 : block, block);
    const int blocks = static_cast<int>(starts.size()) - 1;
    GuardBuffer starts_memory(backend(), starts.size() * sizeof(int));
    starts_memory.write(starts.data());
    const Placement placement = pick_placement(rng);
    const bool smooth = rng.coin(0.5);
    const DType dtype = kFloatTypes[seed % 3];
    std::vector<double> x = outlier_values(rng, int64_t{1} * batch * tokens * heads * d);
    for (size_t i = 0; i < x.size(); ++i) x[i] += static_cast<double>(i % 3);  // a common direction
    x = rounded_to(dtype, x);
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

    {
      SCOPED_TRACE("pool seed=" + std::to_string(seed) + " b=" + std::to_string(batch) +
                   " h=" + std::to_string(heads) + " n=" + std::to_string(tokens) +
                   " d=" + std::to_string(d) + " block=" + std::to_string(block) +
                   (ragged ? " ragged" : "") + (smooth ? " smooth " : " ") +
                   placement_text(placement) + " " + dtype_name(dtype));
      Backend& gpu = backend();
      const GuardTensor in(gpu, dtype, {batch, tokens, heads, d}, x, placement);
      const GuardTensor mean_out(gpu, kF32, {batch, heads, d}, placement);
      Status done = gpu.token_mean({}, {.x = in.view(), .out = mean_out.view()});
      EXPECT_TRUE(done.ok()) << done.to_string();
      EXPECT_EQ(mean_out.damage(), "");
      EXPECT_TRUE(compare(
          mean_out.read(),
          within(mean, {.naive = to_f64(reference::token_mean(batch, tokens, heads, d, to_f32(x))),
                        .magnitude = reference::token_mean(batch, tokens, heads, d, absolute(x)),
                        .row = d,
                        .slack = kSumSlack})));

      GuardTensor shift_in;
      if (smooth) shift_in = GuardTensor(gpu, kF32, {batch, heads, d}, shift, placement);
      const GuardTensor out(gpu, kF32, {batch, heads, blocks, d}, placement);
      const GuardTensor gate(gpu, DType::kU8, {batch, heads, blocks}, placement);
      done = gpu.pool(
          {}, {.x = in.view(),
               .block = block,
               .mean = shift_in.view(),
               .out = out.view(),
               .gate = gate.view(),
               .theta_sim = static_cast<float>(theta),
               .starts = ragged ? static_cast<const int32_t*>(starts_memory.data()) : nullptr});
      EXPECT_TRUE(done.ok()) << done.to_string();
      EXPECT_EQ(starts_memory.damage(), "");
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

// Queries and keys in one launch, or in two where they differ: the bits are those of two calls.
TEST_F(CudaPool, PairsAreTwoCallsBitForBit) {
  for (uint64_t seed = 505000; seed < 505024; ++seed) {
    Rng rng(seed);
    Backend& gpu = backend();
    const int batch = rng.range(1, 2), heads = rng.range(1, 3);
    const bool alike = rng.coin(0.7);
    struct Side {
      GuardTensor x, mean;
      GuardTensor out[2], gate[2];
      PoolParams params[2];
    };
    std::vector<Side> sides(2);
    const int d = pick_head_dim(rng);
    const DType dtype = kFloatTypes[seed % 3];
    for (int n = 0; n < 2; ++n) {
      Side& side = sides[static_cast<size_t>(n)];
      const int block = pick_block(rng), tokens = pick_tokens(rng, block);
      const int blocks = (tokens + block - 1) / block;
      const DType own = n == 1 && !alike ? kFloatTypes[(seed + 1) % 3] : dtype;
      const Placement placement = pick_placement(rng);
      side.x = GuardTensor(gpu, own, {batch, tokens, heads, d},
                           normal_values(rng, int64_t{1} * batch * tokens * heads * d), placement);
      if (rng.coin(0.5)) {
        side.mean = GuardTensor(gpu, kF32, {batch, heads, d},
                                normal_values(rng, int64_t{1} * batch * heads * d));
      }
      const bool gated = rng.coin(0.5);
      for (int way = 0; way < 2; ++way) {
        side.out[way] = GuardTensor(gpu, kF32, {batch, heads, blocks, d});
        if (gated) side.gate[way] = GuardTensor(gpu, DType::kU8, {batch, heads, blocks});
        side.params[way] = {.x = side.x.view(),
                            .block = block,
                            .mean = side.mean.view(),
                            .out = side.out[way].view(),
                            .gate = side.gate[way].view(),
                            .theta_sim = 0.01f};
      }
    }
    SCOPED_TRACE("pool_pair seed=" + std::to_string(seed));
    ASSERT_TRUE(gpu.pool_pair({}, sides[0].params[0], sides[1].params[0]).ok());
    for (Side& side : sides) {
      ASSERT_TRUE(gpu.pool({}, side.params[1]).ok());
      EXPECT_EQ(side.out[0].damage() + side.gate[0].damage(), "");
      EXPECT_TRUE(same_bits(side.out[0].read(), side.out[1].read()));
      if (!side.gate[0]) continue;
      EXPECT_EQ(side.gate[0].read().values, side.gate[1].read().values);
    }
  }
}

TEST_F(CudaPool, BlockScoresMatchTheOracle) {
  for (uint64_t seed = 510000; seed < 510030; ++seed) {
    Rng rng(seed);
    const int batch = rng.range(1, 2), heads = rng.range(1, 4), d = pick_head_dim(rng);
    const int num_q = rng.range(1, 150), num_kv = rng.range(1, 150);
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
    {
      SCOPED_TRACE("block_scores seed=" + std::to_string(seed) + " nq=" + std::to_string(num_q) +
                   " nkv=" + std::to_string(num_kv) + " d=" + std::to_string(d) + " " +
                   placement_text(placement));
      Backend& gpu = backend();
      const GuardTensor q_in(gpu, kF32, {batch, heads, num_q, d}, q, placement);
      const GuardTensor k_in(gpu, kF32, {batch, heads, num_kv, d}, k, placement);
      const GuardTensor out(gpu, kF32, {batch, heads, num_q, num_kv}, placement);
      const Status done = gpu.block_scores(
          {}, {.q = q_in.view(), .k = k_in.view(), .scale = scale, .out = out.view()});
      EXPECT_TRUE(done.ok()) << done.to_string();
      EXPECT_EQ(out.damage(), "");
      EXPECT_TRUE(compare(out.read(), expected));
    }
  }
}

}  // namespace
}  // namespace flashomni::testkit
