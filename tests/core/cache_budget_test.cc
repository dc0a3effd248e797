// SPDX-License-Identifier: Apache-2.0
//
// What is kept under a budget, against bytes counted by hand.
#include "core/cache_budget.h"

#include <gtest/gtest.h>

namespace flashomni {
namespace {

// Two layers of 10 tokens, 2 heads of 4 and width 6 in f32: an attention output has 320 bytes, a
// bias plane 240, a module output of the whole width 240 and one of 5 rows 120.
std::vector<LayerDesc> two_layers() {
  LayerDesc l;
  l.model_width = 6;
  l.sites = {{"attn", 10, 6}, {"mlp", 5, 6}};
  std::vector<LayerDesc> out = {l, l};
  out[0].name = "first";
  out[1].name = "second";
  return out;
}

CacheRequest request(const std::vector<LayerDesc>& layers) {
  CacheRequest r;
  r.cache.features = true;
  r.cache.order = 1;
  r.cache.degrade = true;
  r.cache.degrade_order = 2;
  r.projected = true;
  r.sequence.heads = 2;
  r.sequence.head_dim = 4;
  r.sequence.tokens = 10;
  r.streams = 2;
  r.symbol_bytes = 16;
  r.plan_bytes = 50;
  r.layers = &layers;
  return r;
}

// Of one layer in one stream with these orders; the highest factor of features is shared.
constexpr size_t stream_bytes(size_t order, size_t module_order) {
  return 16 + 50 + order * 320 + (order + 1) * 240 + (module_order + 1) * (240 + 120);
}
constexpr size_t kShared = 320;

TEST(CacheBudget, WithoutOneEverythingStays) {
  const auto layers = two_layers();
  const CachePlan p = fit_cache(request(layers), kNoCacheBudget);
  EXPECT_EQ(p.report.wanted, 4 * stream_bytes(1, 2) + kShared);
  EXPECT_EQ(p.report.planned, p.report.wanted);
  EXPECT_EQ(p.cache.order, 1);
  EXPECT_EQ(p.cache.degrade_order, 2);
  EXPECT_TRUE(p.report.left_out.empty());
  EXPECT_FALSE(p.report.skip_left_out);
}

TEST(CacheBudget, TheHighestOrderGoesDownFirst) {
  const auto layers = two_layers();
  const struct {
    size_t limit;
    int order, module_order;
  } cases[] = {
      {4 * stream_bytes(1, 2) + kShared, 1, 2},     {4 * stream_bytes(1, 2) + kShared - 1, 1, 1},
      {4 * stream_bytes(1, 1) + kShared, 1, 1},     {4 * stream_bytes(1, 1) + kShared - 1, 0, 1},
      {4 * stream_bytes(0, 1) + kShared - 1, 0, 0}, {4 * stream_bytes(0, 0) + kShared, 0, 0}};
  for (const auto& c : cases) {
    const CachePlan p = fit_cache(request(layers), c.limit);
    EXPECT_EQ(p.cache.order, c.order) << c.limit;
    EXPECT_EQ(p.cache.degrade_order, c.module_order) << c.limit;
    EXPECT_EQ(p.report.planned,
              4 * stream_bytes(size_t(c.order), size_t(c.module_order)) + kShared);
    EXPECT_LE(p.report.planned, c.limit);
    EXPECT_EQ(p.report.order_wanted, 1);
    EXPECT_EQ(p.report.module_order_wanted, 2);
    EXPECT_TRUE(p.report.left_out.empty());
  }
}

TEST(CacheBudget, ThenLayersAreLeftOutFromTheFirst) {
  const auto layers = two_layers();
  CachePlan p = fit_cache(request(layers), 4 * stream_bytes(0, 0) + kShared - 1);
  EXPECT_EQ(p.report.left_out, std::vector<int>{0});
  EXPECT_EQ(p.report.planned, 2 * stream_bytes(0, 0) + kShared);
  EXPECT_TRUE(p.any_layer());
  p = fit_cache(request(layers), 2 * stream_bytes(0, 0) + kShared - 1);
  EXPECT_EQ(p.report.left_out, (std::vector<int>{0, 1}));
  EXPECT_EQ(p.report.planned, 0u);  // nobody needs the shared factor any more
  EXPECT_FALSE(p.any_layer());
  EXPECT_EQ(fit_cache(request(layers), 0).report.left_out.size(), 2u);
}

TEST(CacheBudget, CountsWhatEachKindOfCacheKeeps) {
  const auto layers = two_layers();
  const auto bytes = [&](const CacheRequest& r) {
    return fit_cache(r, kNoCacheBudget).report.planned;
  };
  CacheRequest r = request(layers);
  r.cache.degrade = false;
  r.projected = false;  // every layer has all factors of its own, and no planes
  EXPECT_EQ(bytes(r), 4 * (16 + 50 + 2 * 320u));
  r.projected = true;
  r.cache.measure_forecast = true;  // factors are looked at between refreshes
  EXPECT_EQ(bytes(r), 4 * (16 + 50 + 2 * 320u + 2 * 240u));
  r.projected = r.cache.measure_forecast = r.cache.project_cached = false;
  r.cache.residual = r.cache.alias = true;
  EXPECT_EQ(bytes(r), 4 * (16 + 50 + 3 * 320u) + 2 * 320u);
  r.streams = 1;  // with nobody to share with
  EXPECT_EQ(bytes(r), 2 * (16 + 50 + 3 * 320u));
  r.dtype = DType::kBF16;
  EXPECT_EQ(bytes(r), 2 * (16 + 50 + 3 * 160u));
  r.cache = {.symbols = false};
  EXPECT_EQ(bytes(r), 0u);
}

TEST(CacheBudget, SkippedStepsLoseTheirResidualLast) {
  const auto layers = two_layers();
  CacheRequest r = request(layers);
  r.cache = {.symbols = false};
  r.skip = {.enabled = true, .order = 1};
  EXPECT_EQ(fit_cache(r, 960).report.planned, 960u);  // 2 streams, 2 factors
  CachePlan p = fit_cache(r, 959);
  EXPECT_TRUE(p.skip.enabled);
  EXPECT_EQ(p.skip.order, 0);
  EXPECT_EQ(p.report.planned, 480u);
  p = fit_cache(r, 479);
  EXPECT_FALSE(p.skip.enabled);
  EXPECT_TRUE(p.report.skip_left_out);
  EXPECT_TRUE(p.report.left_out.empty());  // they keep nothing
  EXPECT_EQ(p.report.planned, 0u);
}

}  // namespace
}  // namespace flashomni
