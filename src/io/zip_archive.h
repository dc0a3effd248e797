// SPDX-License-Identifier: Apache-2.0
//
// ZIP archives (PKWARE APPNOTE.TXT 6.3) as numpy.savez and zip programs write them: one part, not
// encrypted, below 4 GiB, members stored or deflated. Everything else is refused by name.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "flashomni/status.h"

namespace flashomni {

struct ZipMember {
  std::string name;
  bool deflated = false;
  uint32_t crc = 0;                 // CRC-32 of the contents
  uint64_t bytes = 0;               // of the contents
  std::span<const uint8_t> stored;  // as they lie in the archive
};

// The members of the archive `bytes`, in the order of its directory; they point into `bytes`.
// kCorruptFile unless every offset and length agrees with the file: members lie apart, inside the
// archive and before the directory, and no contents are larger than their stored bytes can hold.
Result<std::vector<ZipMember>> list_zip(std::span<const uint8_t> bytes, const std::string& path);

// The contents of a member, checked against their length and CRC. `path` names the archive in
// messages.
Result<std::vector<uint8_t>> read_zip_member(const ZipMember& member, const std::string& path);

// An archive of stored members, with names and contents. kInvalidArgument where it would not fit
// 4 GiB.
Result<std::vector<uint8_t>> make_zip(
    std::span<const std::pair<std::string, std::vector<uint8_t>>> members);

}  // namespace flashomni
