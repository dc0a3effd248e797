// SPDX-License-Identifier: Apache-2.0
//
// flashomni tune as a process.
#include <set>

#include "tests/tools/cli.h"

namespace flashomni::tools {
namespace {

TEST_F(CliTest, TuneWritesAConfigThatGenerateTakes) {
  SKIP_WHERE_SANITIZED("runs of several pictures");
  const std::vector<std::string> args =
      small({"tune", "--target-psnr", "20", "--cost", "flops", "--coarse", "3", "--strategy",
             "window", "--axis", "window=64,32", "--set", "block_q=32", "--set", "block_kv=32",
             "red apple", "blue car", "-o", "w.json"},
            {"--steps", "4"});
  const Finished f = run(args);
  ASSERT_EQ(f.exit_code, 0) << f.err;
  const nlohmann::json config = json("w.json");
  EXPECT_EQ(config["strategy"], "window");
  EXPECT_EQ(config["options"]["block_q"], 32);
  const nlohmann::json evidence = json("w.evidence.json");
  EXPECT_EQ(evidence["reached"], true);
  EXPECT_EQ(evidence["held_out_prompts"], nlohmann::json({"blue car"}));
  ASSERT_GE(evidence["checks"].size(), 1u);
  EXPECT_EQ(evidence["config"], config);
  EXPECT_GT(evidence["model_evaluations"], 0);
  EXPECT_EQ(run(small({"generate", "x"}, {"--steps", "4", "--config", "w.json"})).exit_code, 0);

  // Again: every run is known already.
  ASSERT_EQ(run(args).exit_code, 0);
  EXPECT_EQ(json("w.evidence.json")["model_evaluations"], 0);
  EXPECT_EQ(json("w.json"), config);

  std::vector<std::string> far = args;
  far[2] = "200";
  far.push_back("--quiet");
  expect_refusal(run(far), 1, "no settings reach the goal");
}

// Four prompts and more: halves by a probe that is not chosen itself.
TEST_F(CliTest, TunePartsPromptsByDifficulty) {
  SKIP_WHERE_SANITIZED("runs of several pictures");
  const Finished f = run(
      small({"tune",       "--target-psnr", "10",          "--cost", "flops",           "--coarse",
             "2",          "--strategy",    "window",      "--axis", "window=96,64,32", "--set",
             "block_q=32", "--set",         "block_kv=32", "--set",  "warmup=1",        "red apple",
             "blue car",   "cat",           "pizza",       "-o",     "w.json"},
            {"--steps", "3"}));
  ASSERT_EQ(f.exit_code, 0) << f.err;
  const nlohmann::json evidence = json("w.evidence.json");
  EXPECT_EQ(evidence["prompts"].size(), 2u);
  EXPECT_EQ(evidence["held_out_prompts"].size(), 2u);
  std::set<std::string> all;
  for (const char* half : {"prompts", "held_out_prompts"}) {
    for (const auto& p : evidence[half]) all.insert(p.get<std::string>());
  }
  EXPECT_EQ(all, (std::set<std::string>{"red apple", "blue car", "cat", "pizza"}));
  EXPECT_NE(evidence["split"].get<std::string>().find("difficulty"), std::string::npos);
  EXPECT_EQ(evidence["probe"]["prompts"], 4);
  EXPECT_EQ(evidence["tolerance"], 1);
  // The held-out pictures are far better than 10 dB, and nothing is worse.
  EXPECT_EQ(evidence["within_tolerance"], false);
  EXPECT_LT(evidence["checks"].back()["missed_by"], -1);
  EXPECT_NE(f.out.find("better than asked for"), std::string::npos) << f.out;
  for (const auto& check : evidence["checks"]) {
    EXPECT_NE(check["options"], evidence["probe"]["options"]);
    EXPECT_EQ(check["prompts"], 2);
  }
}

// A search that is bounded by work instead of the clock ends alike, stopped and gone on with or
// not.
TEST_F(CliTest, TuneByWorkRepeats) {
  SKIP_WHERE_SANITIZED("runs of several pictures");
  const auto tune = [&](const std::string& work, const std::string& folder) {
    const Finished f = run(small({"tune", "--target-psnr", "35", "--cost", "flops", "--dense-runs",
                                  work, "red apple", "blue car", "cat", "pizza", "--work-dir",
                                  folder, "-o", "w.json", "--json", folder + ".json"},
                                 {"--steps", "4"}));
    EXPECT_EQ(f.exit_code, 0) << f.err;
    nlohmann::json doc = json(folder + ".json");
    EXPECT_LE(doc["dense_runs"].get<double>(), std::stod(work));
    // The looks at the held-out prompts, and where they led.
    nlohmann::json out = {doc["config"], doc["ranking"], doc["dense_runs"], doc["runs"]};
    for (const auto& c : doc["checks"]) out.push_back(c["psnr_db"]);
    return out;
  };
  const nlohmann::json few = tune("14", "a");
  const nlohmann::json many = tune("24", "a");
  EXPECT_LT(few[3], many[3]);
  EXPECT_LT(few[2], many[2]);
  EXPECT_EQ(tune("14", "a"), few) << "all of it known";
  EXPECT_EQ(tune("24", "b"), many) << "none of it known";
}

TEST_F(CliTest, TuneRefusesByName) {
  expect_refusal(run({"tune", "a", "b"}), 2, "0 goals");
  expect_refusal(run({"tune", "a", "b", "--target-psnr", "3", "--max-seconds", "3"}), 2, "2 goals");
  expect_refusal(run({"tune", "a", "--target-psnr", "30"}), 2, "one prompt");
  expect_refusal(run({"tune", "a", "b", "--target-psnr", "30", "--strategy", "nope"}), 2, "'nope'");
  expect_refusal(run({"tune", "a", "b", "--target-psnr", "30", "--axis", "tau_q=3"}), 2, "tau_q");
  expect_refusal(
      run({"tune", "a", "b", "--target-psnr", "30", "--minutes", "1", "--dense-runs", "9"}), 2,
      "--dense-runs");
}

}  // namespace
}  // namespace flashomni::tools
