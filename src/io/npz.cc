// SPDX-License-Identifier: Apache-2.0
#include "io/npz.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <fstream>
#include <optional>

#include "io/atomic_file.h"
#include "io/messages.h"
#include "io/zip_archive.h"

namespace flashomni {
namespace {

constexpr uint64_t kMaxFile = uint64_t{1} << 32;
// Of all arrays of a file together, unpacked.
constexpr uint64_t kMaxUnpacked = uint64_t{1} << 33;
constexpr char kSuffix[] = ".npy";
constexpr uint8_t kMagic[] = {0x93, 'N', 'U', 'M', 'P', 'Y'};
// NumPy pads headers so that values start at a multiple of this.
constexpr size_t kAlignment = 64;
constexpr size_t kMaxHeader = 1 << 16;

struct TypeRow {
  const char* name;
  StoredDType dtype;
};
constexpr TypeRow kTypes[] = {
    {"|b1", StoredDType::kBool}, {"|u1", StoredDType::kU8},  {"|i1", StoredDType::kI8},
    {"<u2", StoredDType::kU16},  {"<i2", StoredDType::kI16}, {"<u4", StoredDType::kU32},
    {"<i4", StoredDType::kI32},  {"<u8", StoredDType::kU64}, {"<i8", StoredDType::kI64},
    {"<f2", StoredDType::kF16},  {"<f4", StoredDType::kF32}, {"<f8", StoredDType::kF64},
};

// The dictionary of a header, a Python literal: {'descr': '<i4', 'fortran_order': False, 'shape':
// (2, 3), }. Keys come once each, in any order.
class DictParser {
 public:
  DictParser(std::string_view text, const std::string& who) : text_(text), who_(who) {}

  Result<NpyHeader> parse() {
    NpyHeader out;
    bool fortran = false, seen[3] = {};
    if (!take('{')) return refusal("a dictionary");
    while (!take('}')) {
      std::string key;
      if (!string(key) || !take(':')) return refusal("a key");
      const int which = key == "descr" ? 0 : key == "fortran_order" ? 1 : key == "shape" ? 2 : -1;
      if (which < 0 || seen[which]) return refusal("descr, fortran_order and shape, once each");
      seen[which] = true;
      if (which == 0 && !type(out.type)) return refusal("a type");
      if (which == 1 && !boolean(fortran)) return refusal("True or False");
      if (which == 2 && !tuple(out.shape)) return refusal("a shape");
      if (take(',')) continue;
      if (!take('}')) return refusal("',' or '}'");
      break;
    }
    while (at_ < text_.size() && text_[at_] == ' ') ++at_;
    if (text_.substr(at_) != "\n") return refusal("the end of the header");
    if (!seen[0] || !seen[1] || !seen[2]) {
      return refusal("descr, fortran_order and shape, once each");
    }
    if (fortran && out.shape.size() > 1) {
      return unsupported(who_ + " is in Fortran order, wanted C order (numpy.ascontiguousarray)");
    }
    for (const TypeRow& row : kTypes) {
      if (out.type == row.name) out.dtype = row.dtype;
    }
    return out;
  }

 private:
  Status refusal(const std::string& wanted) const {
    return corrupt_file(who_ + ": header has " + quote(text_.substr(at_, 20)) + " at byte " +
                        std::to_string(at_) + ", wanted " + wanted);
  }
  void space() {
    while (at_ < text_.size() && text_[at_] == ' ') ++at_;
  }
  bool take(char c) {
    space();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  bool word(std::string_view w) {
    space();
    if (text_.substr(at_, w.size()) != w) return false;
    at_ += w.size();
    return true;
  }
  // Without escapes: NumPy writes none for these.
  bool string(std::string& out) {
    space();
    if (at_ >= text_.size() || (text_[at_] != '\'' && text_[at_] != '"')) return false;
    const size_t end = text_.find(text_[at_], at_ + 1);
    if (end == std::string_view::npos) return false;
    out = text_.substr(at_ + 1, end - at_ - 1);
    if (out.find('\\') != std::string::npos) return false;
    at_ = end + 1;
    return true;
  }
  // A text, or the list of a structure's fields, which is kept as it is.
  bool type(std::string& out) {
    space();
    if (at_ >= text_.size() || text_[at_] != '[') return string(out);
    const size_t begin = at_;
    for (int depth = 0; at_ < text_.size(); ++at_) {
      depth += text_[at_] == '[' ? 1 : text_[at_] == ']' ? -1 : 0;
      if (depth == 0) {
        out = text_.substr(begin, ++at_ - begin);
        return true;
      }
    }
    return false;
  }
  bool boolean(bool& out) {
    out = word("True");
    return out || word("False");
  }
  bool tuple(std::vector<int64_t>& out) {
    if (!take('(')) return false;
    while (!take(')')) {
      space();
      int64_t value = 0;
      const auto parsed = std::from_chars(text_.data() + at_, text_.data() + text_.size(), value);
      if (parsed.ec != std::errc() || value < 0 || value > kMaxTensorDim ||
          out.size() == kMaxTensorRank) {
        return false;
      }
      at_ = static_cast<size_t>(parsed.ptr - text_.data());
      out.push_back(value);
      if (take(',')) continue;
      return take(')') && out.size() > 1;  // "(3)" is no tuple
    }
    return true;
  }

  std::string_view text_;
  const std::string& who_;
  size_t at_ = 0;
};

// Bytes of the values, or nothing where they are more than any file holds.
std::optional<uint64_t> value_bytes(const NpyHeader& h) {
  uint64_t bytes = static_cast<uint64_t>(stored_dtype_bits(*h.dtype)) / 8;
  if (std::find(h.shape.begin(), h.shape.end(), 0) != h.shape.end()) return 0;
  for (const int64_t n : h.shape) {
    if (bytes > kMaxUnpacked / static_cast<uint64_t>(n)) return std::nullopt;
    bytes *= static_cast<uint64_t>(n);
  }
  return bytes;
}

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string out;
  for (const int64_t n : shape) out.append(out.empty() ? "(" : ", ").append(std::to_string(n));
  if (shape.empty()) return "()";
  return out + (shape.size() == 1 ? ",)" : ")");
}

Result<std::vector<uint8_t>> npy_bytes(const TensorToWrite& t) {
  const auto row =
      std::ranges::find_if(kTypes, [&](const TypeRow& r) { return r.dtype == t.dtype; });
  if (row == std::end(kTypes)) {
    return invalid_argument(quote(t.name) + " is " + stored_dtype_name(t.dtype) +
                            ", which NumPy has no type for");
  }
  std::string header = "{'descr': '" + std::string(row->name) +
                       "', 'fortran_order': False, 'shape': " + shape_text(t.shape) + ", }";
  constexpr size_t kBefore = sizeof(kMagic) + 4;
  header.append(kAlignment - (kBefore + header.size() + 1) % kAlignment, ' ');
  header += '\n';
  std::vector<uint8_t> out(std::begin(kMagic), std::end(kMagic));
  for (const size_t byte : {size_t{1}, size_t{0}, header.size() & 0xff, header.size() >> 8}) {
    out.push_back(static_cast<uint8_t>(byte));
  }
  out.insert(out.end(), header.begin(), header.end());
  out.insert(out.end(), t.data.begin(), t.data.end());
  return out;
}

}  // namespace

Result<NpyHeader> parse_npy_header(std::span<const uint8_t> bytes, const std::string& who) {
  constexpr size_t kFixed = sizeof(kMagic) + 2;
  if (bytes.size() < kFixed + 2 ||
      !std::equal(std::begin(kMagic), std::end(kMagic), bytes.begin())) {
    return corrupt_file(who + " is no .npy array");
  }
  const int major = bytes[6], minor = bytes[7];
  if (major < 1 || major > 3 || minor != 0) {
    return unsupported(who + " has version " + std::to_string(major) + "." + std::to_string(minor) +
                       " of the .npy format, wanted 1.0 to 3.0");
  }
  const size_t width = major == 1 ? 2 : 4;
  if (bytes.size() < kFixed + width) return corrupt_file(who + " is cut off in its header");
  size_t length = 0;
  for (size_t i = 0; i < width; ++i) length |= size_t{bytes[kFixed + i]} << 8 * i;
  if (length > kMaxHeader || bytes.size() - kFixed - width < length) {
    return corrupt_file(who + " has a header of " + std::to_string(length) + " bytes, wanted " +
                        std::to_string(std::min(kMaxHeader, bytes.size() - kFixed - width)) +
                        " at most");
  }
  DictParser dict(as_text(bytes.subspan(kFixed + width, length)), who);
  FO_ASSIGN_OR_RETURN(NpyHeader out, dict.parse());
  out.data_offset = kFixed + width + length;
  return out;
}

Result<NpzFile> NpzFile::parse(std::span<const uint8_t> bytes, const std::string& path) {
  FO_ASSIGN_OR_RETURN(const std::vector<ZipMember> members, list_zip(bytes, path));
  uint64_t total = 0;
  for (const ZipMember& m : members) total += m.bytes;
  if (total > kMaxUnpacked) {
    return unsupported(path + ": unpacks to " + std::to_string(total) + " bytes, wanted " +
                       std::to_string(kMaxUnpacked) + " at most");
  }
  NpzFile out(path);
  out.storage_.reserve(members.size());
  for (const ZipMember& m : members) {
    const std::string who = path + ": " + quote(m.name);
    if (!m.name.ends_with(kSuffix) || m.name.size() > kMaxTensorName) {
      return corrupt_file(who + " is no name of an array, wanted one that ends in .npy");
    }
    FO_ASSIGN_OR_RETURN(std::vector<uint8_t> contents, read_zip_member(m, path));
    FO_ASSIGN_OR_RETURN(NpyHeader header, parse_npy_header(contents, who));
    const std::string name = m.name.substr(0, m.name.size() - (sizeof(kSuffix) - 1));
    if (!header.dtype) {
      out.others_[name] = header.type;
      continue;
    }
    const std::optional<uint64_t> wanted = value_bytes(header);
    const uint64_t seen = contents.size() - header.data_offset;
    if (wanted != seen) {
      return corrupt_file(who + " has " + std::to_string(seen) + " bytes of values, wanted " +
                          (wanted ? std::to_string(*wanted) : "more than a file holds") + " for " +
                          header.type + shape_text(header.shape));
    }
    out.storage_.push_back(std::move(contents));
    TensorEntry entry{.name = name, .dtype = *header.dtype, .shape = std::move(header.shape)};
    entry.data = out.storage_.back().data() + header.data_offset;
    entry.bytes = static_cast<size_t>(seen);
    out.tensors_.push_back(std::move(entry));
  }
  std::ranges::sort(out.tensors_, {}, &TensorEntry::name);
  return out;
}

Result<NpzFile> NpzFile::open(const std::string& path) {
  FO_ASSIGN_OR_RETURN(const std::vector<uint8_t> bytes, read_file(path, kMaxFile));
  return parse(bytes, path);
}

bool is_npz(const std::string& path) {
  char magic[2] = {};
  std::ifstream file(path, std::ios::binary);
  return file.read(magic, 2) && std::memcmp(magic, "PK", 2) == 0;
}

Status write_npz(const std::string& path, std::span<const TensorToWrite> tensors) {
  std::vector<std::pair<std::string, std::vector<uint8_t>>> members;
  for (const TensorToWrite& t : tensors) {
    if (t.name.empty() || t.name.size() > 1000 || t.name.find('/') != std::string::npos) {
      return invalid_argument(quote(t.name) + " is no name of an array");
    }
    FO_ASSIGN_OR_RETURN(std::vector<uint8_t> bytes, npy_bytes(t));
    members.emplace_back(t.name + kSuffix, std::move(bytes));
  }
  FO_ASSIGN_OR_RETURN(const std::vector<uint8_t> archive, make_zip(members));
  return write_file(path, archive);
}

}  // namespace flashomni
