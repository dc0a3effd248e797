// SPDX-License-Identifier: Apache-2.0
//
// The JSON header of a safetensors file as records, each checked for itself, against the others and
// against the size of the data behind them.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "flashomni/status.h"
#include "io/safetensors.h"

namespace flashomni {

struct TensorRecord {
  TensorEntry entry;   // without data
  uint64_t begin = 0;  // byte offsets into the file's data
  uint64_t end = 0;    // end - begin == entry.bytes
};

struct SafetensorsHeader {
  std::vector<TensorRecord> records;  // sorted by name, each name once
  std::map<std::string, std::string> metadata;
};

// `data_bytes` is what the file has behind the header; O(n log n) in the header's size.
Result<SafetensorsHeader> parse_safetensors_header(std::string_view json, uint64_t data_bytes,
                                                   const std::string& path);

// Bytes of a tensor of this type and shape; kInvalidArgument where that is not a whole number of
// bytes, overflows 64 bits, or the shape breaks a limit. The message is without a tensor name.
Result<uint64_t> stored_tensor_bytes(StoredDType dtype, const std::vector<int64_t>& shape);

}  // namespace flashomni
