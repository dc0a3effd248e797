// SPDX-License-Identifier: Apache-2.0
#include "pipelines/latent_preview.h"

#include <gtest/gtest.h>

namespace flashomni {
namespace {

// Channel 0 is red and -1, +1 (deviation 1): 128 - 48 and 128 + 48. Channel 1 is green and
// constant. There is no blue.
TEST(LinearPreview, IsTheDocumentedMap) {
  const auto frames = linear_preview(std::vector<float>{-1, 1, 5, 5}, {2, 1, 1, 2}, 1);
  ASSERT_TRUE(frames.ok());
  ASSERT_EQ(frames->size(), 1u);
  EXPECT_EQ((*frames)[0].rgb, (std::vector<uint8_t>{80, 128, 128, 176, 128, 128}));
}

// Channels 0 and 3 are red: (1 + 1) / sqrt(2) deviations.
TEST(LinearPreview, AddsChannelsOfAColour) {
  const std::vector<float> latents = {-2, 2, 0, 0, 0, 0, -7, 7};
  const auto frames = linear_preview(latents, {4, 2, 1, 1}, 2);
  ASSERT_TRUE(frames.ok());
  ASSERT_EQ(frames->size(), 2u);
  EXPECT_EQ((*frames)[0].width, 2);
  EXPECT_EQ((*frames)[0].rgb,
            (std::vector<uint8_t>{60, 128, 128, 60, 128, 128, 60, 128, 128, 60, 128, 128}));
  EXPECT_EQ((*frames)[1].rgb[0], 196);
}

TEST(LinearPreview, RefusesOtherSizes) {
  EXPECT_FALSE(linear_preview(std::vector<float>(3), {1, 1, 2, 2}, 1).ok());
  EXPECT_FALSE(linear_preview(std::vector<float>(4), {1, 1, 2, 2}, 0).ok());
}

}  // namespace
}  // namespace flashomni
