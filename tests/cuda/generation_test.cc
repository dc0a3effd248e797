// SPDX-License-Identifier: Apache-2.0
//
// Whole generations on the GPU: the bundled model beside the CPU, zero sparsity beside dense, and
// the big models' set-up at a small size.
#include <gtest/gtest.h>

#include <cmath>

#include "flashomni/strategies.h"
#include "pipelines/bare_transformer.h"
#include "pipelines/metrics.h"
#include "pipelines/text_to_image.h"
#include "tests/cuda/cuda_backend.h"

namespace flashomni {
namespace {

using testkit::CudaPathTest;

const std::string kModel = std::string(FO_SOURCE_DIR) + "/models/emoji-flux";
constexpr double kAgreementDb = 40;

TextToImageRequest request(int steps) {
  TextToImageRequest r;
  r.prompt = "3d red apple";
  r.seed = 3;
  r.steps = steps;
  return r;
}

TextToImageResult draw(Backend& backend, int steps, std::unique_ptr<Strategy> strategy) {
  auto pipeline = TextToImagePipeline::load(backend, kModel);
  EXPECT_TRUE(pipeline.ok()) << pipeline.status().to_string();
  if (!pipeline.ok()) return {};
  auto result = (*pipeline)->generate(request(steps), std::move(strategy));
  EXPECT_TRUE(result.ok()) << result.status().to_string();
  return result.ok() ? std::move(*result) : TextToImageResult{};
}

RandomOptions random_options(double cached, double skipped) {
  RandomOptions o;
  o.cached = cached;
  o.skipped = skipped;
  o.schedule = {2, 3, 0, true};
  return o;
}

class GenerationTest : public CudaPathTest {};
INSTANTIATE_ON_ALL_PATHS(GenerationTest);

TEST_P(GenerationTest, DensePictureAgreesWithTheCpu) {
  auto cpu = std::move(*make_backend("cpu"));
  const TextToImageResult want = draw(*cpu, 20, nullptr);
  const TextToImageResult seen = draw(backend(), 20, nullptr);
  ASSERT_EQ(seen.image.rgb.size(), want.image.rgb.size());
  const double db = psnr_db(seen.image, want.image).value();
  std::printf("GPU against CPU: %.1f dB\n", db);
  EXPECT_GE(db, kAgreementDb);
}

TEST_P(GenerationTest, SparsePictureAgreesWithTheCpu) {
  // Symbols that do not depend on values: what is compared is the arithmetic under them.
  auto cpu = std::move(*make_backend("cpu"));
  const TextToImageResult want = draw(*cpu, 20, std::move(*make_random(random_options(.4, .3))));
  const TextToImageResult seen =
      draw(backend(), 20, std::move(*make_random(random_options(.4, .3))));
  ASSERT_EQ(seen.image.rgb.size(), want.image.rgb.size());
  EXPECT_DOUBLE_EQ(seen.report.attention_sparsity, want.report.attention_sparsity);
  const double db = psnr_db(seen.image, want.image).value();
  std::printf("GPU against CPU, sparse: %.1f dB\n", db);
  EXPECT_GE(db, kAgreementDb - 6);
}

TEST_P(GenerationTest, ZeroSparsityHasTheBitsOfDense) {
  const TextToImageResult dense = draw(backend(), 8, nullptr);
  RandomOptions o = random_options(0, 0);
  const TextToImageResult zero = draw(backend(), 8, std::move(*make_random(o)));
  EXPECT_EQ(zero.latents, dense.latents);
  // With the feature cache on and nothing in it: GEMM-Q and GEMM-O follow symbols as well.
  o.cached = 1e-9;
  const TextToImageResult cache = draw(backend(), 8, std::move(*make_random(o)));
  EXPECT_EQ(cache.report.attention_sparsity, 0);
  EXPECT_EQ(cache.latents, dense.latents);
}

TEST_P(GenerationTest, SameSeedSameBits) {
  const auto once = draw(backend(), 6, std::move(*make_random(random_options(.5, .5))));
  const auto again = draw(backend(), 6, std::move(*make_random(random_options(.5, .5))));
  EXPECT_EQ(once.latents, again.latents);
}

TEST_P(GenerationTest, BareTransformersRunSparseAndDegraded) {
  for (const std::string name : {"flux.1-dev", "hunyuan-video", "wan-1.3b"}) {
    BareTransformerOptions o;
    o.model = name;
    o.random_weights = true;
    o.layers = 1;
    o.width = o.height = 256;
    o.frames = name == "flux.1-dev" ? 1 : 9;
    o.text_tokens = 77;  // not a multiple of a block
    auto model = load_bare_transformer(backend(), o);
    ASSERT_TRUE(model.ok()) << model.status().to_string();
    auto dense = (*model)->run(6, nullptr, {}, {});
    ASSERT_TRUE(dense.ok()) << dense.status().to_string();
    auto zero = (*model)->run(6, std::move(*make_random(random_options(0, 0))), {}, {});
    ASSERT_TRUE(zero.ok()) << zero.status().to_string();
    EXPECT_EQ(zero->latents, dense->latents) << name;
    RandomOptions sparse = random_options(.3, .3);
    auto run = (*model)->run(6, std::move(*make_random(sparse)), {}, {});
    ASSERT_TRUE(run.ok()) << run.status().to_string();
    EXPECT_GT(run->report.dispatch_sparsity, 0.2) << name;
    EXPECT_NE(run->latents, dense->latents) << name;
  }
}

// Norms over all heads and cross-attention to a text of another length than the latents.
TEST_P(GenerationTest, WanAgreesWithTheCpu) {
  BareTransformerOptions o;
  o.model = "wan-1.3b";
  o.random_weights = true;
  o.layers = 1;
  o.width = o.height = 128;
  o.frames = 5;
  o.text_tokens = 77;
  o.guidance = 1;  // more would multiply the rounding
  const auto denoised = [&](Backend& where) -> std::vector<float> {
    auto model = load_bare_transformer(where, o);
    EXPECT_TRUE(model.ok()) << model.status().to_string();
    if (!model.ok()) return {};
    auto run = (*model)->run(2, nullptr, {}, {});
    EXPECT_TRUE(run.ok()) << run.status().to_string();
    return run.ok() ? run->latents : std::vector<float>{};
  };
  auto cpu = std::move(*make_backend("cpu"));
  const std::vector<float> want = denoised(*cpu), seen = denoised(backend());
  ASSERT_EQ(seen.size(), want.size());
  double difference = 0, size = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    difference += (double(seen[i]) - want[i]) * (double(seen[i]) - want[i]);
    size += double(want[i]) * want[i];
  }
  const double relative = std::sqrt(difference / size);
  std::printf("Wan, GPU against CPU: relative L2 difference %.4f\n", relative);
  EXPECT_LT(relative, 0.05);  // bf16 against f32
}

}  // namespace
}  // namespace flashomni
