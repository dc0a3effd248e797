// SPDX-License-Identifier: Apache-2.0
//
// Symbol files. The checksum is made right first, so that damage gets past it.
#include <cstring>
#include <vector>

#include "flashomni/symbols.h"
#include "tests/fuzz/fuzz_target.h"

namespace {

// CRC-32 (IEEE 802.3, reflected).
uint32_t crc32(const uint8_t* bytes, size_t size) {
  uint32_t crc = ~0u;
  for (size_t i = 0; i < size; ++i) {
    crc ^= bytes[i];
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (crc & 1 ? 0xedb88320u : 0);
  }
  return ~crc;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using namespace flashomni;
  std::vector<uint8_t> file(bytes, bytes + size);
  if (size > 4) {
    const uint32_t crc = crc32(file.data(), size - 4);
    std::memcpy(file.data() + size - 4, &crc, 4);
  }
  const auto symbols = deserialize_symbols(file);
  if (!symbols.ok()) {
    FUZZ_CHECK(!symbols.status().message().empty());
    return 0;
  }
  FUZZ_CHECK(symbols->validate().ok());
  FUZZ_CHECK(serialize_symbols(*symbols) == file);
  const SymbolCounts counts = symbols->counts();
  FUZZ_CHECK(counts.pair_density() >= 0 && counts.pair_density() <= counts.row_density());
  const auto back = from_flat(symbols->geometry(), to_flat(*symbols));
  // The flat form does not say where ragged blocks start.
  const bool ragged = symbols->geometry().ragged();
  FUZZ_CHECK(back.ok() != ragged && (ragged || serialize_symbols(*back) == file));
  return 0;
}
