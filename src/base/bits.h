// SPDX-License-Identifier: Apache-2.0
//
// Bit sequences in 64-bit words: bit k is bit k%64 of word k/64. The symbols, their codecs, the
// plan and the host side of every backend read and write bits through these few functions only.
#pragma once

#include <bit>
#include <cstdint>

namespace flashomni {

inline constexpr int kWordBits = 64;

// Words that hold `bits` bits.
constexpr int64_t words_for_bits(int64_t bits) {
  return (bits + kWordBits - 1) / kWordBits;
}

// The lowest n bits set. REQUIRES: 0 <= n <= 64.
constexpr uint64_t low_mask(int n) {
  return n == 0 ? 0 : ~uint64_t{0} >> (kWordBits - n);
}

// The bits in use of the last word of a sequence of `bits` bits. REQUIRES: bits > 0.
constexpr uint64_t tail_mask(int64_t bits) {
  return low_mask(static_cast<int>((bits - 1) % kWordBits) + 1);
}

constexpr bool get_bit(const uint64_t* words, int64_t k) {
  return (words[k / kWordBits] >> (k % kWordBits)) & 1;
}

constexpr void set_bit(uint64_t* words, int64_t k, bool on) {
  const uint64_t bit = uint64_t{1} << (k % kWordBits);
  uint64_t& word = words[k / kWordBits];
  word = on ? word | bit : word & ~bit;
}

// Set bits in [begin, end).
constexpr int64_t count_bits(const uint64_t* words, int64_t begin, int64_t end) {
  if (begin >= end) return 0;
  const int64_t first = begin / kWordBits;
  const int64_t last = (end - 1) / kWordBits;
  const uint64_t head = ~low_mask(static_cast<int>(begin % kWordBits));
  if (first == last) return std::popcount(words[first] & head & tail_mask(end));
  int64_t count = std::popcount(words[first] & head) + std::popcount(words[last] & tail_mask(end));
  for (int64_t w = first + 1; w < last; ++w) count += std::popcount(words[w]);
  return count;
}

// The first set bit in [begin, end), or `end` when there is none.
constexpr int64_t next_bit(const uint64_t* words, int64_t begin, int64_t end) {
  if (begin >= end) return end;
  int64_t w = begin / kWordBits;
  uint64_t word = words[w] & ~low_mask(static_cast<int>(begin % kWordBits));
  for (const int64_t last = (end - 1) / kWordBits; word == 0;) {
    if (w == last) return end;
    word = words[++w];
  }
  const int64_t k = w * kWordBits + std::countr_zero(word);
  return k < end ? k : end;
}

// Calls f(k) for every set bit of [0, bits), ascending.
template <class F>
constexpr void for_each_bit(const uint64_t* words, int64_t bits, F&& f) {
  for (int64_t k = 0; k < bits; k += kWordBits) {
    uint64_t word = words[k / kWordBits];
    if (bits - k < kWordBits) word &= tail_mask(bits);
    for (; word != 0; word &= word - 1) f(k + std::countr_zero(word));
  }
}

}  // namespace flashomni
