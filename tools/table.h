// SPDX-License-Identifier: Apache-2.0
//
// Short tables and numbers for people. Machines read --json.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "reports/number_text.h"

namespace flashomni::tools {

// Columns as wide as their widest cell, two spaces apart, right-aligned except for those listed in
// `left_columns`. Rows shorter than the header leave the rest empty.
class Table {
 public:
  explicit Table(std::vector<std::string> header, std::set<size_t> left_columns = {0})
      : rows_{std::move(header)}, left_columns_(std::move(left_columns)) {}
  void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  // Lines with a final newline, the header first.
  std::string text() const;

 private:
  std::vector<std::vector<std::string>> rows_;
  std::set<size_t> left_columns_;
};

// Columns a UTF-8 text takes, one per code point.
size_t text_columns(const std::string& text);
// `text` in at most `columns` columns, "..." where it was cut, control bytes as '?'.
std::string shortened(const std::string& text, size_t columns);

}  // namespace flashomni::tools
