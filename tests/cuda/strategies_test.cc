// SPDX-License-Identifier: Apache-2.0
//
// Every registered strategy on the bundled model on the GPU, end to end, beside the CPU's run of
// the same strategy: it leaves the same share of work out and draws the same picture. Selections
// may differ where scores lie within the rounding of bf16 activations.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <map>
#include <set>

#include "pipelines/metrics.h"
#include "pipelines/text_to_image.h"
#include "tests/cuda/cuda_backend.h"
#include "tests/testkit/strategy_options.h"

namespace flashomni {
namespace {

constexpr int kBlock = 64;  // GPUs have no smaller ones
constexpr double kAgreementDb = 30;
constexpr double kSparsityTolerance = 0.02;

// 64 text and 32 x 32 picture tokens.
TextToImageRequest request() {
  TextToImageRequest r;
  r.prompt = "3d red apple";
  r.seed = 5;
  r.steps = 8;
  return r;
}

TextToImagePipeline* pipeline_on(Backend& backend) {
  static auto& loaded = *new std::map<Backend*, std::unique_ptr<TextToImagePipeline>>();
  std::unique_ptr<TextToImagePipeline>& pipeline = loaded[&backend];
  if (!pipeline) {
    auto made =
        TextToImagePipeline::load(backend, std::string(FO_SOURCE_DIR) + "/models/emoji-flux");
    EXPECT_TRUE(made.ok()) << made.status().to_string();
    if (made.ok()) pipeline = std::move(*made);
  }
  return pipeline.get();
}

Result<TextToImageResult> draw(Backend& backend, const std::string& name,
                               const OptionMap& options) {
  FO_ASSIGN_OR_RETURN(auto strategy, make_strategy(name, options));
  TextToImagePipeline* pipeline = pipeline_on(backend);
  if (!pipeline) return internal_error("no pipeline");
  return pipeline->generate(request(), std::move(strategy));
}

OptionMap small_options(const std::string& name) {
  OptionMap o = testkit::small_options(*find_strategy(name), kBlock);
  // Changes of this run lie well above and below: bf16 does not turn a decision.
  if (name == "first_block") o["threshold"] = 0.35;
  return o;
}

// Never destroyed: pipelines on it live as long.
Backend& cpu_backend() {
  static auto& backend = *std::move(*make_backend("cpu")).release();
  return backend;
}

const TextToImageResult& cpu_run(const std::string& name) {
  static auto& runs = *new std::map<std::string, TextToImageResult>();
  auto at = runs.find(name);
  if (at == runs.end()) {
    auto r = draw(cpu_backend(), name, name == "dense" ? OptionMap{} : small_options(name));
    EXPECT_TRUE(r.ok()) << r.status().to_string();
    at = runs.emplace(name, r.ok() ? std::move(*r) : TextToImageResult{}).first;
  }
  return at->second;
}

double flops_share(const RunReport& r) {
  return r.flops_dense > 0 ? r.flops_skipped / r.flops_dense : 0;
}

std::set<std::string> reasons(const RunReport& r) {
  std::set<std::string> out;
  for (const Fallback& f : r.fallbacks) out.insert(f.reason);
  return out;
}

using Case = std::tuple<const char*, std::string>;  // kernel path, strategy

class CudaStrategy : public testkit::CudaTest, public testing::WithParamInterface<Case> {
 protected:
  CudaStrategy() : CudaTest(std::get<0>(GetParam())) {}
  const std::string& name() const { return std::get<1>(GetParam()); }
};

TEST_P(CudaStrategy, DrawsThePictureOfTheCpu) {
  const TextToImageResult& want = cpu_run(name());
  const auto result = draw(backend(), name(), small_options(name()));
  ASSERT_TRUE(result.ok()) << result.status().to_string();
  const RunReport &r = result->report, &w = want.report;
  const double db = *psnr_db(result->image, want.image);
  const double from_dense = *psnr_db(want.image, cpu_run("dense").image);
  std::printf(
      "%s: attention %.3f (CPU %.3f), FLOPs %.3f (CPU %.3f), %.1f dB to the CPU's picture "
      "(which is %.1f dB from dense)\n",
      name().c_str(), r.attention_sparsity, w.attention_sparsity, flops_share(r), flops_share(w),
      db, from_dense);
  EXPECT_GT(w.attention_sparsity, 0.02);
  EXPECT_NEAR(r.attention_sparsity, w.attention_sparsity, kSparsityTolerance);
  EXPECT_NEAR(r.cached_sparsity, w.cached_sparsity, kSparsityTolerance);
  EXPECT_NEAR(flops_share(r), flops_share(w), kSparsityTolerance);
  EXPECT_EQ(reasons(r), reasons(w));
  EXPECT_EQ(r.host_waits, w.host_waits);
  EXPECT_GE(db, kAgreementDb);
}

// Tiles of 7 x 9 tokens, which divide no side of the 32 x 32 picture; blocks end with them.
OptionMap ragged_options(const std::string& name) {
  OptionMap o = small_options(name);
  o["ragged"] = true;
  const std::string side = name == "draft" ? "patch" : "tile";
  o[side + "_rows"] = int64_t{7};
  o[side + "_cols"] = int64_t{9};
  return o;
}

TEST_P(CudaStrategy, RaggedBlocksDrawThePictureOfTheCpu) {
  if (name() != "sta" && name() != "vsa" && name() != "draft") GTEST_SKIP() << "has none";
  const auto want = draw(cpu_backend(), name(), ragged_options(name()));
  const auto got = draw(backend(), name(), ragged_options(name()));
  ASSERT_TRUE(want.ok() && got.ok()) << got.status().to_string();
  const double db = *psnr_db(got->image, want->image);
  std::printf("%s, ragged: attention %.3f (CPU %.3f), %.1f dB to the CPU's picture\n",
              name().c_str(), got->report.attention_sparsity, want->report.attention_sparsity, db);
  EXPECT_GT(want->report.attention_sparsity, 0.1);
  EXPECT_NEAR(got->report.attention_sparsity, want->report.attention_sparsity, kSparsityTolerance);
  EXPECT_EQ(reasons(got->report), reasons(want->report));
  EXPECT_GE(db, kAgreementDb);
  const auto again = draw(backend(), name(), ragged_options(name()));
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->latents, got->latents);
  // Nothing left out: the dense picture up to rounding, and no bit of it twice different.
  OptionMap all = ragged_options(name());
  if (name() == "sta") {
    all["window_rows"] = all["window_cols"] = int64_t{1001};
  } else {
    all["sparsity"] = 0.0;
  }
  const auto whole = draw(backend(), name(), all);
  const auto dense = draw(backend(), "dense", {});
  ASSERT_TRUE(whole.ok() && dense.ok()) << whole.status().to_string();
  EXPECT_EQ(whole->report.attention_sparsity, 0.0);
  EXPECT_GE(*psnr_db(whole->image, dense->image), kAgreementDb);
  EXPECT_EQ(draw(backend(), name(), all)->latents, whole->latents);
}

TEST_P(CudaStrategy, SameSeedSameBits) {
  const auto once = draw(backend(), name(), small_options(name()));
  const auto again = draw(backend(), name(), small_options(name()));
  ASSERT_TRUE(once.ok() && again.ok());
  EXPECT_EQ(once->latents, again->latents);
}

TEST_P(CudaStrategy, OfNothingLeftOutIsDenseBitForBit) {
  static std::map<std::string, std::vector<float>> dense;
  std::vector<float>& want = dense[std::get<0>(GetParam())];
  if (want.empty()) {
    auto r = draw(backend(), "dense", {});
    ASSERT_TRUE(r.ok()) << r.status().to_string();
    want = r->latents;
  }
  const auto r = draw(backend(), name(), testkit::zero_options(*find_strategy(name()), kBlock));
  ASSERT_TRUE(r.ok()) << r.status().to_string();
  EXPECT_EQ(r->report.attention_sparsity, 0.0);
  EXPECT_TRUE(r->latents == want);
}

// Scores of rows that need no text (Wan).
TEST_P(CudaStrategy, TextFreeScoresDrawThePictureOfTheCpu) {
  if (name() != "flashomni") GTEST_SKIP() << "an option of flashomni";
  for (const std::string score : {"column_mass", "change", "forecast_error"}) {
    OptionMap o = small_options(name());
    o["row_score"] = score;
    o["tau_q"] = 0.25;
    o["interval"] = int64_t{2};  // rounding grows with the distance of a forecast
    o["order"] = int64_t{0};
    static auto& cpu = *std::move(*make_backend("cpu")).release();
    const auto want = draw(cpu, name(), o);
    const auto seen = draw(backend(), name(), o);
    ASSERT_TRUE(want.ok() && seen.ok()) << seen.status().to_string();
    const double db = *psnr_db(seen->image, want->image);
    std::printf("row_score %s: cached %.3f (CPU %.3f), %.1f dB\n", score.c_str(),
                seen->report.cached_sparsity, want->report.cached_sparsity, db);
    EXPECT_GT(want->report.cached_sparsity, 0.02) << score;
    EXPECT_NEAR(seen->report.cached_sparsity, want->report.cached_sparsity, kSparsityTolerance);
    EXPECT_GE(db, kAgreementDb) << score;
  }
}

INSTANTIATE_TEST_SUITE_P(Registry, CudaStrategy,
                         testing::Combine(testing::Values("hopper", "portable"),
                                          testing::ValuesIn(testkit::sparse_strategy_names())),
                         [](const auto& param) {
                           std::string name = std::get<0>(param.param) + std::string("_") +
                                              std::get<1>(param.param);
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

}  // namespace
}  // namespace flashomni
