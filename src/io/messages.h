// SPDX-License-Identifier: Apache-2.0
//
// Pieces of error messages that every loader needs: names out of hostile files made safe to print,
// and errno values turned into a Status.
#pragma once

#include <cerrno>
#include <string>
#include <string_view>
#include <system_error>

#include "flashomni/status.h"

namespace flashomni {

// `text` with bytes that could disturb a terminal or a log as \xNN, and "..." where it is cut after
// `limit` bytes.
inline std::string printable(std::string_view text, size_t limit) {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out;
  for (const char c : text.substr(0, limit)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7f) {
      out += c;
    } else {
      out += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
    }
  }
  if (text.size() > limit) out += "...";
  return out;
}

// A name read from a file, for a message: 'name'.
inline std::string quote(std::string_view name) {
  return "'" + printable(name, 80) + "'";
}

// "<what>: No such file or directory", as kNotFound or kIoError.
inline Status errno_status(const std::string& what, int error = errno) {
  const std::string message = what + ": " + std::generic_category().message(error);
  return error == ENOENT ? not_found(message) : io_error(message);
}

}  // namespace flashomni
