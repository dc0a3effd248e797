// SPDX-License-Identifier: Apache-2.0
//
// Symbols for people: one head as text or as a picture. A row is a query block, a column a kv
// block.
#include <algorithm>
#include <array>
#include <cassert>

#include "flashomni/symbols.h"

namespace flashomni {
namespace {

enum class Cell : uint8_t { kComputed, kSkipped, kCached };

Cell cell_at(const SparseSymbols& a, int b, int h, int i, int j) {
  if (a.cached(b, h, i)) return Cell::kCached;
  return a.s(b, h, i, j) ? Cell::kComputed : Cell::kSkipped;
}

// Blue, near white and orange: told apart by every common kind of colour vision, and in grey.
constexpr std::array<uint8_t, 3> kColours[] = {{31, 78, 121}, {240, 240, 240}, {240, 160, 60}};
constexpr char kLetters[] = {'#', '.', '-'};

}  // namespace

std::string symbols_ascii(const SparseSymbols& a, int b, int h) {
  const int nq = a.geometry().num_q_blocks();
  const int nkv = a.geometry().num_kv_blocks();
  std::string text;
  text.reserve((static_cast<size_t>(nkv) + 1) * static_cast<size_t>(nq));
  for (int i = 0; i < nq; ++i) {
    for (int j = 0; j < nkv; ++j) text += kLetters[static_cast<int>(cell_at(a, b, h, i, j))];
    text += '\n';
  }
  return text;
}

SymbolsPicture symbols_picture(const SparseSymbols& a, int b, int h, int cell) {
  assert(cell >= 1);
  const int nq = a.geometry().num_q_blocks();
  const int nkv = a.geometry().num_kv_blocks();
  SymbolsPicture picture;
  picture.width = nkv * cell;
  picture.height = nq * cell;
  const size_t line_bytes = size_t{3} * static_cast<size_t>(picture.width);
  picture.rgb.resize(line_bytes * static_cast<size_t>(picture.height));
  uint8_t* out = picture.rgb.data();
  for (int i = 0; i < nq; ++i) {
    const uint8_t* line = out;
    for (int j = 0; j < nkv; ++j) {
      const auto& colour = kColours[static_cast<int>(cell_at(a, b, h, i, j))];
      for (int x = 0; x < cell; ++x) out = std::ranges::copy(colour, out).out;
    }
    for (int y = 1; y < cell; ++y) out = std::copy_n(line, line_bytes, out);
  }
  return picture;
}

}  // namespace flashomni
