// SPDX-License-Identifier: Apache-2.0
#include "base/byte_size.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdio>

namespace flashomni {
namespace {

struct Unit {
  const char* name;  // lower case
  double bytes;
};
constexpr Unit kUnits[] = {{"", 1},         {"b", 1},        {"kib", 0x1p10}, {"mib", 0x1p20},
                           {"gib", 0x1p30}, {"tib", 0x1p40}, {"kb", 1e3},     {"mb", 1e6},
                           {"gb", 1e9},     {"tb", 1e12}};
constexpr double kMost = 0x1p62;

}  // namespace

Result<size_t> parse_byte_size(const std::string& text) {
  double number = 0;
  const char* end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, number);
  std::string unit(parsed.ptr, end);
  unit.erase(0, std::min(unit.find_first_not_of(' '), unit.size()));
  std::transform(unit.begin(), unit.end(), unit.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  const auto* found = std::find_if(std::begin(kUnits), std::end(kUnits),
                                   [&](const Unit& u) { return unit == u.name; });
  const bool good =
      parsed.ec == std::errc() && std::isfinite(number) && number >= 0 && found != std::end(kUnits);
  if (!good || number * found->bytes > kMost) {
    return invalid_argument("'" + text +
                            "', wanted an amount of memory such as 4GiB, 512MiB, 1.5GB or 1e9");
  }
  return static_cast<size_t>(number * found->bytes);
}

std::string byte_size_text(size_t bytes) {
  if (bytes < 1024) return std::to_string(bytes) + " B";
  const char* const names[] = {"KiB", "MiB", "GiB", "TiB"};
  double number = double(bytes) / 1024;
  size_t unit = 0;
  for (; number >= 1024 && unit + 1 < std::size(names); ++unit) number /= 1024;
  char text[64];
  std::snprintf(text, sizeof(text), "%.1f %s", number, names[unit]);
  return text;
}

}  // namespace flashomni
