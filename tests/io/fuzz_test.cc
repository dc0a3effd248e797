// SPDX-License-Identifier: Apache-2.0
//
// Seeded damage to every kind of file that is read. Whatever comes in, a reader returns; what it
// accepts keeps its promises; and the accepted share is above zero where damage can be harmless, so
// that the promises are really checked. Run it under the sanitizers to see what it cannot see
// alone.
#include <png.h>

#include <algorithm>

#include "io/image.h"
#include "io/json.h"
#include "io/safetensors.h"
#include "io/tokenizer.h"
#include "io/weight_store.h"
#include "tests/io/io_testing.h"

namespace flashomni {
namespace {

using testing::Bytes;
using testing::damaged;
using testing::get_file;
using testing::put_file;
using testing::safetensors_bytes;
using testing::TempDir;
using testing::to_bytes;

std::string source_path(const std::string& name) {
  return std::string(FO_SOURCE_DIR) + "/" + name;
}

// A file that opened: its tensors cover its data exactly, and each can be read.
void check_promises(const SafetensorsFile& file, const Bytes& bytes) {
  uint64_t header = 0;
  std::memcpy(&header, bytes.data(), sizeof(header));
  uint64_t total = 0;
  const TensorEntry* previous = nullptr;
  unsigned sum = 0;
  for (const TensorEntry& t : file.tensors()) {
    EXPECT_EQ(uint64_t(t.numel()) * uint64_t(stored_dtype_bits(t.dtype)), t.bytes * 8);
    EXPECT_TRUE(previous == nullptr || previous->name < t.name);
    EXPECT_EQ(file.find(t.name), &t);
    const auto values = read_tensor(t);
    ASSERT_TRUE(values.ok()) << values.status().to_string();
    for (const uint8_t v : *values) sum += v;
    (void)to_f32(t);
    total += t.bytes;
    previous = &t;
  }
  EXPECT_EQ(total + header + 8, bytes.size());
  EXPECT_GE(sum, 0u);
}

int accepted_after_damage(const Bytes& sample, const Bytes& other, int rounds, uint64_t seed) {
  TempDir dir;
  Rng rng(seed);
  int accepted = 0;
  for (int i = 0; i < rounds; ++i) {
    const Bytes b = damaged(sample, other, rng);
    put_file(dir / "a", b);
    const auto file = SafetensorsFile::open(dir / "a");
    if (!file.ok()) {
      EXPECT_FALSE(file.status().message().empty());
      continue;
    }
    ++accepted;
    check_promises(*file, b);
  }
  return accepted;
}

const char kHeader[] =
    R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
    R"("b.weight":{"dtype":"BF16","shape":[4],"data_offsets":[24,32]},)"
    R"("c":{"dtype":"U8","shape":[],"data_offsets":[32,33]},)"
    R"("d":{"dtype":"F16","shape":[0,7],"data_offsets":[33,33]}}   )";

TEST(Fuzz, SafetensorsBytes) {
  const Bytes other = to_bytes(
      "{\"dtype\":\"I64\",\"shape\":[1,0],\"data_offsets\":[0,18446744073709551615]}[[[[{{{{"
      "\\ud800\xff\xc0\x80 -1 1e9 null 281474976710656,\"__metadata__\":");
  EXPECT_GT(accepted_after_damage(safetensors_bytes(kHeader, 33), other, 8000, 21), 50);
}

// Damage to the header alone, with a length that stays true, gets past the first checks.
TEST(Fuzz, SafetensorsHeader) {
  TempDir dir;
  Rng rng(22);
  const Bytes header = to_bytes(kHeader);
  int accepted = 0;
  for (int i = 0; i < 8000; ++i) {
    const Bytes b = damaged(header, header, rng);
    const Bytes file_bytes = safetensors_bytes(std::string(b.begin(), b.end()), 33);
    put_file(dir / "a", file_bytes);
    const auto file = SafetensorsFile::open(dir / "a");
    if (!file.ok()) continue;
    ++accepted;
    check_promises(*file, file_bytes);
  }
  EXPECT_GT(accepted, 20);
}

// Headers made of the right words in random order and with edge values.
TEST(Fuzz, SafetensorsGrammar) {
  TempDir dir;
  Rng rng(23);
  const auto pick = [&](std::initializer_list<const char*> words) {
    return std::string(words.begin()[rng.below(words.size())]);
  };
  const auto number = [&] {
    return pick({"0", "0", "1", "1", "2", "2", "4", "8", "-1", "1.5", "281474976710656",
                 "9223372036854775808", "18446744073709551615", "18446744073709551616"});
  };
  const auto list = [&] {
    std::string s = "[";
    for (int k = rng.range(0, 3); k > 0; --k) s += number() + (k > 1 ? "," : "");
    return s + "]";
  };
  int accepted = 0;
  for (int i = 0; i < 8000; ++i) {
    std::string header = "{";
    for (int t = rng.range(0, 3); t > 0; --t) {
      header += "\"" + pick({"a", "b", "c", "__metadata__"}) + "\":";
      header +=
          "{\"dtype\":\"" + pick({"U8", "U8", "F16", "F4", "F99"}) + "\",\"shape\":" + list() +
          ",\"data_offsets\":" + (rng.coin(0.7) ? "[" + number() + "," + number() + "]" : list());
      header += rng.coin(0.1) ? ",\"x\":" + list() + "}" : "}";
      if (t > 1) header += ",";
    }
    header += "}";
    const Bytes bytes = safetensors_bytes(header, rng.below(5));
    put_file(dir / "a", bytes);
    const auto file = SafetensorsFile::open(dir / "a");
    if (!file.ok()) continue;
    ++accepted;
    check_promises(*file, bytes);
  }
  EXPECT_GT(accepted, 100);
}

TEST(Fuzz, WeightIndex) {
  TempDir dir;
  const Bytes data = {1};
  const std::vector<TensorToWrite> tensors = {
      {.name = "a", .dtype = StoredDType::kU8, .shape = {1}, .data = data}};
  ASSERT_TRUE(write_safetensors(dir / "s.safetensors", tensors).ok());
  const Bytes index =
      to_bytes(R"({"metadata":{"total_size":1},"weight_map":{"a":"s.safetensors"}})");
  Rng rng(24);
  int accepted = 0;
  for (int i = 0; i < 3000; ++i) {
    put_file(dir / "model.safetensors.index.json", damaged(index, index, rng));
    const auto store = WeightStore::open(dir.path());
    if (store.ok()) ++accepted;
  }
  EXPECT_GT(accepted, 10);
}

// An image that decoded has the size it says, within the limits.
int decoded_after_damage(const Bytes& sample, int rounds, uint64_t seed) {
  Rng rng(seed);
  int accepted = 0;
  for (int i = 0; i < rounds; ++i) {
    Bytes bytes = damaged(sample, sample, rng);
    if (sample[0] == 0x89 && rng.coin(0.8)) testing::repair_png(bytes);
    const auto image = decode_image(bytes, "fuzz");
    if (!image.ok()) continue;
    ++accepted;
    EXPECT_TRUE(image->width >= 1 && image->height >= 1);
    EXPECT_LE(int64_t{1} * image->width * image->height, kMaxImagePixels);
    EXPECT_EQ(image->rgb.size(), size_t(image->width) * size_t(image->height) * 3);
  }
  return accepted;
}

TEST(Fuzz, Png) {
  for (const uint32_t format : std::initializer_list<uint32_t>{
           PNG_FORMAT_RGB, PNG_FORMAT_RGBA, PNG_FORMAT_GRAY, PNG_FORMAT_LINEAR_RGB_ALPHA}) {
    std::vector<uint16_t> pixels;
    Rng rng(format);
    for (int i = 0; i < 13 * 9 * 4; ++i) pixels.push_back(uint16_t(rng.below(4) * 20000));
    png_image png = {};
    png.version = PNG_IMAGE_VERSION;
    png.width = 13;
    png.height = 9;
    png.format = format;
    Bytes bytes(PNG_IMAGE_PNG_SIZE_MAX(png) + 1024);
    png_alloc_size_t size = bytes.size();
    ASSERT_NE(png_image_write_to_memory(&png, bytes.data(), &size, 0, pixels.data(), 0, nullptr),
              0);
    bytes.resize(size);
    EXPECT_GT(decoded_after_damage(bytes, 2000, 31 + format), 20) << format;
  }
}

TEST(Fuzz, Jpeg) {
  for (const char* name : {"baseline.jpg", "progressive.jpg", "grey.jpg"}) {
    const Bytes bytes = get_file(source_path(std::string("tests/io/data/") + name));
    ASSERT_FALSE(bytes.empty());
    EXPECT_GT(decoded_after_damage(bytes, 2000, 41), 20) << name;
  }
}

// A tokenizer that loaded encodes anything into ids of its vocabulary.
void check_promises(const Tokenizer& tokenizer) {
  for (const char* text :
       {"3d Red apple", "", "\xef\xbc\xa1\xef\xac\x81 \xff\xe2\x84\xab caf\xc3\xa9",
        "\xf0\x9f\x98\x80\t\n zzzzqqqq \xe1\x84\x80\xe1\x85\xa1"}) {
    const auto ids = tokenizer.encode(text);
    if (!ids.ok()) continue;
    for (const int32_t id : *ids) EXPECT_TRUE(id >= 0 && id < tokenizer.vocabulary_size());
  }
}

TEST(Fuzz, TokenizerModel) {
  TempDir dir;
  Rng rng(51);
  const Bytes model = get_file(source_path("models/emoji-flux/tokenizer/spiece.model"));
  ASSERT_FALSE(model.empty());
  int accepted = 0;
  ::testing::internal::CaptureStderr();
  for (int i = 0; i < 400; ++i) {
    put_file(dir / "a", damaged(model, model, rng));
    const auto tokenizer = Tokenizer::load(dir / "a");
    if (!tokenizer.ok()) continue;
    ++accepted;
    check_promises(*tokenizer);
  }
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
  EXPECT_GT(accepted, 10);
}

}  // namespace
}  // namespace flashomni
