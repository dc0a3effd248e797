// SPDX-License-Identifier: Apache-2.0
//
// Traces: how often each set of symbols was used, and files that are not what they claim to be.
#include "pipelines/symbols_trace.h"

#include <gtest/gtest.h>

#include "io/safetensors.h"
#include "tests/testkit/temp_dir.h"

namespace flashomni {
namespace {

// One layer, two streams, six steps: Update, two sparse, Update, one sparse, one dense. Stream 1
// is reused whole from the second Update on.
struct FinishedRun {
  RunReport report;
  std::vector<SymbolSnapshot> snapshots;
};

FinishedRun sample() {
  FinishedRun r;
  r.report.layer_names = {"block.0"};
  const LayerKind kinds[6][2] = {
      {LayerKind::kUpdate, LayerKind::kUpdate},   {LayerKind::kSparse, LayerKind::kSparse},
      {LayerKind::kSparse, LayerKind::kSparse},   {LayerKind::kUpdate, LayerKind::kUpdate},
      {LayerKind::kSparse, LayerKind::kDegraded}, {LayerKind::kDense, LayerKind::kDense}};
  for (int t = 0; t < 6; ++t) {
    StepRecord step;
    step.step = t;
    for (const LayerKind k : kinds[t]) step.layers.push_back({k, {}});
    r.report.steps.push_back(step);
  }
  SparseSymbols symbols({1, 2, 128, 128, 64, 64});
  for (const int t : {0, 3}) {
    for (int stream = 0; stream < 2; ++stream) {
      symbols.set_s(0, stream, 0, 1, t == 0);
      r.snapshots.push_back({t, 0, stream, symbols});
    }
  }
  return r;
}

class TraceTest : public ::testing::Test {
 protected:
  std::string path() const { return folder_ / "t.safetensors"; }
  testkit::TempDir folder_;
};

TEST_F(TraceTest, CountsTheStepsThatRanWithEachSymbols) {
  const FinishedRun run = sample();
  const SymbolTrace t = make_trace(run.report, run.snapshots);
  ASSERT_EQ(t.entries.size(), 4u);
  EXPECT_EQ(t.entries[0].uses, 2);
  EXPECT_EQ(t.entries[1].uses, 2);
  EXPECT_EQ(t.entries[2].uses, 1);
  EXPECT_EQ(t.entries[3].uses, 0) << "reused whole: its attention did not run";
}

TEST_F(TraceTest, ComesBack) {
  const FinishedRun run = sample();
  SymbolTrace t = make_trace(run.report, run.snapshots);
  t.head_dim = 64;
  t.command = "flashomni generate 'x'";
  t.strategy = R"({"strategy":"window"})";
  ASSERT_TRUE(save_trace(t, path()).ok());
  EXPECT_TRUE(is_trace(path()));
  auto back = load_trace(path());
  ASSERT_TRUE(back.ok()) << back.status().to_string();
  EXPECT_EQ(back->steps, 6);
  EXPECT_EQ(back->head_dim, 64);
  EXPECT_EQ(back->layers, t.layers);
  EXPECT_EQ(back->command, t.command);
  EXPECT_EQ(back->strategy, t.strategy);
  ASSERT_EQ(back->entries.size(), t.entries.size());
  for (size_t i = 0; i < t.entries.size(); ++i) {
    EXPECT_EQ(back->entries[i].symbols, t.entries[i].symbols) << i;
    EXPECT_EQ(back->entries[i].step, t.entries[i].step) << i;
    EXPECT_EQ(back->entries[i].stream, t.entries[i].stream) << i;
    EXPECT_EQ(back->entries[i].uses, t.entries[i].uses) << i;
  }
}

TEST_F(TraceTest, RefusesByName) {
  std::vector<uint8_t> bytes = serialize_symbols(SparseSymbols({1, 1, 64, 64, 64, 64}));
  const auto write = [&](const std::string& version, const std::string& header) {
    const TensorToWrite t{"a", StoredDType::kU8, {int64_t(bytes.size())}, bytes};
    const std::vector<TensorToWrite> all = {t};
    ASSERT_TRUE(
        write_safetensors(path(), all, {{"flashomni_trace", version}, {"header", header}}).ok());
  };
  const auto refuses = [&](const std::string& what) {
    const Status s = load_trace(path()).status();
    EXPECT_FALSE(s.ok()) << what;
    EXPECT_NE(s.message().find(what), std::string::npos) << s.message();
  };
  const std::string entry = R"({"name": "a", "step": 0, "layer": 0, "stream": 0, "uses": 1})";
  write("1", R"({"entries": [)" + entry + "]}");
  EXPECT_TRUE(load_trace(path()).ok());
  write("2", "{}");
  refuses("version of the trace is '2'");
  write("1", "{");
  refuses("header");
  write("1", "{}");
  refuses("no list of entries");
  write("1", R"({"entries": [{"name": "a"}]})");
  refuses("'step' is missing");
  write("1", R"({"entries": [{"name": "b", "step": 0, "layer": 0, "stream": 0, "uses": 1}]})");
  refuses("entry 'b' has no U8 tensor");
  write("1", R"({"entries": [{"name": "a", "step": -1, "layer": 0, "stream": 0, "uses": 1}]})");
  refuses("'step' is -1");
  bytes[40] ^= 1;
  write("1", R"({"entries": [)" + entry + "]}");
  refuses("entry 'a'");
  ASSERT_TRUE(write_safetensors(path(), {}).ok());
  refuses("not a trace of symbols");
  EXPECT_FALSE(is_trace(path()));
}

}  // namespace
}  // namespace flashomni
