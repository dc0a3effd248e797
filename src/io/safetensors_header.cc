// SPDX-License-Identifier: Apache-2.0
#include "io/safetensors_header.h"

#include <algorithm>
#include <utility>

#include "io/json_sax.h"
#include "io/messages.h"

namespace flashomni {
namespace {

constexpr int kMaxDepth = 8;
constexpr std::string_view kMetadataKey = "__metadata__";

// Reads the header event by event, so that a hundred megabytes of it never become a tree, and a
// shape of a million dimensions stops at the ninth.
class HeaderSax : public StrictSax {
 public:
  HeaderSax() : StrictSax(kMaxDepth) {}

  SafetensorsHeader take() { return std::move(header_); }

  bool null() {
    // The reference reader takes a null for no metadata.
    if (place_ == Place::kFile && key_ == kMetadataKey) return begin_metadata();
    return scalar("null");
  }
  bool boolean(bool v) { return scalar(v ? "true" : "false"); }
  bool number_integer(int64_t v) { return scalar(std::to_string(v)); }
  bool number_float(double /*v*/, const std::string& token) { return scalar(printable(token, 40)); }
  bool binary(nlohmann::json::binary_t& /*v*/) { return scalar("binary"); }
  bool number_unsigned(uint64_t v) {
    if (place_ == Place::kShape) return add_dimension(v);
    if (place_ == Place::kOffsets) return add_offset(v);
    return scalar(std::to_string(v));
  }
  bool string(std::string& v) {
    if (place_ == Place::kMetadata) {
      header_.metadata.emplace(key_, std::move(v));
      return true;
    }
    if (place_ == Place::kRecord && key_ == "dtype") return set_dtype(v);
    return scalar(quote(v));
  }

  bool start_object(size_t /*size*/) {
    switch (place_) {
      case Place::kOutside:
        place_ = Place::kFile;
        return enter();
      case Place::kFile:
        if (key_ == kMetadataKey) {
          place_ = Place::kMetadata;
          return begin_metadata() && enter();
        }
        place_ = Place::kRecord;
        record_ = {};
        record_.entry.name = key_;
        has_dtype_ = has_shape_ = has_offsets_ = false;
        return enter();
      default:
        return nested("an object");
    }
  }
  bool end_object() {
    leave();
    switch (place_) {
      case Place::kUnknown:
        return end_nested();
      case Place::kRecord:
        place_ = Place::kFile;
        return finish_record();
      case Place::kMetadata:
        place_ = Place::kFile;
        return true;
      default:
        return true;
    }
  }
  bool start_array(size_t /*size*/) {
    if (place_ == Place::kRecord && key_ == "shape") {
      has_shape_ = true;
      place_ = Place::kShape;
      return enter();
    }
    if (place_ == Place::kRecord && key_ == "data_offsets") {
      offsets_ = 0;
      place_ = Place::kOffsets;
      return enter();
    }
    return nested("a list");
  }
  bool end_array() {
    leave();
    if (place_ == Place::kUnknown) return end_nested();
    if (place_ == Place::kOffsets) {
      if (offsets_ != 2) return fail_count(std::to_string(offsets_));
      has_offsets_ = true;
    }
    place_ = Place::kRecord;
    return true;
  }
  bool key(std::string& key) {
    // Names of tensors are compared after sorting instead: there may be millions.
    if (place_ != Place::kFile && !is_new(key)) {
      return fail(where() + "key " + quote(key) + " appears twice");
    }
    if (place_ == Place::kFile && key.size() > kMaxTensorName) {
      return fail("tensor name " + quote(key) + " has " + std::to_string(key.size()) +
                  " bytes, at most " + std::to_string(kMaxTensorName));
    }
    if (place_ != Place::kUnknown) key_ = std::move(key);
    return true;
  }

 private:
  enum class Place { kOutside, kFile, kMetadata, kRecord, kShape, kOffsets, kUnknown };

  bool begin_metadata() {
    if (std::exchange(has_metadata_, true)) return fail("__metadata__ appears twice");
    return true;
  }

  // "tensor 'x': " inside a record.
  std::string where() const {
    if (place_ == Place::kOutside || place_ == Place::kFile) return "";
    if (place_ == Place::kMetadata) return "__metadata__: ";
    return "tensor " + quote(record_.entry.name) + ": ";
  }

  // What the current place holds instead of `seen`.
  bool unexpected(const std::string& seen) {
    const char* wanted = nullptr;
    switch (place_) {
      case Place::kOutside:
        return fail("the header is " + seen + ", wanted an object");
      case Place::kFile:
        return fail(quote(key_) + " is " + seen + ", wanted an object");
      case Place::kMetadata:
        wanted = "a string";
        break;
      case Place::kShape:
      case Place::kOffsets:
        wanted = "non-negative integers";
        break;
      default:
        wanted = key_ == "dtype" ? "a string" : "a list";
        break;
    }
    return fail(where() + quote(key_) + " is or holds " + seen + ", wanted " + wanted);
  }

  bool is_unknown_field() const {
    return place_ == Place::kRecord && key_ != "dtype" && key_ != "shape" && key_ != "data_offsets";
  }
  // Values of fields that the format does not know are skipped, as the reference reader does.
  bool scalar(const std::string& seen) {
    return place_ == Place::kUnknown || is_unknown_field() || unexpected(seen);
  }
  bool nested(const char* seen) {
    if (is_unknown_field()) place_ = Place::kUnknown;
    if (place_ != Place::kUnknown) return unexpected(seen);
    return enter();
  }
  bool end_nested() {
    if (depth() == 2) place_ = Place::kRecord;
    return true;
  }

  bool set_dtype(const std::string& name) {
    const auto dtype = stored_dtype_from_name(name);
    if (!dtype) return fail(where() + "dtype " + quote(name) + " is not known");
    record_.entry.dtype = *dtype;
    has_dtype_ = true;
    return true;
  }
  bool add_dimension(uint64_t v) {
    if (record_.entry.shape.size() == kMaxTensorRank) {
      return fail(where() + "more than " + std::to_string(kMaxTensorRank) + " dimensions");
    }
    if (v > uint64_t{kMaxTensorDim}) {
      return fail(where() + "a dimension is " + std::to_string(v) + ", at most 2^48");
    }
    record_.entry.shape.push_back(static_cast<int64_t>(v));
    return true;
  }
  bool add_offset(uint64_t v) {
    if (offsets_ == 2) return fail_count("more than 2");
    (offsets_++ == 0 ? record_.begin : record_.end) = v;
    return true;
  }
  bool fail_count(const std::string& seen) {
    return fail(where() + "data_offsets has " + seen + " numbers, wanted [begin, end]");
  }

  bool finish_record() {
    const std::string name = "tensor " + quote(record_.entry.name) + ": ";
    const char* missing = !has_dtype_     ? "dtype"
                          : !has_shape_   ? "shape"
                          : !has_offsets_ ? "data_offsets"
                                          : nullptr;
    if (missing != nullptr) return fail(name + missing + " is missing");
    if (record_.begin > record_.end) {
      return fail(name + "data_offsets [" + std::to_string(record_.begin) + ", " +
                  std::to_string(record_.end) + "] run backwards");
    }
    const auto bytes = stored_tensor_bytes(record_.entry.dtype, record_.entry.shape);
    if (!bytes.ok()) return fail(name + bytes.status().message());
    if (record_.end - record_.begin != *bytes) {
      return fail("tensor " + record_.entry.to_string() + " needs " + std::to_string(*bytes) +
                  " bytes, its data_offsets span " + std::to_string(record_.end - record_.begin));
    }
    record_.entry.bytes = *bytes;
    header_.records.push_back(std::move(record_));
    return true;
  }

  SafetensorsHeader header_;
  Place place_ = Place::kOutside;
  std::string key_;  // of the innermost known object
  bool has_metadata_ = false;
  TensorRecord record_;
  bool has_dtype_ = false, has_shape_ = false, has_offsets_ = false;
  int offsets_ = 0;
};

// Tensors must tile [0, data_bytes) exactly: each byte of the data belongs to one tensor, so the
// file can hold nothing that the header does not say.
Status check_tiling(const std::vector<TensorRecord>& records, uint64_t data_bytes,
                    const std::string& path) {
  std::vector<const TensorRecord*> order;
  order.reserve(records.size());
  for (const TensorRecord& r : records) order.push_back(&r);
  std::sort(order.begin(), order.end(), [](const TensorRecord* a, const TensorRecord* b) {
    return std::pair(a->begin, a->end) < std::pair(b->begin, b->end);
  });
  uint64_t next = 0;
  for (const TensorRecord* r : order) {
    if (r->begin != next) {
      return corrupt_file(path + ": tensor " + r->entry.to_string() + " begins at byte " +
                          std::to_string(r->begin) + (r->begin < next ? " (overlap)" : " (hole)") +
                          ", wanted " + std::to_string(next));
    }
    next = r->end;
  }
  if (next != data_bytes) {
    return corrupt_file(path + ": tensors end at byte " + std::to_string(next) +
                        " of the data, the file has " + std::to_string(data_bytes) +
                        (next > data_bytes ? " (truncated)" : " (trailing bytes)"));
  }
  return ok_status();
}

}  // namespace

Result<SafetensorsHeader> parse_safetensors_header(std::string_view json, uint64_t data_bytes,
                                                   const std::string& path) {
  // The format wants an object at the very start; writers that put white space before it exist and
  // are accepted, a byte order mark (which the JSON parser would skip) is not.
  const size_t start = json.find_first_not_of(" \t\r\n");
  if (start == json.npos) return corrupt_file(path + ": the header is empty");
  if (json[start] != '{') {
    return corrupt_file(path + ": the header starts with " + quote(json.substr(start, 1)) +
                        ", wanted a JSON object");
  }
  HeaderSax sax;
  FO_RETURN_IF_ERROR(run_sax(json, path + ": header", sax));
  SafetensorsHeader header = sax.take();

  std::vector<TensorRecord>& records = header.records;
  std::sort(records.begin(), records.end(), [](const TensorRecord& a, const TensorRecord& b) {
    return a.entry.name < b.entry.name;
  });
  const auto twice = std::adjacent_find(
      records.begin(), records.end(),
      [](const TensorRecord& a, const TensorRecord& b) { return a.entry.name == b.entry.name; });
  if (twice != records.end()) {
    return corrupt_file(path + ": header: tensor " + quote(twice->entry.name) + " appears twice");
  }
  FO_RETURN_IF_ERROR(check_tiling(records, data_bytes, path));
  return header;
}

Result<uint64_t> stored_tensor_bytes(StoredDType dtype, const std::vector<int64_t>& shape) {
  if (shape.size() > kMaxTensorRank) {
    return invalid_argument(std::to_string(shape.size()) + " dimensions, at most " +
                            std::to_string(kMaxTensorRank));
  }
  uint64_t count = 1;
  uint64_t bits = 0;
  for (const int64_t d : shape) {
    if (d < 0 || d > kMaxTensorDim) {
      return invalid_argument("a dimension is " + std::to_string(d) + ", wanted 0..2^48");
    }
    if (__builtin_mul_overflow(count, static_cast<uint64_t>(d), &count)) {
      return invalid_argument("the product of the shape overflows 64 bits");
    }
  }
  if (__builtin_mul_overflow(count, uint64_t(stored_dtype_bits(dtype)), &bits)) {
    return invalid_argument("its size in bits overflows 64 bits");
  }
  if (bits % 8 != 0) {
    return invalid_argument(std::to_string(bits) + " bits are not a whole number of bytes");
  }
  return bits / 8;
}

}  // namespace flashomni
