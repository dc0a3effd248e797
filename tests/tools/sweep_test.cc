// SPDX-License-Identifier: Apache-2.0
//
// flashomni sweep and compare as processes: what they write, and that a kill loses nothing
// finished.
#include <set>

#include "io/image.h"
#include "tests/tools/cli.h"

namespace flashomni::tools {
namespace {

constexpr char kConfigs[] = R"({"configs": [
  {"strategy": "random", "options": {"cached": [0.2, 0.6], "block_q": 32, "block_kv": 32,
   "schedule_steps": 0, "warmup": 1, "interval": 0}},
  {"strategy": "window", "options": {"window": 32, "block_q": 32, "block_kv": 32}}]})";

class SweepTest : public CliTest {
 protected:
  std::vector<std::string> command(const std::string& folder) const {
    return small({"sweep", "c.json", "red apple", "--prompts", "p.txt", "--seeds", "0,5",
                  "--out-dir", folder},
                 {"--steps", "4"});
  }
  void SetUp() override {
    write("c.json", kConfigs);
    write("p.txt", "flat \"ambulance\", blue\n\n");
  }
  // The rows of a sweep without what differs from run to run.
  static nlohmann::json rows(const nlohmann::json& doc) {
    nlohmann::json out = nlohmann::json::array();
    for (const nlohmann::json& config : doc["configs"]) {
      for (nlohmann::json trial : config["trials"]) {
        for (const char* timed : {"seconds", "dense_seconds", "speedup"}) {
          trial["figures"].erase(timed);
        }
        trial.erase("picture");
        trial.erase("symbols");
        trial.erase("detail");  // seconds of every step
        trial["label"] = config["label"];
        out.push_back(trial);
      }
    }
    return out;
  }
  size_t lines(const std::string& name) const {
    const std::string text = file(name);
    return static_cast<size_t>(std::count(text.begin(), text.end(), '\n'));
  }
};

TEST_F(SweepTest, AKilledSweepGoesOnToTheSameRows) {
  SKIP_WHERE_SANITIZED("runs of several pictures");
  const Finished whole = run(command("whole"));
  ASSERT_EQ(whole.exit_code, 0) << whole.err;
  const nlohmann::json wanted = json("whole/sweep.json");
  EXPECT_EQ(wanted["complete"], true);
  ASSERT_EQ(rows(wanted).size(), 3u * 4);
  EXPECT_EQ(wanted["noise_floor"]["identical"], true) << "other threads, same bits";
  EXPECT_EQ(lines("whole/sweep.csv"), 1u + 4 + 1 + 12);
  EXPECT_GT(load_image(path("whole/pareto.png").string())->width, 100);
  EXPECT_NE(whole.out.find("window"), std::string::npos);

  // Killed as soon as five runs are finished.
  start(command("killed"));
  for (int i = 0; i < 6000 && lines("killed/trials.jsonl") < 6; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  ASSERT_EQ(kill(running_, SIGKILL), 0);
  EXPECT_EQ(finish().signal, SIGKILL);
  const size_t left = lines("killed/trials.jsonl");
  ASSERT_GE(left, 6u);
  ASSERT_LT(left, 18u) << "it was over before it was killed";

  const Finished resumed = run(command("killed"));
  ASSERT_EQ(resumed.exit_code, 0) << resumed.err;
  EXPECT_NE(resumed.out.find("finished runs found"), std::string::npos) << resumed.out;
  EXPECT_EQ(rows(json("killed/sweep.json")), rows(wanted));
  // 12 rows, 4 dense runs, the noise floor and the header: none was run twice.
  EXPECT_EQ(lines("killed/trials.jsonl"), 18u);

  // A finished sweep runs nothing, but its report still has what the first prompt's runs decided:
  // seven layers of six heads for each of three configs.
  std::vector<std::string> again = command("killed");
  again.insert(again.end(), {"--report", "r.html"});
  EXPECT_EQ(run(again).exit_code, 0);
  EXPECT_EQ(lines("killed/trials.jsonl"), 18u);
  const std::string page = file("r.html");
  size_t maps = 0;
  for (size_t at = page.find("alt=\"head "); at != std::string::npos;
       at = page.find("alt=\"head ", at + 1)) {
    ++maps;
  }
  EXPECT_EQ(maps, 3u * 7 * 6);
  for (const char* part : {"Symbols at the end of the run", "Seconds per step", "by step and layer",
                           "residuals", "What ran dense", "flashomni sweep"}) {
    EXPECT_NE(page.find(part), std::string::npos) << part;
  }
  EXPECT_EQ(page.find("<script"), std::string::npos);

  // Other settings are refused by name.
  std::vector<std::string> other = command("killed");
  other.insert(other.end(), {"--guidance", "2"});
  expect_refusal(run(other), 2, "settings");
}

TEST_F(SweepTest, CtrlCKeepsWhatIsFinished) {
  SKIP_WHERE_SANITIZED("runs of several pictures");
  start(command("out"));
  for (int i = 0; i < 6000 && !fs::exists(path("out/trials.jsonl")); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  while (lines("out/trials.jsonl") < 4) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  ASSERT_EQ(kill(running_, SIGINT), 0);
  const Finished f = finish();
  EXPECT_EQ(f.exit_code, 130);
  EXPECT_NE(f.err.find("the same command goes on"), std::string::npos) << f.err;
  const nlohmann::json doc = json("out/sweep.json");
  EXPECT_EQ(doc["complete"], false);
  EXPECT_GE(rows(doc).size(), 1u);
}

TEST_F(SweepTest, RefusesByName) {
  expect_refusal(run({"sweep", "none.json", "x"}), 1, "none.json");
  expect_refusal(run({"sweep", "c.json"}), 2, "no prompt");
  expect_refusal(run({"sweep", "c.json", "x", "--seeds", "1,-2"}), 2, "--seeds");
  expect_refusal(run({"sweep", "c.json", "x", "--width", "8", "--height", "8"}), 2, "11 pixels");
  write("bad.json", R"({"configs": [{"strategy": "window", "options": {"window": [-1]}}]})");
  expect_refusal(run({"sweep", "bad.json", "x"}), 2, "configs[0]");
}

TEST_F(CliTest, CompareKeepsFinishedPromptsWhenKilled) {
  SKIP_WHERE_SANITIZED("runs of several pictures");
  std::vector<std::string> args = small({"compare", "--json", "c.json"}, sparse());
  for (int i = 0; i < 200; ++i) args.push_back("apple " + std::to_string(i));
  start(args);
  for (int i = 0; i < 6000 && !fs::exists(path("c.json")); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  ASSERT_EQ(kill(running_, SIGKILL), 0);
  EXPECT_EQ(finish().signal, SIGKILL);
  const nlohmann::json doc = json("c.json");
  EXPECT_EQ(doc["complete"], false);
  const size_t prompts = doc["prompts"].size();
  ASSERT_GE(prompts, 1u);
  EXPECT_LT(prompts, 200u);
  EXPECT_EQ(doc["prompts"][0]["prompt"], "apple 0");
  EXPECT_TRUE(load_image(path("out/1-random.png").string()).ok());
}

}  // namespace
}  // namespace flashomni::tools
