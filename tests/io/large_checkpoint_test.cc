// SPDX-License-Identifier: Apache-2.0
//
// Checkpoints that are larger than memory, made of sparse files: opened and refused without being
// read, and read tensor by tensor.
#include <sys/stat.h>

#include <fstream>

#include "io/weight_store.h"
#include "tests/io/io_testing.h"
#include "tests/testkit/sanitized.h"

namespace flashomni {
namespace {

using testing::fails_with;
using testing::put_file;
using testing::TempDir;
using testing::with_header_length;

constexpr uint64_t kGiB = uint64_t{1} << 30;
const char kIndexName[] = "diffusion_pytorch_model.safetensors.index.json";

std::string shard_name(int shard, int shards) {
  char name[80];
  snprintf(name, sizeof(name), "diffusion_pytorch_model-%05d-of-%05d.safetensors", shard + 1,
           shards);
  return name;
}

// `shards` files of `tensors` BF16 tensors [rows, 4096] each, all holes. False where the file
// system would really fill them.
bool put_sparse_checkpoint(const TempDir& dir, int shards, int tensors, int64_t rows) {
  std::string map;
  const uint64_t each = uint64_t(rows) * 4096 * 2;
  for (int s = 0; s < shards; ++s) {
    std::string header = "{";
    for (int t = 0; t < tensors; ++t) {
      const std::string name = "blocks." + std::to_string(s) + "." + std::to_string(t) + ".weight";
      header += (t ? ",\"" : "\"") + name + R"(":{"dtype":"BF16","shape":[)" +
                std::to_string(rows) + R"(,4096],"data_offsets":[)" +
                std::to_string(each * uint64_t(t)) + "," + std::to_string(each * uint64_t(t + 1)) +
                "]}";
      map += (map.empty() ? "\"" : ",\"") + name + "\":\"" + shard_name(s, shards) + "\"";
    }
    header += "}";
    const std::string path = dir / shard_name(s, shards);
    put_file(path, with_header_length(header.size(), header));
    std::error_code error;
    std::filesystem::resize_file(path, 8 + header.size() + each * uint64_t(tensors), error);
    struct stat info;
    if (error || stat(path.c_str(), &info) != 0 || info.st_blocks > 4096) return false;
  }
  put_file(dir / kIndexName, R"({"metadata":{"total_size":)" +
                                 std::to_string(each * uint64_t(shards * tensors)) +
                                 R"(},"weight_map":{)" + map + "}}");
  return true;
}

// Bytes that this process has asked the system to read so far.
uint64_t bytes_read() {
  std::ifstream io("/proc/self/io");
  std::string key;
  uint64_t value = 0;
  io >> key >> value;
  return key == "rchar:" ? value : 0;
}

// Largest resident size since reset_peak(), bytes.
uint64_t peak_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::stoull(line.substr(6)) * 1024;
  }
  return 0;
}
bool reset_peak() {
  std::ofstream refs("/proc/self/clear_refs");
  refs << "5" << std::flush;
  return refs.good() && peak_bytes() > 0;
}

#define SKIP_UNLESS_SPARSE(made)                                                          \
  if (!(made)) {                                                                          \
    GTEST_SKIP() << "LARGE CHECKPOINTS ARE NOT TESTED: the file system of the temporary " \
                    "folder has no sparse files";                                         \
  }

// 40 GB in 8 shards.
class LargeCheckpoint : public ::testing::Test {
 protected:
  static constexpr int kShards = 8, kTensors = 20;
  static constexpr int64_t kRows = 32768;  // 256 MiB a tensor
  void SetUp() override {
    SKIP_UNLESS_SPARSE(put_sparse_checkpoint(dir_, kShards, kTensors, kRows));
  }
  TempDir dir_;
};

TEST_F(LargeCheckpoint, OpensWithoutBeingRead) {
  const uint64_t before = bytes_read();
  const auto store = WeightStore::open(dir_.path());
  const uint64_t read = bytes_read() - before;
  ASSERT_TRUE(store.ok()) << store.status().to_string();
  EXPECT_EQ(store->files().size(), 8u);
  EXPECT_EQ(store->tensors().size(), 160u);
  EXPECT_EQ(store->total_bytes(), 40 * kGiB);
  EXPECT_TRUE(store->warnings().empty());
  EXPECT_GT(read, 0u);
  EXPECT_LT(read, uint64_t{1} << 20);
}

TEST_F(LargeCheckpoint, IsRefusedWithoutBeingRead) {
  const std::string third = dir_ / shard_name(2, kShards);
  const auto size = std::filesystem::file_size(third);
  const auto refused = [&](StatusCode code, const std::string& words) {
    const uint64_t before = bytes_read();
    EXPECT_TRUE(fails_with(WeightStore::open(dir_.path()).status(), code, words));
    EXPECT_LT(bytes_read() - before, uint64_t{1} << 20);
  };
  std::filesystem::resize_file(third, size - 1);
  refused(StatusCode::kCorruptFile, "(truncated)");
  std::filesystem::resize_file(third, size + 1);
  refused(StatusCode::kCorruptFile, "(trailing bytes)");
  std::filesystem::remove(third);
  refused(StatusCode::kCorruptFile, shard_name(2, kShards));
}

// Every tensor of 1 GiB once, each given back before the next: the peak is the largest tensor's.
TEST(StreamedCheckpoint, HoldsOneTensorAtATime) {
  if (testkit::kSanitized) GTEST_SKIP() << "a sanitizer keeps memory that was given back";
  TempDir dir;
  constexpr int64_t kRows = 16384;  // 128 MiB stored, 256 MiB as f32
  SKIP_UNLESS_SPARSE(put_sparse_checkpoint(dir, 2, 4, kRows));
  const auto store = WeightStore::open(dir.path());
  ASSERT_TRUE(store.ok()) << store.status().to_string();
  if (!reset_peak()) GTEST_SKIP() << "this system does not tell the peak memory of a process";
  const uint64_t before = peak_bytes();
  uint64_t sum = 0;
  for (const TensorEntry* t : store->tensors()) {
    const auto stored = read_tensor(*t);
    ASSERT_TRUE(stored.ok()) << stored.status().to_string();
    sum += stored->size();
  }
  EXPECT_EQ(sum, kGiB);
  const uint64_t largest = store->tensors()[0]->bytes;
  EXPECT_LE(peak_bytes() - before, largest + (uint64_t{16} << 20));
  // As f32, nothing of the stored size is held beside the values.
  ASSERT_TRUE(reset_peak());
  const uint64_t again = peak_bytes();
  ASSERT_TRUE(to_f32(*store->tensors()[0]).ok());
  EXPECT_LE(peak_bytes() - again, 2 * largest + (uint64_t{16} << 20));
}

}  // namespace
}  // namespace flashomni
