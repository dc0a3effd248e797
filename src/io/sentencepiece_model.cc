// SPDX-License-Identifier: Apache-2.0
#include "io/sentencepiece_model.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <vector>

#include "io/messages.h"

namespace flashomni {
namespace {

using Bytes = std::span<const uint8_t>;

constexpr size_t kMaxPieceBytes = 1024;
constexpr size_t kMaxCharsMapBytes = size_t{16} << 20;
constexpr int kMaxMatches = 32;  // kMaxTrieResultsSize of the library's normalizer

// Field numbers of sentencepiece_model.proto.
constexpr uint32_t kModelPieces = 1;
constexpr uint32_t kModelTrainerSpec = 2;
constexpr uint32_t kModelNormalizerSpec = 3;
constexpr uint32_t kPieceText = 1;
constexpr uint32_t kPieceScore = 2;
constexpr uint32_t kNormalizerCharsMap = 2;

struct Field {
  uint32_t number = 0;
  uint32_t wire_type = 0;  // 0 varint, 1 eight bytes, 2 length-delimited, 5 four bytes
  Bytes payload;           // of types 1, 2 and 5
  Bytes whole;             // with its tag
};

// Walks the fields of one message of the protocol buffer wire format.
class FieldReader {
 public:
  explicit FieldReader(Bytes message) : rest_(message) {}

  // False at the end and at the first malformed field; ok() tells which.
  bool next(Field* field) {
    if (rest_.empty() || !ok_) return false;
    const Bytes start = rest_;
    uint64_t tag = 0;
    ok_ = read_varint(5, &tag) && tag <= UINT32_MAX;
    if (!ok_) return false;
    *field = {.number = static_cast<uint32_t>(tag >> 3), .wire_type = uint32_t(tag & 7)};
    ok_ = field->number != 0 && read_payload(field);
    field->whole = start.first(start.size() - rest_.size());
    return ok_;
  }
  bool ok() const { return ok_; }

 private:
  bool read_varint(int max_bytes, uint64_t* value) {
    *value = 0;
    for (int i = 0; i < max_bytes && !rest_.empty(); ++i) {
      const uint8_t byte = rest_.front();
      rest_ = rest_.subspan(1);
      *value |= uint64_t(byte & 0x7f) << (7 * i);
      if (byte < 0x80) return true;
    }
    return false;
  }
  bool read_payload(Field* field) {
    uint64_t length = 0;
    switch (field->wire_type) {
      case 0:
        return read_varint(10, &length);
      case 1:
        length = 8;
        break;
      case 2:
        if (!read_varint(5, &length)) return false;
        break;
      case 5:
        length = 4;
        break;
      default:  // groups, which no SentencePiece message has
        return false;
    }
    if (length > rest_.size()) return false;
    field->payload = rest_.first(length);
    rest_ = rest_.subspan(length);
    return true;
  }

  Bytes rest_;
  bool ok_ = true;
};

uint32_t load_u32(const uint8_t* p) {
  uint32_t v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}

// The double-array trie of Darts-clone: a 32-bit unit a node. A lookup stands on a base; byte c
// leads to unit base ^ c if that unit carries label c, and its base is its own index ^ offset. With
// has_leaf, the unit at the new base is a match and holds a value.
class TrieCheck {
 public:
  // `values` is how many values there are: each stored one must be below.
  TrieCheck(Bytes trie, size_t values) : trie_(trie), units_(trie.size() / 4), values_(values) {}

  // nullptr if every lookup stays inside and has at most kMaxMatches matches, else what is wrong.
  const char* run() {
    matches_.assign(units_, kUnseen);
    if (const char* error = enter(0)) return error;
    while (!path_.empty()) {
      Step& step = path_.back();
      while (step.next_byte < 256 && label(step.base ^ step.next_byte) != step.next_byte) {
        ++step.next_byte;
      }
      if (step.next_byte == 256) {
        if (const char* error = finish()) return error;
        continue;
      }
      const uint32_t child = step.base ^ step.next_byte;
      if (matches_[child] == kUnseen) {
        if (const char* error = enter(child)) return error;
        continue;  // and come back to the same byte when it is finished
      }
      if (matches_[child] == kOnPath) return "the trie has a cycle";
      step.matches_below = std::max<int>(step.matches_below, matches_[child]);
      ++step.next_byte;
    }
    return nullptr;
  }

 private:
  struct Step {
    uint32_t unit;
    uint32_t base;
    uint32_t next_byte;
    int matches_below;  // most matches on one way down
  };
  static constexpr uint8_t kUnseen = 255;
  static constexpr uint8_t kOnPath = 254;

  uint32_t unit(uint32_t i) const { return load_u32(trie_.data() + size_t{i} * 4); }
  uint32_t label(uint32_t i) const { return unit(i) & 0x800000ffu; }
  bool has_leaf(uint32_t i) const { return (unit(i) >> 8) & 1; }
  uint32_t base(uint32_t i) const {
    const uint32_t u = unit(i);
    return i ^ ((u >> 10) << ((u & 0x200) >> 6));
  }

  const char* enter(uint32_t i) {
    if (units_ == 0) return "the trie is empty";
    const uint32_t b = base(i);
    if ((b | 255) >= units_) return "the trie leads outside itself";
    if (has_leaf(i) && (unit(b) & 0x7fffffffu) >= values_) {
      return "the trie leads outside its replacement texts";
    }
    matches_[i] = kOnPath;
    path_.push_back({i, b, 0, 0});
    return nullptr;
  }
  const char* finish() {
    const Step& step = path_.back();
    const int matches = step.matches_below + (has_leaf(step.unit) ? 1 : 0);
    if (matches > kMaxMatches) return "the trie has too many matches for one text";
    matches_[step.unit] = static_cast<uint8_t>(matches);
    path_.pop_back();
    return nullptr;
  }

  Bytes trie_;
  size_t units_;
  size_t values_;
  std::vector<uint8_t> matches_;  // a unit: most matches from it down, or a mark above
  std::vector<Step> path_;
};

// u32 trie size | trie | replacement texts, each ended by NUL. nullptr if safe, else what is wrong.
const char* check_chars_map(Bytes map) {
  if (map.empty()) return nullptr;
  if (map.size() < 4) return "it is cut short";
  if (map.size() > kMaxCharsMapBytes) return "it is larger than 16 MiB";
  const size_t trie_bytes = load_u32(map.data());
  const Bytes body = map.subspan(4);
  if (trie_bytes >= body.size() || trie_bytes % 4 != 0) return "its trie has a wrong size";
  const Bytes texts = body.subspan(trie_bytes);
  if (texts.back() != 0) return "its replacement texts have no end";
  return TrieCheck(body.first(trie_bytes), texts.size()).run();
}

// nullptr if the piece (a ModelProto.SentencePiece message) is usable, else what is wrong.
const char* check_piece(Bytes message) {
  FieldReader fields(message);
  Field field;
  bool has_text = false;
  while (fields.next(&field)) {
    if (field.number == kPieceText && field.wire_type == 2) {
      const Bytes text = field.payload;
      if (text.size() > kMaxPieceBytes) return "it is longer than 1024 bytes";
      if (std::find(text.begin(), text.end(), 0) != text.end()) return "it holds a NUL";
      has_text = !text.empty();
    }
    if (field.number == kPieceScore && field.wire_type == 5 &&
        !std::isfinite(std::bit_cast<float>(load_u32(field.payload.data())))) {
      return "its score is not finite";
    }
  }
  if (!fields.ok()) return "it is malformed";
  return has_text ? nullptr : "it is empty";
}

// nullptr if the NormalizerSpec message is usable, else what is wrong.
const char* check_normalizer(Bytes message) {
  FieldReader fields(message);
  Field field;
  while (fields.next(&field)) {
    if (field.number != kNormalizerCharsMap || field.wire_type != 2) continue;
    if (const char* error = check_chars_map(field.payload)) return error;
  }
  return fields.ok() ? nullptr : "it is malformed";
}

}  // namespace

Result<std::string> checked_sentencepiece_model(std::span<const uint8_t> bytes,
                                                const std::string& source) {
  const auto refuse = [&](const std::string& why) {
    return corrupt_file(source + " is not a usable SentencePiece model: " + why);
  };
  std::string model;
  size_t pieces = 0;
  FieldReader fields(bytes);
  Field field;
  while (fields.next(&field)) {
    const char* error = nullptr;
    if (field.wire_type != 2) continue;
    switch (field.number) {
      case kModelPieces:
        error = check_piece(field.payload);
        if (error) return refuse("piece " + std::to_string(pieces) + ": " + error);
        ++pieces;
        break;
      case kModelNormalizerSpec:
        error = check_normalizer(field.payload);
        if (error) return refuse(std::string("character map: ") + error);
        break;
      case kModelTrainerSpec:
        break;
      default:
        continue;
    }
    model.append(reinterpret_cast<const char*>(field.whole.data()), field.whole.size());
  }
  if (!fields.ok()) return refuse("it is not a well-formed protocol buffer");
  if (pieces == 0) return refuse("it has no pieces");
  return model;
}

}  // namespace flashomni
