// SPDX-License-Identifier: Apache-2.0
//
// GEMM-O of the CUDA backend, dispatch and update form, against the oracle.
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "tests/cuda/cuda_backend.h"
#include "tests/testkit/gemm_o_case.h"

namespace flashomni::testkit {
namespace {

class CudaGemmO : public CudaPathTest {};
INSTANTIATE_ON_ALL_PATHS(CudaGemmO);

GemmOCase random_case(uint64_t seed, Pattern pattern) {
  Rng rng(seed);
  GemmOCase c;
  c.seed = seed;
  c.pattern = pattern;
  SymbolGeometry& g = c.geometry;
  g.batch = rng.range(1, 2);
  g.heads = rng.range(1, 7);
  g.block_q = g.block_kv = pick<int>(rng, {64, 128});
  g.q_tokens = g.kv_tokens =
      pick<int>(rng, {1, 63, 64, 65, 127, 128, 129, 191, 193, 255, 300, 383});
  c.token_offset = rng.coin(0.4) ? 0 : rng.range(0, g.q_tokens - 1);
  c.rows = rng.coin(0.4) ? g.q_tokens - c.token_offset : rng.range(1, g.q_tokens - c.token_offset);
  c.head_dim = pick<int>(rng, {64, 96, 128});
  c.mlp_features = rng.coin(0.4) ? pick<int>(rng, {8, 64, 136}) : 0;
  c.width = pick<int>(rng, {8, 64, 128, 136, 256, 264, 384});
  c.dtype = c.weight_dtype = pick<DType>(rng, {DType::kBF16, DType::kF16});
  c.bias = rng.coin(0.7);
  c.residual = rng.coin(0.5);
  c.out = !c.residual || rng.coin(0.5);
  c.gate = c.residual && rng.coin(0.7);
  c.sparse = pattern != Pattern::kAllOnes || rng.coin(0.3);
  c.num_planes = rng.range(1, GemmOParams::kMaxPlanes);
  c.placement = {.offset = pick<int>(rng, {0, 0, 8}), .pad = pick<int>(rng, {0, 0, 8})};
  return c;
}

// The bias is added as plane 0 holds it, rounded, so that a plane can stand in for it.
GemmOTruth truth_of(const GemmOCase& c, const GemmOData& data) {
  GemmOTruth truth = make_truth(c, data);
  double bias = 0, gate = 1;
  for (double b : data.layer.bias) bias = std::max(bias, std::abs(b));
  for (double g : data.gate) gate = std::max(gate, std::abs(g));
  for (double& a : truth.out.allowed) a += unit_roundoff(c.dtype) * bias;
  for (double& a : truth.residual.allowed) a += unit_roundoff(c.dtype) * bias * gate;
  return truth;
}

void expect_right(Backend& backend, const GemmOCase& c) {
  SCOPED_TRACE(c.text());
  const GemmOData data = make_data(c);
  GemmOData poisoned = data;
  poison(c, poisoned);
  const GemmOOutcome outcome = run(backend, c, poisoned);
  ASSERT_TRUE(outcome.status.ok()) << outcome.status.to_string();
  EXPECT_EQ(outcome.damage, "");
  EXPECT_TRUE(check(outcome, truth_of(c, data)));
}

TEST_P(CudaGemmO, DispatchMatchesTheOracle) {
  uint64_t seed = 620000;
  for (Pattern pattern : kPatterns) {
    for (int i = 0; i < 24; ++i) expect_right(backend(), random_case(++seed, pattern));
  }
}

TEST_P(CudaGemmO, UpdateMatchesTheOracle) {
  uint64_t seed = 621000;
  for (Pattern pattern : kPatterns) {
    for (int i = 0; i < 16; ++i) {
      GemmOCase c = random_case(++seed, pattern);
      c.update = c.sparse = true;
      expect_right(backend(), c);
    }
  }
}

TEST_P(CudaGemmO, AllOnesIsDenseBitForBit) {
  for (uint64_t seed = 622000; seed < 622024; ++seed) {
    GemmOCase c = random_case(seed, Pattern::kAllOnes);
    c.num_planes = 1;
    c.bias = false;  // plane 0 holds it, and here holds noise
    SCOPED_TRACE(c.text());
    GemmOData data = make_data(c);
    for (double& v : data.planes[0]) v = 0;
    c.sparse = false;
    const GemmOOutcome dense = run(backend(), c, data);
    c.sparse = true;
    const GemmOOutcome sparse = run(backend(), c, data);
    ASSERT_TRUE(dense.status.ok() && sparse.status.ok());
    EXPECT_TRUE(same_bits(sparse.out, dense.out));
    EXPECT_TRUE(same_bits(sparse.residual, dense.residual));
  }
}

TEST_P(CudaGemmO, AllCachedIsThePlaneBitForBit) {
  for (uint64_t seed = 623000; seed < 623024; ++seed) {
    GemmOCase c = random_case(seed, Pattern::kAllCached);
    c.num_planes = 1;
    c.mlp_features = 0;
    c.residual = c.gate = false;
    c.out = c.sparse = true;
    SCOPED_TRACE(c.text());
    const GemmOData data = make_data(c);
    const GemmOOutcome outcome = run(backend(), c, data);
    ASSERT_TRUE(outcome.status.ok()) << outcome.status.to_string();
    for (int b = 0; b < c.geometry.batch; ++b) {
      for (int r = 0; r < c.rows; ++r) {
        for (int n = 0; n < c.width; ++n) {
          const size_t at = (static_cast<size_t>(b) * c.rows + r) * c.width + n;
          const size_t from =
              (static_cast<size_t>(b) * c.geometry.q_tokens + c.token_offset + r) * c.width + n;
          ASSERT_EQ(outcome.out.values[at], data.planes[0][from]) << b << "," << r << "," << n;
        }
      }
    }
  }
}

// bf16 numbers in [-1, 1] in device memory, or NaN.
struct ManyNumbers {
  std::unique_ptr<Buffer> memory;
  TensorView view;

  ManyNumbers(Backend& backend, std::initializer_list<int64_t> shape, Rng* rng = nullptr) {
    view = TensorView::contiguous(nullptr, DType::kBF16, shape);
    std::vector<uint16_t> bits(static_cast<size_t>(view.numel()), 0xffff);
    for (uint16_t& b : bits) {
      if (rng) b = static_cast<uint16_t>(0x3d00 + rng->below(0x280) + 0x8000 * rng->below(2));
    }
    memory = std::move(*backend.allocate(view.bytes()));
    view.data = memory->data();
    EXPECT_TRUE(backend.upload({}, view.data, bits.data(), view.bytes()).ok());
  }
  std::vector<uint16_t> read(Backend& backend) const {
    std::vector<uint16_t> bits(static_cast<size_t>(view.numel()));
    EXPECT_TRUE(backend.download({}, bits.data(), view.data, view.bytes()).ok());
    return bits;
  }
};

// More tiles than CTAs, of few planes and of many: how tiles are dealt shows in no result. A plane
// is the lowest plane of a call of its own.
TEST_P(CudaGemmO, ManyTilesOfSeveralPlanesAreThoseOfOnePlaneEach) {
  Backend& gpu = backend();
  Rng rng(624000);
  for (const int tokens : {600, 2100, 3300, 4608}) {
    for (const int width : {768, 2048}) {
      SCOPED_TRACE(std::to_string(tokens) + " x " + std::to_string(width));
      const int heads = 3, mlp_features = tokens == 2100 ? 0 : 640;
      SymbolGeometry g{.batch = 1, .heads = heads, .q_tokens = tokens, .kv_tokens = tokens};
      g.block_q = g.block_kv = tokens == 2100 ? 64 : 128;
      GuardedSymbols symbols(gpu, make_symbols(g, Pattern::kBoth, rng));
      const PlanView plan = symbols.make_plan();
      const ManyNumbers weight(gpu, {width, heads * 128 + mlp_features}, &rng);
      const auto packed = gpu.pack_weight({.weight = weight.view});
      ASSERT_TRUE(packed.ok()) << packed.status().to_string();
      const int offset = tokens == 600 ? 0 : 256;  // of the part that is projected
      const ManyNumbers mlp(gpu, {1, tokens - offset, std::max(8, mlp_features)}, &rng);
      std::vector<ManyNumbers> factors;
      for (int m = 0; m < 3; ++m)
        factors.emplace_back(gpu, std::initializer_list<int64_t>{1, tokens, heads, 128}, &rng);
      const auto update = [&](int first, int count, const std::vector<ManyNumbers>& to) {
        const ManyNumbers out(gpu, {1, tokens - offset, width});
        GemmOUpdateParams u;
        u.base = {.weight = packed->get(), .token_offset = offset, .rows = tokens - offset};
        if (mlp_features > 0) u.base.mlp = mlp.view;
        u.base.out = out.view;
        u.base.symbols = symbols.view();
        u.base.plan = plan;
        u.base.num_planes = count;
        for (int m = 0; m < count; ++m) {
          u.base.planes[m] = to[size_t(m)].view;
          u.factors[m] = factors[size_t(first + m)].view;
        }
        const Status done = gpu.gemm_o_update({}, u);
        EXPECT_TRUE(done.ok()) << done.to_string();
        return out.read(gpu);
      };
      const auto make_planes = [&] {
        std::vector<ManyNumbers> made;
        for (int m = 0; m < 3; ++m)
          made.emplace_back(gpu, std::initializer_list<int64_t>{1, tokens, width});
        return made;
      };
      std::vector<std::vector<uint16_t>> own;
      std::vector<uint16_t> result;
      for (int m = 0; m < 3; ++m) {
        const auto to = make_planes();
        const auto out = update(m, 1, to);
        if (m == 0) result = out;
        own.push_back(to[0].read(gpu));
      }
      for (const int count : {2, 3}) {
        const auto to = make_planes();
        EXPECT_TRUE(update(0, count, to) == result) << count;
        for (int m = 0; m < count; ++m) {
          EXPECT_TRUE(to[size_t(m)].read(gpu) == own[size_t(m)]) << count << " planes, " << m;
        }
      }
    }
  }
}

}  // namespace
}  // namespace flashomni::testkit
