// SPDX-License-Identifier: Apache-2.0
#include "io/tokenizer.h"

#include <thread>

#include "io/json.h"
#include "tests/io/io_testing.h"

namespace flashomni {
namespace {

using testing::Bytes;
using testing::fails_with;
using testing::get_file;
using testing::put_file;
using testing::TempDir;

std::string model_path() {
  return std::string(FO_SOURCE_DIR) + "/models/emoji-flux/tokenizer/spiece.model";
}

// data/tokenizer.json: prompts with the pieces and ids that the Python package gave for this model.
TEST(Tokenizer, MatchesTheRecordedPrompts) {
  const auto tokenizer = Tokenizer::load(model_path());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().to_string();
  const auto golden = read_json_file(std::string(FO_SOURCE_DIR) + "/tests/io/data/tokenizer.json");
  ASSERT_TRUE(golden.ok()) << golden.status().to_string();
  ASSERT_EQ(golden->size(), 46u);
  for (const auto& prompt : *golden) {
    const auto text = prompt["text"].get<std::string>();
    const auto ids = tokenizer->encode(text);
    const auto pieces = tokenizer->encode_pieces(text);
    ASSERT_TRUE(ids.ok() && pieces.ok()) << text;
    EXPECT_EQ(*ids, prompt["ids"].get<std::vector<int32_t>>()) << text;
    EXPECT_EQ(*pieces, prompt["pieces"].get<std::vector<std::string>>()) << text;
  }
}

TEST(Tokenizer, VocabularyAndSpecialTokens) {
  const auto tokenizer = Tokenizer::load(model_path());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().to_string();
  EXPECT_EQ(tokenizer->vocabulary_size(), 4096);
  EXPECT_EQ(tokenizer->pad_id(), 0);
  EXPECT_EQ(tokenizer->end_id(), 1);
  EXPECT_GE(tokenizer->unknown_id(), 0);
}

TEST(Tokenizer, TakesAnyBytes) {
  auto loaded = Tokenizer::load(model_path());
  ASSERT_TRUE(loaded.ok());
  const Tokenizer tokenizer = std::move(loaded).value();
  EXPECT_TRUE(tokenizer.encode("")->empty());
  EXPECT_TRUE(tokenizer.encode("   ")->empty());
  Rng rng(3);
  for (int i = 0; i < 500; ++i) {
    std::string text;
    for (int k = rng.range(0, 200); k > 0; --k) text += char(rng.next());
    const auto ids = tokenizer.encode(text);
    ASSERT_TRUE(ids.ok()) << ids.status().to_string();
    for (const int32_t id : *ids) EXPECT_TRUE(id >= 0 && id < tokenizer.vocabulary_size());
  }
  const auto many = tokenizer.encode(std::string(100'000, 'a') + std::string("\0b", 2));
  EXPECT_TRUE(many.ok());
}

TEST(Tokenizer, EncodesFromSeveralThreads) {
  const auto tokenizer = Tokenizer::load(model_path());
  ASSERT_TRUE(tokenizer.ok());
  const auto want = tokenizer->encode("3d red apple");
  std::vector<std::thread> threads;
  std::vector<int> wrong(4);
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 200; ++i) {
        if (*tokenizer->encode("3d red apple") != *want) ++wrong[size_t(t)];
      }
    });
  }
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(wrong, std::vector<int>(4));
}

TEST(Tokenizer, RefusesOtherFilesSilently) {
  TempDir dir;
  put_file(dir / "empty", "");
  put_file(dir / "text", "this is not a model at all");
  put_file(dir / "lfs", "version https://git-lfs.github.com/spec/v1\n");
  Bytes cut = get_file(model_path());
  cut.resize(cut.size() / 2);
  put_file(dir / "cut", cut);
  ::testing::internal::CaptureStderr();
  ::testing::internal::CaptureStdout();
  const Status empty = Tokenizer::load(dir / "empty").status();
  const Status text = Tokenizer::load(dir / "text").status();
  const Status lfs = Tokenizer::load(dir / "lfs").status();
  const Status half = Tokenizer::load(dir / "cut").status();
  const Status none = Tokenizer::load(dir / "none").status();
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
  EXPECT_EQ(::testing::internal::GetCapturedStdout(), "");
  EXPECT_TRUE(fails_with(empty, StatusCode::kCorruptFile, "it has no pieces"));
  EXPECT_TRUE(fails_with(text, StatusCode::kCorruptFile, "not a usable SentencePiece model"));
  EXPECT_TRUE(fails_with(lfs, StatusCode::kCorruptFile, "git lfs pull"));
  EXPECT_TRUE(fails_with(half, StatusCode::kCorruptFile, "protocol buffer"));
  EXPECT_TRUE(fails_with(none, StatusCode::kNotFound, "cannot open"));
}

}  // namespace
}  // namespace flashomni
