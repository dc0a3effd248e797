// SPDX-License-Identifier: Apache-2.0
#include "strategies/options.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>

namespace flashomni {

std::string option_to_string(const OptionValue& value) {
  if (const bool* b = std::get_if<bool>(&value)) return *b ? "true" : "false";
  if (const int64_t* i = std::get_if<int64_t>(&value)) return std::to_string(*i);
  if (const double* d = std::get_if<double>(&value)) {
    char text[40];
    const auto end = std::to_chars(text, text + sizeof(text), *d);
    return std::string(text, end.ptr);
  }
  return std::get<std::string>(value);
}

namespace strategies {
namespace {

std::string number_text(double x) {
  return option_to_string(x);
}

bool parse_number(const std::string& text, double* out) {
  const auto end = std::from_chars(text.data(), text.data() + text.size(), *out);
  return end.ec == std::errc() && end.ptr == text.data() + text.size() && std::isfinite(*out);
}

}  // namespace

const OptionValue* OptionSetter::take(const char* name) {
  known_.push_back(name);
  const auto it = values_.find(name);
  return it == values_.end() ? nullptr : &it->second;
}

void OptionSetter::fail(const std::string& message) {
  if (status_.ok()) status_ = invalid_argument("strategy " + strategy_ + ": " + message);
}

void OptionSetter::operator()(const char* name, bool& field, const char*) {
  const OptionValue* value = take(name);
  if (!value) return;
  if (const bool* b = std::get_if<bool>(value)) {
    field = *b;
    return;
  }
  const std::string text = option_to_string(*value);
  if (text == "true" || text == "1") {
    field = true;
  } else if (text == "false" || text == "0") {
    field = false;
  } else {
    fail("option " + std::string(name) + " is '" + text + "', wanted true or false");
  }
}

void OptionSetter::operator()(const char* name, std::string& field, const char*) {
  const OptionValue* value = take(name);
  if (value) field = option_to_string(*value);
}

bool OptionSetter::number(const char* name, const OptionValue& value, double minimum,
                          double maximum, bool integer, double* out) {
  bool valid = true;
  if (const double* d = std::get_if<double>(&value)) {
    *out = *d;
  } else if (const int64_t* i = std::get_if<int64_t>(&value)) {
    *out = double(*i);
  } else if (const std::string* s = std::get_if<std::string>(&value)) {
    valid = parse_number(*s, out);
  } else {
    valid = false;
  }
  valid = valid && std::isfinite(*out) && *out >= minimum && *out <= maximum &&
          (!integer || *out == std::floor(*out));
  if (!valid) {
    fail("option " + std::string(name) + " is '" + option_to_string(value) + "', wanted " +
         (integer ? "a whole number" : "a number") + " from " + number_text(minimum) + " to " +
         number_text(maximum));
  }
  return valid;
}

void OptionSetter::operator()(const char* name, double& field, double minimum, double maximum,
                              const char*) {
  const OptionValue* value = take(name);
  double x = 0;
  if (value && number(name, *value, minimum, maximum, false, &x)) field = x;
}

void OptionSetter::operator()(const char* name, int& field, double minimum, double maximum,
                              const char*) {
  const OptionValue* value = take(name);
  double x = 0;
  if (value && number(name, *value, minimum, maximum, true, &x)) field = static_cast<int>(x);
}

void OptionSetter::operator()(const char* name, int64_t& field, double minimum, double maximum,
                              const char*) {
  const OptionValue* value = take(name);
  double x = 0;
  if (!value || !number(name, *value, minimum, maximum, true, &x)) return;
  // Seeds above 2^53 must not lose bits on the way through a double.
  if (const int64_t* i = std::get_if<int64_t>(value)) {
    field = *i;
  } else {
    field = static_cast<int64_t>(x);
  }
}

Status OptionSetter::finish() const {
  if (!status_.ok()) return status_;
  for (const auto& [name, value] : values_) {
    if (std::find(known_.begin(), known_.end(), name) != known_.end()) continue;
    std::string list;
    for (const std::string& k : known_) list += (list.empty() ? "" : ", ") + k;
    return invalid_argument("strategy " + strategy_ + " has no option '" + name + "'; it has " +
                            (list.empty() ? "none" : list));
  }
  return ok_status();
}

Status check_block_sizes(int block_q, int block_kv) {
  for (int block : {block_q, block_kv}) {
    if (block != 32 && block != 64 && block != 128) {
      return invalid_argument("block size " + std::to_string(block) + ", wanted 32, 64 or 128");
    }
  }
  return ok_status();
}

namespace {

std::string sides_text(std::initializer_list<int> sides) {
  std::string text;
  for (const int side : sides) text += (text.empty() ? "" : "x") + std::to_string(side);
  return text;
}

}  // namespace

Status check_tile_sides(const std::string& what, std::initializer_list<int> sides) {
  const auto zeros = std::count(sides.begin(), sides.end(), 0);
  if (zeros == 0 || zeros == std::ssize(sides)) return ok_status();
  return invalid_argument(what + " of " + sides_text(sides) + ", wanted all sides 0 or none");
}

Status check_ragged(int block_q, int block_kv) {
  if (block_q == block_kv) return ok_status();
  return invalid_argument("ragged blocks are those of queries and keys alike, block_q is " +
                          std::to_string(block_q) + " and block_kv " + std::to_string(block_kv));
}

Status check_ragged_tile(const std::string& what, std::initializer_list<int> sides, int block) {
  int64_t tokens = 1;  // no overflow: three sides of at most 100,000
  for (const int side : sides) tokens *= side;
  if (tokens >= 1 && tokens <= block) return ok_status();
  return invalid_argument(what + " of " + sides_text(sides) + ", wanted 1 to " +
                          std::to_string(block) + " tokens: with ragged blocks each is one");
}

}  // namespace strategies
}  // namespace flashomni
