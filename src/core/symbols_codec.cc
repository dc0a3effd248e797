// SPDX-License-Identifier: Apache-2.0
//
// Between SparseSymbols and the forms that other programs use: the published flat layout, index
// lists and dense masks. docs/symbols_format.md shows each with the same worked example. Decoders
// check every size before they allocate, and hand out nothing that validate() would refuse.
#include <algorithm>
#include <string>

#include "core/symbols_view.h"

namespace flashomni {
namespace {

// Symbols of which nothing is computed; the decoders set bits.
SparseSymbols all_zero(const SymbolGeometry& geometry) {
  SparseSymbols out(geometry);
  std::ranges::fill(out.c_words(), 0);
  std::ranges::fill(out.s_words(), 0);
  return out;
}

// What a decoder returns: `a` if it is valid.
Result<SparseSymbols> checked(SparseSymbols a) {
  FO_RETURN_IF_ERROR(a.validate());
  return a;
}

// Whether a decoder can give this geometry.
Status check_decodable(const char* form, const SymbolGeometry& g) {
  FO_RETURN_IF_ERROR(g.validate());
  if (!g.ragged()) return ok_status();
  return unsupported(std::string(form) +
                     ": do not say where ragged blocks start, wanted blocks of one size");
}

Status size_mismatch(const std::string& what, size_t seen, int64_t wanted) {
  return invalid_argument(what + " has " + std::to_string(seen) + " entries, wanted " +
                          std::to_string(wanted));
}

Status check_size(const char* what, size_t seen, int64_t wanted) {
  if (seen == static_cast<size_t>(wanted)) return ok_status();
  return size_mismatch(what, seen, wanted);
}

// ---- bit streams in bytes, least significant bit first

// Sets bits [pos, pos + n) to the lowest n bits of `value`. REQUIRES: they are zero, n <= 64.
void put_bits(uint8_t* bytes, int64_t pos, uint64_t value, int n) {
  value &= low_mask(n);
  while (n > 0) {
    const int shift = static_cast<int>(pos % 8);
    const int taken = std::min(n, 8 - shift);
    bytes[pos / 8] = static_cast<uint8_t>(bytes[pos / 8] | value << shift);
    value >>= taken;
    pos += taken;
    n -= taken;
  }
}

// Bits [pos, pos + n). REQUIRES: n <= 64.
uint64_t get_bits(const uint8_t* bytes, int64_t pos, int n) {
  uint64_t value = 0;
  for (int got = 0; got < n;) {
    const int shift = static_cast<int>((pos + got) % 8);
    value |= static_cast<uint64_t>(bytes[(pos + got) / 8] >> shift) << got;
    got += 8 - shift;
  }
  return value & low_mask(n);
}

// Calls f(w, pos, n) for every word w of a row of `bits` bits that starts at stream position `pos`.
template <class F>
void for_each_word(int64_t pos, int bits, F&& f) {
  for (int k = 0; k < bits; k += kWordBits) {
    f(k / kWordBits, pos + k, std::min(bits - k, kWordBits));
  }
}

// Checks one of the two streams of a FlatSymbols: `batch` segments of `bits` bits each, in whole
// bytes, the unused bits of the last byte zero.
Status check_segments(const std::string& name, const std::vector<uint8_t>& bytes,
                      const std::vector<int64_t>& offsets, int batch, int64_t bits) {
  const int64_t segment = (bits + 7) / 8;
  if (offsets.size() != static_cast<size_t>(batch) + 1) {
    return size_mismatch(name + "_offsets", offsets.size(), batch + 1);
  }
  for (int b = 0; b <= batch; ++b) {
    const int64_t offset = offsets[static_cast<size_t>(b)];
    if (offset == b * segment) continue;
    return invalid_argument(name + "_offsets[" + std::to_string(b) + "] is " +
                            std::to_string(offset) + ", wanted " + std::to_string(b * segment));
  }
  if (bytes.size() != static_cast<size_t>(batch * segment)) {
    return size_mismatch(name, bytes.size(), batch * segment);
  }
  const int used = static_cast<int>((bits - 1) % 8) + 1;
  for (int b = 0; b < batch; ++b) {
    const uint8_t last = bytes[static_cast<size_t>((b + 1) * segment - 1)];
    if (last >> used == 0) continue;
    return invalid_argument(name + " of batch item " + std::to_string(b) + " ends in byte " +
                            std::to_string(last) + ", wanted zero above its lowest " +
                            std::to_string(used) + " bits");
  }
  return ok_status();
}

}  // namespace

FlatSymbols to_flat(const SparseSymbols& a) {
  const SymbolGeometry& g = a.geometry();
  const ConstSymbolsView from(a);
  const int nq = g.num_q_blocks();
  const int nkv = g.num_kv_blocks();
  const int64_t c_segment = (int64_t{nq} * g.heads + 7) / 8;
  const int64_t s_segment = (int64_t{nq} * g.heads * nkv + 7) / 8;
  FlatSymbols flat;
  flat.c.resize(static_cast<size_t>(g.batch * c_segment));
  flat.s.resize(static_cast<size_t>(g.batch * s_segment));
  for (int b = 0; b <= g.batch; ++b) {
    flat.c_offsets.push_back(b * c_segment);
    flat.s_offsets.push_back(b * s_segment);
  }
  for (int b = 0; b < g.batch; ++b) {
    uint8_t* c = flat.c.data() + b * c_segment;
    uint8_t* s = flat.s.data() + b * s_segment;
    for (int h = 0; h < g.heads; ++h) {
      const int group = b * g.heads + h;
      for (int i = 0; i < nq; ++i) {
        const int64_t row = int64_t{i} * g.heads + h;
        put_bits(c, row, get_bit(from.c_row(group), i), 1);
        const uint64_t* words = from.s_row(group, i);
        for_each_word(row * nkv, nkv,
                      [&](int w, int64_t pos, int n) { put_bits(s, pos, words[w], n); });
      }
    }
  }
  return flat;
}

Result<SparseSymbols> from_flat(const SymbolGeometry& geometry, const FlatSymbols& flat) {
  FO_RETURN_IF_ERROR(check_decodable("flat symbols", geometry));
  const SymbolGeometry& g = geometry;
  const int nq = g.num_q_blocks();
  const int nkv = g.num_kv_blocks();
  const int64_t rows = int64_t{nq} * g.heads;
  FO_RETURN_IF_ERROR(check_segments("flat symbols: c", flat.c, flat.c_offsets, g.batch, rows));
  FO_RETURN_IF_ERROR(
      check_segments("flat symbols: s", flat.s, flat.s_offsets, g.batch, rows * nkv));
  SparseSymbols out = all_zero(g);
  uint64_t* c_row = out.c_words().data();
  uint64_t* s_row = out.s_words().data();
  for (int b = 0; b < g.batch; ++b) {
    const uint8_t* c = flat.c.data() + flat.c_offsets[static_cast<size_t>(b)];
    const uint8_t* s = flat.s.data() + flat.s_offsets[static_cast<size_t>(b)];
    for (int h = 0; h < g.heads; ++h) {
      for (int i = 0; i < nq; ++i) {
        const int64_t row = int64_t{i} * g.heads + h;
        set_bit(c_row, i, get_bits(c, row, 1) != 0);
        for_each_word(row * nkv, nkv,
                      [&](int w, int64_t pos, int n) { s_row[w] = get_bits(s, pos, n); });
        s_row += g.s_words();
      }
      c_row += g.c_words();
    }
  }
  return checked(std::move(out));
}

IndexListSymbols to_index_lists(const SparseSymbols& a) {
  const SymbolGeometry& g = a.geometry();
  const ConstSymbolsView from(a);
  const SymbolCounts counts = a.counts();
  IndexListSymbols lists;
  lists.row_offsets.reserve(static_cast<size_t>(counts.rows) + 1);
  lists.columns.reserve(static_cast<size_t>(counts.active_pairs));
  lists.row_offsets.push_back(0);
  for (int group = 0; group < from.num_groups(); ++group) {
    for (int i = 0; i < g.num_q_blocks(); ++i) {
      if (get_bit(from.c_row(group), i)) {
        for_each_bit(from.s_row(group, i), g.num_kv_blocks(),
                     [&](int64_t j) { lists.columns.push_back(static_cast<int32_t>(j)); });
      }
      lists.row_offsets.push_back(static_cast<int32_t>(lists.columns.size()));
    }
  }
  return lists;
}

Result<SparseSymbols> from_index_lists(const SymbolGeometry& geometry,
                                       const IndexListSymbols& lists) {
  FO_RETURN_IF_ERROR(check_decodable("index lists", geometry));
  const int nq = geometry.num_q_blocks();
  const int nkv = geometry.num_kv_blocks();
  const int64_t rows = int64_t{1} * geometry.batch * geometry.heads * nq;
  FO_RETURN_IF_ERROR(check_size("index lists: row_offsets", lists.row_offsets.size(), rows + 1));
  const int64_t num_columns = static_cast<int64_t>(lists.columns.size());
  if (lists.row_offsets.front() != 0 || lists.row_offsets.back() != num_columns) {
    return invalid_argument(
        "index lists: row_offsets run from " + std::to_string(lists.row_offsets.front()) + " to " +
        std::to_string(lists.row_offsets.back()) + ", wanted 0 to " + std::to_string(num_columns));
  }

  SparseSymbols out = all_zero(geometry);
  for (int64_t row = 0; row < rows; ++row) {
    const int32_t begin = lists.row_offsets[static_cast<size_t>(row)];
    const int32_t end = lists.row_offsets[static_cast<size_t>(row) + 1];
    // Checked before the row's columns are read: offsets may overshoot and come down again later.
    if (end > num_columns || end < begin) {
      return invalid_argument("index lists: row " + std::to_string(row) + " is [" +
                              std::to_string(begin) + ", " + std::to_string(end) +
                              "), wanted ascending offsets up to " + std::to_string(num_columns));
    }
    if (begin == end) continue;
    set_bit(out.c_words().data() + row / nq * geometry.c_words(), row % nq, true);
    uint64_t* s_row = out.s_words().data() + row * geometry.s_words();
    int32_t previous = -1;
    for (int32_t k = begin; k < end; ++k) {
      const int32_t j = lists.columns[static_cast<size_t>(k)];
      if (j <= previous || j >= nkv) {
        return invalid_argument("index lists: columns[" + std::to_string(k) + "] is " +
                                std::to_string(j) + " after " + std::to_string(previous) +
                                ", wanted ascending columns below " + std::to_string(nkv));
      }
      set_bit(s_row, j, true);
      previous = j;
    }
  }
  return checked(std::move(out));
}

MaskSymbols to_masks(const SparseSymbols& a) {
  const SymbolGeometry& g = a.geometry();
  const ConstSymbolsView from(a);
  const SymbolCounts counts = a.counts();
  MaskSymbols masks;
  masks.c.resize(static_cast<size_t>(counts.rows));
  masks.s.resize(static_cast<size_t>(counts.pairs));
  uint8_t* c = masks.c.data();
  uint8_t* s = masks.s.data();
  for (int group = 0; group < from.num_groups(); ++group) {
    for_each_bit(from.c_row(group), g.num_q_blocks(), [&](int64_t i) { c[i] = 1; });
    c += g.num_q_blocks();
    for (int i = 0; i < g.num_q_blocks(); ++i) {
      for_each_bit(from.s_row(group, i), g.num_kv_blocks(), [&](int64_t j) { s[j] = 1; });
      s += g.num_kv_blocks();
    }
  }
  return masks;
}

Result<SparseSymbols> from_masks(const SymbolGeometry& geometry, const MaskSymbols& masks) {
  FO_RETURN_IF_ERROR(check_decodable("masks", geometry));
  const int nq = geometry.num_q_blocks();
  const int nkv = geometry.num_kv_blocks();
  const int64_t rows = int64_t{1} * geometry.batch * geometry.heads * nq;
  FO_RETURN_IF_ERROR(check_size("masks: c", masks.c.size(), rows));
  FO_RETURN_IF_ERROR(check_size("masks: s", masks.s.size(), rows * nkv));
  for (const std::vector<uint8_t>* mask : {&masks.c, &masks.s}) {
    const auto bad = std::ranges::find_if(*mask, [](uint8_t x) { return x > 1; });
    if (bad == mask->end()) continue;
    return invalid_argument(std::string("masks: ") + (mask == &masks.c ? "c" : "s") + "[" +
                            std::to_string(bad - mask->begin()) + "] is " + std::to_string(*bad) +
                            ", wanted 0 or 1");
  }

  SparseSymbols out = all_zero(geometry);
  const uint8_t* s = masks.s.data();
  for (int64_t row = 0; row < rows; ++row) {
    set_bit(out.c_words().data() + row / nq * geometry.c_words(), row % nq,
            masks.c[static_cast<size_t>(row)] != 0);
    uint64_t* s_row = out.s_words().data() + row * geometry.s_words();
    for (int j = 0; j < nkv; ++j) set_bit(s_row, j, *s++ != 0);
  }
  return checked(std::move(out));
}

}  // namespace flashomni
