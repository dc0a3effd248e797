// SPDX-License-Identifier: Apache-2.0
#include "pipelines/symbols_source.h"

#include <algorithm>
#include <charconv>
#include <cstring>

#include "io/npz.h"

namespace flashomni {
namespace {

template <class T>
void append_as(std::span<const uint8_t> bytes, std::vector<int64_t>& out) {
  for (size_t at = 0; at < bytes.size(); at += sizeof(T)) {
    T value;
    std::memcpy(&value, bytes.data() + at, sizeof(T));
    out.push_back(static_cast<int64_t>(value));
  }
}

}  // namespace

Result<std::vector<int64_t>> whole_numbers(const TensorEntry& entry, const std::string& path) {
  FO_ASSIGN_OR_RETURN(const std::vector<uint8_t> bytes, read_tensor(entry));
  std::vector<int64_t> out;
  out.reserve(static_cast<size_t>(entry.numel()));
  switch (entry.dtype) {
    case StoredDType::kBool:
    case StoredDType::kU8:
      append_as<uint8_t>(bytes, out);
      return out;
    case StoredDType::kI8:
      append_as<int8_t>(bytes, out);
      return out;
    case StoredDType::kU16:
      append_as<uint16_t>(bytes, out);
      return out;
    case StoredDType::kI16:
      append_as<int16_t>(bytes, out);
      return out;
    case StoredDType::kU32:
      append_as<uint32_t>(bytes, out);
      return out;
    case StoredDType::kI32:
      append_as<int32_t>(bytes, out);
      return out;
    case StoredDType::kI64:
      append_as<int64_t>(bytes, out);
      return out;
    default:
      return corrupt_file(path + ": " + entry.to_string() + ", wanted bool or whole numbers");
  }
}

Result<SymbolsSource> SymbolsSource::open(const std::string& path) {
  SymbolsSource out;
  out.path_ = path;
  if (!is_npz(path)) {
    FO_ASSIGN_OR_RETURN(SafetensorsFile opened, SafetensorsFile::open(path));
    const auto file = std::make_shared<const SafetensorsFile>(std::move(opened));
    out.tensors_ = file->tensors();
    out.metadata_ = file->metadata();
    out.file_ = file;
    return out;
  }
  FO_ASSIGN_OR_RETURN(NpzFile opened, NpzFile::open(path));
  const auto file = std::make_shared<const NpzFile>(std::move(opened));
  out.tensors_ = file->tensors();
  out.others_ = file->others();
  out.file_ = file;
  for (const TensorEntry& t : out.tensors_) {
    if (!t.shape.empty()) continue;
    const Result<std::vector<int64_t>> value = whole_numbers(t, path);
    if (value.ok()) out.metadata_[t.name] = std::to_string(value->front());
  }
  return out;
}

const TensorEntry* SymbolsSource::find(std::string_view name) const {
  const auto it = std::ranges::find(tensors_, name, &TensorEntry::name);
  return it == tensors_.end() ? nullptr : &*it;
}

Status write_symbols_source(const std::string& path, std::span<const TensorToWrite> tensors,
                            const std::map<std::string, std::string>& metadata) {
  if (!path.ends_with(".npz")) return write_safetensors(path, tensors, metadata);
  std::vector<TensorToWrite> all(tensors.begin(), tensors.end());
  std::vector<int64_t> numbers;
  numbers.reserve(metadata.size());  // spans point into it
  for (const auto& [key, text] : metadata) {
    int64_t value = 0;
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
    if (parsed.ec != std::errc() || parsed.ptr != text.data() + text.size()) continue;
    numbers.push_back(value);
    all.push_back({key,
                   StoredDType::kI64,
                   {},
                   {reinterpret_cast<const uint8_t*>(&numbers.back()), sizeof(int64_t)}});
  }
  return write_npz(path, all);
}

}  // namespace flashomni
