// SPDX-License-Identifier: Apache-2.0
//
// Reading: the length in front of the header, then the header, which is checked by itself.
#include "io/safetensors.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "io/safetensors_header.h"

namespace flashomni {
namespace {

constexpr size_t kLengthBytes = 8;

// The header's length, checked.
Result<uint64_t> header_length(const InputFile& file) {
  const uint64_t size = file.size();
  std::array<uint8_t, 64> start{};
  const size_t seen = size_t(std::min<uint64_t>(size, start.size()));
  FO_RETURN_IF_ERROR(file.read(0, std::span(start).first(seen)));
  FO_RETURN_IF_ERROR(check_not_lfs_pointer(std::span(start).first(seen), file.path()));
  if (size < kLengthBytes) {
    return corrupt_file(file.path() + " has " + std::to_string(size) +
                        " bytes; a safetensors file has at least 8");
  }
  uint64_t length = 0;
  std::memcpy(&length, start.data(), kLengthBytes);
  if (length > kMaxSafetensorsHeader) {
    return corrupt_file(file.path() + ": header length is " + std::to_string(length) +
                        ", at most " + std::to_string(kMaxSafetensorsHeader));
  }
  if (length > size - kLengthBytes) {
    return corrupt_file(file.path() + ": header length is " + std::to_string(length) +
                        ", the file has only " + std::to_string(size - kLengthBytes) +
                        " bytes behind it");
  }
  return length;
}

}  // namespace

Result<SafetensorsFile> SafetensorsFile::open(const std::string& path) {
  FO_ASSIGN_OR_RETURN(InputFile input, InputFile::open(path));
  FO_ASSIGN_OR_RETURN(const uint64_t length, header_length(input));
  std::vector<uint8_t> text(length);
  FO_RETURN_IF_ERROR(input.read(kLengthBytes, text));
  const uint64_t data = kLengthBytes + length;
  FO_ASSIGN_OR_RETURN(SafetensorsHeader header,
                      parse_safetensors_header(as_text(text), input.size() - data, path));

  SafetensorsFile file(std::make_shared<const InputFile>(std::move(input)));
  file.metadata_ = std::move(header.metadata);
  file.tensors_.reserve(header.records.size());
  for (TensorRecord& r : header.records) {
    r.entry.file = file.file_;
    r.entry.offset = data + r.begin;
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
