// SPDX-License-Identifier: Apache-2.0
#include "pipelines/symbols_exchange.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <fstream>

#include "io/messages.h"
#include "pipelines/symbols_source.h"

namespace flashomni {
namespace {

constexpr char kVersionKey[] = "flashomni_symbols";
constexpr char kVersion[] = "1";
// Elements of one tensor: as many as the largest symbols have pairs.
constexpr int64_t kMaxElements = int64_t{1} << 31;

struct Named {
  SymbolsFormat format;
  const char* name;
};
constexpr Named kNames[] = {{SymbolsFormat::kFosy, "fosy"},
                            {SymbolsFormat::kMask, "mask"},
                            {SymbolsFormat::kBsr, "bsr"},
                            {SymbolsFormat::kFlex, "flex"},
                            {SymbolsFormat::kFa4, "fa4"}};

// The tensors of a format with counts and indices: FlexAttention and FlashAttention 4 differ in
// names only. Partial blocks are those whose elements a mask function still filters.
struct ListNames {
  const char *count, *index, *full_count, *full_index;
};
constexpr ListNames kFlexNames = {"kv_num_blocks", "kv_indices", "full_kv_num_blocks",
                                  "full_kv_indices"};
constexpr ListNames kFa4Names = {"mask_block_cnt", "mask_block_idx", "full_block_cnt",
                                 "full_block_idx"};

// ---- reading

// A tensor of whole numbers with its shape.
struct Integers {
  std::vector<int64_t> shape;
  std::vector<int64_t> values;
};

class Reader {
 public:
  Reader(const SymbolsSource& file, const SymbolsHints& hints) : file_(file), hints_(hints) {}

  bool has(const char* name) const {
    return file_.find(name) != nullptr || file_.others().contains(name);
  }

  Result<Integers> integers(const char* name, size_t least_rank, size_t most_rank) const {
    const TensorEntry* e = file_.find(name);
    if (!e) {
      const auto other = file_.others().find(name);
      if (other == file_.others().end()) {
        return refusal(std::string("has no tensor '") + name + "'");
      }
      return refusal(std::string("tensor '") + name + "' has type " + quote(other->second) +
                     ", wanted bool or whole numbers, little-endian");
    }
    if (e->shape.size() < least_rank || e->shape.size() > most_rank) {
      return refusal(e->to_string() + " has " + std::to_string(e->shape.size()) + " axes, wanted " +
                     std::to_string(least_rank) +
                     (most_rank > least_rank ? " to " + std::to_string(most_rank) : ""));
    }
    if (e->numel() > kMaxElements) return refusal(e->to_string() + " is too large");
    FO_ASSIGN_OR_RETURN(std::vector<int64_t> values, whole_numbers(*e, file_.path()));
    return Integers{e->shape, std::move(values)};
  }

  // A hint, else the metadata under one of `keys`, else `fallback`.
  Result<int> setting(int hint, std::initializer_list<const char*> keys, int fallback) const {
    if (hint > 0) return hint;
    for (const char* key : keys) {
      const auto it = file_.metadata().find(key);
      if (it == file_.metadata().end()) continue;
      int value = 0;
      const char* end = it->second.data() + it->second.size();
      const auto parsed = std::from_chars(it->second.data(), end, value);
      if (parsed.ec == std::errc() && parsed.ptr == end && value > 0) return value;
      return refusal(std::string("metadata ") + key + " is " + quote(it->second) +
                     ", wanted a positive number");
    }
    if (fallback > 0) return fallback;
    return refusal(std::string("does not say ") + *keys.begin() + ", give it");
  }

  // Geometry for a file with `nq` by `nkv` blocks; 0 blocks: not known from the tensors.
  Result<SymbolGeometry> geometry(int64_t batch, int64_t heads, int64_t nq, int64_t nkv) const {
    SymbolGeometry g;
    FO_ASSIGN_OR_RETURN(g.block_q, setting(hints_.block_q, {"block_q", "R"}, 0));
    FO_ASSIGN_OR_RETURN(g.block_kv, setting(hints_.block_kv, {"block_kv", "C"}, 0));
    FO_RETURN_IF_ERROR(check_range("the number of query blocks", nq));
    FO_RETURN_IF_ERROR(check_range("the number of kv blocks", nkv));
    const auto whole = [](int64_t blocks, int size) {
      return static_cast<int>(std::min<int64_t>(blocks * size, INT32_MAX));
    };
    FO_ASSIGN_OR_RETURN(g.q_tokens,
                        setting(hints_.q_tokens, {"q_tokens", "M"}, whole(nq, g.block_q)));
    FO_ASSIGN_OR_RETURN(g.kv_tokens,
                        setting(hints_.kv_tokens, {"kv_tokens", "N"}, whole(nkv, g.block_kv)));
    g.batch = static_cast<int>(std::min<int64_t>(batch, INT32_MAX));
    g.heads = static_cast<int>(std::min<int64_t>(heads, INT32_MAX));
    const Status valid = g.validate();
    if (!valid.ok()) return refusal(valid.message());
    if (nq > 0 && g.num_q_blocks() != nq) {
      return refusal("has " + std::to_string(nq) + " query blocks, " + std::to_string(g.q_tokens) +
                     " tokens in blocks of " + std::to_string(g.block_q) + " are " +
                     std::to_string(g.num_q_blocks()));
    }
    if (nkv > 0 && g.num_kv_blocks() != nkv) {
      return refusal("has " + std::to_string(nkv) + " kv blocks, " + std::to_string(g.kv_tokens) +
                     " tokens in blocks of " + std::to_string(g.block_kv) + " are " +
                     std::to_string(g.num_kv_blocks()));
    }
    return g;
  }

  // Batch and heads for a file whose tensors have `seen` of them: one pattern serves all.
  Result<int64_t> spread(int64_t seen, int hint, const char* name) const {
    FO_ASSIGN_OR_RETURN(
        const int wanted,
        setting(hint, {name}, static_cast<int>(std::clamp<int64_t>(seen, 1, INT32_MAX))));
    if (seen == wanted || seen == 1) return int64_t{wanted};
    return refusal("has " + std::to_string(seen) + " " + name + ", wanted " +
                   std::to_string(wanted) + " or 1");
  }

  Status refusal(const std::string& what) const { return corrupt_file(file_.path() + ": " + what); }
  const SymbolsHints& hints() const { return hints_; }

 private:
  Status check_range(const char* what, int64_t value) const {
    if (value >= 0 && value <= (int64_t{1} << 26)) return ok_status();
    return refusal(std::string(what) + " is " + std::to_string(value));
  }

  const SymbolsSource& file_;
  const SymbolsHints& hints_;
};

// Symbols with every bit off, to be filled in.
SparseSymbols blank(const SymbolGeometry& g) {
  SparseSymbols out(g);
  std::ranges::fill(out.c_words(), 0);
  std::ranges::fill(out.s_words(), 0);
  return out;
}

std::string place(int64_t b, int64_t h, int64_t i) {
  return "[" + std::to_string(b) + "," + std::to_string(h) + "," + std::to_string(i) + "]";
}

void note_cached(const SparseSymbols& symbols, std::vector<std::string>& notes) {
  const SymbolCounts c = symbols.counts();
  if (c.active_rows == c.rows) return;
  notes.push_back(std::to_string(c.rows - c.active_rows) + " of " + std::to_string(c.rows) +
                  " rows have no block and were taken as cached");
}

Result<ImportedSymbols> read_mask(const Reader& reader) {
  FO_ASSIGN_OR_RETURN(Integers mask, reader.integers("mask", 2, 4));
  while (mask.shape.size() < 4) mask.shape.insert(mask.shape.begin(), 1);
  const int64_t nq = mask.shape[2], nkv = mask.shape[3];
  FO_ASSIGN_OR_RETURN(const int64_t batch,
                      reader.spread(mask.shape[0], reader.hints().batch, "batch"));
  FO_ASSIGN_OR_RETURN(const int64_t heads,
                      reader.spread(mask.shape[1], reader.hints().heads, "heads"));
  FO_ASSIGN_OR_RETURN(const SymbolGeometry g, reader.geometry(batch, heads, nq, nkv));
  Integers compute;
  if (reader.has("compute")) {
    FO_ASSIGN_OR_RETURN(compute, reader.integers("compute", 3, 3));
    const std::vector<int64_t> wanted = {mask.shape[0], mask.shape[1], nq};
    if (compute.shape != wanted) {
      return reader.refusal("tensor 'compute' has another shape than 'mask' without its last axis");
    }
  }
  for (const Integers* t : {&mask, &compute}) {
    const auto bad = std::ranges::find_if(t->values, [](int64_t v) { return v != 0 && v != 1; });
    if (bad == t->values.end()) continue;
    return reader.refusal(std::string(t == &mask ? "mask" : "compute") + "[" +
                          std::to_string(bad - t->values.begin()) + "] is " + std::to_string(*bad) +
                          ", wanted 0 or 1");
  }

  ImportedSymbols out{blank(g), SymbolsFormat::kMask, {}};
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t h = 0; h < heads; ++h) {
      const int64_t group =
          (mask.shape[0] == 1 ? 0 : b) * mask.shape[1] + (mask.shape[1] == 1 ? 0 : h);
      for (int64_t i = 0; i < nq; ++i) {
        const int64_t* row = mask.values.data() + (group * nq + i) * nkv;
        bool any = false;
        for (int64_t j = 0; j < nkv; ++j) {
          if (row[j] == 0) continue;
          any = true;
          out.symbols.set_s(int(b), int(h), int(i), int(j), true);
        }
        const bool on = compute.values.empty() ? any : compute.values[size_t(group * nq + i)] != 0;
        out.symbols.set_c(int(b), int(h), int(i), on);
        if (on && !any) {
          return reader.refusal("row " + place(b, h, i) +
                                " is computed but has no block in 'mask'");
        }
      }
    }
  }
  if (compute.values.empty()) note_cached(out.symbols, out.notes);
  out.symbols.repair();
  return out;
}

// Sets the blocks of one row; each may come once.
Status set_row(const Reader& reader, SparseSymbols& symbols, int64_t b, int64_t h, int64_t i,
               const int64_t* columns, int64_t count) {
  const int nkv = symbols.geometry().num_kv_blocks();
  for (int64_t k = 0; k < count; ++k) {
    if (columns[k] < 0 || columns[k] >= nkv) {
      return reader.refusal("row " + place(b, h, i) + " names block " + std::to_string(columns[k]) +
                            ", wanted 0 to " + std::to_string(nkv - 1));
    }
    const int j = static_cast<int>(columns[k]);
    if (symbols.s(int(b), int(h), int(i), j)) {
      return reader.refusal("row " + place(b, h, i) + " names block " + std::to_string(j) +
                            " twice");
    }
    symbols.set_s(int(b), int(h), int(i), j, true);
    symbols.set_c(int(b), int(h), int(i), true);
  }
  return ok_status();
}

Result<ImportedSymbols> read_bsr(const Reader& reader) {
  FO_ASSIGN_OR_RETURN(const Integers indptr, reader.integers("indptr", 1, 1));
  FO_ASSIGN_OR_RETURN(const Integers indices, reader.integers("indices", 1, 1));
  const int64_t rows = indptr.shape[0] - 1;
  if (rows < 1) return reader.refusal("tensor 'indptr' is empty");
  // Neither says how many columns there are, nor how many of the rows belong to one head.
  FO_ASSIGN_OR_RETURN(const int batch, reader.setting(reader.hints().batch, {"batch"}, 1));
  FO_ASSIGN_OR_RETURN(const int heads, reader.setting(reader.hints().heads, {"heads"}, 1));
  FO_RETURN_IF_ERROR(reader.setting(reader.hints().kv_tokens, {"kv_tokens", "N"}, 0).status());
  FO_RETURN_IF_ERROR(reader.setting(reader.hints().q_tokens, {"q_tokens", "M"}, 0).status());
  FO_ASSIGN_OR_RETURN(const SymbolGeometry g, reader.geometry(batch, heads, 0, 0));
  const int64_t nq = g.num_q_blocks(), groups = int64_t{batch} * heads;
  const bool shared = rows == nq;
  if (!shared && rows != groups * nq) {
    return reader.refusal("has " + std::to_string(rows) + " rows, wanted " + std::to_string(nq) +
                          " for all heads or " + std::to_string(groups * nq));
  }
  const auto total = static_cast<int64_t>(indices.values.size());
  if (indptr.values.front() != 0 || indptr.values.back() != total) {
    return reader.refusal("indptr runs from " + std::to_string(indptr.values.front()) + " to " +
                          std::to_string(indptr.values.back()) + ", wanted 0 to " +
                          std::to_string(total));
  }
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t begin = indptr.values[size_t(r)], end = indptr.values[size_t(r) + 1];
    if (begin < 0 || end < begin || end > total) {
      return reader.refusal("row " + std::to_string(r) + " is [" + std::to_string(begin) + ", " +
                            std::to_string(end) + "), wanted ascending offsets up to " +
                            std::to_string(total));
    }
  }
  ImportedSymbols out{blank(g), SymbolsFormat::kBsr, {}};
  for (int64_t group = 0; group < groups; ++group) {
    for (int64_t i = 0; i < nq; ++i) {
      const auto r = static_cast<size_t>(shared ? i : group * nq + i);
      FO_RETURN_IF_ERROR(set_row(reader, out.symbols, group / heads, group % heads, i,
                                 indices.values.data() + indptr.values[r],
                                 indptr.values[r + 1] - indptr.values[r]));
    }
  }
  note_cached(out.symbols, out.notes);
  return out;
}

Result<ImportedSymbols> read_lists(const Reader& reader, const ListNames& names,
                                   SymbolsFormat format) {
  struct Part {
    Integers count, index;
  };
  std::vector<Part> parts;
  for (const auto& [count, index] :
       {std::pair{names.count, names.index}, {names.full_count, names.full_index}}) {
    if (!reader.has(count) && !reader.has(index) && !parts.empty()) continue;  // no full blocks
    Part p;
    FO_ASSIGN_OR_RETURN(p.count, reader.integers(count, 3, 3));
    FO_ASSIGN_OR_RETURN(p.index, reader.integers(index, 4, 4));
    if (!std::equal(p.count.shape.begin(), p.count.shape.end(), p.index.shape.begin())) {
      return reader.refusal(std::string("tensors '") + count + "' and '" + index +
                            "' differ in their first three axes");
    }
    if (!parts.empty() && parts.front().count.shape != p.count.shape) {
      return reader.refusal(std::string("tensors '") + names.count + "' and '" + count +
                            "' differ in shape");
    }
    parts.push_back(std::move(p));
  }
  const std::vector<int64_t>& shape = parts.front().count.shape;
  FO_ASSIGN_OR_RETURN(const int64_t batch, reader.spread(shape[0], reader.hints().batch, "batch"));
  FO_ASSIGN_OR_RETURN(const int64_t heads, reader.spread(shape[1], reader.hints().heads, "heads"));
  // A list may have room for fewer blocks than there are; then the tokens must be said.
  int64_t room = 0;
  for (const Part& p : parts) room = std::max(room, p.index.shape[3]);
  const bool said = reader.setting(reader.hints().kv_tokens, {"kv_tokens", "N"}, 0).ok();
  FO_ASSIGN_OR_RETURN(const SymbolGeometry g,
                      reader.geometry(batch, heads, shape[2], said ? 0 : room));

  ImportedSymbols out{blank(g), format, {}};
  int64_t partial = 0;
  for (size_t which = 0; which < parts.size(); ++which) {
    const Part& p = parts[which];
    for (int64_t b = 0; b < batch; ++b) {
      for (int64_t h = 0; h < heads; ++h) {
        for (int64_t i = 0; i < shape[2]; ++i) {
          const int64_t row =
              ((shape[0] == 1 ? 0 : b) * shape[1] + (shape[1] == 1 ? 0 : h)) * shape[2] + i;
          const int64_t count = p.count.values[size_t(row)];
          if (count < 0 || count > p.index.shape[3]) {
            return reader.refusal("row " + place(b, h, i) + " has " + std::to_string(count) +
                                  " blocks, wanted 0 to " + std::to_string(p.index.shape[3]));
          }
          FO_RETURN_IF_ERROR(set_row(reader, out.symbols, b, h, i,
                                     p.index.values.data() + row * p.index.shape[3], count));
          if (which == 0) partial += count;
        }
      }
    }
  }
  if (partial > 0) {
    out.notes.push_back(std::to_string(partial) +
                        " blocks are partial (filtered by a mask function that the file does not "
                        "hold) and were taken as whole");
  }
  note_cached(out.symbols, out.notes);
  return out;
}

// ---- writing

struct Output {
  std::vector<std::vector<uint8_t>> storage;
  std::vector<TensorToWrite> tensors;

  template <class T>
  void add(const std::string& name, StoredDType dtype, std::vector<int64_t> shape,
           const std::vector<T>& values) {
    std::vector<uint8_t> bytes(values.size() * sizeof(T));
    if (!bytes.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
    storage.push_back(std::move(bytes));
    tensors.push_back({name, dtype, std::move(shape), {}});
  }
  // Spans are taken last: storage moves while it grows.
  const std::vector<TensorToWrite>& finish() {
    for (size_t i = 0; i < tensors.size(); ++i) tensors[i].data = storage[i];
    return tensors;
  }
};

void add_masks(const SparseSymbols& symbols, Output& out) {
  const SymbolGeometry& g = symbols.geometry();
  const MaskSymbols masks = to_masks(symbols);
  out.add("mask", StoredDType::kBool, {g.batch, g.heads, g.num_q_blocks(), g.num_kv_blocks()},
          masks.s);
  out.add("compute", StoredDType::kBool, {g.batch, g.heads, g.num_q_blocks()}, masks.c);
}

void add_bsr(const SparseSymbols& symbols, Output& out) {
  const IndexListSymbols lists = to_index_lists(symbols);
  out.add("indptr", StoredDType::kI32, {int64_t(lists.row_offsets.size())}, lists.row_offsets);
  out.add("indices", StoredDType::kI32, {int64_t(lists.columns.size())}, lists.columns);
}

// All blocks are full ones: symbols filter nothing inside a block.
void add_lists(const SparseSymbols& symbols, const ListNames& names, Output& out) {
  const SymbolGeometry& g = symbols.geometry();
  const IndexListSymbols lists = to_index_lists(symbols);
  const size_t rows = lists.row_offsets.size() - 1, nkv = size_t(g.num_kv_blocks());
  std::vector<int32_t> count(rows), index(rows * nkv, 0);
  for (size_t r = 0; r < rows; ++r) {
    const auto begin = size_t(lists.row_offsets[r]), end = size_t(lists.row_offsets[r + 1]);
    count[r] = static_cast<int32_t>(end - begin);
    std::copy(lists.columns.begin() + ptrdiff_t(begin), lists.columns.begin() + ptrdiff_t(end),
              index.begin() + ptrdiff_t(r * nkv));
  }
  const std::vector<int64_t> shape = {g.batch, g.heads, g.num_q_blocks()};
  std::vector<int64_t> with_room = shape;
  with_room.push_back(g.num_kv_blocks());
  out.add(names.count, StoredDType::kI32, shape, std::vector<int32_t>(rows, 0));
  out.add(names.index, StoredDType::kI32, with_room, std::vector<int32_t>(rows * nkv, 0));
  out.add(names.full_count, StoredDType::kI32, shape, count);
  out.add(names.full_index, StoredDType::kI32, with_room, index);
}

bool is_fosy(const std::string& path) {
  char magic[4] = {};
  std::ifstream file(path, std::ios::binary);
  return file.read(magic, 4) && std::memcmp(magic, "FOSY", 4) == 0;
}

}  // namespace

const char* symbols_format_name(SymbolsFormat format) {
  for (const Named& n : kNames) {
    if (n.format == format) return n.name;
  }
  return "unknown";
}

std::vector<std::string> symbols_format_names() {
  std::vector<std::string> out;
  for (const Named& n : kNames) out.emplace_back(n.name);
  return out;
}

Result<SymbolsFormat> symbols_format(const std::string& name) {
  std::string known;
  for (const Named& n : kNames) {
    if (name == n.name) return n.format;
    known += (known.empty() ? "" : ", ") + std::string(n.name);
  }
  return invalid_argument("symbols format is " + quote(name) + ", wanted one of " + known);
}

Result<ImportedSymbols> import_symbols(const std::string& path, const SymbolsHints& hints) {
  if (is_fosy(path)) {
    FO_ASSIGN_OR_RETURN(SparseSymbols symbols, load_symbols(path));
    return ImportedSymbols{std::move(symbols), SymbolsFormat::kFosy, {}};
  }
  FO_ASSIGN_OR_RETURN(const SymbolsSource file, SymbolsSource::open(path));
  const auto version = file.metadata().find(kVersionKey);
  if (version != file.metadata().end() && version->second != kVersion) {
    return unsupported(path + ": version of the symbols is " + quote(version->second) +
                       ", this program reads " + kVersion);
  }
  const Reader reader(file, hints);
  if (reader.has("mask")) return read_mask(reader);
  if (reader.has("indptr")) return read_bsr(reader);
  if (reader.has(kFlexNames.count)) return read_lists(reader, kFlexNames, SymbolsFormat::kFlex);
  if (reader.has(kFa4Names.count)) return read_lists(reader, kFa4Names, SymbolsFormat::kFa4);
  return reader.refusal(
      "holds no symbols: wanted a tensor 'mask', 'indptr', 'kv_num_blocks' or "
      "'mask_block_cnt'");
}

Status export_symbols(const SparseSymbols& symbols, SymbolsFormat format, const std::string& path) {
  if (format == SymbolsFormat::kFosy) return save_symbols(symbols, path);
  FO_RETURN_IF_ERROR(symbols.validate());
  if (symbols.geometry().ragged()) {
    return unsupported(std::string("symbols of ragged blocks cannot be written as ") +
                       symbols_format_name(format) +
                       ", which does not say where blocks start; wanted fosy");
  }
  SparseSymbols plain = symbols;
  plain.repair();  // no S_s where S_c is 0: other kernels would compute it
  const SymbolGeometry& g = plain.geometry();
  Output out;
  if (format == SymbolsFormat::kMask) add_masks(plain, out);
  if (format == SymbolsFormat::kBsr) add_bsr(plain, out);
  if (format == SymbolsFormat::kFlex) add_lists(plain, kFlexNames, out);
  if (format == SymbolsFormat::kFa4) add_lists(plain, kFa4Names, out);
  const std::map<std::string, std::string> metadata = {{kVersionKey, kVersion},
                                                       {"format", symbols_format_name(format)},
                                                       {"batch", std::to_string(g.batch)},
                                                       {"heads", std::to_string(g.heads)},
                                                       {"q_tokens", std::to_string(g.q_tokens)},
                                                       {"kv_tokens", std::to_string(g.kv_tokens)},
                                                       {"block_q", std::to_string(g.block_q)},
                                                       {"block_kv", std::to_string(g.block_kv)}};
  return write_symbols_source(path, out.finish(), metadata);
}

}  // namespace flashomni
