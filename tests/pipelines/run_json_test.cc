// SPDX-License-Identifier: Apache-2.0
//
// Reports as JSON: what scripts read must not change by accident.
#include "pipelines/run_json.h"

#include <gtest/gtest.h>

namespace flashomni {
namespace {

using nlohmann::json;

LayerRecord record(LayerKind kind, int64_t active_rows, int64_t active_pairs) {
  LayerRecord r;
  r.kind = kind;
  r.counts = {.rows = 4, .active_rows = active_rows, .pairs = 16, .active_pairs = active_pairs};
  return r;
}

// Two layers and two streams; an Update, then a Dispatch step with a degraded layer.
RunReport report() {
  RunReport r;
  r.layer_names = {"a", "b"};
  r.steps.resize(2);
  r.steps[0] = {.step = 0, .kind = StepKind::kUpdate, .seconds = 0.5};
  r.steps[0].layers.assign(4, record(LayerKind::kUpdate, 1, 1));
  r.steps[1] = {.step = 1, .kind = StepKind::kDispatch, .seconds = 0.25};
  r.steps[1].layers = {record(LayerKind::kSparse, 2, 4), record(LayerKind::kDegraded, 1, 1),
                       record(LayerKind::kSparse, 4, 16), record(LayerKind::kDense, 4, 16)};
  r.fallbacks = {{"run", "because", 3}};
  r.peak_cache_bytes = 77;
  return r;
}

TEST(RunJson, SparsityOfALayerDependsOnHowItRan) {
  EXPECT_EQ(attention_sparsity(record(LayerKind::kSparse, 2, 4)), 0.75);
  EXPECT_EQ(cached_sparsity(record(LayerKind::kSparse, 2, 4)), 0.5);
  EXPECT_EQ(attention_sparsity(record(LayerKind::kDegraded, 2, 4)), 1.0);
  EXPECT_EQ(cached_sparsity(record(LayerKind::kDegraded, 2, 4)), 1.0);
  EXPECT_EQ(attention_sparsity(record(LayerKind::kSkipped, 4, 16)), 1.0);
  EXPECT_EQ(attention_sparsity(record(LayerKind::kAliased, 0, 0)), 1.0);
  // The symbols that an Update built are not in force yet.
  EXPECT_EQ(attention_sparsity(record(LayerKind::kUpdate, 2, 4)), 0.0);
  EXPECT_EQ(attention_sparsity(record(LayerKind::kDense, 2, 4)), 0.0);
}

TEST(RunJson, AgreesWithTheReportOnAStep) {
  const StepRecord step = report().steps[1];
  double sum = 0;
  for (const LayerRecord& r : step.layers) sum += attention_sparsity(r);
  EXPECT_DOUBLE_EQ(sum / 4, step.attention_sparsity());
}

TEST(RunJson, Steps) {
  const json expected = json::parse(R"([
    {"step": 0, "kind": "update", "seconds": 0.5, "attention_sparsity": 0.0,
     "layers": {"update": 4}},
    {"step": 1, "kind": "dispatch", "seconds": 0.25, "attention_sparsity": 0.4375,
     "layers": {"sparse": 2, "degraded": 1, "dense": 1}}])");
  EXPECT_EQ(steps_json(report()), expected);
}

TEST(RunJson, LayersByStepStreamAndLayer) {
  const json layers = layers_json(report());
  ASSERT_EQ(layers.size(), 2u);
  ASSERT_EQ(layers[1].size(), 2u);
  ASSERT_EQ(layers[1][0].size(), 2u);
  EXPECT_EQ(layers[1][0][1]["kind"], "degraded");
  EXPECT_EQ(layers[1][0][0]["attention_sparsity"], 0.75);
  EXPECT_EQ(layers[1][1][1]["kind"], "dense");
}

TEST(RunJson, Summary) {
  RunReport r = report();
  r.attention_sparsity = 0.1;
  r.dispatch_sparsity = 0.2;
  r.cached_sparsity = 0.3;
  r.gemm_q_sparsity = 0.4;
  r.gemm_o_sparsity = 0.5;
  r.degraded_share = 0.6;
  r.skipped_share = 0.7;
  r.softmax_skip_share = 0.8;
  r.host_waits = 9;
  r.flops_dense = 10;
  r.flops_skipped = 5;
  r.graphs = {.evaluations = 4,
              .replayed = 2,
              .captured = 1,
              .reasons = {{"full step", "the first of its kind", 2}}};
  const json expected = json::parse(R"({
    "attention_sparsity": 0.1, "dispatch_sparsity": 0.2, "cached_sparsity": 0.3,
    "gemm_q_sparsity": 0.4, "gemm_o_sparsity": 0.5, "degraded_share": 0.6,
    "skipped_share": 0.7, "softmax_skip_share": 0.8, "host_waits": 9,
    "flops_dense": 10.0, "flops_skipped": 5.0, "peak_cache_bytes": 77,
    "cache_budget": null,
    "graphs": {"evaluations": 4, "replayed": 2, "captured": 1, "one_by_one": [
      {"where": "full step", "reason": "the first of its kind", "count": 2}]},
    "fallbacks": [{"where": "run", "reason": "because", "count": 3}]})");
  EXPECT_EQ(summary_json(r), expected);
}

TEST(RunJson, CacheBudget) {
  RunReport r = report();
  r.layer_names = {"a", "b", "c"};
  r.cache_budget = {.limit = 100,
                    .wanted = 300,
                    .planned = 90,
                    .order_wanted = 2,
                    .order = 0,
                    .module_order_wanted = 1,
                    .module_order = 1,
                    .left_out = {0, 2}};
  const json expected = json::parse(R"({
    "limit": 100, "wanted": 300, "planned": 90,
    "order": {"wanted": 2, "kept": 0}, "module_order": {"wanted": 1, "kept": 1},
    "skip_order": {"wanted": 0, "kept": 0}, "skip_left_out": false,
    "layers_left_out": [{"index": 0, "name": "a"}, {"index": 2, "name": "c"}]})");
  EXPECT_EQ(cache_budget_json(r), expected);
}

TEST(RunJson, LedgerAndMachine) {
  MemoryLedger l{.symbols = 1, .plans = 2, .features = 4, .bias_planes = 8, .modules = 16};
  l.residuals = 32;
  l.scratch = 100;
  EXPECT_EQ(ledger_json(l)["cache_total"], 63);
  EXPECT_EQ(ledger_json(l)["scratch"], 100);
  BackendInfo info{.name = "cpu", .device = "d", .isa = "i", .threads = 2};
  EXPECT_TRUE(machine_json(info)["memory_bytes"].is_null());
  info.memory_bytes = 5;
  EXPECT_EQ(machine_json(info)["memory_bytes"], 5);
}

}  // namespace
}  // namespace flashomni
