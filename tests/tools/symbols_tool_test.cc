// SPDX-License-Identifier: Apache-2.0
//
// Reports, traces, symbols show|convert, bench --replay and tune as processes.
#include <set>

#include "tests/tools/cli.h"

namespace flashomni::tools {
namespace {

TEST_F(CliTest, AReportIsOnePageThatLoadsNothing) {
  const std::string prompt = "<script>alert(1)</script> & apple";
  const Finished f = run(small(
      {"generate", prompt, "--report", "r.html", "--trace-symbols", "t.safetensors"}, sparse()));
  ASSERT_EQ(f.exit_code, 0) << f.err;
  const std::string page = file("r.html");
  EXPECT_EQ(page.rfind("<!DOCTYPE html>", 0), 0u);
  EXPECT_EQ(page.find("<script"), std::string::npos);
  EXPECT_NE(page.find("&lt;script&gt;alert(1)&lt;/script&gt; &amp; apple"), std::string::npos);
  for (const char* loads : {"http:", "https:", "src=\"/", "@import", "url("}) {
    EXPECT_EQ(page.find(loads), std::string::npos) << loads;
  }
  for (const char* part : {"Seconds per step", "by step and layer", "head 5", "bias planes",
                           "What ran dense", "flashomni generate", "prefers-color-scheme"}) {
    EXPECT_NE(page.find(part), std::string::npos) << part;
  }
  EXPECT_TRUE(page.ends_with("</html>\n"));

  // The trace of the same run: 7 layers, 2 streams, one Update, used in both Dispatch steps.
  const Finished shown = run({"symbols", "show", "t.safetensors", "--json", "t.json"});
  ASSERT_EQ(shown.exit_code, 0) << shown.err;
  const nlohmann::json trace = json("t.json");
  ASSERT_EQ(trace["entries"].size(), 14u);
  EXPECT_EQ(trace["entries"][0]["uses"], 2);
  EXPECT_EQ(trace["head_dim"], 64);

  const std::vector<std::string> entry = {"--layer", "3", "--stream", "1"};
  std::vector<std::string> convert = {"symbols",       "convert", "t.safetensors",
                                      "a.safetensors", "--to",    "flex"};
  convert.insert(convert.end(), entry.begin(), entry.end());
  ASSERT_EQ(run(convert).exit_code, 0);
  ASSERT_EQ(run({"symbols", "convert", "a.safetensors", "a.fosy"}).exit_code, 0);
  std::vector<std::string> direct = {"symbols", "convert", "t.safetensors", "b.fosy"};
  direct.insert(direct.end(), entry.begin(), entry.end());
  ASSERT_EQ(run(direct).exit_code, 0);
  EXPECT_EQ(file("a.fosy"), file("b.fosy"));
  EXPECT_NE(run({"symbols", "show", "a.safetensors", "--head", "2"}).out.find("head 2"),
            std::string::npos);
  direct[5] = "99";
  expect_refusal(run(direct), 2, "no symbols of layer 99");
  expect_refusal(run({"symbols", "convert", "a.fosy", "c.safetensors"}), 2, "--to is missing");
  expect_refusal(run({"symbols", "convert", "a.fosy", "c", "--to", "csr"}), 2, "'csr'");
  expect_refusal(run({"symbols", "show", "a.fosy", "--layer", "1"}), 2, "are for traces");
  expect_refusal(run({"symbols", "show", "r.html"}), 1, "r.html");
  expect_refusal(run({"symbols"}), 2, "subcommand");

  const Finished replay = run({"bench", "attention", "--replay", "t.safetensors", "--replay-limit",
                               "3", "--repeats", "1", "--json", "b.json"});
  ASSERT_EQ(replay.exit_code, 0) << replay.err;
  const nlohmann::json bench = json("b.json");
  ASSERT_EQ(bench["rows"].size(), 4u);
  EXPECT_EQ(bench["rows"][1]["pattern"], "step0.layer0.stream0");
  EXPECT_EQ(bench["rows"][0]["heads"], 6);
  EXPECT_EQ(bench["replay"]["symbols"], 14);
  EXPECT_NEAR(bench["rows"][1]["sparsity"].get<double>(),
              trace["entries"][0]["attention_sparsity"].get<double>(), 1e-12);
  expect_refusal(run({"bench", "linear", "--replay", "t.safetensors"}), 2, "--replay");
  expect_refusal(run({"bench", "attention", "--replay", "a.safetensors"}), 1, "not a trace");
  expect_refusal(run({"bench", "attention", "--replay", "t.safetensors", "--n", "64"}), 2, "--n");
}

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

TEST_F(CliTest, TuneRefusesByName) {
  expect_refusal(run({"tune", "a", "b"}), 2, "0 goals");
  expect_refusal(run({"tune", "a", "b", "--target-psnr", "3", "--max-seconds", "3"}), 2, "2 goals");
  expect_refusal(run({"tune", "a", "--target-psnr", "30"}), 2, "one prompt");
  expect_refusal(run({"tune", "a", "b", "--target-psnr", "30", "--strategy", "nope"}), 2, "'nope'");
  expect_refusal(run({"tune", "a", "b", "--target-psnr", "30", "--axis", "tau_q=3"}), 2, "tau_q");
}

}  // namespace
}  // namespace flashomni::tools
