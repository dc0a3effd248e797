// SPDX-License-Identifier: Apache-2.0
//
// flashomni bench e2e --random-weights: transformers without pictures, under symbols of a stated
// sparsity.
#include "tests/tools/cli.h"

namespace flashomni::tools {
namespace {

std::vector<std::string> bare(const std::vector<std::string>& more,
                              const std::string& model = "flux_dev") {
  return joined({"bench",
                 "e2e",
                 "--device",
                 "cpu",
                 "--random-weights",
                 "--model",
                 std::string(FO_SOURCE_DIR) + "/tests/models/fixtures/" + model,
                 "--width",
                 "256",
                 "--height",
                 "256",
                 "--text-tokens",
                 "32",
                 "--steps",
                 "12",
                 "--warmup",
                 "3",
                 "--interval",
                 "3",
                 "--block",
                 "64",
                 "--repeats",
                 "1",
                 "--json",
                 "b.json"},
                more);
}

// 12 steps: Full, Full, Update, 2 Dispatch, Update, 2 Dispatch, Update, 2 Dispatch, Full.
TEST_F(CliTest, BareTransformerReachesTheSparsityAskedFor) {
  const Finished done = run(bare({"--trajectory-sparsity", "0.3", "--degraded", "0.5:0.35"}));
  ASSERT_EQ(done.exit_code, 0) << done.err;
  EXPECT_NE(done.out.find("random weights"), std::string::npos) << done.out;
  const nlohmann::json doc = json("b.json");
  EXPECT_EQ(doc["model"]["weights"], "random");
  EXPECT_EQ(doc["settings"]["tokens"], 32 + 256);
  EXPECT_EQ(doc["runs"]["dense"]["attention_sparsity"], 0.0);
  // 2 heads of 5 blocks: symbols come in steps of a few per cent.
  for (const char* split : {"s_s", "s_c", "both"}) {
    EXPECT_NEAR(doc["runs"][split]["attention_sparsity"].get<double>(), 0.3, 0.06) << split;
  }
  EXPECT_EQ(doc["runs"]["s_s"]["cached_sparsity"], 0.0);
  EXPECT_EQ(doc["runs"]["s_s"]["memory"]["bias_planes"], 0);
  EXPECT_GT(doc["runs"]["s_c"]["memory"]["bias_planes"], 0);
  const nlohmann::json degraded = doc["runs"]["both + 50 % degraded"];
  // Half of the layers in half of the steps.
  EXPECT_NEAR(degraded["degraded_share"].get<double>(), 0.25, 1e-9);
  EXPECT_NEAR(degraded["attention_sparsity"].get<double>(), 0.35, 0.06);
}

// Two guidance streams; the text is beside the sequence, and its keys are fewer than the queries.
TEST_F(CliTest, BareWan) {
  const std::vector<std::string> sparse = {"--trajectory-sparsity", "0.3", "--degraded",
                                           "0.5:0.35"};
  const std::vector<std::string> wan = bare(joined(sparse, {"--frames", "5"}), "wan");
  const Finished done = run(wan);
  ASSERT_EQ(done.exit_code, 0) << done.err;
  const nlohmann::json doc = json("b.json");
  EXPECT_EQ(doc["model"]["family"], "wan");
  EXPECT_EQ(doc["settings"]["tokens"], 2 * 256);
  EXPECT_EQ(doc["settings"]["text_tokens"], 32);
  EXPECT_EQ(doc["settings"]["guidance_streams"], 2);
  for (const char* split : {"s_s", "s_c", "both"}) {
    EXPECT_NEAR(doc["runs"][split]["attention_sparsity"].get<double>(), 0.3, 0.06) << split;
  }
  EXPECT_GT(doc["runs"]["both + 50 % degraded"]["degraded_share"], 0.2);
  const size_t both = doc["runs"]["s_c"]["memory"]["cache_total"];
  ASSERT_EQ(run(joined(wan, {"--guidance", "1"})).exit_code, 0);
  const nlohmann::json one = json("b.json");
  EXPECT_EQ(one["settings"]["guidance_streams"], 1);
  EXPECT_LT(one["runs"]["s_c"]["memory"]["cache_total"], both);
  expect_refusal(run(bare({"--frames", "6"}, "wan")), 2, "frames is 6");
}

TEST_F(CliTest, BareTransformerAblation) {
  const Finished done = run(bare(
      {"--trajectory-sparsity", "0.3", "--pattern", "both", "--degraded", "0.5", "--ablation"}));
  ASSERT_EQ(done.exit_code, 0) << done.err;
  const nlohmann::json doc = json("b.json");
  const nlohmann::json& runs = doc["runs"];
  EXPECT_EQ(runs.size(), 1u + 3 + 4);  // dense; one way of three stages, one of four
  const nlohmann::json &attention = runs["both: attention"], &with_q = runs["both: + GEMM-Q"];
  const nlohmann::json& with_o = runs["both"];
  EXPECT_GT(attention["attention_sparsity"], 0.1);
  EXPECT_EQ(attention["attention_sparsity"], with_o["attention_sparsity"]);
  EXPECT_EQ(attention["gemm_q_sparsity"], 0.0);
  EXPECT_EQ(attention["gemm_o_sparsity"], 0.0);
  EXPECT_GT(with_q["gemm_q_sparsity"], 0.0);
  EXPECT_EQ(with_q["gemm_o_sparsity"], 0.0);
  EXPECT_EQ(with_o["gemm_q_sparsity"], with_q["gemm_q_sparsity"]);
  EXPECT_GT(with_o["gemm_o_sparsity"], 0.0);
  const std::string degraded = "both + 50 % degraded";
  EXPECT_EQ(runs[degraded + ": + GEMM-O"]["degraded_share"], 0.0);
  EXPECT_GT(runs[degraded]["degraded_share"], 0.0);
  EXPECT_GT(runs[degraded]["flops_skipped"], runs[degraded + ": + GEMM-O"]["flops_skipped"]);
  // Every way has rows of whole steps, so that seconds of each kind can be told apart.
  size_t dispatch_rows = 0;
  for (const nlohmann::json& row : doc["rows"]) dispatch_rows += row["op"] == "dispatch step";
  EXPECT_EQ(dispatch_rows, runs.size() - 1);
}

TEST_F(CliTest, BareTransformerStaysWithinItsBudget) {
  const std::vector<std::string> args = {"--trajectory-sparsity", "0.3", "--pattern", "s_c"};
  ASSERT_EQ(run(bare(args)).exit_code, 0);
  const size_t whole = json("b.json")["runs"]["s_c"]["memory"]["cache_peak"];
  EXPECT_TRUE(json("b.json")["runs"]["s_c"]["cache_budget"].is_null());
  const std::string limit = std::to_string(whole / 3);
  const Finished done = run(joined(bare(args), {"--cache-budget", limit}));
  ASSERT_EQ(done.exit_code, 0) << done.err;
  EXPECT_NE(done.err.find("cache budget "), std::string::npos) << done.err;
  EXPECT_NE(done.err.find("features of order 1 -> 0"), std::string::npos) << done.err;
  EXPECT_NE(done.err.find("does not fit into the budget"), std::string::npos) << done.err;
  const nlohmann::json run = json("b.json")["runs"]["s_c"];
  EXPECT_LE(run["memory"]["cache_peak"], whole / 3);
  const nlohmann::json& budget = run["cache_budget"];
  EXPECT_EQ(budget["limit"], whole / 3);
  EXPECT_EQ(budget["wanted"], whole);
  EXPECT_EQ(budget["planned"], run["memory"]["cache_peak"]);
  EXPECT_EQ(budget["order"]["kept"], 0);
  EXPECT_EQ(budget["layers_left_out"][0]["index"], 0);
  EXPECT_EQ(budget["layers_left_out"][0]["name"], "transformer_blocks.0");
}

TEST_F(CliTest, BareTransformerRefusesWhatCannotBe) {
  expect_refusal(run(bare({"--trajectory-sparsity", "0.9"})), 2, "0.900");
  expect_refusal(run(bare({"--trajectory-sparsity", "0.3", "--degraded", "half"})), 2, "half");
  expect_refusal(run(bare({"--frames", "5"})), 2, "frames is 5");
  expect_refusal(run({"bench", "e2e", "--random-weights", "--model", "flux.9"}), 1, "flux.1-dev");
  expect_refusal(
      run({"bench", "e2e", "--random-weights", "--model", "flux.1-dev", "--width", "100"}), 2,
      "width is 100");
}

}  // namespace
}  // namespace flashomni::tools
