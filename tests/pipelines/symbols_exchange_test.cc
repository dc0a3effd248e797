// SPDX-License-Identifier: Apache-2.0
//
// Symbols in other kernels' forms, against the worked example of docs/symbols_format.md, and every
// way in which such a file can be wrong.
#include "pipelines/symbols_exchange.h"

#include <gtest/gtest.h>

#include <cstring>

#include "io/npz.h"
#include "io/safetensors.h"
#include "tests/testkit/temp_dir.h"

namespace flashomni {
namespace {

// H = 2, nQ = 3, nKV = 5; head 0 row 1 and head 1 row 2 are cached.
SparseSymbols worked_example() {
  SparseSymbols s({1, 2, 150, 300, 64, 64});
  const char* rows[2][3] = {{"##...", "-----", "#####"}, {"#...#", ".###.", "-----"}};
  for (int h = 0; h < 2; ++h) {
    for (int i = 0; i < 3; ++i) {
      if (rows[h][i][0] == '-') s.set_c(0, h, i, false);
      for (int j = 0; j < 5; ++j) s.set_s(0, h, i, j, rows[h][i][j] == '#');
    }
  }
  return s;
}

class Exchange : public ::testing::Test {
 protected:
  struct Tensor {
    std::string name;
    StoredDType dtype;
    std::vector<int64_t> shape;
    std::vector<int64_t> values;
  };
  std::string path(const std::string& name = "x.safetensors") const { return folder_ / name; }

  static std::vector<uint8_t> bytes_of(const Tensor& t) {
    const auto size = static_cast<size_t>(stored_dtype_bits(t.dtype)) / 8;
    std::vector<uint8_t> out;
    for (const int64_t v : t.values) {
      for (size_t k = 0; k < size; ++k) out.push_back(static_cast<uint8_t>(v >> 8 * k));
    }
    return out;
  }
  void write(const std::vector<Tensor>& tensors,
             const std::map<std::string, std::string>& metadata = {}) const {
    std::vector<std::vector<uint8_t>> bytes;
    std::vector<TensorToWrite> list;
    for (const Tensor& t : tensors) bytes.push_back(bytes_of(t));
    for (size_t i = 0; i < tensors.size(); ++i) {
      list.push_back({tensors[i].name, tensors[i].dtype, tensors[i].shape, bytes[i]});
    }
    const Status s = write_safetensors(path(), list, metadata);
    ASSERT_TRUE(s.ok()) << s.to_string();
  }
  std::vector<int64_t> read(const std::string& name) const {
    auto file = SafetensorsFile::open(path());
    EXPECT_TRUE(file.ok()) << file.status().to_string();
    const TensorEntry* e = file->find(name);
    EXPECT_NE(e, nullptr) << name;
    std::vector<int64_t> out;
    if (!e) return out;
    const std::vector<uint8_t> bytes = *read_tensor(*e);
    const size_t size = static_cast<size_t>(stored_dtype_bits(e->dtype)) / 8;
    for (size_t at = 0; at < bytes.size(); at += size) {
      int32_t v = 0;
      std::memcpy(&v, bytes.data() + at, size);
      out.push_back(v);
    }
    return out;
  }
  void refuses(const std::string& what, const SymbolsHints& hints = {}) const {
    const Status s = import_symbols(path(), hints).status();
    EXPECT_FALSE(s.ok()) << what;
    EXPECT_NE(s.message().find(what), std::string::npos) << s.message();
    EXPECT_EQ(s.message().rfind(path(), 0), 0u) << s.message();
  }

  testkit::TempDir folder_;
};

const std::map<std::string, std::string> kBlocks = {{"block_q", "64"}, {"block_kv", "64"}};
constexpr StoredDType kI32 = StoredDType::kI32;
constexpr StoredDType kU8 = StoredDType::kU8;

TEST_F(Exchange, EveryFormatComesBack) {
  const SparseSymbols symbols = worked_example();
  for (const std::string& name : symbols_format_names()) {
    const SymbolsFormat format = *symbols_format(name);
    ASSERT_TRUE(export_symbols(symbols, format, path()).ok()) << name;
    auto back = import_symbols(path());
    ASSERT_TRUE(back.ok()) << name << ": " << back.status().to_string();
    EXPECT_EQ(back->symbols, symbols) << name;
    EXPECT_EQ(back->format, format) << name;
  }
  EXPECT_FALSE(symbols_format("csr").ok());
}

TEST_F(Exchange, EveryFormatComesBackFromNpz) {
  const SparseSymbols symbols = worked_example();
  for (const char* name : {"mask", "bsr", "flex", "fa4"}) {
    const std::string file = path("x.npz");
    ASSERT_TRUE(export_symbols(symbols, *symbols_format(name), file).ok()) << name;
    EXPECT_TRUE(is_npz(file));
    auto back = import_symbols(file);
    ASSERT_TRUE(back.ok()) << name << ": " << back.status().to_string();
    EXPECT_EQ(back->symbols, symbols) << name;
    EXPECT_EQ(symbols_format_name(back->format), std::string(name));
  }
}

// Files that NumPy itself wrote: numpy.savez(indptr=..., indices=..., M=150, N=300, R=64, C=64,
// heads=2) and numpy.savez_compressed(mask=...).
TEST_F(Exchange, FilesOfNumPy) {
  const std::string data = std::string(FO_SOURCE_DIR) + "/tests/io/data/";
  auto bsr = import_symbols(data + "flashinfer_bsr.npz");
  ASSERT_TRUE(bsr.ok()) << bsr.status().to_string();
  EXPECT_EQ(bsr->symbols, worked_example());
  EXPECT_EQ(bsr->format, SymbolsFormat::kBsr);
  auto mask = import_symbols(data + "sparge_mask.npz",
                             {.block_q = 64, .block_kv = 64, .q_tokens = 150, .kv_tokens = 300});
  ASSERT_TRUE(mask.ok()) << mask.status().to_string();
  EXPECT_EQ(mask->symbols, worked_example());
  EXPECT_NE(import_symbols(data + "sparge_mask.npz").status().message().find("say block_q"),
            std::string::npos);
}

TEST_F(Exchange, ArraysOfOtherTypesAreRefusedByName) {
  const std::vector<uint8_t> letters(8, 'a');
  ASSERT_TRUE(write_npz(path("x.npz"),
                        std::vector<TensorToWrite>{{"mask", StoredDType::kF32, {1, 2}, letters}})
                  .ok());
  const Status s = import_symbols(path("x.npz"), {.block_q = 64, .block_kv = 64}).status();
  EXPECT_NE(s.message().find("'mask' F32[1,2], wanted bool or whole numbers"), std::string::npos)
      << s.message();
}

TEST_F(Exchange, BsrOfTheWorkedExample) {
  ASSERT_TRUE(export_symbols(worked_example(), SymbolsFormat::kBsr, path()).ok());
  EXPECT_EQ(read("indptr"), (std::vector<int64_t>{0, 2, 2, 7, 9, 12, 12}));
  EXPECT_EQ(read("indices"), (std::vector<int64_t>{0, 1, 0, 1, 2, 3, 4, 0, 4, 1, 2, 3}));
}

TEST_F(Exchange, BlockListsOfTheWorkedExample) {
  const std::vector<int64_t> index = {0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4,
                                      0, 4, 0, 0, 0, 1, 2, 3, 0, 0, 0, 0, 0, 0, 0};
  const std::vector<int64_t> counts = {2, 0, 5, 2, 3, 0};
  ASSERT_TRUE(export_symbols(worked_example(), SymbolsFormat::kFlex, path()).ok());
  EXPECT_EQ(read("full_kv_num_blocks"), counts);
  EXPECT_EQ(read("full_kv_indices"), index);
  EXPECT_EQ(read("kv_num_blocks"), std::vector<int64_t>(6, 0));
  ASSERT_TRUE(export_symbols(worked_example(), SymbolsFormat::kFa4, path()).ok());
  EXPECT_EQ(read("full_block_cnt"), counts);
  EXPECT_EQ(read("full_block_idx"), index);
}

TEST_F(Exchange, MasksOfTheWorkedExample) {
  // Bits under a cached row must not reach a kernel that knows no S_c.
  SparseSymbols symbols = worked_example();
  symbols.set_s(0, 0, 1, 3, true);
  ASSERT_TRUE(export_symbols(symbols, SymbolsFormat::kMask, path()).ok());
  EXPECT_EQ(read("compute"), (std::vector<int64_t>{1, 0, 1, 1, 1, 0}));
  EXPECT_EQ(read("mask"), (std::vector<int64_t>{1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1,
                                                1, 0, 0, 0, 1, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0}));
}

// As a SpargeAttn user would save it: [H, nQ, nKV], nothing else; 128 x 64 blocks by hint.
TEST_F(Exchange, AForeignMaskNeedsItsBlockSizes) {
  write({{"mask", kU8, {1, 2, 3}, {1, 0, 1, 0, 0, 0}}});
  refuses("does not say block_q");
  auto got = import_symbols(path(), {.block_q = 128, .block_kv = 64});
  ASSERT_TRUE(got.ok()) << got.status().to_string();
  EXPECT_EQ(got->symbols.geometry(), (SymbolGeometry{1, 1, 256, 192, 128, 64}));
  EXPECT_TRUE(got->symbols.s(0, 0, 0, 2));
  EXPECT_TRUE(got->symbols.cached(0, 0, 1));
  ASSERT_EQ(got->notes.size(), 1u);
  EXPECT_NE(got->notes[0].find("1 of 2 rows"), std::string::npos);

  // One pattern for all heads; the last blocks are ragged.
  auto spread = import_symbols(
      path(), {.block_q = 128, .block_kv = 64, .q_tokens = 200, .kv_tokens = 129, .heads = 3});
  ASSERT_TRUE(spread.ok()) << spread.status().to_string();
  EXPECT_EQ(spread->symbols.geometry(), (SymbolGeometry{1, 3, 200, 129, 128, 64}));
  EXPECT_EQ(spread->symbols.counts(0, 2).active_pairs, 2);
  refuses("2 query blocks, 100 tokens in blocks of 128 are 1",
          {.block_q = 128, .block_kv = 64, .q_tokens = 100});
}

TEST_F(Exchange, SharedBsrServesAllHeads) {
  write({{"indptr", kI32, {3}, {0, 1, 3}}, {"indices", StoredDType::kI64, {3}, {1, 1, 0}}},
        {{"M", "128"}, {"N", "100"}, {"R", "64"}, {"C", "64"}, {"heads", "2"}});
  auto got = import_symbols(path());
  ASSERT_TRUE(got.ok()) << got.status().to_string();
  EXPECT_EQ(got->symbols.geometry(), (SymbolGeometry{1, 2, 128, 100, 64, 64}));
  EXPECT_EQ(symbols_ascii(got->symbols, 0, 1), ".#\n##\n");
}

TEST_F(Exchange, PartialBlocksAreTakenWholeAndSaidSo) {
  write({{"kv_num_blocks", kI32, {1, 1, 2}, {1, 0}},
         {"kv_indices", kI32, {1, 1, 2, 2}, {1, 0, 0, 0}},
         {"full_kv_num_blocks", kI32, {1, 1, 2}, {1, 1}},
         {"full_kv_indices", kI32, {1, 1, 2, 2}, {0, 0, 1, 0}}},
        kBlocks);
  auto got = import_symbols(path());
  ASSERT_TRUE(got.ok()) << got.status().to_string();
  EXPECT_EQ(symbols_ascii(got->symbols, 0, 0), "##\n.#\n");
  ASSERT_EQ(got->notes.size(), 1u);
  EXPECT_EQ(got->notes[0].rfind("1 blocks are partial", 0), 0u) << got->notes[0];
}

TEST_F(Exchange, MalformedFilesAreRefusedByName) {
  write({{"weights", StoredDType::kF32, {1}, {0}}});
  refuses("holds no symbols");
  write({{"mask", kU8, {1, 2}, {1, 2}}}, kBlocks);
  refuses("mask[1] is 2, wanted 0 or 1");
  write({{"mask", StoredDType::kF32, {1, 1}, {0}}}, kBlocks);
  refuses("wanted bool or whole numbers");
  write({{"mask", kU8, {2}, {1, 1}}}, kBlocks);
  refuses("axes, wanted 2 to 4");
  write({{"mask", kU8, {0, 0}, {}}}, kBlocks);
  EXPECT_FALSE(import_symbols(path()).ok());
  write({{"mask", kU8, {1, 2}, {1, 1}}}, {{"block_q", "64"}, {"block_kv", "many"}});
  refuses("block_kv is 'many'");
  write({{"mask", kU8, {1, 2}, {1, 1}}}, {{"block_q", "64"}, {"block_kv", "48"}});
  refuses("48");
  write({{"mask", kU8, {1, 1, 1, 2}, {0, 0}}, {"compute", kU8, {1, 1, 1}, {1}}}, kBlocks);
  refuses("row [0,0,0] is computed but has no block");
  write({{"mask", kU8, {1, 1, 1, 2}, {0, 1}}, {"compute", kU8, {1, 1, 2}, {1, 1}}}, kBlocks);
  refuses("'compute' has another shape");
  write({{"mask", kU8, {1, 2}, {1, 1}}},
        {{"block_q", "64"}, {"block_kv", "64"}, {"flashomni_symbols", "2"}});
  refuses("version of the symbols is '2'");

  const auto bsr = [&](const std::vector<int64_t>& indptr, const std::vector<int64_t>& indices) {
    write({{"indptr", kI32, {int64_t(indptr.size())}, indptr},
           {"indices", kI32, {int64_t(indices.size())}, indices}},
          {{"M", "128"}, {"N", "128"}, {"R", "64"}, {"C", "64"}});
  };
  bsr({0, 1}, {0});
  refuses("has 1 rows, wanted 2");
  bsr({0, 1, 3}, {0, 1});
  refuses("indptr runs from 0 to 3, wanted 0 to 2");
  bsr({0, 9, 2}, {0, 1});
  refuses("row 0 is [0, 9)");
  bsr({0, 1, 2}, {0, 2});
  refuses("row [0,0,1] names block 2, wanted 0 to 1");
  bsr({0, 2, 2}, {-1, 1});
  refuses("names block -1");
  bsr({0, 2, 2}, {1, 1});
  refuses("names block 1 twice");
  write({{"indptr", kI32, {2}, {0, 0}}}, kBlocks);
  refuses("has no tensor 'indices'");
  write({{"indptr", kI32, {2}, {0, 1}}, {"indices", kI32, {1}, {0}}}, kBlocks);
  refuses("does not say kv_tokens");

  write({{"kv_num_blocks", kI32, {1, 1, 1}, {3}}, {"kv_indices", kI32, {1, 1, 1, 2}, {0, 1}}},
        kBlocks);
  refuses("row [0,0,0] has 3 blocks, wanted 0 to 2");
  write({{"kv_num_blocks", kI32, {1, 1, 2}, {1, 1}}, {"kv_indices", kI32, {1, 1, 1, 2}, {0, 1}}},
        kBlocks);
  refuses("differ in their first three axes");
  write({{"mask_block_cnt", kI32, {1, 1, 1}, {1}},
         {"mask_block_idx", kI32, {1, 1, 1, 2}, {0, 1}},
         {"full_block_cnt", kI32, {1, 1, 1}, {1}},
         {"full_block_idx", kI32, {1, 1, 1, 2}, {0, 1}}},
        kBlocks);
  refuses("names block 0 twice");
  write({{"mask_block_cnt", kI32, {1, 1, 1}, {1}}}, kBlocks);
  refuses("has no tensor 'mask_block_idx'");
  write(
      {{"mask_block_cnt", kI32, {1, 2, 1}, {1, 1}}, {"mask_block_idx", kI32, {1, 2, 1, 1}, {0, 0}}},
      kBlocks);
  refuses("has 2 heads, wanted 3", {.heads = 3});
}

}  // namespace
}  // namespace flashomni
