// SPDX-License-Identifier: Apache-2.0
#include "io/weight_store.h"

#include "tests/io/io_testing.h"

namespace flashomni {
namespace {

using testing::Bytes;
using testing::fails_with;
using testing::put_file;
using testing::safetensors_bytes;
using testing::TempDir;

// A file of one-byte U8 tensors with these names.
void put_tensors(const std::string& path, const std::vector<std::string>& names) {
  std::vector<TensorToWrite> tensors;
  const Bytes data = {7};
  for (const std::string& n : names) {
    tensors.push_back({.name = n, .dtype = StoredDType::kU8, .shape = {1}, .data = data});
  }
  ASSERT_TRUE(write_safetensors(path, tensors).ok());
}

const char kIndexName[] = "diffusion_pytorch_model.safetensors.index.json";

// Two shards, a and b in the first, c in the second, and an index made of `weight_map`.
void put_shards(const TempDir& dir, const std::string& index) {
  put_tensors(dir / "m-1.safetensors", {"a", "b"});
  put_tensors(dir / "m-2.safetensors", {"c"});
  put_file(dir / kIndexName, index);
}

const char kGoodIndex[] =
    R"({"metadata":{"total_size":3},)"
    R"("weight_map":{"a":"m-1.safetensors","b":"m-1.safetensors","c":"m-2.safetensors"}})";

TEST(WeightStore, ReadsShards) {
  TempDir dir;
  put_shards(dir, kGoodIndex);
  for (const std::string& path : {dir.path(), dir / kIndexName}) {
    const auto store = WeightStore::open(path);
    ASSERT_TRUE(store.ok()) << store.status().to_string();
    EXPECT_EQ(store->files().size(), 2u);
    ASSERT_EQ(store->tensors().size(), 3u);
    EXPECT_EQ(store->tensors()[2]->name, "c");
    ASSERT_NE(store->find("b"), nullptr);
    EXPECT_EQ(*read_tensor(*store->find("b")), Bytes{7});
    EXPECT_EQ(store->find("d"), nullptr);
    EXPECT_EQ(store->total_bytes(), 3u);
    EXPECT_TRUE(store->warnings().empty());
  }
}

TEST(WeightStore, ReadsASingleFileByAnyName) {
  TempDir dir;
  put_tensors(dir / "x.safetensors", {"a"});
  auto store = WeightStore::open(dir / "x.safetensors");
  ASSERT_TRUE(store.ok()) << store.status().to_string();
  const WeightStore moved = std::move(store).value();
  EXPECT_NE(moved.find("a"), nullptr);
}

TEST(WeightStore, IndexRelativeToTheCurrentFolder) {
  TempDir dir;
  put_shards(dir, kGoodIndex);
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(dir.path());
  const auto store = WeightStore::open(kIndexName);
  std::filesystem::current_path(before);
  EXPECT_TRUE(store.ok()) << store.status().to_string();
}

TEST(WeightStore, FolderResolutionOrder) {
  TempDir dir;
  const auto only_tensor = [&](const std::string& variant) {
    const auto store = WeightStore::open(dir.path(), variant);
    return store.ok() ? store->tensors()[0]->name : store.status().message();
  };
  const auto single = [](const std::string& name) {
    return R"({"weight_map":{"index":")" + name + R"("}})";
  };
  put_tensors(dir / "model.safetensors", {"transformers"});
  EXPECT_EQ(only_tensor(""), "transformers");
  put_tensors(dir / "diffusion_pytorch_model.safetensors", {"diffusers"});
  EXPECT_EQ(only_tensor(""), "diffusers");
  put_tensors(dir / "s.safetensors", {"index"});
  put_file(dir / kIndexName, single("s.safetensors"));
  EXPECT_EQ(only_tensor(""), "index");

  put_tensors(dir / "diffusion_pytorch_model.fp16.safetensors", {"fp16"});
  EXPECT_EQ(only_tensor("fp16"), "fp16");
  put_file(dir / "diffusion_pytorch_model.safetensors.index.fp16.json", single("s.safetensors"));
  EXPECT_EQ(only_tensor("fp16"), "index");
  EXPECT_EQ(only_tensor(""), "index");
  EXPECT_NE(only_tensor("bf16").find("diffusion_pytorch_model.bf16.safetensors"),
            std::string::npos);
}

TEST(WeightStore, EmptyFolderSaysWhatItLookedFor) {
  TempDir dir;
  EXPECT_TRUE(fails_with(WeightStore::open(dir.path()).status(), StatusCode::kNotFound,
                         "looked for diffusion_pytorch_model.safetensors.index.json, "
                         "diffusion_pytorch_model.safetensors, model.safetensors.index.json, "
                         "model.safetensors"));
  put_file(dir / "pytorch_model.bin", "x");
  EXPECT_TRUE(fails_with(WeightStore::open(dir.path()).status(), StatusCode::kUnsupported,
                         "pytorch_model.bin is a pickle"));
  EXPECT_TRUE(
      fails_with(WeightStore::open(dir / "none").status(), StatusCode::kNotFound, "cannot open"));
}

TEST(WeightStore, RefusesBadIndexes) {
  const struct {
    const char* index;
    StatusCode code;
    const char* words;
  } cases[] = {
      {"[]", StatusCode::kCorruptFile, "weight_map is missing"},
      {R"({"metadata":{}})", StatusCode::kCorruptFile, "weight_map is missing"},
      {R"({"weight_map":[]})", StatusCode::kCorruptFile, "weight_map is array"},
      {R"({"weight_map":{"a":1}})", StatusCode::kCorruptFile, "entry 'a' is number"},
      {R"({"weight_map":{"a":null}})", StatusCode::kCorruptFile, "entry 'a' is null"},
      {R"({"weight_map":{"a":"x","a":"y"}})", StatusCode::kCorruptFile, "'a' appears twice"},
      {R"({"weight_map":{"a":""}})", StatusCode::kCorruptFile, "plain file name"},
      {R"({"weight_map":{"a":"."}})", StatusCode::kCorruptFile, "plain file name"},
      {R"({"weight_map":{"a":".."}})", StatusCode::kCorruptFile, "plain file name"},
      {R"({"weight_map":{"a":"../m-1.safetensors"}})", StatusCode::kCorruptFile, "plain file name"},
      {R"({"weight_map":{"a":"/etc/passwd"}})", StatusCode::kCorruptFile, "plain file name"},
      {R"({"weight_map":{"a":"d/m-1.safetensors"}})", StatusCode::kCorruptFile, "plain file name"},
      {R"({"weight_map":{"a":"d\\m-1.safetensors"}})", StatusCode::kCorruptFile, "plain file name"},
      {R"({"weight_map":{"a":"m-1.safetensors\u0000x"}})", StatusCode::kCorruptFile,
       "plain file name"},
      {R"({"weight_map":{"a":"m-3.safetensors"}})", StatusCode::kCorruptFile, "a shard listed in"},
      {R"({"weight_map":{"a":"m-1.safetensors","b":"m-2.safetensors","c":"m-2.safetensors"}})",
       StatusCode::kCorruptFile, "1 tensor ('b') not in the shard"},
      {R"({"weight_map":{"a":"m-1.safetensors","z":"m-1.safetensors"}})", StatusCode::kCorruptFile,
       "1 tensor ('z') not in the shard"},
      {R"({"weight_map":)", StatusCode::kCorruptFile, "not valid JSON"},
      {"version https://git-lfs.github.com/spec/v1", StatusCode::kCorruptFile, "git-lfs pointer"},
  };
  for (const auto& c : cases) {
    TempDir dir;
    put_shards(dir, c.index);
    EXPECT_TRUE(fails_with(WeightStore::open(dir.path()).status(), c.code, c.words)) << c.index;
  }
}

TEST(WeightStore, RefusesATensorInTwoShards) {
  TempDir dir;
  put_shards(dir, kGoodIndex);
  put_tensors(dir / "m-2.safetensors", {"a", "c"});
  EXPECT_TRUE(fails_with(WeightStore::open(dir.path()).status(), StatusCode::kCorruptFile,
                         "tensor 'a' is in " + (dir / "m-1.safetensors") + " and "));
}

TEST(WeightStore, RefusesABadShard) {
  TempDir dir;
  put_shards(dir, kGoodIndex);
  put_file(dir / "m-2.safetensors", safetensors_bytes("{}", 1));
  EXPECT_TRUE(fails_with(WeightStore::open(dir.path()).status(), StatusCode::kCorruptFile,
                         "m-2.safetensors: tensors end at byte 0"));
}

TEST(WeightStore, WarnsOfOddities) {
  TempDir dir;
  put_shards(dir, R"({"metadata":{"total_size":4.0},)"
                  R"("weight_map":{"a":"m-1.safetensors","c":"m-2.safetensors"}})");
  const auto store = WeightStore::open(dir.path());
  ASSERT_TRUE(store.ok()) << store.status().to_string();
  ASSERT_EQ(store->warnings().size(), 2u);
  EXPECT_NE(store->warnings()[0].find("1 tensor ('b') in a shard but not in weight_map"),
            std::string::npos);
  EXPECT_NE(store->warnings()[1].find("total_size is 4.0, the tensors have 3 bytes"),
            std::string::npos);
  EXPECT_NE(store->find("b"), nullptr);
}

TEST(WeightStore, LongListsAreCut) {
  TempDir dir;
  std::string index = R"({"weight_map":{"a":"m-1.safetensors")";
  for (int i = 10; i < 40; ++i) index += ",\"x" + std::to_string(i) + R"(":"m-1.safetensors")";
  put_shards(dir, index + "}}");
  const Status s = WeightStore::open(dir.path()).status();
  EXPECT_TRUE(fails_with(s, StatusCode::kCorruptFile, "30 tensors ('x10'"));
  EXPECT_NE(s.message().find("'x19', ...)"), std::string::npos) << s.message();
  EXPECT_EQ(s.message().find("x20"), std::string::npos);
}

}  // namespace
}  // namespace flashomni
