// SPDX-License-Identifier: Apache-2.0
//
// The header of a safetensors file and the size of the data behind it. The input is a file without
// its data: two bytes of data size, then the JSON.
#include "io/safetensors_header.h"
#include "tests/fuzz/fuzz_target.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using namespace flashomni;
  if (size < 2) return 0;
  const uint64_t data_bytes = uint64_t{bytes[0]} | uint64_t{bytes[1]} << 8;
  const std::string_view json(reinterpret_cast<const char*>(bytes) + 2, size - 2);
  const auto header = parse_safetensors_header(json, data_bytes, "fuzz");
  if (!header.ok()) {
    FUZZ_CHECK(!header.status().message().empty());
    return 0;
  }
  // What was accepted tiles the data exactly, in sizes that the shapes imply.
  uint64_t total = 0;
  const TensorRecord* previous = nullptr;
  for (const TensorRecord& r : header->records) {
    FUZZ_CHECK(r.begin <= r.end && r.end <= data_bytes && r.end - r.begin == r.entry.bytes);
    FUZZ_CHECK(uint64_t(r.entry.numel()) * uint64_t(stored_dtype_bits(r.entry.dtype)) ==
               uint64_t{r.entry.bytes} * 8);
    FUZZ_CHECK(previous == nullptr || previous->entry.name < r.entry.name);
    FUZZ_CHECK(!r.entry.to_string().empty());
    total += r.entry.bytes;
    previous = &r;
  }
  FUZZ_CHECK(total == data_bytes);
  return 0;
}
