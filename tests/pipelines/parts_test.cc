// SPDX-License-Identifier: Apache-2.0
//
// The small parts of the pipelines: noise, noise levels, patches, picture metrics.
#include <gtest/gtest.h>

#include <cmath>

#include "base/rng.h"
#include "io/safetensors.h"
#include "pipelines/flow_match_euler.h"
#include "pipelines/metrics.h"
#include "pipelines/noise.h"
#include "pipelines/pixel_patches.h"

namespace flashomni {
namespace {

const std::string kData = std::string(FO_SOURCE_DIR) + "/tests/models/data/";

TEST(Noise, IsPyTorchs) {
  const SafetensorsFile a = *SafetensorsFile::open(kData + "a.safetensors");
  const std::vector<float> want = *to_f32(*a.find("noise"));
  const std::vector<float> seen = torch_randn(1, want.size());
  for (size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(seen[i], want[i], 2e-6) << i;
}

TEST(Noise, RaggedTailIsAFreshGroup) {
  // 20 values: the last 16 come from a second draw, the first 4 stay.
  const std::vector<float> whole = torch_randn(7, 16), ragged = torch_randn(7, 20);
  ASSERT_EQ(ragged.size(), 20u);
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(ragged[i], whole[i]);
  EXPECT_NE(ragged[5], whole[5]);
  EXPECT_EQ(torch_randn(7, 3).size(), 3u);
}

// Published check values of the scheduler.
TEST(FlowMatchEuler, FluxDynamicShift) {
  FlowMatchEulerConfig c{.shift = 3.0, .use_dynamic_shifting = true};
  const std::vector<float> four = flow_match_sigmas(c, 4, 4096);
  const float want[] = {1.f, 0.90453f, 0.75951f, 0.51284f, 0.f};
  ASSERT_EQ(four.size(), 5u);
  for (size_t i = 0; i < 5; ++i) EXPECT_NEAR(four[i], want[i], 1e-5);
  const std::vector<float> s = flow_match_sigmas(c, 28, 4096);
  EXPECT_NEAR(s[1], 0.98841f, 1e-5);
  EXPECT_NEAR(s[27], 0.10472f, 1e-5);
}

TEST(FlowMatchEuler, StaticShiftIsTheBundledModels) {
  const SafetensorsFile a = *SafetensorsFile::open(kData + "a.safetensors");
  const std::vector<float> want = *to_f32(*a.find("sigmas"));
  const FlowMatchEulerConfig c = *load_flow_match_euler(
      std::string(FO_SOURCE_DIR) + "/models/emoji-flux/scheduler/scheduler_config.json");
  EXPECT_EQ(c.shift, 4.0);
  const std::vector<float> seen = flow_match_sigmas(c, 20, 1024);
  ASSERT_EQ(seen.size(), want.size());
  for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(seen[i], want[i], 1e-6) << i;
  EXPECT_EQ(flow_match_sigmas(c, 1, 1024), (std::vector<float>{1.f, 0.f}));
}

Image random_image(int width, int height, uint64_t seed) {
  Rng rng(seed);
  Image image{width, height, std::vector<uint8_t>(size_t(width) * size_t(height) * 3)};
  for (uint8_t& v : image.rgb) v = static_cast<uint8_t>(rng.below(256));
  return image;
}

TEST(PixelPatches, RoundTripAndOrder) {
  const Image image = random_image(48, 24, 1);
  const std::vector<float> patches = image_to_patches(image, 8);
  // Token 7 is patch row 1, column 1; its green value at (y=2, x=3) is pixel (10, 11).
  const size_t value = (7 * 3 + 1) * 64 + 2 * 8 + 3;
  const size_t pixel = (10 * 48 + 11) * 3 + 1;
  EXPECT_FLOAT_EQ(patches[value], float(image.rgb[pixel]) / 127.5f - 1.f);
  EXPECT_EQ(patches_to_image(patches, 48, 24, 8).rgb, image.rgb);
}

TEST(PixelPatches, ClampsOutOfRange) {
  std::vector<float> patches(3 * 64, 5.f);
  patches[0] = -5.f;
  const Image image = patches_to_image(patches, 8, 8, 8);
  EXPECT_EQ(image.rgb[0], 0);
  EXPECT_EQ(image.rgb[1], 255);
}

TEST(Metrics, Psnr) {
  Image a{16, 16, std::vector<uint8_t>(16 * 16 * 3, 100)}, b = a;
  EXPECT_TRUE(std::isinf(*psnr_db(a, b)));
  for (uint8_t& v : b.rgb) v = 110;
  EXPECT_NEAR(*psnr_db(a, b), 20 * std::log10(25.5), 1e-9);
  EXPECT_FALSE(psnr_db(a, random_image(8, 16, 1)).ok());
}

TEST(Metrics, Ssim) {
  const Image a = random_image(32, 32, 1), b = random_image(32, 32, 2);
  EXPECT_NEAR(*ssim(a, a), 1.0, 1e-12);
  EXPECT_LT(*ssim(a, b), 0.2);
  EXPECT_NEAR(*ssim(a, b), *ssim(b, a), 1e-12);
  // Two flat pictures: variances vanish and only the luminance term is left.
  Image c{16, 16, std::vector<uint8_t>(16 * 16 * 3, 100)}, d = c;
  for (uint8_t& v : d.rgb) v = 120;
  const double c1 = 0.01 * 255 * 0.01 * 255;
  EXPECT_NEAR(*ssim(c, d), (2 * 100.0 * 120 + c1) / (100.0 * 100 + 120.0 * 120 + c1), 1e-6);
  EXPECT_FALSE(ssim(random_image(8, 8, 1), random_image(8, 8, 1)).ok());
}

TEST(Metrics, AmplifiedDifference) {
  Image a{2, 1, {0, 10, 200, 5, 5, 5}}, b{2, 1, {1, 0, 100, 5, 5, 5}};
  EXPECT_EQ(amplified_difference(a, b, 8)->rgb, (std::vector<uint8_t>{8, 80, 255, 0, 0, 0}));
}

}  // namespace
}  // namespace flashomni
