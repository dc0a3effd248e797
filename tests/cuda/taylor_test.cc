// SPDX-License-Identifier: Apache-2.0
//
// The Taylor feature cache of the CUDA backend against the oracle.
#include "reference/taylor.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/update_backend.h"
#include "reference/linear.h"
#include "tests/cuda/cuda_backend.h"
#include "tests/testkit/cases.h"
#include "tests/testkit/compare.h"
#include "tests/testkit/generate.h"
#include "tests/testkit/guarded_symbols.h"
#include "tests/testkit/tolerances.h"

namespace flashomni::testkit {
namespace {

constexpr DType kF32 = DType::kF32;

using Factors = std::vector<std::vector<double>>;

class CudaTaylor : public CudaTest {};

TEST_F(CudaTaylor, UpdateMatchesTheOracle) {
  for (uint64_t seed = 430000; seed < 430040; ++seed) {
    Rng rng(seed);
    const DType dtype = kFloatTypes[seed % 3];
    const std::vector<int64_t> shape = {rng.range(1, 2), rng.range(1, 9), pick_width(rng)};
    const Placement placement = pick_placement(rng);
    const int count_valid = rng.range(1, TaylorUpdateParams::kMaxFactors);
    const float inverse = 1.f / static_cast<float>(rng.range(1, 7));
    const std::vector<double> feature = rounded_to(dtype, outlier_values(rng, count(shape)));
    Factors old;  // factor count_valid - 1 does not exist yet
    for (int m = 0; m + 1 < count_valid; ++m) {
      old.push_back(rounded_to(dtype, outlier_values(rng, count(shape))));
    }
    const Factors truth = reference::taylor_update(feature, old, count_valid, inverse);
    const auto naive = reference::taylor_update(to_f32(feature), to_f32(old), count_valid, inverse);
    // |F_i| + |P_i| is |F_i| - (-|P_i|).
    Factors negative = old;
    for (auto& factor : negative) {
      for (double& v : factor) v = -std::abs(v);
    }
    const Factors size =
        reference::taylor_update(absolute(feature), negative, count_valid, inverse);

    {
      SCOPED_TRACE(case_text("taylor_update", seed, shape, placement, dtype_name(dtype)) +
                   " count=" + std::to_string(count_valid));
      Backend& gpu = backend();
      const GuardTensor fresh(gpu, dtype, shape, feature, placement);
      TaylorUpdateParams params{
          .feature = fresh.view(), .count = count_valid, .inv_distance = inverse};
      std::vector<GuardTensor> factors;
      for (int m = 0; m < TaylorUpdateParams::kMaxFactors; ++m) {
        factors.emplace_back(gpu, dtype, shape, placement);
        if (m < static_cast<int>(old.size())) factors.back().write(old[m]);
        params.factors[m] = factors.back().view();
      }
      const Status done = gpu.taylor_update({}, params);
      EXPECT_TRUE(done.ok()) << done.to_string();
      EXPECT_EQ(fresh.damage(), "");
      for (int m = 0; m < TaylorUpdateParams::kMaxFactors; ++m) {
        EXPECT_EQ(factors[m].damage(), "");
        const std::vector<double> untouched(feature.size(), kNan);
        const Expected expected = m < count_valid
                                      ? within(truth[m], {.naive = to_f64(naive[m]),
                                                          .magnitude = size[m],
                                                          .slack = m == 0 ? 0 : kSumSlack,
                                                          .out_dtype = dtype})
                                      : Expected{untouched, untouched};
        EXPECT_TRUE(compare(factors[m].read(), expected)) << "factor " << m;
      }
    }
  }
}

// Where the symbols cache: the bits of taylor_update. Elsewhere nothing is touched.
TEST_F(CudaTaylor, SlopesOfCachedTilesAreThoseOfTheUpdate) {
  auto* slopes = dynamic_cast<UpdateBackend*>(&backend());
  ASSERT_TRUE(slopes && slopes->offers_update_work());
  for (uint64_t seed = 431000; seed < 431030; ++seed) {
    Rng rng(seed);
    const DType dtype = kFloatTypes[seed % 3];
    SymbolGeometry g{.batch = rng.range(1, 2), .heads = rng.range(1, 5)};
    g.q_tokens = g.kv_tokens = rng.range(1, 900);
    g.block_q = rng.coin(0.5) ? 64 : 128;
    const int64_t d = pick<int>(rng, {64, 128, 96, 20, 7});
    const std::vector<int64_t> shape = {g.batch, g.q_tokens, g.heads, d};
    // An address that vectors cannot be read from, too.
    const Placement placement{.offset = rng.coin(0.3) ? 1 : 0};
    const SparseSymbols symbols = make_symbols(g, Pattern::kBoth, rng);
    SCOPED_TRACE(case_text("taylor_slope", seed, shape, placement, dtype_name(dtype)));
    Backend& gpu = backend();
    const GuardedSymbols on_device(gpu, symbols);
    const std::vector<double> fresh = rounded_to(dtype, outlier_values(rng, count(shape)));
    const std::vector<double> old = rounded_to(dtype, outlier_values(rng, count(shape)));
    const GuardTensor feature(gpu, dtype, shape, fresh, placement);
    const GuardTensor previous(gpu, dtype, shape, old, placement);
    const GuardTensor slope(gpu, dtype, shape, placement);
    const GuardTensor value(gpu, dtype, shape, old, placement);
    const GuardTensor whole(gpu, dtype, shape, placement);
    const float inverse = 1.f / static_cast<float>(rng.range(1, 7));
    ASSERT_TRUE(slopes
                    ->taylor_slope({}, {.fresh = feature.view(),
                                        .previous = previous.view(),
                                        .slope = slope.view(),
                                        .inv_distance = inverse,
                                        .symbols = on_device.view()})
                    .ok());
    TaylorUpdateParams update{.feature = feature.view(), .count = 2, .inv_distance = inverse};
    update.factors[0] = value.view();
    update.factors[1] = whole.view();
    ASSERT_TRUE(gpu.taylor_update({}, update).ok());
    const std::vector<double> seen = slope.read().values, truth = whole.read().values;
    size_t at = 0, wrong = 0;
    for (int b = 0; b < g.batch; ++b) {
      for (int n = 0; n < g.q_tokens; ++n) {
        for (int h = 0; h < g.heads; ++h) {
          for (int64_t k = 0; k < d; ++k, ++at) {
            const bool active = symbols.c(b, h, n / g.block_q);
            wrong += active ? !std::isnan(seen[at]) : seen[at] != truth[at];
          }
        }
      }
    }
    EXPECT_EQ(wrong, 0u);
    EXPECT_EQ(slope.damage() + feature.damage() + previous.damage(), "");
  }
}

struct ForecastRun {
  Output out, residual;
};

ForecastRun run_forecast(DType dtype, Backend& gpu, const std::vector<int64_t>& shape,
                         const Placement& placement, const Factors& factors,
                         const std::vector<double>& coefficients,
                         const std::vector<double>& residual, const std::vector<double>& gate,
                         bool with_out) {
  std::vector<GuardTensor> tensors;
  TaylorForecastParams params{.count = static_cast<int>(factors.size())};
  for (size_t m = 0; m < factors.size(); ++m) {
    tensors.emplace_back(gpu, dtype, shape, factors[m], placement);
    params.factors[m] = tensors.back().view();
    params.coefficients[m] = static_cast<float>(coefficients[m]);
  }
  GuardTensor out, residual_tensor, gate_tensor;
  if (with_out) out = GuardTensor(gpu, dtype, shape, placement);
  if (!residual.empty()) {
    residual_tensor = GuardTensor(gpu, dtype, shape, residual, placement);
  }
  if (!gate.empty()) {
    gate_tensor = GuardTensor(gpu, dtype, {shape[0], shape[2]}, gate, placement);
  }
  params.out = out.view();
  params.residual = residual_tensor.view();
  params.gate = gate_tensor.view();
  const Status done = gpu.taylor_forecast({}, params);
  EXPECT_TRUE(done.ok()) << done.to_string();
  EXPECT_EQ(out.damage() + residual_tensor.damage() + gate_tensor.damage(), "");
  return {out.read(), residual_tensor.read()};
}

TEST_F(CudaTaylor, ForecastMatchesTheOracle) {
  for (uint64_t seed = 440000; seed < 440040; ++seed) {
    Rng rng(seed);
    const DType dtype = kFloatTypes[seed % 3];
    const std::vector<int64_t> shape = {rng.range(1, 2), rng.range(1, 9), pick_width(rng)};
    const int batch = static_cast<int>(shape[0]);
    const int rows = static_cast<int>(shape[1]);
    const int width = static_cast<int>(shape[2]);
    const Placement placement = pick_placement(rng);
    Factors factors;
    for (int m = rng.range(1, TaylorUpdateParams::kMaxFactors); m > 0; --m) {
      factors.push_back(rounded_to(dtype, outlier_values(rng, count(shape))));
    }
    const std::vector<double> coefficients = rounded_to(
        kF32, reference::taylor_coefficients(static_cast<int>(factors.size()), rng.range(1, 6)));
    std::vector<double> residual, gate;
    if (rng.coin(0.5)) residual = rounded_to(dtype, normal_values(rng, count(shape)));
    if (!residual.empty() && rng.coin(0.7)) {
      gate = rounded_to(dtype, normal_values(rng, shape[0] * shape[2]));
    }
    const bool with_out = residual.empty() || rng.coin(0.5);

    const std::vector<double> y = reference::taylor_forecast(factors, coefficients);
    const std::vector<float> naive_y = reference::taylor_forecast(to_f32(factors), coefficients);
    Factors positive = factors;
    for (auto& factor : positive) factor = absolute(factor);
    const std::vector<double> size_y = reference::taylor_forecast(positive, coefficients);
    Expected out, updated;
    if (with_out) {
      out = within(
          y,
          {.naive = to_f64(naive_y), .magnitude = size_y, .slack = kSumSlack, .out_dtype = dtype});
    }
    if (!residual.empty()) {
      updated = within(reference::add_gated(batch, rows, width, residual, gate, y),
                       {.naive = to_f64(reference::add_gated(batch, rows, width, to_f32(residual),
                                                             to_f32(gate), naive_y)),
                        .magnitude = reference::add_gated(batch, rows, width, absolute(residual),
                                                          absolute(gate), size_y),
                        .slack = kSumSlack,
                        .out_dtype = dtype});
    }
    {
      SCOPED_TRACE(case_text("taylor_forecast", seed, shape, placement, dtype_name(dtype)) +
                   " count=" + std::to_string(factors.size()));
      const ForecastRun ours = run_forecast(dtype, backend(), shape, placement, factors,
                                            coefficients, residual, gate, with_out);
      EXPECT_TRUE(compare(ours.out, out));
      EXPECT_TRUE(compare(ours.residual, updated));

      std::vector<double> wrong = coefficients;
      wrong.back() += dtype == kF32 ? 0.01 : 0.5;
      const ForecastRun off = run_forecast(dtype, backend(), shape, placement, factors, wrong,
                                           residual, gate, with_out);
      EXPECT_FALSE(compare(off.out, out) && compare(off.residual, updated))
          << "a wrong coefficient passed";
    }
  }
}

}  // namespace
}  // namespace flashomni::testkit
