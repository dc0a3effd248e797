// SPDX-License-Identifier: Apache-2.0
#include "io/image_resize.h"

#include <gtest/gtest.h>

namespace flashomni {
namespace {

// A grey picture with these rows.
Image grey(const std::vector<std::vector<int>>& rows) {
  Image out{int(rows[0].size()), int(rows.size()), {}};
  for (const auto& row : rows) {
    for (const int v : row) out.rgb.insert(out.rgb.end(), 3, uint8_t(v));
  }
  return out;
}

std::vector<int> reds(const Image& image) {
  std::vector<int> out;
  for (size_t i = 0; i < image.rgb.size(); i += 3) out.push_back(image.rgb[i]);
  return out;
}

TEST(ResizeImage, SameSizeIsTheSamePicture) {
  const Image a = grey({{1, 2, 3}, {4, 5, 6}});
  EXPECT_EQ(resize_image(a, 3, 2).rgb, a.rgb);
}

// Triangle of radius 2 around 1.0: weights 3/8 and 3/8 of the covered pixels, 1/8 of the next.
TEST(ResizeImage, HalvingWeighsNeighbours) {
  // Output 0 has its centre at 1.0: pixels at 0.5, 1.5, 2.5 weigh .75, .75, .25 of 1.75.
  EXPECT_EQ(reds(resize_image(grey({{0, 70, 140, 210}}), 2, 1)),
            (std::vector<int>{50, 160}));  // (70*.75 + 140*.25) / 1.75, mirrored
}

// Centres at .25, .75, 1.25, 1.75: the border repeats, inner ones are 3/4 and 1/4.
TEST(ResizeImage, DoublingInterpolates) {
  EXPECT_EQ(reds(resize_image(grey({{0, 200}}), 4, 1)), (std::vector<int>{0, 50, 150, 200}));
  EXPECT_EQ(reds(resize_image(grey({{0}, {200}}), 1, 4)), (std::vector<int>{0, 50, 150, 200}));
}

TEST(ResizeImage, ConstantStaysConstant) {
  const Image a{37, 23, std::vector<uint8_t>(37 * 23 * 3, 113)};
  for (const auto& [w, h] : {std::pair{5, 7}, {64, 64}, {1, 1}, {36, 100}}) {
    const Image b = resize_image(a, w, h);
    EXPECT_EQ(b.rgb, std::vector<uint8_t>(size_t(w * h * 3), 113)) << w << "x" << h;
  }
}

TEST(ResizeImage, ChannelsStayApart) {
  const Image a{1, 1, {10, 20, 30}};
  EXPECT_EQ(resize_image(a, 2, 1).rgb, (std::vector<uint8_t>{10, 20, 30, 10, 20, 30}));
}

TEST(FitImage, KeepsProportionsOnWhite) {
  const Image wide{4, 2, std::vector<uint8_t>(4 * 2 * 3, 9)};
  const Image out = fit_image(wide, 4, 4);
  EXPECT_EQ(reds(out), (std::vector<int>{255, 255, 255, 255, 9, 9, 9, 9,  //
                                         9, 9, 9, 9, 255, 255, 255, 255}));
  const Image tall{1, 1000, std::vector<uint8_t>(1000 * 3, 9)};
  EXPECT_EQ(reds(fit_image(tall, 3, 3)), (std::vector<int>{255, 9, 255, 255, 9, 255, 255, 9, 255}));
}

}  // namespace
}  // namespace flashomni
