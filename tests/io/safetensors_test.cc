// SPDX-License-Identifier: Apache-2.0
//
// What the reader accepts and what the writer makes of it.
#include "io/safetensors.h"

#include <cmath>
#include <limits>

#include "base/half.h"
#include "tests/io/io_testing.h"

namespace flashomni {
namespace {

using testing::Bytes;
using testing::fails_with;
using testing::get_file;
using testing::put_file;
using testing::safetensors_bytes;
using testing::TempDir;

template <class T>
Bytes bytes_of(const std::vector<T>& values) {
  Bytes out(values.size() * sizeof(T));
  if (!out.empty()) std::memcpy(out.data(), values.data(), out.size());
  return out;
}

TEST(StoredDType, NamesBitsAndPublicTypes) {
  for (int i = 0; i <= static_cast<int>(StoredDType::kU64); ++i) {
    const auto t = static_cast<StoredDType>(i);
    EXPECT_EQ(stored_dtype_from_name(stored_dtype_name(t)), t);
  }
  EXPECT_EQ(stored_dtype_from_name("f32"), std::nullopt);
  EXPECT_EQ(stored_dtype_bits(StoredDType::kF4), 4);
  EXPECT_EQ(stored_dtype_bits(StoredDType::kF6E3M2), 6);
  EXPECT_EQ(to_dtype(StoredDType::kI16), std::nullopt);
  for (const DType t : {DType::kF32, DType::kBF16, DType::kF16, DType::kU8, DType::kI32,
                        DType::kI64, DType::kU64, DType::kF64}) {
    EXPECT_EQ(to_dtype(to_stored_dtype(t)), t);
    EXPECT_EQ(size_t(stored_dtype_bits(to_stored_dtype(t))), 8 * dtype_bytes(t));
  }
}

TEST(SafetensorsFile, ReadsAHandMadeFile) {
  TempDir dir;
  put_file(dir / "a",
           safetensors_bytes(R"({"b":{"dtype":"U8","shape":[2,3],"data_offsets":[4,10]},)"
                             R"("__metadata__":{"format":"pt","note":"é"},)"
                             R"("a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
                             10));
  const auto file = SafetensorsFile::open(dir / "a");
  ASSERT_TRUE(file.ok()) << file.status().to_string();
  ASSERT_EQ(file->tensors().size(), 2u);
  EXPECT_EQ(file->tensors()[0].name, "a");
  const TensorEntry* b = file->find("b");
  ASSERT_NE(b, nullptr);
  EXPECT_EQ(b->dtype, StoredDType::kU8);
  EXPECT_EQ(b->shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(b->numel(), 6);
  EXPECT_EQ(b->to_string(), "'b' U8[2,3]");
  EXPECT_EQ(*read_tensor(*b), (Bytes{4, 5, 6, 7, 8, 9}));
  EXPECT_EQ(file->find("c"), nullptr);
  EXPECT_EQ(file->metadata().at("format"), "pt");
  EXPECT_EQ(file->metadata().at("note"), "é");
}

// What the reference reader takes, ours takes too.
TEST(SafetensorsFile, AcceptsUnusualButValidFiles) {
  const struct {
    const char* what;
    std::string header;
    size_t data;
  } cases[] = {
      {"no tensors", "{}", 0},
      {"white space after the object", "{} \t\r\n", 0},
      {"white space before the object", "\t\n{}", 0},
      {"scalar", R"({"x":{"dtype":"F32","shape":[],"data_offsets":[0,4]}})", 4},
      {"zero-size tensor", R"({"x":{"dtype":"F32","shape":[3,0],"data_offsets":[0,0]}})", 0},
      {"zero-size tensors between others",
       R"({"x":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
       R"("y":{"dtype":"F64","shape":[0],"data_offsets":[2,2]},)"
       R"("z":{"dtype":"U8","shape":[1],"data_offsets":[2,3]},)"
       R"("w":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})",
       3},
      {"keys in any order", R"({"x":{"data_offsets":[0,1],"shape":[1],"dtype":"U8"}})", 1},
      {"unknown fields of any kind",
       R"({"x":{"a":null,"b":[1,{"c":[[-1.5]]}],"d":{"e":"f","dtype":3},"dtype":"U8","shape":[1],)"
       R"("data_offsets":[0,1],"g":true}})",
       1},
      {"null metadata", R"({"__metadata__":null})", 0},
      {"empty metadata", R"({"__metadata__":{}})", 0},
      {"escapes in names", R"({"\u0061\n\u0000":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
       1},
      {"sub-byte type in whole bytes", R"({"x":{"dtype":"F4","shape":[3,2],"data_offsets":[0,3]}})",
       3},
      {"rank 8", R"({"x":{"dtype":"U8","shape":[1,1,1,1,1,1,1,2],"data_offsets":[0,2]}})", 2},
      {"a huge dimension times zero",
       R"({"x":{"dtype":"U8","shape":[281474976710656,0],"data_offsets":[0,0]}})", 0},
  };
  TempDir dir;
  for (const auto& c : cases) {
    put_file(dir / "a", safetensors_bytes(c.header, c.data));
    const auto file = SafetensorsFile::open(dir / "a");
    EXPECT_TRUE(file.ok()) << c.what << ": " << file.status().to_string();
  }
}

TEST(SafetensorsFile, EntriesSurviveMoving) {
  TempDir dir;
  put_file(dir / "a",
           safetensors_bytes(R"({"x":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})", 2));
  auto opened = SafetensorsFile::open(dir / "a");
  ASSERT_TRUE(opened.ok());
  const TensorEntry* x = opened->find("x");
  const SafetensorsFile moved = std::move(opened).value();
  EXPECT_EQ(moved.find("x"), x);
  EXPECT_EQ(*read_tensor(*x), (Bytes{0, 1}));
}

// A program that reads a shortened file is told so and lives.
TEST(SafetensorsFile, NoticesThatTheFileShrankLater) {
  TempDir dir;
  put_file(dir / "a", safetensors_bytes(R"({"x":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
                                        R"("y":{"dtype":"F16","shape":[1],"data_offsets":[2,4]}})",
                                        4));
  const auto file = SafetensorsFile::open(dir / "a");
  ASSERT_TRUE(file.ok());
  std::filesystem::resize_file(dir / "a", 20);
  EXPECT_TRUE(fails_with(file->check_unchanged(), StatusCode::kCorruptFile, "changed"));
  EXPECT_TRUE(fails_with(read_tensor(*file->find("x")).status(), StatusCode::kCorruptFile,
                         "a changed while it was read"));
  EXPECT_TRUE(fails_with(to_f32(*file->find("y")).status(), StatusCode::kCorruptFile, "changed"));
}

TEST(ToF32, ConvertsUnalignedFloats) {
  const std::vector<float> values = {0.f, -1.5f, 3.140625f, 65504.f, -0.0009765625f};
  std::vector<uint16_t> f16, bf16;
  std::vector<double> f64;
  for (const float v : values) {
    f16.push_back(f32_to_f16(v));
    bf16.push_back(f32_to_bf16(v));
    f64.push_back(v);
  }
  for (size_t shift = 0; shift < 8; ++shift) {
    const auto check = [&](StoredDType dtype, const Bytes& stored, const std::vector<float>& want) {
      Bytes buffer(shift);  // a heap block is aligned; `shift` bytes into it is not
      buffer.insert(buffer.end(), stored.begin(), stored.end());
      const TensorEntry e{.name = "x",
                          .dtype = dtype,
                          .shape = {5},
                          .data = buffer.data() + shift,
                          .bytes = stored.size()};
      const auto got = to_f32(e);
      ASSERT_TRUE(got.ok()) << got.status().to_string();
      EXPECT_EQ(*got, want);
    };
    std::vector<float> rounded;
    for (const uint16_t h : bf16) rounded.push_back(bf16_to_f32(h));
    check(StoredDType::kF32, bytes_of(values), values);
    check(StoredDType::kF16, bytes_of(f16), values);
    check(StoredDType::kBF16, bytes_of(bf16), rounded);
    check(StoredDType::kF64, bytes_of(f64), values);
  }
}

TEST(ToF32, RefusesOtherTypesAndSizes) {
  const Bytes data(8);
  TensorEntry e{
      .name = "w", .dtype = StoredDType::kF8E4M3, .shape = {8}, .data = data.data(), .bytes = 8};
  EXPECT_TRUE(fails_with(to_f32(e).status(), StatusCode::kUnsupported,
                         "tensor 'w' F8_E4M3[8] is quantised"));
  e.dtype = StoredDType::kI8;
  EXPECT_TRUE(fails_with(to_f32(e).status(), StatusCode::kUnsupported, "wanted F32, F16"));
  e.dtype = StoredDType::kF16;
  e.shape = {4};
  std::vector<float> out(3);
  EXPECT_TRUE(
      fails_with(to_f32(e, out), StatusCode::kInvalidArgument, "read into 3 values, it has 4"));
  const TensorEntry empty{.name = "z", .dtype = StoredDType::kF32, .shape = {0}};
  EXPECT_TRUE(to_f32(empty).ok());
}

TEST(WriteSafetensors, RoundTrip) {
  TempDir dir;
  const Bytes f32 = bytes_of<float>({1.f, -2.f, 0.5f, std::numeric_limits<float>::infinity()});
  const Bytes f16 = bytes_of<uint16_t>({1, 2, 3});
  const Bytes u8 = {9, 8, 7};
  const Bytes f64 = bytes_of<double>({0.25});
  const std::vector<TensorToWrite> tensors = {
      {.name = "small", .dtype = StoredDType::kU8, .shape = {3}, .data = u8},
      {.name = "half \"q\" é", .dtype = StoredDType::kF16, .shape = {3, 1}, .data = f16},
      {.name = "full", .dtype = StoredDType::kF32, .shape = {2, 2}, .data = f32},
      {.name = "scalar", .dtype = StoredDType::kF64, .shape = {}, .data = f64},
      {.name = "none", .dtype = StoredDType::kF32, .shape = {0, 4}, .data = {}},
  };
  ASSERT_TRUE(write_safetensors(dir / "a.safetensors", tensors, {{"format", "pt"}}).ok());
  const auto file = SafetensorsFile::open(dir / "a.safetensors");
  ASSERT_TRUE(file.ok()) << file.status().to_string();
  ASSERT_EQ(file->tensors().size(), tensors.size());
  for (const TensorToWrite& t : tensors) {
    const TensorEntry* e = file->find(t.name);
    ASSERT_NE(e, nullptr) << t.name;
    EXPECT_EQ(e->dtype, t.dtype);
    EXPECT_EQ(e->shape, t.shape);
    EXPECT_EQ(*read_tensor(*e), Bytes(t.data.begin(), t.data.end()));
    EXPECT_EQ(e->offset % size_t(stored_dtype_bits(e->dtype) / 8), 0u);
  }
  EXPECT_EQ(file->metadata().at("format"), "pt");

  // The same tensors in any order make the same file.
  const std::vector<TensorToWrite> reversed(tensors.rbegin(), tensors.rend());
  ASSERT_TRUE(write_safetensors(dir / "b.safetensors", reversed, {{"format", "pt"}}).ok());
  EXPECT_EQ(get_file(dir / "a.safetensors"), get_file(dir / "b.safetensors"));
}

TEST(WriteSafetensors, ExactBytes) {
  TempDir dir;
  const Bytes data = {1, 2};
  ASSERT_TRUE(
      write_safetensors(dir / "a",
                        std::vector<TensorToWrite>{
                            {.name = "x", .dtype = StoredDType::kF16, .shape = {1}, .data = data}})
          .ok());
  const std::string header = R"({"x":{"dtype":"F16","shape":[1],"data_offsets":[0,2]}})";
  Bytes want = safetensors_bytes(header + std::string(56 - header.size(), ' '), 0);
  want.insert(want.end(), data.begin(), data.end());
  EXPECT_EQ(get_file(dir / "a"), want);
  ASSERT_TRUE(write_safetensors(dir / "b", {}).ok());
  EXPECT_EQ(get_file(dir / "b"), safetensors_bytes("{}      ", 0));
}

TEST(WriteSafetensors, RefusesWhatTheReaderWould) {
  TempDir dir;
  const Bytes data = {1, 2, 3, 4};
  const auto with = [&](std::string name, StoredDType dtype, std::vector<int64_t> shape) {
    return std::vector<TensorToWrite>{
        {.name = std::move(name), .dtype = dtype, .shape = std::move(shape), .data = data}};
  };
  const struct {
    std::vector<TensorToWrite> tensors;
    const char* words;
  } cases[] = {
      {with("x", StoredDType::kF32, {2}), "4 bytes of data, its shape needs 8"},
      {with("x", StoredDType::kF32, {-1}), "a dimension is -1"},
      {with("x", StoredDType::kF4, {7}), "28 bits are not a whole number of bytes"},
      {with("x", StoredDType::kU8, std::vector<int64_t>(9, 1)), "9 dimensions, at most 8"},
      {with("x", StoredDType::kU8, {1 << 30, 1 << 30, 1 << 30}), "overflows"},
      {with("__metadata__", StoredDType::kF32, {1}), "reserved"},
      {with(std::string(65537, 'n'), StoredDType::kF32, {1}), "the name has 65537 bytes"},
      {with("\xff", StoredDType::kF32, {1}), "not UTF-8"},
      {{with("x", StoredDType::kF32, {1})[0], with("x", StoredDType::kU8, {4})[0]}, "given twice"},
  };
  for (const auto& c : cases) {
    EXPECT_TRUE(
        fails_with(write_safetensors(dir / "a", c.tensors), StatusCode::kInvalidArgument, c.words));
  }
  EXPECT_TRUE(dir.names().empty());
  EXPECT_TRUE(fails_with(write_safetensors(dir / "no/a", {}), StatusCode::kNotFound,
                         "cannot write " + (dir / "no/a")));
}

TEST(SafetensorsFile, ReadsTheBundledModel) {
  const auto file = SafetensorsFile::open(std::string(FO_SOURCE_DIR) +
                                          "/models/emoji-flux/text_encoder/model.safetensors");
  ASSERT_TRUE(file.ok()) << file.status().to_string();
  const TensorEntry* e = file->find("token_embedding.weight");
  ASSERT_NE(e, nullptr);
  EXPECT_EQ(e->shape, (std::vector<int64_t>{4096, 384}));
  const auto values = to_f32(*e);
  ASSERT_TRUE(values.ok());
  EXPECT_TRUE(std::all_of(values->begin(), values->end(),
                          [](float v) { return std::isfinite(v) && std::fabs(v) < 10; }));
}

}  // namespace
}  // namespace flashomni
