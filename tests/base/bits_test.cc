// SPDX-License-Identifier: Apache-2.0
//
// The word-parallel bit helpers against one-bit-at-a-time loops.
#include "base/bits.h"

#include <gtest/gtest.h>

#include <vector>

#include "base/rng.h"

namespace flashomni {
namespace {

std::vector<uint64_t> random_words(Rng& rng, int words, double density) {
  std::vector<uint64_t> out(static_cast<size_t>(words), 0);
  for (int k = 0; k < words * kWordBits; ++k) set_bit(out.data(), k, rng.coin(density));
  return out;
}

TEST(Bits, MasksAtWordEdges) {
  EXPECT_EQ(low_mask(0), 0u);
  EXPECT_EQ(low_mask(1), 1u);
  EXPECT_EQ(low_mask(63), 0x7fffffffffffffffull);
  EXPECT_EQ(low_mask(64), ~uint64_t{0});
  EXPECT_EQ(tail_mask(1), 1u);
  EXPECT_EQ(tail_mask(64), ~uint64_t{0});
  EXPECT_EQ(tail_mask(65), 1u);
  EXPECT_EQ(words_for_bits(0), 0);
  EXPECT_EQ(words_for_bits(64), 1);
  EXPECT_EQ(words_for_bits(65), 2);
}

TEST(Bits, SetLeavesOtherBitsAlone) {
  std::vector<uint64_t> words(3, 0);
  set_bit(words.data(), 64, true);
  EXPECT_EQ(words, (std::vector<uint64_t>{0, 1, 0}));
  words.assign(3, ~uint64_t{0});
  set_bit(words.data(), 191, false);
  EXPECT_EQ(words, (std::vector<uint64_t>{~uint64_t{0}, ~uint64_t{0}, ~uint64_t{0} >> 1}));
}

// Every range of a three-word sequence, at densities that leave some words empty.
TEST(Bits, CountAndNextMatchTheirDefinition) {
  Rng rng(1);
  for (const double density : {0.0, 0.01, 0.5, 1.0}) {
    const std::vector<uint64_t> words = random_words(rng, 3, density);
    for (int begin = 0; begin <= 192; ++begin) {
      int count = 0;
      int first = -1;
      for (int end = begin; end <= 192; ++end) {
        ASSERT_EQ(count_bits(words.data(), begin, end), count) << begin << " " << end;
        ASSERT_EQ(next_bit(words.data(), begin, end), first < 0 ? end : first)
            << begin << " " << end;
        if (end == 192 || !get_bit(words.data(), end)) continue;
        ++count;
        if (first < 0) first = end;
      }
    }
  }
}

TEST(Bits, ForEachVisitsSetBitsAscendingUpToTheEnd) {
  Rng rng(2);
  const std::vector<uint64_t> words = random_words(rng, 3, 0.3);
  for (int bits = 0; bits <= 192; ++bits) {
    std::vector<int64_t> wanted;
    for (int k = 0; k < bits; ++k) {
      if (get_bit(words.data(), k)) wanted.push_back(k);
    }
    std::vector<int64_t> seen;
    for_each_bit(words.data(), bits, [&](int64_t k) { seen.push_back(k); });
    ASSERT_EQ(seen, wanted) << bits;
  }
}

}  // namespace
}  // namespace flashomni
