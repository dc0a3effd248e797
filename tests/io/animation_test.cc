// SPDX-License-Identifier: Apache-2.0
#include "io/animation.h"

#include <sys/stat.h>

#include <cstdlib>

#include "tests/io/io_testing.h"

namespace flashomni {
namespace {

using testing::Bytes;
using testing::fails_with;
using testing::get_file;
using testing::get_text;
using testing::put_file;
using testing::TempDir;

// Frames whose pixels all differ.
std::vector<Image> frames_of(int count, int width, int height) {
  std::vector<Image> out;
  for (int f = 0; f < count; ++f) {
    Image image{width, height, {}};
    for (int i = 0; i < width * height * 3; ++i) image.rgb.push_back(uint8_t(i * 7 + f * 50));
    out.push_back(image);
  }
  return out;
}

uint32_t u32(const Bytes& b, size_t at) {
  return uint32_t{b[at]} << 24 | uint32_t{b[at + 1]} << 16 | uint32_t{b[at + 2]} << 8 | b[at + 3];
}

struct Chunk {
  std::string type;
  Bytes data;
};

std::vector<Chunk> png_chunks(const Bytes& file) {
  std::vector<Chunk> out;
  for (size_t at = 8; at + 12 <= file.size();) {
    const size_t length = u32(file, at);
    const auto data = file.begin() + ptrdiff_t(at + 8);
    out.push_back({std::string(file.begin() + ptrdiff_t(at + 4), data),
                   Bytes(data, data + ptrdiff_t(length))});
    at += 12 + length;
  }
  return out;
}

void append_chunk(Bytes& out, const std::string& type, const Bytes& data) {
  for (int shift = 24; shift >= 0; shift -= 8) out.push_back(uint8_t(data.size() >> shift));
  out.insert(out.end(), type.begin(), type.end());
  out.insert(out.end(), data.begin(), data.end());
  out.insert(out.end(), 4, 0);
}

// Frame by frame, each put back into a PNG of its own, gives the pictures that went in.
TEST(Apng, HoldsEveryFrame) {
  TempDir dir;
  const std::vector<Image> frames = frames_of(3, 5, 4);
  ASSERT_TRUE(save_apng(dir / "a.png", frames, 12).ok());
  const Bytes file = get_file(dir / "a.png");
  Bytes repaired = file;
  testkit::repair_png(repaired);
  EXPECT_EQ(repaired, file) << "check sums";

  const auto first = load_image(dir / "a.png");
  ASSERT_TRUE(first.ok()) << first.status().to_string();
  EXPECT_EQ(first->rgb, frames[0].rgb);

  std::vector<Bytes> pixels;
  Bytes header;
  uint32_t sequence = 0;
  for (const Chunk& c : png_chunks(file)) {
    if (c.type == "IHDR") header = c.data;
    if (c.type == "acTL") {
      EXPECT_EQ(u32(c.data, 0), 3u);
      EXPECT_EQ(u32(c.data, 4), 0u) << "for ever";
      EXPECT_TRUE(pixels.empty());
    }
    if (c.type == "fcTL") {
      EXPECT_EQ(u32(c.data, 0), sequence++);
      EXPECT_EQ(u32(c.data, 4), 5u);
      EXPECT_EQ(u32(c.data, 8), 4u);
      EXPECT_EQ(u32(c.data, 20), (1u << 16) + 12) << "1/12 s";
      pixels.emplace_back();
    }
    if (c.type == "IDAT") pixels.back().insert(pixels.back().end(), c.data.begin(), c.data.end());
    if (c.type == "fdAT") {
      EXPECT_EQ(u32(c.data, 0), sequence++);
      pixels.back().insert(pixels.back().end(), c.data.begin() + 4, c.data.end());
    }
  }
  ASSERT_EQ(pixels.size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    Bytes png(file.begin(), file.begin() + 8);
    append_chunk(png, "IHDR", header);
    append_chunk(png, "IDAT", pixels[i]);
    append_chunk(png, "IEND", {});
    testkit::repair_png(png);
    const auto image = decode_image(png, "frame");
    ASSERT_TRUE(image.ok()) << image.status().to_string();
    EXPECT_EQ(image->rgb, frames[i].rgb) << i;
  }
}

TEST(Animation, RefusesWhatIsNoVideo) {
  TempDir dir;
  std::vector<Image> frames = frames_of(2, 4, 4);
  EXPECT_TRUE(fails_with(save_apng(dir / "a.png", {}, 12), StatusCode::kInvalidArgument,
                         "there are no frames"));
  EXPECT_TRUE(fails_with(save_apng(dir / "a.png", frames, 0), StatusCode::kInvalidArgument,
                         "the rate is 0"));
  frames[1] = frames_of(1, 5, 4)[0];
  for (const char* name : {"a.png", "a.webp", "a.mp4"}) {
    const Status s = save_animation(dir / name, frames, 12);
    EXPECT_TRUE(fails_with(s, StatusCode::kInvalidArgument, "frame 1 is 5x4")) << name;
  }
  EXPECT_TRUE(fails_with(save_animation(dir / "a.gif", frames_of(1, 2, 2), 12),
                         StatusCode::kInvalidArgument, "wanted one that ends in .png"));
  EXPECT_TRUE(dir.names().empty());
}

TEST(Webp, HasOneChunkAFrame) {
  TempDir dir;
  if (!check_animation_path(dir / "a.webp").ok()) {
    EXPECT_TRUE(fails_with(save_webp(dir / "a.webp", frames_of(2, 4, 4), 10),
                           StatusCode::kUnsupported, "no libwebp"));
    GTEST_SKIP() << "this build has no libwebp";
  }
  ASSERT_TRUE(save_webp(dir / "a.webp", frames_of(3, 32, 16), 10).ok());
  const std::string file = get_text(dir / "a.webp");
  EXPECT_EQ(file.substr(0, 4), "RIFF");
  EXPECT_EQ(file.substr(8, 4), "WEBP");
  int found = 0;
  for (size_t at = 12; at + 8 <= file.size();) {
    const auto byte = [&](size_t i) { return size_t{static_cast<unsigned char>(file[i])}; };
    const size_t length =
        byte(at + 4) | byte(at + 5) << 8 | byte(at + 6) << 16 | byte(at + 7) << 24;
    if (file.substr(at, 4) == "ANMF") {
      ++found;
      EXPECT_EQ(byte(at + 20) | byte(at + 21) << 8, 100u) << "ms";
    }
    at += 8 + length + length % 2;
  }
  EXPECT_EQ(found, 3);
  EXPECT_TRUE(fails_with(save_webp(dir / "a.webp", frames_of(1, 4, 4), 10, 101),
                         StatusCode::kInvalidArgument, "quality is 101"));
}

// A PATH of this test's own.
class Mp4 : public ::testing::Test {
 protected:
  void SetUp() override {
    before_ = getenv("PATH");
    setenv("PATH", dir_.path().c_str(), 1);
  }
  void TearDown() override { setenv("PATH", before_.c_str(), 1); }
  void put_program(const std::string& script) {
    put_file(dir_ / "ffmpeg", "#!/bin/sh\nPATH=/bin:/usr/bin\ncd " + dir_.path() + "\n" + script);
    ASSERT_EQ(chmod((dir_ / "ffmpeg").c_str(), 0700), 0);
  }
  TempDir dir_;
  std::string before_;
};

TEST_F(Mp4, WithoutFfmpegItSaysSo) {
  EXPECT_TRUE(fails_with(save_mp4(dir_ / "a.mp4", frames_of(1, 4, 4), 12), StatusCode::kUnsupported,
                         "there is no ffmpeg program in PATH; install it"));
  EXPECT_TRUE(dir_.names().empty());
}

TEST_F(Mp4, FfmpegGetsEvenFrames) {
  put_program(
      "printf '%s\\n' \"$@\" > args\ncat > stdin\nfor last; do :; done\n"
      "echo video > \"${last#file:}\"\n");
  ASSERT_TRUE(save_mp4(dir_ / "-a b.mp4", frames_of(2, 3, 1), 24).ok());
  EXPECT_EQ(get_text(dir_ / "-a b.mp4"), "video\n");
  EXPECT_EQ(dir_.names(), (std::vector<std::string>{"-a b.mp4", "args", "ffmpeg", "stdin"}));
  const std::string args = get_text(dir_ / "args");
  EXPECT_NE(args.find("-s\n4x2\n-r\n24\n"), std::string::npos) << args;
  // Rows of 3 pixels become 4, one row becomes two; the last one is repeated.
  Bytes want;
  for (const Image& f : frames_of(2, 3, 1)) {
    for (int row = 0; row < 2; ++row) {
      want.insert(want.end(), f.rgb.begin(), f.rgb.end());
      want.insert(want.end(), f.rgb.end() - 3, f.rgb.end());
    }
  }
  EXPECT_EQ(get_file(dir_ / "stdin"), want);
}

// Output of a shell command.
std::string output_of(const std::string& command) {
  std::string out;
  FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return out;
  char bytes[256];
  for (size_t n; (n = fread(bytes, 1, sizeof(bytes), pipe)) > 0;) out.append(bytes, n);
  return pclose(pipe) == 0 ? out : "failed: " + out;
}

// The real programs, where they are: what ffprobe finds in the file is what went in.
TEST(RealFfmpeg, WritesFramesSizeAndRate) {
  if (output_of("command -v ffmpeg && command -v ffprobe").starts_with("failed")) {
    GTEST_SKIP() << "MP4 IS NOT TESTED AGAINST FFMPEG: there is no ffmpeg and ffprobe in PATH";
  }
  TempDir dir;
  // Grey levels far apart, so that a lost, doubled or swapped frame is seen through the codec. An
  // odd size, which H.264 does not have.
  const std::vector<int> levels = {20, 230, 90, 160, 55};
  std::vector<Image> frames;
  for (const int level : levels) {
    frames.push_back({33, 17, std::vector<uint8_t>(33 * 17 * 3, uint8_t(level))});
  }
  const std::string path = dir / "a b.mp4";
  const Status saved = save_mp4(path, frames, 12);
  ASSERT_TRUE(saved.ok()) << saved.message();
  EXPECT_EQ(dir.names(), std::vector<std::string>{"a b.mp4"});
  EXPECT_EQ(output_of("ffprobe -v error -count_frames -select_streams v -show_entries stream="
                      "codec_name,width,height,pix_fmt,r_frame_rate,nb_read_frames -of "
                      "default=noprint_wrappers=1 '" +
                      path + "'"),
            "codec_name=h264\nwidth=34\nheight=18\npix_fmt=yuv420p\nr_frame_rate=12/1\n"
            "nb_read_frames=5\n");
  const std::string pixels =
      output_of("ffmpeg -v error -i '" + path + "' -f rawvideo -pix_fmt rgb24 pipe:1");
  ASSERT_EQ(pixels.size(), levels.size() * 34 * 18 * 3);
  for (size_t f = 0; f < levels.size(); ++f) {
    for (size_t i = 0; i < 34 * 18 * 3; ++i) {
      const int seen = static_cast<unsigned char>(pixels[f * 34 * 18 * 3 + i]);
      ASSERT_NEAR(seen, levels[f], 4) << "frame " << f << ", byte " << i;
    }
  }
}

TEST_F(Mp4, AFailingFfmpegIsNamed) {
  put_program("echo first >&2\necho 'Unknown encoder libx264' >&2\nexit 3\n");
  // More than a pipe holds: the program ends while it is still written to.
  EXPECT_TRUE(fails_with(save_mp4(dir_ / "a.mp4", frames_of(3, 256, 256), 12), StatusCode::kIoError,
                         "ffmpeg failed: Unknown encoder libx264"));
  EXPECT_EQ(dir_.names(), std::vector<std::string>{"ffmpeg"});
}

}  // namespace
}  // namespace flashomni
