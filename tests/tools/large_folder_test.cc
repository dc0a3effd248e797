// SPDX-License-Identifier: Apache-2.0
//
// `flashomni info` on a checkpoint that is larger than memory: Wan 2.1 T2V-14B in f32, 57 GB in 12
// shards of sparse files.
#include <sys/stat.h>

#include <cstdio>

#include "flashomni/backend.h"
#include "tests/tools/cli.h"

namespace flashomni::tools {
namespace {

constexpr int kShards = 12;

class LargeFolder : public CliTest {
 protected:
  void SetUp() override {
    fs::create_directories(path("wan/transformer"));
    write("wan/transformer/config.json", R"({"_class_name": "WanTransformer3DModel"})");
    ASSERT_EQ(run({"info", "wan", "--json", "list.json"}).exit_code, 0);
    // Every tensor of the model by its name and shape, a twelfth of them in each shard.
    const nlohmann::json list = json("list.json")["components"][0]["tensors"];
    ASSERT_EQ(list.size(), 1095u);
    for (size_t i = 0; i < list.size(); ++i) shards_[i * kShards / list.size()].push_back(list[i]);
    nlohmann::json map = nlohmann::json::object();
    for (int s = 0; s < kShards; ++s) {
      if (!put_shard(s, map)) {
        GTEST_SKIP() << "LARGE CHECKPOINTS ARE NOT TESTED: the file system of the temporary folder "
                        "has no sparse files";
      }
    }
    map_ = map;
    put_index(map_);
  }

  static std::string shard_name(int shard) {
    char name[80];
    std::snprintf(name, sizeof(name), "diffusion_pytorch_model-%05d-of-%05d.safetensors", shard + 1,
                  kShards);
    return name;
  }
  fs::path shard_path(int shard) const { return path("wan/transformer/" + shard_name(shard)); }

  // A header and a hole as long as the data. False where the file system would really fill it.
  bool put_shard(int shard, nlohmann::json& map) {
    nlohmann::json header = nlohmann::json::object();
    uint64_t at = 0;
    for (const nlohmann::json& tensor : shards_[size_t(shard)]) {
      uint64_t bytes = 4;
      for (const nlohmann::json& d : tensor["shape"]) bytes *= d.get<uint64_t>();
      header[tensor["name"].get<std::string>()] = {
          {"dtype", "F32"}, {"shape", tensor["shape"]}, {"data_offsets", {at, at + bytes}}};
      map[tensor["name"].get<std::string>()] = shard_name(shard);
      at += bytes;
    }
    std::string text = header.dump();
    std::string file(8, '\0');
    for (size_t i = 0; i < 8; ++i) file[i] = char(text.size() >> (8 * i) & 0xff);
    write("wan/transformer/" + shard_name(shard), file + text);
    std::error_code error;
    fs::resize_file(shard_path(shard), file.size() + text.size() + at, error);
    struct stat info {};
    return !error && stat(shard_path(shard).c_str(), &info) == 0 && info.st_blocks < 4096;
  }
  void put_index(const nlohmann::json& map) {
    write("wan/transformer/diffusion_pytorch_model.safetensors.index.json",
          nlohmann::json{{"metadata", {{"total_size", kBytes}}}, {"weight_map", map}}.dump());
  }

  // `info` on the folder, which must not read more than headers.
  Finished info() {
    const auto start = std::chrono::steady_clock::now();
    const Finished f = run({"info", "wan", "--json", "info.json"});
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    std::printf("info on %.1f GB: %.2f s, %.1f MiB resident at most, %.2f MB read\n",
                double(kBytes) / 1e9, seconds.count(), double(f.peak_bytes) / (1 << 20),
                double(f.bytes_read) / 1e6);
    EXPECT_GT(f.bytes_read, 0u);
    if (!kSanitized) {
      // cuBLAS is mapped at the start where it is linked, 200 MiB of it.
      const bool has_cuda = backend_names().size() > 1;
      EXPECT_LT(f.peak_bytes, uint64_t{has_cuda ? 320u : 128u} << 20);
    }
    EXPECT_LT(f.bytes_read, uint64_t{16} << 20);
    return f;
  }

  static constexpr int64_t kBytes = 4 * 14'288'491'584;
  std::vector<nlohmann::json> shards_[kShards];
  nlohmann::json map_;
};

TEST_F(LargeFolder, IsSummarisedWithoutBeingRead) {
  const Finished f = info();
  ASSERT_EQ(f.exit_code, 0) << f.err;
  EXPECT_NE(f.out.find("14,288,491,584 in 1095 tensors"), std::string::npos) << f.out;
  EXPECT_NE(f.out.find("12 files, 57.2 GB, F32, all tensors there"), std::string::npos) << f.out;
  EXPECT_EQ(json("info.json")["components"][0]["weights"]["bytes"], kBytes);
}

TEST_F(LargeFolder, IsRefusedWithoutBeingRead) {
  // A tensor that no shard has: missing from the model.
  nlohmann::json map = map_;
  const std::string gone = shards_[3].back()["name"].get<std::string>();
  shards_[3].pop_back();
  nlohmann::json ignored = nlohmann::json::object();
  ASSERT_TRUE(put_shard(3, ignored));
  map.erase(gone);
  put_index(map);
  Finished f = info();
  EXPECT_EQ(f.exit_code, 1);
  EXPECT_NE(f.err.find("1 missing (" + gone + ")"), std::string::npos) << f.err;

  put_index(map_);  // which still names it
  f = info();
  EXPECT_EQ(f.exit_code, 1);
  EXPECT_NE(f.err.find("1 tensor ('" + gone + "') not in the shard"), std::string::npos) << f.err;

  put_index(map);
  fs::resize_file(shard_path(7), fs::file_size(shard_path(7)) - 1);
  f = info();
  EXPECT_EQ(f.exit_code, 1);
  EXPECT_NE(f.err.find(shard_name(7)), std::string::npos) << f.err;
  EXPECT_NE(f.err.find("(truncated)"), std::string::npos) << f.err;

  fs::remove(shard_path(7));
  f = info();
  EXPECT_EQ(f.exit_code, 1);
  EXPECT_NE(f.err.find(shard_name(7) + ": No such file"), std::string::npos) << f.err;
}

}  // namespace
}  // namespace flashomni::tools
