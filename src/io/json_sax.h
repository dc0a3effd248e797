// SPDX-License-Identifier: Apache-2.0
//
// The strict half of every JSON reader here: a base for nlohmann SAX handlers that caps depth,
// finds duplicate keys and keeps the first error, and run_sax(), which drives one. A handler
// derives from StrictSax and adds the SAX events (all return false to stop).
#pragma once

#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "flashomni/status.h"
#include "io/messages.h"

namespace flashomni {

class StrictSax {
 public:
  explicit StrictSax(int max_depth) : max_depth_(max_depth) {}

  const std::string& error() const { return error_; }

  // The text is not JSON. Called by the parser.
  bool parse_error(size_t position, const std::string& /*token*/,
                   const nlohmann::json::exception& exception) {
    // "[json.exception.parse_error.101] parse error at line 1, column 3: syntax error ...": the
    // part behind the position is the useful one, and it may quote megabytes of the text.
    std::string_view what = exception.what();
    if (const size_t colon = what.find(": "); colon != what.npos) what.remove_prefix(colon + 2);
    return fail("not valid JSON at byte " + std::to_string(position) + ": " + printable(what, 160));
  }

 protected:
  bool fail(std::string message) {
    if (error_.empty()) error_ = std::move(message);
    return false;
  }
  // An object or array begins or ends.
  bool enter() {
    if (static_cast<int>(keys_.size()) >= max_depth_) {
      return fail("nested more than " + std::to_string(max_depth_) + " levels deep");
    }
    keys_.emplace_back();
    return true;
  }
  bool leave() {
    keys_.pop_back();
    return true;
  }
  // Notes a key of the innermost object; false when it has been there before.
  bool is_new(const std::string& key) { return keys_.back().insert(key).second; }
  int depth() const { return static_cast<int>(keys_.size()); }

 private:
  int max_depth_;
  std::vector<std::set<std::string>> keys_;  // of the open objects (empty for arrays)
  std::string error_;
};

// Parses `text` into `sax`. Not ok: kCorruptFile, "<source>: <the handler's or parser's error>".
template <class Sax>
Status run_sax(std::string_view text, const std::string& source, Sax& sax) {
  // The parser takes a NUL for the end of the text and would accept anything behind it.
  if (const size_t nul = text.find('\0'); nul != text.npos) {
    return corrupt_file(source + ": not valid JSON: NUL byte at " + std::to_string(nul));
  }
  bool done = false;
  try {
    done = nlohmann::json::sax_parse(text.begin(), text.end(), &sax);
  } catch (const std::bad_alloc&) {
    return out_of_memory(source + ": not enough memory to parse it");
  } catch (const std::exception& e) {
    return internal_error(source + ": " + e.what());
  }
  if (done && sax.error().empty()) return ok_status();
  return corrupt_file(source + ": " + (sax.error().empty() ? "not valid JSON" : sax.error()));
}

}  // namespace flashomni
