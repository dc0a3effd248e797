// SPDX-License-Identifier: Apache-2.0
//
// Damaged PNGs whose check sums are right.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace flashomni::testkit {

// Makes the check sums of a PNG's chunks right, as far as its chunks can be followed, so that
// damage gets past them.
inline void repair_png(std::vector<uint8_t>& png) {
  const auto u32 = [&](size_t at) {
    return uint32_t{png[at]} << 24 | uint32_t{png[at + 1]} << 16 | uint32_t{png[at + 2]} << 8 |
           png[at + 3];
  };
  for (size_t at = 8; at + 12 <= png.size();) {
    const size_t end = at + 8 + u32(at);  // of the chunk's data
    if (end + 4 > png.size()) return;
    uint32_t crc = ~0u;
    for (size_t i = at + 4; i < end; ++i) {
      crc ^= png[i];
      for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (crc & 1 ? 0xedb88320u : 0);
    }
    for (int i = 0; i < 4; ++i) png[end + size_t(i)] = uint8_t(~crc >> (24 - 8 * i));
    at = end + 4;
  }
}

}  // namespace flashomni::testkit
