// SPDX-License-Identifier: Apache-2.0
//
// Reports, traces, symbols show|convert and bench --replay as processes.
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

}  // namespace
}  // namespace flashomni::tools
