// SPDX-License-Identifier: Apache-2.0
#include "tools/table.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace flashomni::tools {
namespace {

bool starts_code_point(char c) {
  return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
}

}  // namespace

size_t text_columns(const std::string& text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), starts_code_point));
}

std::string shortened(const std::string& text, size_t columns) {
  const bool cut = text_columns(text) > columns;
  const size_t keep = cut && columns > 3 ? columns - 3 : columns;
  std::string out;
  size_t used = 0;
  for (const char c : text) {
    if (starts_code_point(c) && ++used > keep) break;
    out += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
  }
  return cut && columns > 3 ? out + "..." : out;
}

std::string Table::text() const {
  std::vector<size_t> widths(rows_.front().size());
  for (const auto& row : rows_) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], text_columns(row[i]));
  }
  std::string out;
  for (const auto& row : rows_) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string pad(widths[i] - text_columns(row[i]), ' ');
      if (i > 0) line += "  ";
      line += left_columns_.count(i) ? row[i] + pad : pad + row[i];
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + '\n';
  }
  return out;
}

}  // namespace flashomni::tools
