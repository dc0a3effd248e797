// SPDX-License-Identifier: Apache-2.0
//
// Reading: the header's records against each other and against the file.
#include "io/safetensors.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "io/safetensors_header.h"

namespace flashomni {
namespace {

constexpr size_t kLengthBytes = 8;

// The header's text, after all checks of the length in front of it.
Result<std::string_view> header_text(const MappedFile& file) {
  const uint64_t size = file.bytes().size();
  if (size < kLengthBytes) {
    return corrupt_file(file.path() + " has " + std::to_string(size) +
                        " bytes; a safetensors file has at least 8");
  }
  uint64_t length = 0;
  std::memcpy(&length, file.bytes().data(), kLengthBytes);
  if (length > kMaxSafetensorsHeader) {
    return corrupt_file(file.path() + ": header length is " + std::to_string(length) +
                        ", at most " + std::to_string(kMaxSafetensorsHeader));
  }
  if (length > size - kLengthBytes) {
    return corrupt_file(file.path() + ": header length is " + std::to_string(length) +
                        ", the file has only " + std::to_string(size - kLengthBytes) +
                        " bytes behind it");
  }
  return file.text().substr(kLengthBytes, length);
}

// Tensors must tile [0, data_bytes) exactly: each byte of the data belongs to one tensor, so the
// file can hold nothing that the header does not say.
Status check_tiling(const std::vector<TensorRecord>& records, uint64_t data_bytes,
                    const std::string& path) {
  std::vector<const TensorRecord*> order;
  order.reserve(records.size());
  for (const TensorRecord& r : records) order.push_back(&r);
  std::sort(order.begin(), order.end(), [](const TensorRecord* a, const TensorRecord* b) {
    return std::pair(a->begin, a->end) < std::pair(b->begin, b->end);
  });
  uint64_t next = 0;
  for (const TensorRecord* r : order) {
    if (r->begin != next) {
      return corrupt_file(path + ": tensor " + r->entry.to_string() + " begins at byte " +
                          std::to_string(r->begin) + (r->begin < next ? " (overlap)" : " (hole)") +
                          ", wanted " + std::to_string(next));
    }
    next = r->end;
  }
  if (next != data_bytes) {
    return corrupt_file(path + ": tensors end at byte " + std::to_string(next) +
                        " of the data, the file has " + std::to_string(data_bytes) +
                        (next > data_bytes ? " (truncated)" : " (trailing bytes)"));
  }
  return ok_status();
}

}  // namespace

Result<SafetensorsFile> SafetensorsFile::open(const std::string& path) {
  FO_ASSIGN_OR_RETURN(MappedFile mapped, MappedFile::open(path));
  FO_RETURN_IF_ERROR(mapped.check_not_lfs_pointer());
  FO_ASSIGN_OR_RETURN(const std::string_view text, header_text(mapped));
  FO_ASSIGN_OR_RETURN(SafetensorsHeader header, parse_safetensors_header(text, path));

  const std::span<const uint8_t> data = mapped.bytes().subspan(kLengthBytes + text.size());
  FO_RETURN_IF_ERROR(check_tiling(header.records, data.size(), path));

  SafetensorsFile file(std::move(mapped));
  file.metadata_ = std::move(header.metadata);
  file.tensors_.reserve(header.records.size());
  for (TensorRecord& r : header.records) {
    r.entry.data = data.data() + r.begin;
    file.tensors_.push_back(std::move(r.entry));
  }
  FO_RETURN_IF_ERROR(file.check_unchanged());
  return file;
}

const TensorEntry* SafetensorsFile::find(std::string_view name) const {
  const auto it =
      std::lower_bound(tensors_.begin(), tensors_.end(), name,
                       [](const TensorEntry& e, std::string_view n) { return e.name < n; });
  return it != tensors_.end() && it->name == name ? &*it : nullptr;
}

}  // namespace flashomni
