// SPDX-License-Identifier: Apache-2.0
#include "io/image.h"

#include <png.h>

#include <cmath>
#include <cstdlib>

#include "tests/io/io_testing.h"

namespace flashomni {
namespace {

using testing::Bytes;
using testing::fails_with;
using testing::get_file;
using testing::put_file;
using testing::TempDir;

std::string data_path(const std::string& name) {
  return std::string(FO_SOURCE_DIR) + "/tests/io/data/" + name;
}

Image noise_image(int width, int height, uint64_t seed) {
  Image image{.width = width, .height = height, .rgb = {}};
  Rng rng(seed);
  for (int64_t i = 0; i < int64_t{3} * width * height; ++i) {
    image.rgb.push_back(uint8_t(rng.next()));
  }
  return image;
}

// A PNG of any of libpng's simplified formats; `colormap` for PNG_FORMAT_FLAG_COLORMAP.
Bytes png_bytes(int width, int height, uint32_t format, const void* pixels,
                const void* colormap = nullptr, uint32_t colormap_entries = 0) {
  png_image png = {};
  png.version = PNG_IMAGE_VERSION;
  png.width = png_uint_32(width);
  png.height = png_uint_32(height);
  png.format = format;
  png.colormap_entries = colormap_entries;
  Bytes out(PNG_IMAGE_PNG_SIZE_MAX(png) + 1024);
  png_alloc_size_t size = out.size();
  EXPECT_NE(png_image_write_to_memory(&png, out.data(), &size, 0, pixels, 0, colormap), 0)
      << png.message;
  out.resize(size);
  return out;
}

TEST(Image, PngRoundTripIsExact) {
  TempDir dir;
  for (const auto& [width, height] : {std::pair{1, 1}, {7, 3}, {256, 64}, {1, 300}}) {
    const Image image = noise_image(width, height, uint64_t(width));
    ASSERT_TRUE(save_png(dir / "a.png", image).ok());
    const auto read = load_image(dir / "a.png");
    ASSERT_TRUE(read.ok()) << read.status().to_string();
    EXPECT_EQ(read->width, width);
    EXPECT_EQ(read->height, height);
    EXPECT_EQ(read->rgb, image.rgb);
  }
  EXPECT_EQ(dir.names(), std::vector<std::string>{"a.png"});
}

TEST(Image, SameImageSameFile) {
  TempDir dir;
  ASSERT_TRUE(save_png(dir / "a.png", noise_image(33, 21, 5)).ok());
  ASSERT_TRUE(save_png(dir / "b.png", noise_image(33, 21, 5)).ok());
  EXPECT_EQ(get_file(dir / "a.png"), get_file(dir / "b.png"));
}

TEST(Image, TransparencyGoesOnWhite) {
  const uint8_t rgba[] = {10, 20, 30, 255, 10, 20, 30, 0, 0, 100, 255, 128};
  const auto image = decode_image(png_bytes(3, 1, PNG_FORMAT_RGBA, rgba), "t");
  ASSERT_TRUE(image.ok()) << image.status().to_string();
  // The last: v * 128/255 + 255 * 127/255, to nearest.
  EXPECT_EQ(image->rgb, (Bytes{10, 20, 30, 255, 255, 255, 127, 177, 255}));
}

TEST(Image, GreyPaletteAndSixteenBits) {
  const uint8_t grey[] = {0, 77, 255};
  auto image = decode_image(png_bytes(3, 1, PNG_FORMAT_GRAY, grey), "t");
  ASSERT_TRUE(image.ok()) << image.status().to_string();
  EXPECT_EQ(image->rgb, (Bytes{0, 0, 0, 77, 77, 77, 255, 255, 255}));

  const uint8_t palette[] = {1, 2, 3, 200, 100, 50};
  const uint8_t indices[] = {1, 0, 1, 1};
  image = decode_image(png_bytes(2, 2, PNG_FORMAT_RGB_COLORMAP, indices, palette, 2), "t");
  ASSERT_TRUE(image.ok()) << image.status().to_string();
  EXPECT_EQ(image->rgb, (Bytes{200, 100, 50, 1, 2, 3, 200, 100, 50, 200, 100, 50}));

  const uint16_t linear[] = {0, 65535, 30000};
  image = decode_image(png_bytes(1, 1, PNG_FORMAT_LINEAR_RGB, linear), "t");
  ASSERT_TRUE(image.ok()) << image.status().to_string();
  EXPECT_EQ(image->rgb[0], 0);
  EXPECT_EQ(image->rgb[1], 255);
}

TEST(Image, RefusesDamagedJpeg) {
  const Bytes jpeg = get_file(data_path("baseline.jpg"));
  ASSERT_GT(jpeg.size(), 700u);
  EXPECT_TRUE(fails_with(decode_image(Bytes(jpeg.begin(), jpeg.begin() + 100), "t").status(),
                         StatusCode::kCorruptFile, "t is a damaged JPEG: "));
  EXPECT_TRUE(fails_with(decode_image(Bytes(jpeg.begin(), jpeg.end() - 100), "t").status(),
                         StatusCode::kCorruptFile, "Premature end"));
  // Huffman table lengths that sum to more than the 256 symbols there are.
  Bytes table = jpeg;
  const uint8_t marker[] = {0xff, 0xc4};
  const auto dht = std::search(table.begin(), table.end(), marker, marker + 2);
  ASSERT_NE(dht, table.end());
  std::fill_n(dht + 5, 16, uint8_t{0xff});
  EXPECT_TRUE(fails_with(decode_image(table, "t").status(), StatusCode::kCorruptFile, "Bogus"));
}

TEST(Image, RefusesPrintColours) {
  EXPECT_TRUE(fails_with(load_image(data_path("cmyk.jpg")).status(), StatusCode::kUnsupported,
                         "cmyk.jpg is a CMYK JPEG, wanted RGB or grey"));
}

TEST(Image, RefusesHugeJpegs) {
  Bytes jpeg = get_file(data_path("baseline.jpg"));
  const uint8_t marker[] = {0xff, 0xc0};
  const auto frame = std::search(jpeg.begin(), jpeg.end(), marker, marker + 2);
  ASSERT_NE(frame, jpeg.end());
  std::fill_n(frame + 5, 4, uint8_t{0x7f});
  EXPECT_TRUE(fails_with(decode_image(jpeg, "t").status(), StatusCode::kUnsupported,
                         "the image is 32639x32639"));
}

// Thousands of scans would each walk over the whole picture.
TEST(Image, RefusesEndlessScans) {
  Bytes jpeg = get_file(data_path("progressive.jpg"));
  const uint8_t marker[] = {0xff, 0xda};
  const auto last = std::find_end(jpeg.begin(), jpeg.end(), marker, marker + 2);
  ASSERT_NE(last, jpeg.end());
  const Bytes scan(last, jpeg.end() - 2);
  for (int i = 0; i < 200; ++i) jpeg.insert(jpeg.end() - 2, scan.begin(), scan.end());
  EXPECT_TRUE(fails_with(decode_image(jpeg, "t").status(), StatusCode::kCorruptFile,
                         "more than 100 scans"));
}

// Ramps as data/make_jpegs.cc wrote them, within what JPEG at quality 90 keeps.
TEST(Image, ReadsJpeg) {
  const struct {
    const char* name;
    int width, height;
    bool grey;
  } cases[] = {{"baseline.jpg", 40, 24, false},
               {"progressive.jpg", 33, 17, false},
               {"grey.jpg", 16, 16, true}};
  for (const auto& c : cases) {
    const auto image = load_image(data_path(c.name));
    ASSERT_TRUE(image.ok()) << image.status().to_string();
    ASSERT_EQ(image->width, c.width);
    ASSERT_EQ(image->height, c.height);
    double error = 0;
    for (int y = 0; y < c.height; ++y) {
      for (int x = 0; x < c.width; ++x) {
        const int red = 255 * x / (c.width - 1);
        const int want[] = {red, c.grey ? red : 255 * y / (c.height - 1), c.grey ? red : 128};
        for (int k = 0; k < 3; ++k) {
          error += std::abs(image->rgb[size_t((y * c.width + x) * 3 + k)] - want[k]);
        }
      }
    }
    EXPECT_LT(error / double(image->rgb.size()), 4.0) << c.name;
  }
}

TEST(Image, RefusesWrongInput) {
  TempDir dir;
  EXPECT_TRUE(fails_with(decode_image({}, "t").status(), StatusCode::kCorruptFile,
                         "t is not a PNG or JPEG"));
  put_file(dir / "a.gif", "GIF89a........");
  EXPECT_TRUE(fails_with(load_image(dir / "a.gif").status(), StatusCode::kCorruptFile,
                         "a.gif is not a PNG or JPEG"));
  EXPECT_TRUE(fails_with(load_image(dir / "b.png").status(), StatusCode::kNotFound, "b.png"));
  EXPECT_TRUE(fails_with(load_image(dir.path()).status(), StatusCode::kInvalidArgument, "folder"));

  const Bytes png = png_bytes(1, 1, PNG_FORMAT_RGB, "abc");
  EXPECT_TRUE(fails_with(decode_image(Bytes(png.begin(), png.begin() + 40), "t").status(),
                         StatusCode::kCorruptFile, "t is a damaged PNG"));
}

// Sizes in the header that the pixels behind it do not bear out.
TEST(Image, RefusesHugeClaims) {
  Bytes png = png_bytes(1, 1, PNG_FORMAT_RGB, "abc");
  const auto claim = [&](uint32_t width, uint32_t height) {
    for (int i = 0; i < 4; ++i) {
      png[size_t(16 + i)] = uint8_t(width >> (24 - 8 * i));
      png[size_t(20 + i)] = uint8_t(height >> (24 - 8 * i));
    }
    testing::repair_png(png);
    return decode_image(png, "t").status();
  };
  EXPECT_TRUE(fails_with(claim(20000, 10), StatusCode::kUnsupported,
                         "t: the image is 20000x10, wanted 1 to"));
  EXPECT_TRUE(fails_with(claim(16384, 16384), StatusCode::kUnsupported, "67108864 in all"));
  EXPECT_FALSE(claim(0x7fffffff, 0x7fffffff).ok());
  EXPECT_FALSE(claim(0, 10).ok());
  EXPECT_TRUE(fails_with(claim(1024, 1024), StatusCode::kCorruptFile, "damaged PNG"));
}

TEST(SavePng, RefusesWrongImages) {
  TempDir dir;
  EXPECT_TRUE(fails_with(save_png(dir / "a.png", {}), StatusCode::kInvalidArgument, "0x0"));
  EXPECT_TRUE(fails_with(save_png(dir / "a.png", {.width = -1, .height = 5}),
                         StatusCode::kInvalidArgument, "-1x5"));
  EXPECT_TRUE(fails_with(save_png(dir / "a.png", {.width = 20000, .height = 1}),
                         StatusCode::kInvalidArgument, "16384 pixels a side"));
  EXPECT_TRUE(fails_with(save_png(dir / "a.png", {.width = 2, .height = 2, .rgb = Bytes(11)}),
                         StatusCode::kInvalidArgument, "has 11 bytes, wanted 12"));
  EXPECT_TRUE(fails_with(save_png(dir / "no/a.png", noise_image(1, 1, 1)), StatusCode::kNotFound,
                         "cannot write " + (dir / "no/a.png")));
  EXPECT_TRUE(dir.names().empty());
}

}  // namespace
}  // namespace flashomni
