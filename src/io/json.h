// SPDX-License-Identifier: Apache-2.0
//
// JSON in and out: files that may be hostile are parsed into nlohmann::json with a depth cap and
// errors as values, settings are read out of an object by name with typed defaults.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "flashomni/status.h"

namespace flashomni {

struct JsonLimits {
  int max_depth = 64;                   // objects and arrays inside each other
  size_t max_bytes = size_t{64} << 20;  // of a file or text
  bool unique_keys = true;              // an object with a key twice is an error
};

// Parses one JSON value (RFC 8259, UTF-8, nothing after it but whitespace). `source` names the text
// in messages. kCorruptFile for anything malformed or over a limit.
Result<nlohmann::json> parse_json(std::string_view text, const std::string& source,
                                  const JsonLimits& limits = {});
Result<nlohmann::json> read_json_file(const std::string& path, const JsonLimits& limits = {});

// Two-space indented text with a final newline. Numbers that are not finite become null and bytes
// that are not UTF-8 become U+FFFD, since JSON has neither.
std::string json_text(const nlohmann::json& value);
// Writes json_text() to `path`, whole or not at all.
Status write_json_file(const std::string& path, const nlohmann::json& value);

// Reads the fields of one object. A field that is absent or null gives the fallback; one of a wrong
// type or range also does, and the first such problem is kept in status() ("config.json: field
// 'num_layers' is 'two', wanted an integer"), so that a config is read line by line and checked
// once. Keeps a reference to `object`.
class JsonFields {
 public:
  JsonFields(const nlohmann::json& object, std::string source);
  JsonFields(nlohmann::json&& object, std::string source) = delete;  // it would be gone

  bool has(const std::string& key) const;  // present and not null
  int64_t integer(const std::string& key, int64_t fallback,
                  int64_t lowest = std::numeric_limits<int64_t>::min(),
                  int64_t highest = std::numeric_limits<int64_t>::max());
  double number(const std::string& key, double fallback,
                double lowest = std::numeric_limits<double>::lowest(),
                double highest = std::numeric_limits<double>::max());
  bool boolean(const std::string& key, bool fallback);
  std::string text(const std::string& key, std::string fallback);
  std::vector<int64_t> integers(const std::string& key, std::vector<int64_t> fallback);
  std::vector<double> numbers(const std::string& key, std::vector<double> fallback);
  std::vector<std::string> texts(const std::string& key, std::vector<std::string> fallback);

  // Makes the absence of `key` a problem: "config.json: field 'x' is missing".
  void require(const std::string& key);
  // Makes every field that was never asked for a problem, to catch misspelt options.
  void forbid_unread();

  const Status& status() const { return status_; }

 private:
  const nlohmann::json* find(const std::string& key);
  void fail(std::string message);
  void fail_type(const std::string& key, const nlohmann::json& seen, const std::string& wanted);
  template <class T, class Accept>
  std::vector<T> list(const std::string& key, std::vector<T> fallback, const char* entries,
                      Accept accept);

  const nlohmann::json& object_;
  std::string source_;
  std::set<std::string> read_;
  Status status_;
};

}  // namespace flashomni
