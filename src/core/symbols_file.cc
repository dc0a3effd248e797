// SPDX-License-Identifier: Apache-2.0
//
// The binary form of symbols (docs/symbols_format.md): a fixed header, with ragged blocks (version
// 2) their number and where they end, the words as they lie in memory, a checksum. All numbers are
// little-endian. Input is taken as hostile: the length that the header implies must be the length
// there is before anything of that size is allocated.
#include <array>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <system_error>

#include "core/symbols_view.h"

namespace flashomni {
namespace {

constexpr uint32_t kMagic = 0x59534f46;  // the bytes "FOSY"
constexpr uint32_t kVersion = 1;         // blocks of one size
constexpr uint32_t kRaggedVersion = 2;   // ragged blocks
constexpr size_t kHeaderBytes = 32;      // magic, version and six fields of SymbolGeometry
constexpr size_t kChecksumBytes = 4;
// S_c never has more words than S_s.
constexpr uintmax_t kMaxFileBytes =
    kHeaderBytes + 4 * (uintmax_t{kMaxRaggedBlocks} + 1) + 16 * kMaxSymbolWords + kChecksumBytes;

// CRC-32 (IEEE 802.3, reflected), the one of zip and PNG.
uint32_t crc32(std::span<const uint8_t> bytes) {
  static constexpr std::array<uint32_t, 256> kTable = [] {
    std::array<uint32_t, 256> table{};
    for (uint32_t n = 0; n < 256; ++n) {
      uint32_t x = n;
      for (int bit = 0; bit < 8; ++bit) x = x >> 1 ^ (x & 1 ? 0xedb88320u : 0u);
      table[n] = x;
    }
    return table;
  }();
  uint32_t crc = 0xffffffffu;
  for (const uint8_t byte : bytes) crc = kTable[(crc ^ byte) & 0xff] ^ crc >> 8;
  return ~crc;
}

template <class T>
void append(std::vector<uint8_t>& out, T value) {
  for (size_t k = 0; k < sizeof(T); ++k) out.push_back(static_cast<uint8_t>(value >> 8 * k));
}

// Reads one number at `pos` and moves past it. REQUIRES: it lies within `bytes`.
template <class T>
T take(std::span<const uint8_t> bytes, size_t& pos) {
  T value = 0;
  for (size_t k = 0; k < sizeof(T); ++k) value |= static_cast<T>(T{bytes[pos++]} << 8 * k);
  return value;
}

size_t file_bytes(const SymbolGeometry& g) {
  const size_t blocks = g.ragged() ? 4 * (static_cast<size_t>(g.ragged_blocks) + 1) : 0;
  return kHeaderBytes + blocks + 8 * static_cast<size_t>(g.total_c_words() + g.total_s_words()) +
         kChecksumBytes;
}

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, CloseFile>;

std::string last_error() {
  return std::generic_category().message(errno);
}

// Creates a file beside `path` that did not exist before, so that two writers never share one.
File create_beside(const std::string& path, std::string& name) {
  constexpr int kAttempts = 1000;
  for (int k = 0; k < kAttempts; ++k) {
    name = path + ".tmp" + std::to_string(k);
    File file(std::fopen(name.c_str(), "wbx"));
    if (file || errno != EEXIST) return file;
  }
  return nullptr;
}

Status write_all(File file, const std::string& name, std::span<const uint8_t> bytes) {
  const bool written = std::fwrite(bytes.data(), 1, bytes.size(), file.get()) == bytes.size();
  // Closing flushes, so a full disk may show only here.
  const bool closed = std::fclose(file.release()) == 0;
  if (written && closed) return ok_status();
  return io_error("cannot write " + std::to_string(bytes.size()) + " bytes to " + name + ": " +
                  last_error());
}

}  // namespace

std::vector<uint8_t> serialize_symbols(const SparseSymbols& a) {
  const SymbolGeometry& g = a.geometry();
  std::vector<uint8_t> out;
  out.reserve(file_bytes(g));
  append(out, kMagic);
  append(out, g.ragged() ? kRaggedVersion : kVersion);
  for (const int field : {g.batch, g.heads, g.q_tokens, g.kv_tokens, g.block_q, g.block_kv}) {
    append(out, static_cast<uint32_t>(field));
  }
  if (g.ragged()) {
    append(out, static_cast<uint32_t>(g.ragged_blocks));
    for (const int32_t end : a.starts().subspan(1)) append(out, static_cast<uint32_t>(end));
  }
  for (const uint64_t word : a.c_words()) append(out, word);
  for (const uint64_t word : a.s_words()) append(out, word);
  append(out, crc32(out));
  return out;
}

Result<SparseSymbols> deserialize_symbols(std::span<const uint8_t> bytes) {
  if (bytes.size() < kHeaderBytes + kChecksumBytes) {
    return corrupt_file("symbols are " + std::to_string(bytes.size()) + " bytes, wanted at least " +
                        std::to_string(kHeaderBytes + kChecksumBytes));
  }
  size_t pos = 0;
  if (take<uint32_t>(bytes, pos) != kMagic) {
    return corrupt_file("not a symbols file: it does not begin with 'FOSY'");
  }
  const uint32_t version = take<uint32_t>(bytes, pos);
  if (version != kVersion && version != kRaggedVersion) {
    return unsupported("symbols file has version " + std::to_string(version) + ", wanted " +
                       std::to_string(kVersion) + " or " + std::to_string(kRaggedVersion));
  }
  SymbolGeometry g;
  for (int* field : {&g.batch, &g.heads, &g.q_tokens, &g.kv_tokens, &g.block_q, &g.block_kv}) {
    *field = static_cast<int>(take<uint32_t>(bytes, pos));
  }
  if (version == kRaggedVersion) {
    // Also of the shortest file: the checksum is as long as this number.
    g.ragged_blocks = static_cast<int>(take<uint32_t>(bytes, pos));
    if (!g.ragged()) {
      return corrupt_file("symbols file of version 2 says 0 ragged blocks, wanted at least 1");
    }
  }
  if (const Status status = g.validate(); !status.ok()) return corrupt_file(status.message());
  if (bytes.size() != file_bytes(g)) {
    return corrupt_file("symbols are " + std::to_string(bytes.size()) + " bytes, wanted " +
                        std::to_string(file_bytes(g)) + " for the geometry in the header");
  }
  size_t checksum_pos = bytes.size() - kChecksumBytes;
  const uint32_t seen = crc32(bytes.first(checksum_pos));
  const uint32_t stored = take<uint32_t>(bytes, checksum_pos);
  if (seen != stored) {
    return corrupt_file("symbols have checksum " + std::to_string(seen) + ", wanted the stored " +
                        std::to_string(stored));
  }
  std::vector<int32_t> starts;
  if (g.ragged()) {
    starts.push_back(0);
    for (int i = 0; i < g.ragged_blocks; ++i) {
      starts.push_back(static_cast<int32_t>(take<uint32_t>(bytes, pos)));
    }
    const Status status = validate_starts(g, starts);
    if (!status.ok()) return corrupt_file(status.message());
  }
  SparseSymbols out(g, starts);
  for (uint64_t& word : out.c_words()) word = take<uint64_t>(bytes, pos);
  for (uint64_t& word : out.s_words()) word = take<uint64_t>(bytes, pos);
  if (const Status status = out.validate(); !status.ok()) return corrupt_file(status.message());
  return out;
}

Status save_symbols(const SparseSymbols& a, const std::string& path) {
  // A file that load_symbols would refuse is better not written.
  FO_RETURN_IF_ERROR(a.validate());
  std::string name;
  File file = create_beside(path, name);
  if (!file) return io_error("cannot create " + name + ": " + last_error());
  std::error_code error;
  Status status = write_all(std::move(file), name, serialize_symbols(a));
  if (status.ok()) {
    std::filesystem::rename(name, path, error);
    if (!error) return ok_status();
    status = io_error("cannot rename " + name + " to " + path + ": " + error.message());
  }
  std::filesystem::remove(name, error);
  return status;
}

Result<SparseSymbols> load_symbols(const std::string& path) {
  std::error_code error;
  const uintmax_t size = std::filesystem::file_size(path, error);
  if (error == std::errc::no_such_file_or_directory) return not_found("no symbols file " + path);
  if (error) return io_error("cannot read " + path + ": " + error.message());
  if (size > kMaxFileBytes) {
    return corrupt_file(path + ": " + std::to_string(size) + " bytes, wanted at most " +
                        std::to_string(kMaxFileBytes));
  }
  const File file(std::fopen(path.c_str(), "rb"));
  if (!file) return io_error("cannot open " + path + ": " + last_error());
  std::vector<uint8_t> bytes(static_cast<size_t>(size));
  if (std::fread(bytes.data(), 1, bytes.size(), file.get()) != bytes.size()) {
    return io_error("cannot read " + std::to_string(size) + " bytes of " + path);
  }
  Result<SparseSymbols> symbols = deserialize_symbols(bytes);
  if (symbols.ok()) return symbols;
  return Status(symbols.status().code(), path + ": " + symbols.status().message());
}

}  // namespace flashomni
