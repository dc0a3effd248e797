// SPDX-License-Identifier: Apache-2.0
//
// The sparse symbols S_c and S_s (arXiv 2509.25401, section 3): what may be reused and what may be
// skipped in one attention layer, bit-packed. docs/symbols_format.md shows the bytes.
//
//   S_c[b,h,i]    1 = compute the attention tile-row of query block i, 0 = take it from the cache.
//   S_s[b,h,i,j]  1 = compute query block i against key/value block j, 0 = skip that product.
//
// S_s has a meaning only where S_c is 1, and every such row has at least one S_s bit set.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "flashomni/status.h"

namespace flashomni {

// Shape of the symbols of one layer. All counts are positive; block sizes are 32, 64 or 128.
struct SymbolGeometry {
  int batch = 1;
  int heads = 1;
  int q_tokens = 0;   // query tokens; the last block may be shorter
  int kv_tokens = 0;  // key/value tokens; the last block may be shorter
  int block_q = 64;
  int block_kv = 64;
  // Ragged blocks: this many of their own length, 1 to block_q tokens each, the same for queries
  // and keys (both token counts alike, both block sizes alike). Where they start lies beside the
  // words, see SymbolsView::starts. 0: every block but the last is block_q or block_kv long.
  int ragged_blocks = 0;

  bool ragged() const { return ragged_blocks != 0; }
  int num_q_blocks() const { return ragged() ? ragged_blocks : (q_tokens + block_q - 1) / block_q; }
  int num_kv_blocks() const {
    return ragged() ? ragged_blocks : (kv_tokens + block_kv - 1) / block_kv;
  }
  int c_words() const { return (num_q_blocks() + 63) / 64; }   // 64-bit words per (b, h) of S_c
  int s_words() const { return (num_kv_blocks() + 63) / 64; }  // 64-bit words per (b, h, i) of S_s
  int64_t total_c_words() const { return int64_t{1} * batch * heads * c_words(); }
  int64_t total_s_words() const { return int64_t{1} * batch * heads * num_q_blocks() * s_words(); }

  bool operator==(const SymbolGeometry&) const = default;
  // Says which field is out of range.
  Status validate() const;
};

// Symbols in memory that somebody else owns (host memory for the CPU backend, device memory for a
// GPU). Layout: S_c [batch][heads][c_words], S_s [batch][heads][num_q_blocks][s_words]; bit k of
// the sequence is bit k%64 of word k/64; bits past the end are zero.
struct SymbolsView {
  SymbolGeometry geometry;
  uint64_t* c = nullptr;
  uint64_t* s = nullptr;
  // Of ragged blocks, in the same memory: [ragged_blocks + 1] ascending tokens from 0 to the number
  // of tokens; block i holds tokens [starts[i], starts[i + 1]).
  const int32_t* starts = nullptr;
  explicit operator bool() const { return c != nullptr && s != nullptr; }
};

// Counts of set bits, the source of every sparsity figure.
struct SymbolCounts {
  int64_t rows = 0;          // batch * heads * num_q_blocks
  int64_t active_rows = 0;   // S_c ones
  int64_t pairs = 0;         // rows * num_kv_blocks
  int64_t active_pairs = 0;  // S_c * S_s ones
  double row_density() const { return rows ? double(active_rows) / double(rows) : 1.0; }
  double pair_density() const { return pairs ? double(active_pairs) / double(pairs) : 1.0; }
};

// Symbols that own their (host) memory, with the algebra that strategies are composed from.
// Value type: copyable, comparable. Not thread-safe for writes.
class SparseSymbols {
 public:
  SparseSymbols() = default;
  // All ones: everything is computed. REQUIRES: geometry.validate() is ok; `starts` (see
  // SymbolsView) for ragged blocks, and none for others: validate() tells.
  explicit SparseSymbols(const SymbolGeometry& geometry, std::span<const int32_t> starts = {});

  const SymbolGeometry& geometry() const { return geometry_; }
  SymbolsView view() {
    return {geometry_, c_.data(), s_.data(), starts_.empty() ? nullptr : starts_.data()};
  }
  // Of ragged blocks; empty for others.
  std::span<const int32_t> starts() const { return starts_; }
  std::span<const uint64_t> c_words() const { return c_; }
  std::span<const uint64_t> s_words() const { return s_; }
  std::span<uint64_t> c_words() { return c_; }
  std::span<uint64_t> s_words() { return s_; }

  bool cached(int b, int h, int i) const { return !c(b, h, i); }
  bool c(int b, int h, int i) const;
  bool s(int b, int h, int i, int j) const;
  void set_c(int b, int h, int i, bool on);
  void set_s(int b, int h, int i, int j, bool on);

  SymbolCounts counts() const;
  SymbolCounts counts(int b, int h) const;

  // Checks geometry, sizes, starts, zero padding bits and that no row with S_c = 1 is empty; the
  // message names the first offending (b, h, i).
  Status validate() const;
  // Makes validate() hold: clears padding bits and gives every empty row with S_c = 1 its diagonal
  // block (the kv block that holds the row block's first token, or the last one). Also clears S_s
  // where S_c is 0, so that equal meaning is equal bits.
  void repair();

  bool operator==(const SparseSymbols&) const = default;

 private:
  SymbolGeometry geometry_;
  std::vector<int32_t> starts_;
  std::vector<uint64_t> c_;
  std::vector<uint64_t> s_;
};

// ---- algebra. Binary operations REQUIRE equal geometry (and starts) and fail otherwise. None of
// them repairs:
// ---- compose first, call repair() once at the end.
Result<SparseSymbols> symbols_and(const SparseSymbols& a, const SparseSymbols& b);
Result<SparseSymbols> symbols_or(const SparseSymbols& a, const SparseSymbols& b);
SparseSymbols symbols_not(const SparseSymbols& a);
// Refines block sizes by integer factors: every bit is inherited by the finer blocks it covers.
// Refuses ragged blocks, and so does symbols_permute.
Result<SparseSymbols> symbols_expand(const SparseSymbols& a, int block_q, int block_kv);
// Sets also the kv blocks within `radius` blocks of a set one.
SparseSymbols symbols_dilate(const SparseSymbols& a, int radius);
// Reorders blocks: new row i is old row q_order[i], new column j is old column kv_order[j]. Fails
// unless both are permutations. REQUIRES whole blocks when the last, ragged block would move.
Result<SparseSymbols> symbols_permute(const SparseSymbols& a, std::span<const int> q_order,
                                      std::span<const int> kv_order);

// ---- codecs. None of these forms holds starts: the from_ functions refuse ragged geometries, and
// ---- what the to_ functions give of ragged symbols are the bits alone.
// The published flat layout (qiaolian9/FlashOmni kernels): per batch item one byte-aligned segment,
// little-endian bits, S_c bit i*H + h, S_s bit (i*H + h)*num_kv_blocks + j.
struct FlatSymbols {
  std::vector<uint8_t> c;
  std::vector<int64_t> c_offsets;  // batch + 1 byte offsets into c
  std::vector<uint8_t> s;
  std::vector<int64_t> s_offsets;  // batch + 1 byte offsets into s
};
FlatSymbols to_flat(const SparseSymbols& a);
Result<SparseSymbols> from_flat(const SymbolGeometry& geometry, const FlatSymbols& flat);

// Index lists (block-sparse-row): per (b, h, i), in that order, the ascending kv blocks that are
// computed. A cached row has an empty list.
struct IndexListSymbols {
  std::vector<int32_t> row_offsets;  // batch*heads*num_q_blocks + 1
  std::vector<int32_t> columns;
};
IndexListSymbols to_index_lists(const SparseSymbols& a);
Result<SparseSymbols> from_index_lists(const SymbolGeometry& geometry,
                                       const IndexListSymbols& lists);

// Dense boolean masks, one byte a symbol (0 or 1): c [B,H,nQ], s [B,H,nQ,nKV].
struct MaskSymbols {
  std::vector<uint8_t> c;
  std::vector<uint8_t> s;
};
MaskSymbols to_masks(const SparseSymbols& a);
Result<SparseSymbols> from_masks(const SymbolGeometry& geometry, const MaskSymbols& masks);

// ---- files. A versioned binary form; docs/symbols_format.md has the bytes and a worked example.
std::vector<uint8_t> serialize_symbols(const SparseSymbols& a);
// Refuses any malformed input with a reason; never reads outside `bytes`.
Result<SparseSymbols> deserialize_symbols(std::span<const uint8_t> bytes);
Status save_symbols(const SparseSymbols& a, const std::string& path);
Result<SparseSymbols> load_symbols(const std::string& path);

// ---- pictures
// One line a query block: '#' computed, '.' skipped, a row of '-' cached.
std::string symbols_ascii(const SparseSymbols& a, int b, int h);
// 8-bit RGB image, row-major, `cell` pixels a block: computed, skipped and cached in three colours.
struct SymbolsPicture {
  int width = 0;
  int height = 0;
  std::vector<uint8_t> rgb;
};
SymbolsPicture symbols_picture(const SparseSymbols& a, int b, int h, int cell);

}  // namespace flashomni
