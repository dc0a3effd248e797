// SPDX-License-Identifier: Apache-2.0
//
// The parts of a sweep that need no run: grids, Pareto fronts, tables.
#include <gtest/gtest.h>

#include <limits>

#include "tools/pareto.h"
#include "tools/plot.h"
#include "tools/sweep_config.h"
#include "tools/sweep_results.h"

namespace flashomni::tools {
namespace {

using nlohmann::json;
constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

std::vector<std::string> labels(const std::vector<SweepConfig>& configs) {
  std::vector<std::string> out;
  for (const SweepConfig& c : configs) out.push_back(c.label);
  return out;
}

TEST(SweepConfig, ListsSpanGrids) {
  const json doc = json::parse(R"({"configs": [
    {"strategy": "flashomni", "options": {"tau_q": [0.5, 0.8], "interval": [3, 4, 6], "order": 2}},
    {"strategy": "window", "options": {"window": 128}},
    {"strategy": "random", "label": "r", "curve": "noise", "options": {"cached": [0.1, 0.2]}}]})");
  auto configs = parse_sweep(doc, "c.json", "emoji_flux");
  ASSERT_TRUE(configs.ok()) << configs.status().to_string();
  ASSERT_EQ(configs->size(), 2u * 3 + 1 + 2);
  EXPECT_EQ(labels(*configs)[0], "flashomni interval=3 tau_q=0.5");
  EXPECT_EQ(labels(*configs)[1], "flashomni interval=3 tau_q=0.8");
  EXPECT_EQ(labels(*configs)[6], "window window=128");
  EXPECT_EQ(labels(*configs)[8], "r cached=0.2");
  EXPECT_EQ((*configs)[8].curve, "noise");
  EXPECT_EQ((*configs)[5].curve, "flashomni");
  EXPECT_EQ((*configs)[5].choice.options.at("interval"), OptionValue(int64_t{6}));
  EXPECT_EQ((*configs)[5].choice.options.at("order"), OptionValue(int64_t{2}));
}

// The same strategy and options by another way are one config; dense always runs anyway.
TEST(SweepConfig, EqualConfigsAreKeptOnce) {
  const json doc = json::parse(R"({"configs": [
    {"strategy": "flashomni", "preset": "quality"},
    {"strategy": "flashomni", "preset": "quality", "label": "again", "options": {"order": 1.0}},
    {"strategy": "dense"}]})");
  auto configs = parse_sweep(doc, "c.json", "emoji_flux");
  ASSERT_TRUE(configs.ok()) << configs.status().to_string();
  EXPECT_EQ(labels(*configs), std::vector<std::string>{"flashomni quality"});
}

TEST(SweepConfig, RefusesByName) {
  const std::pair<const char*, const char*> cases[] = {
      {R"([])", "wanted {\"configs\""},
      {R"({"configs": []})", "wanted {\"configs\""},
      {R"({"configs": [3]})", "configs[0]: is number"},
      {R"({"configs": [{"strategy": "dense"}]})", "no config but dense"},
      {R"({"configs": [{"strategy": "nope"}]})", "no strategy 'nope'"},
      {R"({"configs": [{"options": {"tau_q": []}}]})", "'tau_q' is an empty list"},
      {R"({"configs": [{"options": {"tau_q": [0.5, 7]}}]})", "tau_q"},
      {R"({"configs": [{"options": {"tau_q": [[0.5]]}}]})", "tau_q"},
      {R"({"configs": [{"options": {"tau_p": [0.5]}}]})", "tau_p"},
      {R"({"configs": [{"label": 3}]})", "label"},
      {R"({"configs": [{}], "prompts": ["x"]})", "'prompts'"},
      {R"({"configs": [{"label": "a"}, {"label": "a", "options": {"order": 3}}]})", "label 'a'"},
  };
  for (const auto& [text, wanted] : cases) {
    const Status s = parse_sweep(json::parse(text), "c.json", "emoji_flux").status();
    EXPECT_EQ(s.code(), StatusCode::kInvalidArgument) << text;
    EXPECT_NE(s.message().find(wanted), std::string::npos) << text << ": " << s.message();
    EXPECT_EQ(s.message().rfind("c.json", 0), 0u) << s.message();
  }
}

TEST(SweepConfig, CapsTheGrid) {
  json values = json::array();
  for (int i = 0; i < 101; ++i) values.push_back(i / 101.0);
  const json doc = {{"configs", {{{"options", {{"tau_q", values}, {"tau_kv", values}}}}}}};
  const Status s = parse_sweep(doc, "c.json", "emoji_flux").status();
  EXPECT_NE(s.message().find("more than 10000"), std::string::npos) << s.message();
}

TEST(Pareto, HandWorked) {
  // Cost 1 q 5; cost 2 q 4 (beaten by the first); cost 2 q 7; cost 3 q 7 (no better); cost 3 q 9.
  const std::vector<ParetoPoint> points = {{3, 9}, {2, 4}, {1, 5}, {2, 7}, {3, 7}, {0, kNaN}};
  EXPECT_EQ(pareto_front(points), (std::vector<size_t>{2, 3, 0}));
  EXPECT_TRUE(pareto_front({}).empty());
  EXPECT_EQ(pareto_front({{1, 1}, {1, 1}}), std::vector<size_t>{0});
  EXPECT_EQ(pareto_front({{1, 1}, {1, kInf}}), std::vector<size_t>{1});
}

Trial trial(const std::string& prompt, double seconds, double psnr, double sparsity) {
  Trial t;
  t.key = "k";
  t.choice = {"flashomni", "", {{"tau_q", 0.5}}};
  t.point = {prompt, 7};
  t.figures.seconds = seconds;
  t.figures.dense_seconds = 4;
  t.figures.psnr_db = psnr;
  t.figures.ssim = 0.9;
  t.figures.attention_sparsity = sparsity;
  return t;
}

SweepResults sample() {
  SweepResults r;
  r.complete = true;
  r.points = {{"a, \"b\"", 7}};
  for (const auto& [label, seconds, psnr, sparsity] : {std::tuple{"fast", 1.0, 30.0, 0.6},
                                                       {"slow", 2.0, 40.0, 0.3},
                                                       {"bad", 2.5, 35.0, 0.2},
                                                       {"same", 3.0, kInf, 0.0}}) {
    SweepRow row{{label, "flashomni", {"flashomni", "", {}}}, {}, {}, 0, ""};
    row.trials = {trial("a, \"b\"", seconds, psnr, sparsity)};
    row.mean = row.trials[0].figures;
    r.rows.push_back(row);
  }
  r.rows.push_back({{"broken", "x", {}}, {}, {}, 0, "no such thing"});
  return r;
}

TEST(SweepResults, FrontsAndJson) {
  const SweepResults r = sample();
  EXPECT_EQ(front_of(r, SweepX::kSeconds, SweepY::kPsnr, "flashomni"), (std::vector<size_t>{0, 1}));
  EXPECT_EQ(front_of(r, SweepX::kSparsity, SweepY::kPsnr, ""), (std::vector<size_t>{0, 1}));
  EXPECT_EQ(curves(r), (std::vector<std::string>{"flashomni", "x"}));
  const json doc = sweep_json(r);
  EXPECT_EQ(doc["configs"][0]["pareto"]["psnr_seconds"], true);
  EXPECT_EQ(doc["configs"][2]["pareto"]["psnr_seconds"], false);
  EXPECT_TRUE(doc["configs"][3]["psnr_db"].is_null());
  EXPECT_EQ(doc["configs"][3]["identical"], true);
  EXPECT_EQ(doc["configs"][4]["failure"], "no such thing");
  EXPECT_NE(sweep_table(r).find("failed"), std::string::npos);
}

TEST(SweepResults, CsvQuotesWhatItMust) {
  const std::string csv = sweep_csv(sample());
  EXPECT_NE(csv.find("\nfast,flashomni,\"a, \"\"b\"\"\",7,1.0,4.0,4.0,30.0,0,0.9,0.6,"),
            std::string::npos)
      << csv;
  // An infinite PSNR is an empty cell and says that the pictures are identical.
  EXPECT_NE(csv.find("\nsame,flashomni,\"a, \"\"b\"\"\",7,3.0,4.0,"), std::string::npos) << csv;
  EXPECT_NE(csv.find(",,1,0.9,0.0,"), std::string::npos) << csv;
  EXPECT_NE(csv.find("\"{\"\"tau_q\"\":0.5}\""), std::string::npos) << csv;
}

TEST(SweepResults, ThePlotHasFourPanels) {
  const Image image = sweep_plot(sample());
  EXPECT_EQ(image.width, 2 * 860 + 3 * 8);
  EXPECT_EQ(image.height, 2 * 620 + 3 * 8);
  EXPECT_EQ(sweep_plot(SweepResults()).width, image.width);  // nothing to draw is no crash
}

TEST(Trial, JsonRoundTrip) {
  Trial t = trial("x", 1.5, kInf, 0.25);
  t.picture = "p.png";
  t.figures.fallbacks = {{"run", "why", 3}};
  auto back = parse_trial(to_json(t), "t");
  ASSERT_TRUE(back.ok()) << back.status().to_string();
  EXPECT_EQ(to_json(*back), to_json(t));
  for (const char* gone : {"key", "strategy", "figures", "prompt"}) {
    json broken = to_json(t);
    broken.erase(gone);
    EXPECT_EQ(parse_trial(broken, "t").status().code(), StatusCode::kCorruptFile) << gone;
  }
}

}  // namespace
}  // namespace flashomni::tools
