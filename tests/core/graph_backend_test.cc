// SPDX-License-Identifier: Apache-2.0
//
// Batches of operations: what is replayed, what is not and why, and that results are those of the
// operations one by one.
#include "core/graph_backend.h"

#include <gtest/gtest.h>

#include <set>

#include "tests/testkit/replaying_backend.h"

namespace flashomni {
namespace {

class GraphBackendTest : public ::testing::Test {
 protected:
  GraphBackendTest() : cpu_(std::move(*make_backend("cpu", {.threads = 1}))) {
    auto replaying = std::make_unique<testkit::ReplayingBackend>(*cpu_);
    device_ = replaying.get();
    backend_ = std::make_unique<GraphBackend>(std::move(replaying));
  }

  TensorView view(std::vector<float>& values) {
    return TensorView::contiguous(values.data(), DType::kF32, {1, int64_t(values.size())});
  }
  // out = a x + b y.
  Status combine(float a, float b) {
    return backend_->combine({}, {.x = view(x_), .y = view(y_), .a = a, .b = b, .out = view(out_)});
  }
  BatchOutcome batch(const std::function<void()>& operations) {
    EXPECT_TRUE(backend_->begin_batch({}).ok());
    operations();
    const auto ended = backend_->end_batch();
    EXPECT_TRUE(ended.ok()) << ended.status().message();
    return ended.ok() ? *ended : BatchOutcome{};
  }

  std::unique_ptr<Backend> cpu_;
  testkit::ReplayingBackend* device_;  // owned by backend_
  std::unique_ptr<GraphBackend> backend_;
  std::vector<float> x_ = {1, 2, 3}, y_ = {10, 20, 30}, out_ = {0, 0, 0}, other_ = {0, 0, 0};
};

TEST_F(GraphBackendTest, TheThirdEqualBatchLaunchesWhatTheSecondCaptured) {
  const auto operations = [&] {
    ASSERT_TRUE(combine(1, 1).ok());
    ASSERT_TRUE(backend_->copy({}, {.src = view(out_), .dst = view(other_)}).ok());
    EXPECT_EQ(other_[0], 0) << "held back";
  };
  for (int i = 0; i < 4; ++i) {
    x_[0] = float(i);
    other_ = {0, 0, 0};
    const BatchOutcome b = batch(operations);
    EXPECT_EQ(b.replayed, i > 0) << i;
    EXPECT_EQ(b.captured, i == 1) << i;
    EXPECT_EQ(b.reason, i == 0 ? "the first of its kind" : "");
    EXPECT_EQ(other_, (std::vector<float>{10.f + float(i), 22, 33})) << i;
  }
  EXPECT_EQ(device_->captures, 1);
  EXPECT_EQ(device_->launches, 3);
  EXPECT_EQ(device_->operations, 2u);
  backend_->forget_graphs();
  other_ = {0, 0, 0};
  EXPECT_FALSE(batch(operations).replayed);
}

TEST_F(GraphBackendTest, AnotherParameterIsAnotherBatch) {
  for (const float b : {1.f, 2.f, 1.f, 2.f}) {
    batch([&] { ASSERT_TRUE(combine(1, b).ok()); });
    EXPECT_EQ(out_[1], 2 + 20 * b);
  }
  EXPECT_EQ(device_->captures, 2);
  // One more operation, too.
  EXPECT_FALSE(batch([&] {
                 ASSERT_TRUE(combine(1, 1).ok());
                 ASSERT_TRUE(combine(1, 1).ok());
               }).replayed);
}

TEST_F(GraphBackendTest, LeadingCopiesBringWhatDiffers) {
  std::vector<float> rows = {1, 1, 1, 2, 2, 2, 3, 3, 3};
  for (int step = 0; step < 3; ++step) {
    const BatchOutcome b = batch([&] {
      const TensorView all = TensorView::contiguous(rows.data(), DType::kF32, {3, 3});
      ASSERT_TRUE(backend_->copy({}, {.src = all.slice(0, step, step + 1), .dst = view(x_)}).ok());
      EXPECT_EQ(x_[0], float(step + 1)) << "at once";
      ASSERT_TRUE(combine(1, 1).ok());
    });
    EXPECT_EQ(b.replayed, step > 0);
    EXPECT_EQ(out_[0], 11 + float(step));
  }
  EXPECT_EQ(device_->operations, 1u);
}

TEST_F(GraphBackendTest, WhoWantsResultsGetsThem) {
  const auto stopped = [&](const char* reason, const std::function<Status()>& call) {
    out_ = {0, 0, 0};
    for (int i = 0; i < 3; ++i) {
      const BatchOutcome b = batch([&] {
        ASSERT_TRUE(combine(1, 1).ok());
        ASSERT_TRUE(call().ok());
        EXPECT_EQ(out_[0], 11) << reason;
        ASSERT_TRUE(combine(2, 1).ok());
        EXPECT_EQ(out_[0], 12) << "no longer held back";
      });
      EXPECT_FALSE(b.replayed);
      EXPECT_NE(b.reason.find(reason), std::string::npos) << b.reason;
    }
  };
  float value = 0;
  stopped("waited for", [&] { return backend_->synchronize({}); });
  stopped("to the host", [&] { return backend_->download({}, &value, out_.data(), 4); });
  stopped("from the host", [&] { return backend_->upload({}, other_.data(), &value, 4); });
  stopped("marked", [&] { return backend_->mark({}).status(); });
  ChangeSums sums;
  std::vector<double> room(16);
  stopped("measure_change", [&] {
    const TensorView x = TensorView::contiguous(x_.data(), DType::kF32, {1, 1, 3});
    return backend_->measure_change(
        {}, {.x = x,
             .y = TensorView::contiguous(y_.data(), DType::kF32, {1, 1, 3}),
             .workspace = TensorView::contiguous(room.data(), DType::kF64, {1, 1, 2}),
             .out = &sums});
  });
  EXPECT_EQ(device_->captures, 0);
}

TEST_F(GraphBackendTest, AFailedCaptureRunsOneByOneAndSaysSo) {
  device_->refuse = true;
  for (int i = 0; i < 3; ++i) {
    out_ = {0, 0, 0};
    const BatchOutcome b = batch([&] { ASSERT_TRUE(combine(1, 1).ok()); });
    EXPECT_FALSE(b.replayed);
    EXPECT_EQ(out_[0], 11);
    if (i > 0) {
      EXPECT_EQ(b.reason, "capturing failed: no graphs today");
    }
  }
}

TEST_F(GraphBackendTest, ErrorsOfHeldOperationsComeAtTheEnd) {
  ASSERT_TRUE(backend_->begin_batch({}).ok());
  ASSERT_TRUE(backend_->combine({}, {}).ok());  // nothing to combine
  EXPECT_FALSE(backend_->end_batch().ok());
  EXPECT_FALSE(backend_->end_batch().ok()) << "none is open";
  ASSERT_TRUE(backend_->begin_batch({}).ok());
  EXPECT_FALSE(backend_->begin_batch({}).ok()) << "one is open";
  EXPECT_EQ(backend_->end_batch()->reason, "no operations");
  // Outside of batches nothing is held back.
  EXPECT_TRUE(combine(1, 1).ok());
  EXPECT_EQ(out_[0], 11);
  EXPECT_FALSE(backend_->combine({}, {}).ok());
}

TEST_F(GraphBackendTest, ABackendWithoutGraphsSaysSo) {
  ASSERT_TRUE(cpu_->begin_batch({}).ok());
  EXPECT_EQ(cpu_->end_batch()->reason, "the cpu backend has no graphs");
  EXPECT_EQ(cpu_->capture({}).status().code(), StatusCode::kUnsupported);
  testkit::ReplayingBackend profiled(*cpu_);
  profiled.set_enabled(true);
  ASSERT_TRUE(profiled.begin_batch({}).ok());
  EXPECT_EQ(profiled.end_batch()->reason, "operations are timed one by one");
}

// Signatures of a call with one field changed at a time are all different.
template <class Params>
void expect_all_different(const std::vector<std::function<void(Params&)>>& changes) {
  std::set<std::vector<uint64_t>> seen;
  for (size_t i = 0; i <= changes.size(); ++i) {
    Params p;
    if (i > 0) changes[i - 1](p);
    OpSignature s;
    s.add(p);
    EXPECT_TRUE(seen.insert(s.words()).second) << "change " << i;
  }
}

TEST(OpSignature, EveryFieldCounts) {
  static float memory[2];
  static uint64_t words[1];
  const TensorView t = TensorView::contiguous(memory, DType::kF32, {2});
  const auto* weight = reinterpret_cast<const PackedWeight*>(memory);
  expect_all_different<LinearParams>(
      {[&](auto& p) { p.x = t; }, [&](auto& p) { p.weight = weight; },
       [&](auto& p) { p.activation = Activation::kSilu; }, [&](auto& p) { p.out = t; },
       [&](auto& p) { p.residual = t; }, [&](auto& p) { p.gate = t; }});
  expect_all_different<GemmOParams>(
      {[&](auto& p) { p.attn = t; }, [&](auto& p) { p.mlp = t; },
       [&](auto& p) { p.weight = weight; }, [&](auto& p) { p.token_offset = 1; },
       [&](auto& p) { p.rows = 1; }, [&](auto& p) { p.out = t; }, [&](auto& p) { p.residual = t; },
       [&](auto& p) { p.gate = t; }, [&](auto& p) { p.symbols.c = words; },
       [&](auto& p) { p.symbols.s = words; }, [&](auto& p) { p.symbols.geometry.block_q = 128; },
       [&](auto& p) { p.plan.data = memory; }, [&](auto& p) { p.plan.bytes = 8; },
       [&](auto& p) { p.num_planes = 2; }, [&](auto& p) { p.planes[3] = t; },
       [&](auto& p) { p.coefficients[2] = 1; }, [&](auto& p) { p.coefficients[1] = -0.f; }});
  expect_all_different<TaylorForecastParams>(
      {[&](auto& p) { p.count = 2; }, [&](auto& p) { p.factors[1] = t; },
       [&](auto& p) { p.coefficients[1] = 0.5f; }, [&](auto& p) { p.out = t; },
       [&](auto& p) { p.residual = t; }, [&](auto& p) { p.gate = t; }});
  expect_all_different<AttentionParams>(
      {[&](auto& p) { p.q = t; }, [&](auto& p) { p.k = t; }, [&](auto& p) { p.v = t; },
       [&](auto& p) { p.out = t; }, [&](auto& p) { p.scale = 1; },
       [&](auto& p) { p.symbols.geometry.heads = 2; }, [&](auto& p) { p.lse = t; },
       [&](auto& p) { p.softmax_skip = 1; }});
  expect_all_different<GemmQkvParams>(
      {[&](auto& p) { p.q.x = t; }, [&](auto& p) { p.k.x = t; }, [&](auto& p) { p.v.x = t; },
       [&](auto& p) { p.q.weight = weight; }, [&](auto& p) { p.q.rms_weight = t; },
       [&](auto& p) { p.q.rms_eps = 1; }, [&](auto& p) { p.q.rope.cos = t; },
       [&](auto& p) { p.q.rope.sin = t; }, [&](auto& p) { p.q.token_offset = 1; },
       [&](auto& p) { p.q.out = t; }, [&](auto& p) { p.q.symbols.s = words; },
       [&](auto& p) { p.q.plan.data = memory; }});
  expect_all_different<CopyParams>({[&](auto& p) { p.src = t; }, [&](auto& p) { p.dst = t; },
                                    [&](auto& p) { p.src = t, p.src.shape[0] = 1; },
                                    [&](auto& p) { p.src = t, p.src.stride[0] = 3; },
                                    [&](auto& p) { p.src = t, p.src.dtype = DType::kI32; },
                                    [&](auto& p) { p.src = t, p.src.rank = 2; }});
}

}  // namespace
}  // namespace flashomni
