// SPDX-License-Identifier: Apache-2.0
//
// NumPy files. The first byte says what the rest is: even, a whole .npz; odd, one .npy array, whose
// header then needs no archive with the right checksum around it.
#include "io/npz.h"
#include "tests/fuzz/fuzz_target.h"

namespace {

using namespace flashomni;

void fuzz_archive(std::span<const uint8_t> bytes) {
  const auto file = NpzFile::parse(bytes, "fuzz");
  if (!file.ok()) {
    FUZZ_CHECK(!file.status().message().empty());
    return;
  }
  const TensorEntry* previous = nullptr;
  for (const TensorEntry& t : file->tensors()) {
    FUZZ_CHECK(uint64_t(t.numel()) * uint64_t(stored_dtype_bits(t.dtype)) == uint64_t{t.bytes} * 8);
    FUZZ_CHECK(previous == nullptr || previous->name < t.name);
    const auto values = read_tensor(t);  // a sanitizer sees reads beyond the storage
    FUZZ_CHECK(values.ok() && values->size() == t.bytes);
    previous = &t;
  }
}

void fuzz_array(std::span<const uint8_t> bytes) {
  const auto header = parse_npy_header(bytes, "fuzz");
  if (!header.ok()) {
    FUZZ_CHECK(!header.status().message().empty());
    return;
  }
  FUZZ_CHECK(header->data_offset <= bytes.size());
  FUZZ_CHECK(header->shape.size() <= kMaxTensorRank);
  for (const int64_t n : header->shape) FUZZ_CHECK(n >= 0 && n <= kMaxTensorDim);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  if (size == 0) return 0;
  const std::span<const uint8_t> rest(bytes + 1, size - 1);
  if (bytes[0] % 2 == 0) {
    fuzz_archive(rest);
  } else {
    fuzz_array(rest);
  }
  return 0;
}
