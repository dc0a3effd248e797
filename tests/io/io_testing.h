// SPDX-License-Identifier: Apache-2.0
//
// What the io tests share: a folder that goes away with the test, raw files, safetensors bytes made
// by hand (so that they can be wrong), and seeded damage for fuzzing.
#pragma once

#include <gtest/gtest.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "base/rng.h"
#include "flashomni/status.h"
#include "tests/testkit/png_chunks.h"
#include "tests/testkit/temp_dir.h"

namespace flashomni::testing {

using Bytes = std::vector<uint8_t>;

using testkit::repair_png;
using testkit::TempDir;

inline Bytes to_bytes(const std::string& text) {
  return Bytes(text.begin(), text.end());
}

inline void put_file(const std::string& path, const Bytes& bytes) {
  std::filesystem::remove(path);  // cutting an old file to nothing makes some file systems sync
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out.write(reinterpret_cast<const char*>(bytes.data()), std::streamsize(bytes.size()));
}
inline void put_file(const std::string& path, const std::string& text) {
  put_file(path, to_bytes(text));
}

inline Bytes get_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return Bytes(std::istreambuf_iterator<char>(in), {});
}
inline std::string get_text(const std::string& path) {
  const Bytes bytes = get_file(path);
  return std::string(bytes.begin(), bytes.end());
}

// Eight bytes of header length, true or not, and what follows.
inline Bytes with_header_length(uint64_t length, const std::string& rest) {
  Bytes out(sizeof(length) + rest.size());
  std::memcpy(out.data(), &length, sizeof(length));
  std::copy(rest.begin(), rest.end(), out.begin() + sizeof(length));
  return out;
}

// A safetensors file with this header and this much data (bytes 0, 1, 2, ...).
inline Bytes safetensors_bytes(const std::string& header, size_t data_bytes) {
  std::string rest = header;
  for (size_t i = 0; i < data_bytes; ++i) rest += static_cast<char>(i);
  return with_header_length(header.size(), rest);
}

// One to four random changes: bit flips, bytes set, cuts, pieces copied over others or inserted,
// pieces of `other` spliced in.
inline Bytes damaged(const Bytes& original, const Bytes& other, Rng& rng) {
  Bytes b = original;
  const int changes = rng.range(1, 4);
  for (int k = 0; k < changes && !b.empty(); ++k) {
    const size_t at = rng.below(b.size());
    const size_t length = 1 + rng.below(std::min<size_t>(b.size() - at, 64));
    switch (rng.below(7)) {
      case 0:
        b[at] ^= uint8_t(1u << rng.below(8));
        break;
      case 1:
        b[at] = uint8_t(rng.next());
        break;
      case 2: {
        constexpr uint8_t kEdges[] = {0, 1, 0x7f, 0x80, 0xff};
        std::fill_n(b.begin() + ptrdiff_t(at), length, kEdges[rng.below(5)]);
        break;
      }
      case 3:
        b.resize(at);
        break;
      case 4:
        b.erase(b.begin() + ptrdiff_t(at), b.begin() + ptrdiff_t(at + length));
        break;
      case 5: {
        const Bytes piece(b.begin() + ptrdiff_t(at), b.begin() + ptrdiff_t(at + length));
        b.insert(b.begin() + ptrdiff_t(rng.below(b.size() + 1)), piece.begin(), piece.end());
        break;
      }
      default: {
        if (other.empty()) break;
        const size_t from = rng.below(other.size());
        const size_t n = 1 + rng.below(std::min<size_t>(other.size() - from, 64));
        b.insert(b.begin() + ptrdiff_t(at), other.begin() + ptrdiff_t(from),
                 other.begin() + ptrdiff_t(from + n));
        break;
      }
    }
  }
  return b;
}

// Passes when `status` failed with `code` and a message that holds `words`.
inline ::testing::AssertionResult fails_with(const Status& status, StatusCode code,
                                             const std::string& words) {
  if (status.ok()) return ::testing::AssertionFailure() << "it succeeded";
  if (status.code() != code || status.message().find(words) == std::string::npos) {
    return ::testing::AssertionFailure() << "got " << status.to_string() << ", wanted "
                                         << status_code_name(code) << " with '" << words << "'";
  }
  return ::testing::AssertionSuccess();
}

}  // namespace flashomni::testing
