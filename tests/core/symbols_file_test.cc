// SPDX-License-Identifier: Apache-2.0
//
// The symbols file: the documented bytes, round trips, and hostile input of every kind.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>

#include "flashomni/symbols.h"
#include "tests/core/symbols_samples.h"

namespace flashomni {
namespace {

// The worked example of docs/symbols_format.md, byte for byte.
// clang-format off
const std::vector<uint8_t> kWorkedFile = {
    0x46, 0x4f, 0x53, 0x59, 0x01, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00,
    0x96, 0x00, 0x00, 0x00, 0x2c, 0x01, 0x00, 0x00, 0x40, 0x00, 0x00, 0x00, 0x40, 0x00, 0x00, 0x00,
    0x05, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x03, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x03, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x1f, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x11, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x0e, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0xcf, 0x6e, 0x79, 0xe3,
};
// clang-format on

// A second CRC-32, bit by bit, so that the library does not check itself.
uint32_t crc32(const uint8_t* bytes, size_t count) {
  uint32_t crc = ~0u;
  for (size_t k = 0; k < count; ++k) {
    crc ^= bytes[k];
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) ? 0xedb88320u : 0u);
  }
  return ~crc;
}

void put_u32(std::vector<uint8_t>& bytes, size_t pos, uint32_t value) {
  for (size_t k = 0; k < 4; ++k) bytes[pos + k] = uint8_t(value >> 8 * k);
}

// Makes the checksum right again, so that a change reaches the checks behind it.
void reseal(std::vector<uint8_t>& bytes) {
  if (bytes.size() < 4) return;
  put_u32(bytes, bytes.size() - 4, crc32(bytes.data(), bytes.size() - 4));
}

void expect_refused(const std::vector<uint8_t>& bytes, StatusCode code, const std::string& reason) {
  const Result<SparseSymbols> result = deserialize_symbols(bytes);
  ASSERT_FALSE(result.ok()) << "wanted: " << reason;
  EXPECT_EQ(result.status().code(), code) << result.status().to_string();
  EXPECT_NE(result.status().message().find(reason), std::string::npos) << result.status().message();
}

// The lines of a hex dump as the document prints them.
std::vector<std::string> hex_lines(const std::vector<uint8_t>& bytes) {
  std::vector<std::string> lines;
  for (size_t k = 0; k < bytes.size(); ++k) {
    char text[8];
    if (k % 16 == 0) {
      std::snprintf(text, sizeof(text), "%04x:", unsigned(k));
      lines.emplace_back(text);
    }
    std::snprintf(text, sizeof(text), " %02x", bytes[k]);
    lines.back() += text;
  }
  return lines;
}

TEST(SymbolsFile, WorkedExample) {
  EXPECT_EQ(serialize_symbols(worked_example()), kWorkedFile);
  EXPECT_EQ(deserialize_symbols(kWorkedFile).value(), worked_example());
}

TEST(SymbolsFile, TheDocumentShowsTheseBytes) {
  std::ifstream in(std::string(FO_SOURCE_DIR) + "/docs/symbols_format.md");
  std::stringstream text;
  text << in.rdbuf();
  for (const std::string& line : hex_lines(kWorkedFile)) {
    EXPECT_NE(text.str().find(line), std::string::npos) << line;
  }
}

TEST(SymbolsFile, RoundTripsOverRandomGeometries) {
  Rng rng(1);
  for (int trial = 0; trial < 60; ++trial) {
    const SparseSymbols a = random_symbols(rng, random_geometry(rng));
    const Result<SparseSymbols> back = deserialize_symbols(serialize_symbols(a));
    ASSERT_TRUE(back.ok()) << back.status().to_string();
    ASSERT_EQ(*back, a) << describe(a.geometry());
  }
}

TEST(SymbolsFile, RefusesMalformedInputWithAReason) {
  const auto refused = [](const std::function<void(std::vector<uint8_t>&)>& change, StatusCode code,
                          const std::string& reason) {
    std::vector<uint8_t> bytes = kWorkedFile;
    change(bytes);
    reseal(bytes);
    expect_refused(bytes, code, reason);
  };
  const StatusCode kCorrupt = StatusCode::kCorruptFile;
  expect_refused({}, kCorrupt, "0 bytes");
  refused([](auto& f) { f.resize(35); }, kCorrupt, "35 bytes, wanted at least 36");
  refused([](auto& f) { f[0] = 'f'; }, kCorrupt, "not a symbols file");
  refused([](auto& f) { f[4] = 3; }, StatusCode::kUnsupported, "version 3, wanted 1 or 2");
  refused([](auto& f) { f[12] = 0; }, kCorrupt, "heads is 0");
  refused([](auto& f) { put_u32(f, 16, 0xffffffffu); }, kCorrupt, "q_tokens is -1");
  refused([](auto& f) { f[24] = 65; }, kCorrupt, "block_q is 65");
  refused([](auto& f) { f.resize(92); }, kCorrupt, "92 bytes, wanted 100");
  refused([](auto& f) { f.resize(101); }, kCorrupt, "101 bytes, wanted 100");
  refused([](auto& f) { f[12] = 3; }, kCorrupt, "100 bytes, wanted 132");
  refused([](auto& f) { f[32] |= 0x08; }, kCorrupt, "S_c of (b=0, h=0, i=3)");
  refused([](auto& f) { f[55] = 0x80; }, kCorrupt, "S_s of (b=0, h=0, i=0)");
  refused([](auto& f) { f[80] = 0; }, kCorrupt, "row (b=0, h=1, i=1) is computed but");

  std::vector<uint8_t> unsealed = kWorkedFile;
  unsealed[48] ^= 1;
  expect_refused(unsealed, kCorrupt, "checksum");
}

// A file of four ragged blocks, of 3, 32, 1 and 4 tokens: their number lies at byte 32, where they
// end behind it.
TEST(SymbolsFile, RefusesMalformedRaggedBlocks) {
  const SymbolGeometry g = {
      .q_tokens = 40, .kv_tokens = 40, .block_q = 32, .block_kv = 32, .ragged_blocks = 4};
  const std::vector<int32_t> starts = {0, 3, 35, 36, 40};
  const std::vector<uint8_t> file = serialize_symbols(SparseSymbols(g, starts));
  ASSERT_EQ(file.size(), 96u);
  const auto refused = [&](const std::function<void(std::vector<uint8_t>&)>& change,
                           const std::string& reason) {
    std::vector<uint8_t> bytes = file;
    change(bytes);
    reseal(bytes);
    expect_refused(bytes, StatusCode::kCorruptFile, reason);
  };
  refused([](auto& f) { f[4] = 1; }, "96 bytes, wanted");
  refused([](auto& f) { f.resize(40); }, "40 bytes, wanted 96");
  refused([](auto& f) { put_u32(f, 32, 0); }, "says 0 ragged blocks");
  refused([](auto& f) { put_u32(f, 32, 1); }, "ragged_blocks is 1, wanted 2..40");
  refused([](auto& f) { put_u32(f, 32, ~0u); }, "ragged_blocks is -1");
  refused([](auto& f) { put_u32(f, 32, 5); }, "96 bytes, wanted 108");
  refused([](auto& f) { put_u32(f, 28, 64); }, "32x64");
  refused([](auto& f) { put_u32(f, 36, 0); }, "starts[1] of ragged blocks is 0");
  refused([](auto& f) { put_u32(f, 40, 36); }, "starts[2] of ragged blocks is 36");
  refused([](auto& f) { put_u32(f, 44, ~0u); }, "starts[3] of ragged blocks is -1");
  refused([](auto& f) { put_u32(f, 48, 39); }, "starts[4] of ragged blocks is 39, wanted 40");
}

// Headers that ask for up to 512 MiB, above a body of a few bytes, must cost nothing.
TEST(SymbolsFile, HostileHeadersAllocateNothing) {
  const auto peak_bytes = [] {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return int64_t{1024} * usage.ru_maxrss;
  };
  const int64_t before = peak_bytes();
  const uint32_t kSizes[][6] = {
      {1, 1, 1 << 21, 511 * 64 * 64, 32, 64},  // the largest S_s, less 64 Ki words
      {1, 1, 1 << 26, 1, 32, 32},              // the most rows of one head
      {1024, 1024, 31 * 32, 64 * 32, 32, 32},  // the most groups, with a word of S_c each
      {1024, 1024, 1 << 26, 1 << 26, 32, 32},  // out of range
      {~0u, ~0u, ~0u, ~0u, ~0u, ~0u},          //
      {1u << 31, 1u << 31, 1u << 31, 1u << 31, 64, 64},
  };
  for (const auto& fields : kSizes) {
    std::vector<uint8_t> bytes = kWorkedFile;
    for (size_t k = 0; k < 6; ++k) put_u32(bytes, 8 + 4 * k, fields[k]);
    reseal(bytes);
    EXPECT_FALSE(deserialize_symbols(bytes).ok());
  }
  EXPECT_LT(peak_bytes() - before, int64_t{64} << 20);
}

// Flips, splices, cuts and extreme fields, half of them with the checksum made right again. What
// is accepted must be valid and must serialise to the very bytes that were read.
TEST(SymbolsFile, SurvivesRandomMutations) {
  Rng rng(2);
  constexpr int kMutations = 40000;
  const uint32_t kExtremes[] = {0, 1, 2, 31, 32, 64, 128, 255, 1 << 16, 1 << 26, 0x7fffffff, ~0u};
  std::vector<uint8_t> base;
  int accepted = 0;
  for (int k = 0; k < kMutations; ++k) {
    if (k % 500 == 0) {
      SymbolGeometry g = random_geometry(rng);
      g.heads = std::min(g.heads, 4);
      base = k == 0          ? kWorkedFile
             : k % 1500 == 0 ? serialize_symbols(random_ragged_symbols(rng))
                             : serialize_symbols(random_symbols(rng, g));
    }
    std::vector<uint8_t> bytes = base;
    for (int edits = rng.range(1, 4); edits > 0; --edits) {
      const size_t size = bytes.size();
      switch (rng.below(6)) {
        case 0:
          if (size > 0) bytes[rng.below(size)] ^= uint8_t(1u << rng.below(8));
          break;
        case 1:
          if (size > 0) bytes[rng.below(size)] = uint8_t(rng.next());
          break;
        case 2:
          if (size >= 36) put_u32(bytes, 4 * rng.below(9), kExtremes[rng.below(12)]);
          break;
        case 3:
          bytes.resize(rng.below(size + 1));
          break;
        case 4:
          bytes.resize(size + rng.below(64), uint8_t(rng.next()));
          break;
        default:
          if (size > 8) std::copy_n(bytes.begin(), 8, bytes.begin() + long(rng.below(size - 8)));
      }
    }
    if (rng.coin(0.5)) reseal(bytes);
    const Result<SparseSymbols> result = deserialize_symbols(bytes);
    if (!result.ok()) {
      ASSERT_FALSE(result.status().message().empty());
      continue;
    }
    ++accepted;
    ASSERT_TRUE(result->validate().ok());
    ASSERT_EQ(serialize_symbols(*result), bytes);
  }
  // The fuzz reaches past the checksum: some resealed flips are other valid symbols.
  EXPECT_GT(accepted, 100);
}

class SymbolsFileOnDisk : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::path(::testing::TempDir()) /
              ("symbols_file_" +
               std::string(::testing::UnitTest::GetInstance()->current_test_info()->name()));
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string path(const std::string& name) const { return (folder_ / name).string(); }
  // Names of the files there are, to see that no temporary one stays behind.
  std::vector<std::string> files() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
      names.push_back(entry.path().filename().string());
    }
    return names;
  }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(path(name), std::ios::binary) << text;
  }

  std::filesystem::path folder_;
};

TEST_F(SymbolsFileOnDisk, SavesLoadsAndReplaces) {
  Rng rng(3);
  for (int round = 0; round < 3; ++round) {
    const SparseSymbols a = random_symbols(rng, random_geometry(rng));
    ASSERT_TRUE(save_symbols(a, path("a.fosym")).ok());
    const Result<SparseSymbols> back = load_symbols(path("a.fosym"));
    ASSERT_TRUE(back.ok()) << back.status().to_string();
    EXPECT_EQ(*back, a);
  }
  EXPECT_EQ(files(), std::vector<std::string>{"a.fosym"});
}

TEST_F(SymbolsFileOnDisk, LeavesAnotherWritersTemporaryFileAlone) {
  write("a.fosym.tmp0", "theirs");
  ASSERT_TRUE(save_symbols(worked_example(), path("a.fosym")).ok());
  EXPECT_EQ(std::filesystem::file_size(path("a.fosym.tmp0")), 6u);
  EXPECT_EQ(files().size(), 2u);
}

TEST_F(SymbolsFileOnDisk, RefusesToSaveInvalidSymbols) {
  SparseSymbols a = worked_example();
  a.s_words()[0] = 0;
  EXPECT_EQ(save_symbols(a, path("a.fosym")).code(), StatusCode::kInvalidArgument);
  EXPECT_TRUE(files().empty());
}

TEST_F(SymbolsFileOnDisk, SaysWhyAFileCannotBeWritten) {
  const Status status = save_symbols(worked_example(), path("no_such_folder/a.fosym"));
  EXPECT_EQ(status.code(), StatusCode::kIoError);
  EXPECT_NE(status.message().find("no_such_folder"), std::string::npos) << status.message();

  // A folder in the way: the write succeeds, the rename does not, and nothing stays behind.
  std::filesystem::create_directories(folder_ / "taken" / "inside");
  EXPECT_EQ(save_symbols(worked_example(), path("taken")).code(), StatusCode::kIoError);
  EXPECT_EQ(files(), std::vector<std::string>{"taken"});
}

TEST_F(SymbolsFileOnDisk, SaysWhyAFileCannotBeLoaded) {
  EXPECT_EQ(load_symbols(path("missing")).status().code(), StatusCode::kNotFound);
  EXPECT_FALSE(load_symbols(folder_.string()).ok());

  write("short", "FOSY");
  const Status status = load_symbols(path("short")).status();
  EXPECT_EQ(status.code(), StatusCode::kCorruptFile);
  EXPECT_NE(status.message().find("short: "), std::string::npos) << status.message();

  // A sparse file far above the cap is refused by its size alone.
  write("huge", "FOSY");
  std::filesystem::resize_file(path("huge"), uintmax_t{1} << 40);
  EXPECT_EQ(load_symbols(path("huge")).status().code(), StatusCode::kCorruptFile);
}

}  // namespace
}  // namespace flashomni
