// SPDX-License-Identifier: Apache-2.0
//
// flashomni bench e2e --random-weights: transformers without pictures, under symbols of a stated
// sparsity.
#include "tests/tools/cli.h"

namespace flashomni::tools {
namespace {

std::vector<std::string> bare(const std::vector<std::string>& more) {
  return joined({"bench",
                 "e2e",
                 "--device",
                 "cpu",
                 "--random-weights",
                 "--model",
                 std::string(FO_SOURCE_DIR) + "/tests/models/fixtures/flux_dev",
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
