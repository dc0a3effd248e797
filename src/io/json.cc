// SPDX-License-Identifier: Apache-2.0
#include "io/json.h"

#include <cmath>
#include <utility>

#include "io/atomic_file.h"
#include "io/input_file.h"
#include "io/json_sax.h"

namespace flashomni {
namespace {

using nlohmann::json;

// Builds the value as the parser meets it. `open_` stays valid because only the innermost container
// ever grows.
class TreeSax : public StrictSax {
 public:
  explicit TreeSax(const JsonLimits& limits)
      : StrictSax(limits.max_depth), unique_keys_(limits.unique_keys) {}

  json take() { return std::move(root_); }

  bool null() { return add(nullptr); }
  bool boolean(bool v) { return add(v); }
  bool number_integer(int64_t v) { return add(v); }
  bool number_unsigned(uint64_t v) { return add(v); }
  bool number_float(double v, const std::string& /*token*/) { return add(v); }
  bool string(std::string& v) { return add(std::move(v)); }
  bool binary(json::binary_t& /*v*/) { return fail("binary value"); }  // never in JSON text
  bool start_object(size_t /*size*/) { return open(json::object()); }
  bool start_array(size_t /*size*/) { return open(json::array()); }
  bool end_object() { return close(); }
  bool end_array() { return close(); }
  bool key(std::string& key) {
    if (unique_keys_ && !is_new(key)) return fail("key " + quote(key) + " appears twice");
    key_ = std::move(key);
    return true;
  }

 private:
  json& place(json value) {
    if (open_.empty()) return root_ = std::move(value);
    json& parent = *open_.back();
    if (parent.is_object()) return parent[key_] = std::move(value);
    parent.push_back(std::move(value));
    return parent.back();
  }
  bool add(json value) {
    place(std::move(value));
    return true;
  }
  bool open(json value) {
    if (!enter()) return false;
    open_.push_back(&place(std::move(value)));
    return true;
  }
  bool close() {
    open_.pop_back();
    return leave();
  }

  bool unique_keys_;
  json root_;
  std::vector<json*> open_;
  std::string key_;
};

bool fits_int64(const json& v) {
  if (!v.is_number_integer()) return false;
  return !v.is_number_unsigned() ||
         v.get<uint64_t>() <= uint64_t{std::numeric_limits<int64_t>::max()};
}

// A value as it stood in the file, short enough for a message.
std::string shown(const json& v) {
  if (v.is_object()) return "an object";
  if (v.is_array()) return "a list of " + std::to_string(v.size());
  if (v.is_string()) return quote(v.get_ref<const std::string&>());
  return v.dump();
}

}  // namespace

Result<json> parse_json(std::string_view text, const std::string& source,
                        const JsonLimits& limits) {
  if (text.size() > limits.max_bytes) {
    return corrupt_file(source + ": " + std::to_string(text.size()) + " bytes of JSON, at most " +
                        std::to_string(limits.max_bytes) + " are read");
  }
  TreeSax sax(limits);
  FO_RETURN_IF_ERROR(run_sax(text, source, sax));
  return sax.take();
}

Result<json> read_json_file(const std::string& path, const JsonLimits& limits) {
  FO_ASSIGN_OR_RETURN(const std::vector<uint8_t> bytes, read_file(path, limits.max_bytes));
  return parse_json(as_text(bytes), path, limits);
}

std::string json_text(const json& value) {
  return value.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

Status write_json_file(const std::string& path, const json& value) {
  return write_file(path, json_text(value));
}

JsonFields::JsonFields(const json& object, std::string source)
    : object_(object), source_(std::move(source)) {
  if (!object_.is_object()) fail("it is " + shown(object_) + ", wanted an object");
}

void JsonFields::fail(std::string message) {
  if (status_.ok()) status_ = invalid_argument(source_ + ": " + std::move(message));
}

void JsonFields::fail_type(const std::string& key, const json& seen, const std::string& wanted) {
  fail("field " + quote(key) + " is " + shown(seen) + ", wanted " + wanted);
}

const json* JsonFields::find(const std::string& key) {
  read_.insert(key);
  return has(key) ? &object_.at(key) : nullptr;
}

bool JsonFields::has(const std::string& key) const {
  if (!object_.is_object()) return false;
  const auto it = object_.find(key);
  return it != object_.end() && !it->is_null();
}

int64_t JsonFields::integer(const std::string& key, int64_t fallback, int64_t lowest,
                            int64_t highest) {
  const json* v = find(key);
  if (v == nullptr) return fallback;
  if (!fits_int64(*v)) {
    fail_type(key, *v, "an integer");
    return fallback;
  }
  const auto value = v->get<int64_t>();
  if (value >= lowest && value <= highest) return value;
  fail_type(key, *v, std::to_string(lowest) + ".." + std::to_string(highest));
  return fallback;
}

double JsonFields::number(const std::string& key, double fallback, double lowest, double highest) {
  const json* v = find(key);
  if (v == nullptr) return fallback;
  if (!v->is_number()) {
    fail_type(key, *v, "a number");
    return fallback;
  }
  const auto value = v->get<double>();
  if (value >= lowest && value <= highest) return value;
  fail_type(key, *v, json(lowest).dump() + ".." + json(highest).dump());
  return fallback;
}

bool JsonFields::boolean(const std::string& key, bool fallback) {
  const json* v = find(key);
  if (v == nullptr) return fallback;
  if (v->is_boolean()) return v->get<bool>();
  fail_type(key, *v, "true or false");
  return fallback;
}

std::string JsonFields::text(const std::string& key, std::string fallback) {
  const json* v = find(key);
  if (v == nullptr) return fallback;
  if (v->is_string()) return v->get<std::string>();
  fail_type(key, *v, "a string");
  return fallback;
}

template <class T, class Accept>
std::vector<T> JsonFields::list(const std::string& key, std::vector<T> fallback,
                                const char* entries, Accept accept) {
  const json* v = find(key);
  if (v == nullptr) return fallback;
  const std::string wanted = std::string("a list of ") + entries;
  if (!v->is_array()) {
    fail_type(key, *v, wanted);
    return fallback;
  }
  std::vector<T> values;
  values.reserve(v->size());
  for (const json& item : *v) {
    if (!accept(item)) {
      fail("field " + quote(key) + " holds " + shown(item) + ", wanted " + wanted);
      return fallback;
    }
    values.push_back(item.get<T>());
  }
  return values;
}

std::vector<int64_t> JsonFields::integers(const std::string& key, std::vector<int64_t> fallback) {
  return list<int64_t>(key, std::move(fallback), "integers", fits_int64);
}

std::vector<double> JsonFields::numbers(const std::string& key, std::vector<double> fallback) {
  return list<double>(key, std::move(fallback), "numbers",
                      [](const json& v) { return v.is_number(); });
}

std::vector<std::string> JsonFields::texts(const std::string& key,
                                           std::vector<std::string> fallback) {
  return list<std::string>(key, std::move(fallback), "strings",
                           [](const json& v) { return v.is_string(); });
}

void JsonFields::require(const std::string& key) {
  if (object_.is_object() && !has(key)) fail("field " + quote(key) + " is missing");
}

void JsonFields::forbid_unread() {
  if (!object_.is_object()) return;
  for (const auto& [key, value] : object_.items()) {
    if (!read_.contains(key)) fail("field " + quote(key) + " is not known here");
  }
}

}  // namespace flashomni
