// SPDX-License-Identifier: Apache-2.0
//
// Writing: the mirror image of the reader's checks, then the file in one pass.
#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <tuple>

#include "io/atomic_file.h"
#include "io/messages.h"
#include "io/safetensors.h"
#include "io/safetensors_header.h"

namespace flashomni {
namespace {

constexpr size_t kAlignment = 8;

// A JSON string literal. Throws nlohmann's type_error when `text` is not UTF-8.
std::string json_string(const std::string& text) {
  return nlohmann::json(text).dump();
}

std::string record_json(const TensorToWrite& t, uint64_t begin) {
  std::string out =
      json_string(t.name) + ":{\"dtype\":\"" + stored_dtype_name(t.dtype) + "\",\"shape\":[";
  for (size_t i = 0; i < t.shape.size(); ++i) out += (i ? "," : "") + std::to_string(t.shape[i]);
  return out + "],\"data_offsets\":[" + std::to_string(begin) + "," +
         std::to_string(begin + t.data.size()) + "]}";
}

// The whole header, padded. Throws as json_string does.
std::string header_json(const std::vector<const TensorToWrite*>& order,
                        const std::map<std::string, std::string>& metadata) {
  std::string out = "{";
  if (!metadata.empty()) out += "\"__metadata__\":" + nlohmann::json(metadata).dump();
  uint64_t begin = 0;
  for (const TensorToWrite* t : order) {
    if (out.size() > 1) out += ',';
    out += record_json(*t, begin);
    begin += t->data.size();
  }
  out += '}';
  out.resize((out.size() + kAlignment - 1) / kAlignment * kAlignment, ' ');
  return out;
}

Status check_tensor(const TensorToWrite& t) {
  const std::string name = "cannot write tensor " + quote(t.name) + ": ";
  if (t.name == "__metadata__") return invalid_argument(name + "the name is reserved");
  if (t.name.size() > kMaxTensorName) {
    return invalid_argument(name + "the name has " + std::to_string(t.name.size()) +
                            " bytes, at most " + std::to_string(kMaxTensorName));
  }
  const auto bytes = stored_tensor_bytes(t.dtype, t.shape);
  if (!bytes.ok()) return invalid_argument(name + bytes.status().message());
  if (*bytes != t.data.size()) {
    return invalid_argument(name + "it has " + std::to_string(t.data.size()) +
                            " bytes of data, its shape needs " + std::to_string(*bytes));
  }
  return ok_status();
}

}  // namespace

Status write_safetensors(const std::string& path, std::span<const TensorToWrite> tensors,
                         const std::map<std::string, std::string>& metadata) {
  std::vector<const TensorToWrite*> order;
  order.reserve(tensors.size());
  for (const TensorToWrite& t : tensors) {
    FO_RETURN_IF_ERROR(check_tensor(t));
    order.push_back(&t);
  }
  const auto name_less = [](const auto* a, const auto* b) { return a->name < b->name; };
  std::sort(order.begin(), order.end(), name_less);
  const auto twice = std::adjacent_find(
      order.begin(), order.end(), [](const auto* a, const auto* b) { return a->name == b->name; });
  if (twice != order.end()) {
    return invalid_argument("cannot write tensor " + quote((*twice)->name) + ": it is given twice");
  }
  std::stable_sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    return stored_dtype_bits(a->dtype) > stored_dtype_bits(b->dtype);
  });

  std::string header;
  try {
    header = header_json(order, metadata);
  } catch (const nlohmann::json::exception&) {
    return invalid_argument("cannot write " + path + ": a name or metadata is not UTF-8");
  }
  if (header.size() > kMaxSafetensorsHeader) {
    return invalid_argument("cannot write " + path + ": the header would have " +
                            std::to_string(header.size()) + " bytes, at most " +
                            std::to_string(kMaxSafetensorsHeader));
  }
  const uint64_t length = header.size();
  uint8_t length_bytes[sizeof(length)];
  std::memcpy(length_bytes, &length, sizeof(length));

  FO_ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::create(path));
  FO_RETURN_IF_ERROR(file.write(std::span<const uint8_t>(length_bytes)));
  FO_RETURN_IF_ERROR(file.write(header));
  for (const TensorToWrite* t : order) FO_RETURN_IF_ERROR(file.write(t->data));
  return file.commit();
}

}  // namespace flashomni
