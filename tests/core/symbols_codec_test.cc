// SPDX-License-Identifier: Apache-2.0
//
// The flat, index-list and mask codecs: worked bytes, round trips, the published bit formula, and
// one refusal for every way in which input can be malformed.
#include <gtest/gtest.h>

#include <functional>

#include "flashomni/symbols.h"
#include "tests/core/symbols_samples.h"

namespace flashomni {
namespace {

constexpr int kTrials = 60;

void expect_refused(const Result<SparseSymbols>& result, const std::string& reason) {
  ASSERT_FALSE(result.ok()) << "wanted: " << reason;
  EXPECT_EQ(result.status().code(), StatusCode::kInvalidArgument);
  EXPECT_NE(result.status().message().find(reason), std::string::npos) << result.status().message();
}

// The bytes of docs/symbols_format.md, worked out by hand from the published formulas.
TEST(SymbolsCodec, WorkedExample) {
  const SparseSymbols a = worked_example();
  const FlatSymbols flat = to_flat(a);
  EXPECT_EQ(flat.c, (std::vector<uint8_t>{0x1b}));
  EXPECT_EQ(flat.s, (std::vector<uint8_t>{0x23, 0x02, 0xf7, 0x01}));
  EXPECT_EQ(flat.c_offsets, (std::vector<int64_t>{0, 1}));
  EXPECT_EQ(flat.s_offsets, (std::vector<int64_t>{0, 4}));

  const IndexListSymbols lists = to_index_lists(a);
  EXPECT_EQ(lists.row_offsets, (std::vector<int32_t>{0, 2, 2, 7, 9, 12, 12}));
  EXPECT_EQ(lists.columns, (std::vector<int32_t>{0, 1, 0, 1, 2, 3, 4, 0, 4, 1, 2, 3}));

  const MaskSymbols masks = to_masks(a);
  EXPECT_EQ(masks.c, (std::vector<uint8_t>{1, 0, 1, 1, 1, 0}));
  EXPECT_EQ(masks.s, (std::vector<uint8_t>{1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1,
                                           1, 0, 0, 0, 1, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0}));

  EXPECT_EQ(from_flat(worked_geometry(), flat).value(), a);
  EXPECT_EQ(from_index_lists(worked_geometry(), lists).value(), a);
  EXPECT_EQ(from_masks(worked_geometry(), masks).value(), a);
}

TEST(SymbolsCodec, RoundTripsOverRandomGeometries) {
  Rng rng(1);
  for (int trial = 0; trial < kTrials; ++trial) {
    const SymbolGeometry g = random_geometry(rng);
    const SparseSymbols a = random_symbols(rng, g);
    ASSERT_EQ(from_flat(g, to_flat(a)).value(), a) << describe(g);
    ASSERT_EQ(from_index_lists(g, to_index_lists(a)).value(), a) << describe(g);
    ASSERT_EQ(from_masks(g, to_masks(a)).value(), a) << describe(g);
  }
}

// A cached row may carry S_s bits; the flat layout and the masks keep them, index lists cannot.
TEST(SymbolsCodec, BitsOfCachedRows) {
  SparseSymbols a = worked_example();
  a.set_s(0, 0, 1, 3, true);
  EXPECT_EQ(from_flat(worked_geometry(), to_flat(a)).value(), a);
  EXPECT_EQ(from_masks(worked_geometry(), to_masks(a)).value(), a);
  EXPECT_EQ(from_index_lists(worked_geometry(), to_index_lists(a)).value(), worked_example());
}

TEST(SymbolsCodec, FlatBitsFollowThePublishedFormula) {
  Rng rng(2);
  for (int trial = 0; trial < kTrials; ++trial) {
    const SymbolGeometry g = random_geometry(rng);
    const SparseSymbols a = random_symbols(rng, g);
    const FlatSymbols flat = to_flat(a);
    ASSERT_EQ(flat.c_offsets.back(), int64_t(flat.c.size()));
    ASSERT_EQ(flat.s_offsets.back(), int64_t(flat.s.size()));
    const auto bit = [](const std::vector<uint8_t>& bytes, int64_t segment, int64_t p) {
      return (bytes[static_cast<size_t>(segment + (p >> 3))] >> (p & 7) & 1) != 0;
    };
    for (int b = 0; b < g.batch; ++b) {
      const int64_t c_segment = flat.c_offsets[static_cast<size_t>(b)];
      const int64_t s_segment = flat.s_offsets[static_cast<size_t>(b)];
      for (int h = 0; h < g.heads; ++h) {
        for (int i = 0; i < g.num_q_blocks(); ++i) {
          const int64_t row = int64_t{i} * g.heads + h;
          ASSERT_EQ(bit(flat.c, c_segment, row), a.c(b, h, i)) << describe(g);
          for (int j = 0; j < g.num_kv_blocks(); ++j) {
            ASSERT_EQ(bit(flat.s, s_segment, row * g.num_kv_blocks() + j), a.s(b, h, i, j))
                << describe(g);
          }
        }
      }
    }
  }
}

TEST(SymbolsCodec, EveryDecoderRefusesABadGeometry) {
  SymbolGeometry g = worked_geometry();
  const SparseSymbols a = worked_example();
  g.heads = 0;
  expect_refused(from_flat(g, to_flat(a)), "heads is 0");
  expect_refused(from_index_lists(g, to_index_lists(a)), "heads is 0");
  expect_refused(from_masks(g, to_masks(a)), "heads is 0");
}

TEST(SymbolsCodec, FlatRefusesMalformedInput) {
  const auto refused = [](const std::function<void(FlatSymbols&)>& change,
                          const std::string& reason) {
    FlatSymbols flat = to_flat(worked_example());
    change(flat);
    expect_refused(from_flat(worked_geometry(), flat), reason);
  };
  refused([](auto& f) { f.c.push_back(0); }, "c has 2 entries, wanted 1");
  refused([](auto& f) { f.c.clear(); }, "c has 0 entries, wanted 1");
  refused([](auto& f) { f.s.pop_back(); }, "s has 3 entries, wanted 4");
  refused([](auto& f) { f.c_offsets.pop_back(); }, "c_offsets has 1 entries, wanted 2");
  refused([](auto& f) { f.s_offsets.clear(); }, "s_offsets has 0 entries, wanted 2");
  refused([](auto& f) { f.c_offsets[0] = -1; }, "c_offsets[0] is -1, wanted 0");
  refused([](auto& f) { f.s_offsets[1] = INT64_MAX; }, "s_offsets[1] is 9223372036854775807");
  refused([](auto& f) { f.c[0] |= 0x40; }, "c of batch item 0 ends in byte 91");
  refused([](auto& f) { f.s[3] |= 0x80; }, "s of batch item 0 ends in byte 129");
  // Bits 5 and 9 are all of row (i=0, h=1).
  refused([](auto& f) { f.s[0] &= 0xdf, f.s[1] = 0; }, "row (b=0, h=1, i=0) is computed but");
}

TEST(SymbolsCodec, IndexListsRefuseMalformedInput) {
  const auto refused = [](const std::function<void(IndexListSymbols&)>& change,
                          const std::string& reason) {
    IndexListSymbols lists = to_index_lists(worked_example());
    change(lists);
    expect_refused(from_index_lists(worked_geometry(), lists), reason);
  };
  refused([](auto& l) { l.row_offsets.pop_back(); }, "row_offsets has 6 entries, wanted 7");
  refused([](auto& l) { l.row_offsets.clear(); }, "row_offsets has 0 entries, wanted 7");
  refused([](auto& l) { l.row_offsets[0] = 1; }, "run from 1 to 12, wanted 0 to 12");
  refused([](auto& l) { l.columns.pop_back(); }, "run from 0 to 12, wanted 0 to 11");
  refused([](auto& l) { l.row_offsets[2] = 1; }, "row 1 is [2, 1)");
  refused([](auto& l) { l.row_offsets[2] = 1000; }, "row 1 is [2, 1000)");
  refused([](auto& l) { l.row_offsets[2] = -1; }, "row 1 is [2, -1)");
  refused([](auto& l) { l.columns[1] = 5; }, "columns[1] is 5 after 0");
  refused([](auto& l) { l.columns[0] = -1; }, "columns[0] is -1");
  refused([](auto& l) { std::swap(l.columns[0], l.columns[1]); }, "columns[1] is 0 after 1");
  refused([](auto& l) { l.columns[1] = 0; }, "columns[1] is 0 after 0");
}

TEST(SymbolsCodec, MasksRefuseMalformedInput) {
  const auto refused = [](const std::function<void(MaskSymbols&)>& change,
                          const std::string& reason) {
    MaskSymbols masks = to_masks(worked_example());
    change(masks);
    expect_refused(from_masks(worked_geometry(), masks), reason);
  };
  refused([](auto& m) { m.c.push_back(1); }, "c has 7 entries, wanted 6");
  refused([](auto& m) { m.s.clear(); }, "s has 0 entries, wanted 30");
  refused([](auto& m) { m.c[2] = 255; }, "c[2] is 255, wanted 0 or 1");
  refused([](auto& m) { m.s[29] = 2; }, "s[29] is 2, wanted 0 or 1");
  refused([](auto& m) { m.s[0] = m.s[1] = 0; }, "row (b=0, h=0, i=0) is computed but");
}

}  // namespace
}  // namespace flashomni
