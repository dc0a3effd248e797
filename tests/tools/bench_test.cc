// SPDX-License-Identifier: Apache-2.0
//
// flashomni bench: rows and samples of the kernels' benches, and whole generations (bench e2e);
// and the memory of a generation.
#include <algorithm>
#include <set>
#include <sstream>

#include "tests/tools/cli.h"

namespace flashomni::tools {
namespace {

// Rows of one way of generating by (op, step).
nlohmann::json find_row(const nlohmann::json& doc, const std::string& pattern,
                        const std::string& op, const std::string& step) {
  for (const nlohmann::json& row : doc["rows"]) {
    if (row["pattern"] == pattern && row["op"] == op && row["step"] == step) return row;
  }
  ADD_FAILURE() << "no row of " << pattern << ", " << op << ", " << step;
  return {};
}

TEST_F(CliTest, BenchKeepsItsSamples) {
  const Finished done = run({"bench", "attention", "--n", "160", "--heads", "2", "--head-dim", "16",
                             "--repeats", "5", "--dense-only", "--json", "b.json"});
  ASSERT_EQ(done.exit_code, 0) << done.err;
  const nlohmann::json doc = json("b.json");
  ASSERT_EQ(doc["rows"].size(), 1u) << "dense only";
  const auto ms = doc["rows"][0]["ms_samples"].get<std::vector<double>>();
  ASSERT_EQ(ms.size(), 5u);
  EXPECT_TRUE(std::is_sorted(ms.begin(), ms.end()));
  EXPECT_EQ(doc["rows"][0]["ms_median"], ms[2]);
  EXPECT_EQ(doc["rows"][0]["baselines"], nlohmann::json::object());
}

// A script decides when a round runs, and gets its times at once.
TEST_F(CliTest, BenchAnswersRequests) {
  const std::vector<std::string> args = {"bench",        "linear", "--n",   "64",        "--in",
                                         "32",           "--out",  "48",    "--repeats", "3",
                                         "--on-request", "--json", "b.json"};
  const Finished done = run_with_input(args, "\n\n");
  ASSERT_EQ(done.exit_code, 0) << done.err;
  std::istringstream answers(done.out);
  std::vector<double> all;
  std::string line;
  for (int round = 0; round < 2; ++round) {
    ASSERT_TRUE(std::getline(answers, line)) << done.out;
    const nlohmann::json ms = nlohmann::json::parse(line);
    ASSERT_EQ(ms.size(), 1u) << "one case";
    ASSERT_EQ(ms[0].size(), 3u);
    for (const double v : ms[0].get<std::vector<double>>()) all.push_back(v);
  }
  EXPECT_FALSE(std::getline(answers, line)) << "nothing else on standard output: " << line;
  std::sort(all.begin(), all.end());
  EXPECT_EQ(json("b.json")["rows"][0]["ms_samples"].get<std::vector<double>>().size(), 6u);
  EXPECT_NEAR(json("b.json")["rows"][0]["ms_median"].get<double>(), (all[2] + all[3]) / 2,
              1e-9 * all[3]);
  expect_refusal(run_with_input(args, ""), 2, "before the first request");
}

TEST_F(CliTest, BenchNeedsAnOperation) {
  expect_refusal(run({"bench"}), 2, "OP");
  expect_refusal(run({"bench", "--n", "64"}), 2, "OP");
}

TEST_F(CliTest, FlagsOfE2eStandBehindIt) {
  expect_refusal(run({"bench", "--repeats", "1", "e2e"}), 2, "--repeats stands before e2e");
  expect_refusal(run({"bench", "linear", "e2e"}), 2, "before e2e");
}

TEST_F(CliTest, BenchOfWholeGenerations) {
  const Finished done =
      run(joined(small({"bench", "e2e", "x", "--json", "b.json"}, sparse()), {"--repeats", "2"}));
  ASSERT_EQ(done.exit_code, 0) << done.err;
  EXPECT_NE(done.out.find("dispatch step"), std::string::npos) << done.out;
  EXPECT_NE(done.out.find("everything else"), std::string::npos) << done.out;

  const nlohmann::json doc = json("b.json");
  for (const char* key : {"command", "version", "commit", "date", "machine", "peak_tflops", "model",
                          "prompt", "settings", "strategy", "runs"}) {
    EXPECT_TRUE(doc.contains(key)) << key;
  }
  // Update, Dispatch, Dispatch, Full against four Full steps.
  const nlohmann::json dense = find_row(doc, "dense", "generation", "all");
  const nlohmann::json generation = find_row(doc, "random", "generation", "all");
  EXPECT_EQ(dense["n"], 64 + 64);
  EXPECT_EQ(dense["heads"], 6);
  EXPECT_EQ(dense["repeats"], 2);
  EXPECT_EQ(dense["speedup_vs_dense"], 1.0);
  EXPECT_EQ(dense["sparsity"], 0.0);
  EXPECT_EQ(find_row(doc, "dense", "full step", "full")["calls"], 4);
  EXPECT_EQ(find_row(doc, "dense", "full step", "full")["repeats"], 8);
  EXPECT_EQ(generation["block_q"], 32);
  EXPECT_EQ(find_row(doc, "random", "update step", "update")["calls"], 1);
  const nlohmann::json dispatch = find_row(doc, "random", "dispatch step", "dispatch");
  EXPECT_EQ(dispatch["calls"], 2);
  EXPECT_EQ(dispatch["repeats"], 4);
  EXPECT_GT(dispatch["sparsity"], 0.0);
  EXPECT_NEAR(generation["sparsity"].get<double>(), dispatch["sparsity"].get<double>() / 2, 1e-12);
  EXPECT_NEAR(generation["speedup_vs_dense"].get<double>(),
              dense["ms_median"].get<double>() / generation["ms_median"].get<double>(), 1e-9);
}

// The operations cover their generation: no more than all of it, and all of its FLOPs.
TEST_F(CliTest, OperationsOfAGenerationAddUp) {
  const Finished done = run(
      joined(small({"bench", "e2e", "--quiet", "--json", "b.json"}, sparse()), {"--repeats", "1"}));
  ASSERT_EQ(done.exit_code, 0) << done.err;
  EXPECT_EQ(done.out, "");
  const nlohmann::json doc = json("b.json");
  for (const std::string pattern : {"dense", "random"}) {
    double ms = 0, flops = 0, of_steps = 0;
    std::set<std::string> ops;
    for (const nlohmann::json& row : doc["rows"]) {
      if (row["pattern"] != pattern || row["step"] != "all" || row["op"] == "generation") continue;
      EXPECT_TRUE(row["speedup_vs_dense"].is_null());
      ops.insert(row["op"].get<std::string>());
      ms += row["ms_median"].get<double>();
      flops += row["tflops_active"].get<double>() * row["ms_median"].get<double>();
    }
    for (const auto& [kind, steps] :
         std::map<std::string, int>{{"full", pattern == "dense" ? 4 : 1},
                                    {"update", pattern == "dense" ? 0 : 1},
                                    {"dispatch", pattern == "dense" ? 0 : 2}}) {
      for (const nlohmann::json& row : doc["rows"]) {
        if (row["pattern"] != pattern || row["step"] != kind || !ops.count(row["op"])) continue;
        of_steps += steps * row["ms_median"].get<double>();
      }
    }
    const nlohmann::json whole = find_row(doc, pattern, "generation", "all");
    EXPECT_GT(ms, 0.5 * whole["ms_median"].get<double>()) << pattern;
    EXPECT_LE(ms, whole["ms_median"].get<double>()) << pattern;
    EXPECT_NEAR(of_steps, ms, 1e-6 * ms) << pattern;
    const double wanted = whole["tflops_active"].get<double>() * whole["ms_median"].get<double>();
    EXPECT_NEAR(flops, wanted, 1e-6 * wanted) << pattern;
    EXPECT_EQ(ops.count("attention sparse"), pattern == "dense" ? 0u : 1u);
  }
}

// Of a small picture, and of a large cache, all of which two Updates touch (slopes are not written
// before the second). Loading holds one tensor at a time beside what it has packed.
TEST_F(CliTest, ThePeakMemoryIsExplained) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "sanitizers keep memory of their own";
#endif
  const std::vector<std::string> generate = {"generate", "x",      "--device",
                                             "cpu",      "--json", "m.json"};
  for (const bool large : {false, true}) {
    std::vector<std::string> updates = sparse();
    std::replace(updates.begin(), updates.end(), std::string("interval=0"),
                 std::string("interval=1"));
    const Finished done = run(large ? joined(generate, updates) : small(generate));
    ASSERT_EQ(done.exit_code, 0) << done.err;
    const nlohmann::json memory = json("m.json")["memory"];
    const auto bytes = [&](const char* part) { return memory[part].get<int64_t>(); };
    EXPECT_GE(memory["explained_share"], 0.9) << memory.dump();
    // A build with CUDA starts with the pages of cuBLASLt, not all of which stay.
    const bool with_cuda = bytes("program") > (int64_t{64} << 20);
    EXPECT_LE(memory["explained_share"], with_cuda ? 1.25 : 1.1) << memory.dump();
    EXPECT_LE(bytes("loading_peak"), bytes("process_peak"));
    EXPECT_LE(bytes("loading_peak"), bytes("program") + bytes("weights") + bytes("text_encoder") +
                                         bytes("largest_tensor") + (int64_t{16} << 20))
        << memory.dump();
    EXPECT_GE(bytes("explained"), bytes("program") + bytes("weights") + bytes("text_encoder") +
                                      bytes("activations") + bytes("cache_peak"));
  }
}

}  // namespace
}  // namespace flashomni::tools
