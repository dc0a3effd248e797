// SPDX-License-Identifier: Apache-2.0
//
// Embeddings and latents as files: what is read, what is written, what is refused.
#include "pipelines/tensor_files.h"

#include <cmath>

#include "base/half.h"
#include "io/safetensors.h"
#include "tests/io/io_testing.h"

namespace flashomni {
namespace {

using testing::Bytes;
using testing::fails_with;
using testing::TempDir;

struct Written {
  std::string name;
  StoredDType dtype;
  std::vector<int64_t> shape;
  Bytes data;
};

template <class T>
Written tensor(std::string name, StoredDType dtype, std::vector<int64_t> shape,
               const std::vector<T>& values) {
  Bytes data(values.size() * sizeof(T));
  if (!values.empty()) std::memcpy(data.data(), values.data(), data.size());
  return {std::move(name), dtype, std::move(shape), std::move(data)};
}

Written f32(std::string name, std::vector<int64_t> shape) {
  int64_t n = 1;
  for (const int64_t d : shape) n *= d;
  std::vector<float> values;
  for (int64_t i = 0; i < n; ++i) values.push_back(float(i) + 0.5f);
  return tensor(std::move(name), StoredDType::kF32, std::move(shape), values);
}

void put(const std::string& path, const std::vector<Written>& tensors) {
  std::vector<TensorToWrite> out;
  for (const Written& t : tensors) out.push_back({t.name, t.dtype, t.shape, t.data});
  const Status s = write_safetensors(path, out);
  ASSERT_TRUE(s.ok()) << s.to_string();
}

TEST(Embeddings, AreReadInEveryForm) {
  TempDir dir;
  std::vector<uint16_t> half;
  for (int i = 0; i < 6; ++i) half.push_back(f32_to_bf16(float(i)));
  put(dir / "e", {tensor<uint16_t>("prompt_embeds", StoredDType::kBF16, {1, 3, 2}, half),
                  f32("pooled_prompt_embeds", {4}),
                  tensor<int64_t>("prompt_attention_mask", StoredDType::kI64, {1, 3}, {1, 256, 0}),
                  f32("negative_prompt_embeds", {3, 2})});
  const auto e = load_embeddings(dir / "e");
  ASSERT_TRUE(e.ok()) << e.status().to_string();
  EXPECT_EQ(e->prompt.tokens, 3);
  EXPECT_EQ(e->prompt.width, 2);
  EXPECT_EQ(e->prompt.states, (std::vector<float>{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(e->prompt.pooled, (std::vector<float>{0.5, 1.5, 2.5, 3.5}));
  EXPECT_EQ(e->prompt.mask, (Bytes{1, 1, 0}));
  ASSERT_TRUE(e->negative.has_value());
  EXPECT_EQ(e->negative->states[5], 5.5f);
  EXPECT_TRUE(e->negative->pooled.empty() && e->negative->mask.empty());
}

TEST(Embeddings, RoundTrip) {
  TempDir dir;
  EmbeddingsFile file;
  file.prompt = {2, 3, {1, 2, 3, 4, 5, 6}, {7}, {1, 0}};
  file.negative = PromptEmbeddings{1, 3, {-1, -2, -3}, {}, {}};
  file.metadata = {{"prompt", "x"}};
  ASSERT_TRUE(save_embeddings(dir / "e", file).ok());
  const auto back = load_embeddings(dir / "e");
  ASSERT_TRUE(back.ok()) << back.status().to_string();
  EXPECT_EQ(back->prompt.states, file.prompt.states);
  EXPECT_EQ(back->prompt.pooled, file.prompt.pooled);
  EXPECT_EQ(back->prompt.mask, file.prompt.mask);
  EXPECT_EQ(back->negative->states, file.negative->states);
  EXPECT_EQ(back->metadata, file.metadata);
}

TEST(Embeddings, AreRefusedByName) {
  const std::vector<std::pair<std::vector<Written>, const char*>> cases = {
      {{f32("x", {1})}, "has no tensor 'prompt_embeds'"},
      {{f32("prompt_embeds", {2, 3, 4})}, "'prompt_embeds' F32[2,3,4] is no [tokens, width]"},
      {{f32("prompt_embeds", {3})}, "is no [tokens, width]"},
      {{f32("prompt_embeds", {0, 3})}, "no usable size"},
      {{f32("prompt_embeds", {2, 3}), f32("pooled_prompt_embeds", {2, 2})}, "is no [width]"},
      {{f32("prompt_embeds", {2, 3}), f32("prompt_attention_mask", {3})},
       "is for 3 tokens, 'prompt_embeds' has 2"},
      {{f32("prompt_embeds", {2, 3}), f32("text_ids", {2, 3})}, "'text_ids' F32[2,3] is not known"},
      {{f32("prompt_embeds", {2, 3}), f32("negative_pooled_prompt_embeds", {2})}, "is not known"},
      {{tensor<float>("prompt_embeds", StoredDType::kF32, {1, 2}, {1, INFINITY})},
       "holds a NaN or infinity at element 1"},
      {{tensor<uint8_t>("prompt_embeds", StoredDType::kU8, {1, 2}, {1, 2})}, "no float values"},
  };
  TempDir dir;
  for (const auto& [tensors, words] : cases) {
    put(dir / "e", tensors);
    const Status s = load_embeddings(dir / "e").status();
    EXPECT_FALSE(s.ok());
    EXPECT_NE(s.message().find(words), std::string::npos) << s.message() << "; wanted " << words;
    EXPECT_NE(s.message().find(dir / "e"), std::string::npos) << s.message();
  }
}

// [1, 1, 2, 4] in patches of 1x2x2: two tokens of four values, rows of a patch first.
TEST(Latents, AreReadAsTokens) {
  TempDir dir;
  const LatentShape shape{1, 1, 2, 4};
  const PatchSize patch{1, 2, 2};
  const std::vector<float> tokens = {0.5, 1.5, 4.5, 5.5, 2.5, 3.5, 6.5, 7.5};
  for (const auto& dims : {std::vector<int64_t>{1, 1, 2, 4}, {1, 1, 1, 2, 4}}) {
    put(dir / "l", {f32("latents", dims)});
    const auto got = load_latents(dir / "l", "latents", shape, patch);
    ASSERT_TRUE(got.ok()) << got.status().to_string();
    EXPECT_EQ(*got, tokens);
  }
  put(dir / "l", {f32("latents", {1, 2, 4})});
  EXPECT_EQ((*load_latents(dir / "l", "latents", shape, patch))[2], 2.5f) << "packed: as it is";

  put(dir / "l", {f32("latents", {1, 2, 2, 4})});
  EXPECT_TRUE(fails_with(load_latents(dir / "l", "latents", shape, patch).status(),
                         StatusCode::kCorruptFile,
                         "'latents' F32[1,2,2,4] does not fit this run, wanted [1,1,2,4], "
                         "[1,1,1,2,4] or, packed, [1,2,4]"));
  EXPECT_TRUE(fails_with(load_latents(dir / "l", "noise", shape, patch).status(),
                         StatusCode::kCorruptFile, "has no tensor 'noise'"));
}

TEST(Latents, RoundTrip) {
  TempDir dir;
  const LatentShape shape{2, 3, 4, 2};
  const PatchSize patch{1, 2, 2};
  std::vector<float> tokens(size_t(shape.values()));
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = float(i) * 0.25f;
  ASSERT_TRUE(save_latents(dir / "l", tokens, shape, patch, true, {{"a", "b"}}).ok());
  EXPECT_EQ(*load_latents(dir / "l", "latents", shape, patch), tokens);
  const auto file = SafetensorsFile::open(dir / "l");
  EXPECT_EQ(file->find("latents")->shape, (std::vector<int64_t>{1, 2, 3, 4, 2}));
  EXPECT_EQ(file->metadata().at("a"), "b");
}

}  // namespace
}  // namespace flashomni
