// SPDX-License-Identifier: Apache-2.0
#include "io/zip_archive.h"

#include <zlib.h>

#include <algorithm>
#include <limits>
#include <set>

#include "io/messages.h"

namespace flashomni {
namespace {

constexpr uint32_t kLocalMagic = 0x04034b50, kEntryMagic = 0x02014b50, kEndMagic = 0x06054b50;
constexpr size_t kLocalBytes = 30, kEntryBytes = 46, kEndBytes = 22;
constexpr size_t kLongestComment = 0xffff;
constexpr uint16_t kStored = 0, kDeflated = 8;
constexpr uint16_t kEncrypted = 1;
constexpr uint16_t kVersion = 20;            // of the format, for deflated members
constexpr uint16_t kFirstDate = 1 << 5 | 1;  // 1 January 1980: archives are equal bit by bit
constexpr uint64_t kMaxDeflateRatio = 1032;  // of zlib's format, "Maximum Compression Factor"
constexpr uint64_t kMaxFields = 0xffffffff;  // what the format writes where a number does not fit

uint16_t get16(std::span<const uint8_t> b, size_t at) {
  return static_cast<uint16_t>(b[at] | b[at + 1] << 8);
}
uint32_t get32(std::span<const uint8_t> b, size_t at) {
  return uint32_t{get16(b, at)} | uint32_t{get16(b, at + 2)} << 16;
}

std::string_view text(std::span<const uint8_t> b, size_t at, size_t length) {
  return {reinterpret_cast<const char*>(b.data()) + at, length};
}

uint32_t crc_of(std::span<const uint8_t> bytes) {
  return static_cast<uint32_t>(crc32_z(0, bytes.data(), bytes.size()));
}

// Where the directory lies.
struct End {
  size_t position = 0;  // of this record, the end of the directory
  size_t directory = 0;
  size_t entries = 0;
};

class Reader {
 public:
  Reader(std::span<const uint8_t> bytes, const std::string& path) : bytes_(bytes), path_(path) {}

  Result<std::vector<ZipMember>> list() const {
    FO_ASSIGN_OR_RETURN(const End end, find_end());
    std::vector<ZipMember> out;
    std::set<std::string> names;
    uint64_t stored = 0;
    size_t at = end.directory;
    for (size_t i = 0; i < end.entries; ++i) {
      FO_ASSIGN_OR_RETURN(ZipMember member, read_entry(end, at));
      if (!names.insert(member.name).second) {
        return refusal("holds " + quote(member.name) + " twice");
      }
      stored += member.stored.size() + kLocalBytes;
      out.push_back(std::move(member));
    }
    if (at != end.position) return refusal("has bytes after the last entry of its directory");
    // Members that share bytes could grow without end when they are read.
    if (stored > end.directory) return refusal("holds members that overlap");
    return out;
  }

 private:
  Status refusal(const std::string& what) const { return corrupt_file(path_ + ": " + what); }

  // The record at the end of the file, behind which only its own comment may lie.
  Result<End> find_end() const {
    if (bytes_.size() < kEndBytes) return refusal("is no ZIP archive");
    const size_t last = bytes_.size() - kEndBytes;
    const size_t first = last - std::min(last, kLongestComment);
    for (size_t at = last + 1; at-- > first;) {
      if (get32(bytes_, at) != kEndMagic ||
          at + kEndBytes + get16(bytes_, at + 20) != bytes_.size()) {
        continue;
      }
      const uint64_t count = get16(bytes_, at + 10);
      const uint64_t size = get32(bytes_, at + 12), directory = get32(bytes_, at + 16);
      if (get16(bytes_, at + 4) != 0 || get16(bytes_, at + 6) != 0 ||
          get16(bytes_, at + 8) != count) {
        return unsupported(path_ + ": is a ZIP archive in several parts, wanted one");
      }
      if (directory == kMaxFields || size == kMaxFields || count == 0xffff) {
        return unsupported(path_ + ": is a ZIP64 archive, wanted one below 4 GiB");
      }
      if (directory + size != at) {
        return refusal("has its directory at " + std::to_string(directory) + " with " +
                       std::to_string(size) + " bytes, wanted its end at " + std::to_string(at));
      }
      return End{at, static_cast<size_t>(directory), static_cast<size_t>(count)};
    }
    return refusal("is no ZIP archive (it has no end record), or it was cut off");
  }

  // The directory entry at `at`, which moves behind it.
  Result<ZipMember> read_entry(const End& end, size_t& at) const {
    if (end.position - at < kEntryBytes || get32(bytes_, at) != kEntryMagic) {
      return refusal("has no directory entry at byte " + std::to_string(at));
    }
    const size_t name_length = get16(bytes_, at + 28);
    const size_t length =
        kEntryBytes + name_length + get16(bytes_, at + 30) + get16(bytes_, at + 32);
    if (end.position - at < length) return refusal("has a directory entry beyond its end");
    ZipMember m;
    m.name = text(bytes_, at + kEntryBytes, name_length);
    const std::string who = path_ + ": " + quote(m.name);
    const uint16_t method = get16(bytes_, at + 10);
    if ((get16(bytes_, at + 8) & kEncrypted) != 0) return unsupported(who + " is encrypted");
    if (method != kStored && method != kDeflated) {
      return unsupported(who + " has compression method " + std::to_string(method) +
                         ", wanted 0 (stored) or 8 (deflated)");
    }
    m.deflated = method == kDeflated;
    m.crc = get32(bytes_, at + 16);
    m.bytes = get32(bytes_, at + 24);
    const uint64_t stored = get32(bytes_, at + 20), local = get32(bytes_, at + 42);
    if (stored == kMaxFields || m.bytes == kMaxFields || local == kMaxFields) {
      return unsupported(who + " has ZIP64 sizes, wanted less than 4 GiB");
    }
    at += length;

    // The local header repeats the name and has lengths of its own; its sizes may be missing.
    if (local > end.directory || end.directory - local < kLocalBytes ||
        get32(bytes_, local) != kLocalMagic) {
      return refusal(quote(m.name) + " has no header at byte " + std::to_string(local));
    }
    const size_t header = kLocalBytes + get16(bytes_, local + 26) + get16(bytes_, local + 28);
    if (end.directory - local < header || end.directory - local - header < stored) {
      return refusal(quote(m.name) + " of " + std::to_string(stored) +
                     " stored bytes reaches beyond the directory");
    }
    if (get16(bytes_, local + 8) != method ||
        text(bytes_, local + kLocalBytes, get16(bytes_, local + 26)) != m.name) {
      return refusal(quote(m.name) + " has a header that differs from its directory entry");
    }
    const bool fits = m.deflated ? m.bytes <= stored * kMaxDeflateRatio : m.bytes == stored;
    if (!fits) {
      return refusal(quote(m.name) + " is said to be " + std::to_string(m.bytes) +
                     " bytes, which its " + std::to_string(stored) + " stored bytes cannot hold");
    }
    m.stored = bytes_.subspan(local + header, static_cast<size_t>(stored));
    return m;
  }

  std::span<const uint8_t> bytes_;
  const std::string& path_;
};

// Raw deflate. False unless it gives exactly out.size() bytes from all of `in`.
bool inflate_exactly(std::span<const uint8_t> in, std::span<uint8_t> out) {
  z_stream z = {};
  if (inflateInit2(&z, -MAX_WBITS) != Z_OK) return false;
  uint8_t none = 0;
  z.next_in = const_cast<uint8_t*>(in.data());
  z.avail_in = static_cast<uInt>(in.size());
  z.next_out = out.empty() ? &none : out.data();
  z.avail_out = static_cast<uInt>(out.size());
  const int result = inflate(&z, Z_FINISH);
  const bool exact = result == Z_STREAM_END && z.avail_in == 0 && z.avail_out == 0;
  inflateEnd(&z);
  return exact;
}

void put16(std::vector<uint8_t>& out, uint64_t value) {
  out.push_back(static_cast<uint8_t>(value));
  out.push_back(static_cast<uint8_t>(value >> 8));
}
void put32(std::vector<uint8_t>& out, uint64_t value) {
  put16(out, value & 0xffff);
  put16(out, value >> 16);
}

// What a local header and a directory entry have in common.
void put_description(std::vector<uint8_t>& out, const std::string& name,
                     std::span<const uint8_t> contents) {
  put16(out, kVersion);
  put16(out, 0);  // flags
  put16(out, kStored);
  put16(out, 0);  // time
  put16(out, kFirstDate);
  put32(out, crc_of(contents));
  put32(out, contents.size());
  put32(out, contents.size());
  put16(out, name.size());
  put16(out, 0);  // extra fields
}

}  // namespace

Result<std::vector<ZipMember>> list_zip(std::span<const uint8_t> bytes, const std::string& path) {
  return Reader(bytes, path).list();
}

Result<std::vector<uint8_t>> read_zip_member(const ZipMember& member, const std::string& path) {
  const std::string who = path + ": " + quote(member.name);
  std::vector<uint8_t> out(member.bytes);
  if (!member.deflated) {
    std::copy(member.stored.begin(), member.stored.end(), out.begin());
  } else if (!inflate_exactly(member.stored, out)) {
    return corrupt_file(who + " does not inflate to " + std::to_string(member.bytes) + " bytes");
  }
  if (crc_of(out) != member.crc) return corrupt_file(who + " has another checksum than it says");
  return out;
}

Result<std::vector<uint8_t>> make_zip(
    std::span<const std::pair<std::string, std::vector<uint8_t>>> members) {
  uint64_t total = kEndBytes;
  for (const auto& [name, contents] : members) {
    total += kLocalBytes + kEntryBytes + 2 * name.size() + contents.size();
  }
  if (total >= kMaxFields || members.size() >= 0xffff) {
    return invalid_argument("an archive of " + std::to_string(total) +
                            " bytes, wanted less than 4 GiB");
  }
  std::vector<uint8_t> out, directory;
  out.reserve(total);
  for (const auto& [name, contents] : members) {
    const size_t local = out.size();
    put32(out, kLocalMagic);
    put_description(out, name, contents);
    out.insert(out.end(), name.begin(), name.end());
    out.insert(out.end(), contents.begin(), contents.end());

    put32(directory, kEntryMagic);
    put16(directory, kVersion);
    put_description(directory, name, contents);
    put16(directory, 0);  // comment
    put16(directory, 0);  // part
    put16(directory, 0);  // internal attributes
    put32(directory, 0);  // external ones
    put32(directory, local);
    directory.insert(directory.end(), name.begin(), name.end());
  }
  const size_t position = out.size();
  out.insert(out.end(), directory.begin(), directory.end());
  put32(out, kEndMagic);
  put32(out, 0);  // parts
  put16(out, members.size());
  put16(out, members.size());
  put32(out, directory.size());
  put32(out, position);
  put16(out, 0);  // comment
  return out;
}

}  // namespace flashomni
