// SPDX-License-Identifier: Apache-2.0
//
// Small SentencePiece models made by hand, one good, the others each wrong in one way that the
// library would follow outside its tables.
#include "io/sentencepiece_model.h"

#include <cmath>
#include <functional>

#include "io/tokenizer.h"
#include "tests/io/io_testing.h"

namespace flashomni {
namespace {

using testing::Bytes;
using testing::fails_with;
using testing::get_file;
using testing::put_file;
using testing::TempDir;
using testing::to_bytes;

// ---- protocol buffer wire format
std::string varint(uint64_t v) {
  std::string s;
  for (; v >= 0x80; v >>= 7) s += static_cast<char>(v | 0x80);
  return s + static_cast<char>(v);
}
std::string field(uint32_t number, const std::string& payload) {
  return varint(number << 3 | 2) + varint(payload.size()) + payload;
}
std::string word(uint32_t v) {
  return std::string(reinterpret_cast<const char*>(&v), 4);
}
std::string piece(const std::string& text, float score, uint64_t type = 1) {
  uint32_t bits = 0;
  std::memcpy(&bits, &score, 4);
  return field(1, field(1, text) + varint(2 << 3 | 5) + word(bits) + varint(3 << 3) + varint(type));
}
std::string normalizer(const std::string& chars_map) {
  return field(3, field(1, "test") + field(2, chars_map));
}

// ---- character map: a double-array trie of 32-bit units and the texts its values point to
using Units = std::vector<uint32_t>;
constexpr uint32_t kLeaf = 1u << 8;
constexpr uint32_t kUnused = 1u << 31;  // matches no byte

// Unit `index` with this label, leading to `base`.
uint32_t unit(uint32_t index, uint32_t label, uint32_t base, uint32_t flags = 0) {
  return label | flags | (index ^ base) << 10;
}
// 'A' gives the text at `value`: unit 0 -> base 256, its child for 'A' -> base 512 with a value.
Units one_letter(uint32_t value) {
  Units units(768, kUnused);
  units[0] = unit(0, 0, 256);
  units[256 ^ 'A'] = unit(256 ^ 'A', 'A', 512, kLeaf);
  units[512] = 0x80000000u | value;
  return units;
}
std::string chars_map(const Units& units, const std::string& texts) {
  std::string s = word(uint32_t(units.size() * 4));
  for (const uint32_t u : units) s += word(u);
  return s + texts;
}

const std::string kTexts("x\0a\0", 4);
const char kSpace[] = "\xe2\x96\x81";

std::string pieces() {
  return piece("<unk>", 0, 2) + piece(kSpace, -3) + piece("a", -2) +
         piece(std::string(kSpace) + "a", -1);
}
Status check(const std::string& model) {
  return checked_sentencepiece_model(to_bytes(model), "m").status();
}

// Shows that the trie above is what the library reads, so the refusals below mean something.
TEST(SentencePieceModel, AGoodModelWorks) {
  TempDir dir;
  put_file(dir / "m", pieces() + normalizer(chars_map(one_letter(2), kTexts)));
  const auto tokenizer = Tokenizer::load(dir / "m");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().to_string();
  EXPECT_EQ(*tokenizer->encode("A"), std::vector<int32_t>{3});
  EXPECT_EQ(*tokenizer->encode("aA"), (std::vector<int32_t>{3, 2}));
  EXPECT_EQ(*tokenizer->encode_pieces("a"), std::vector<std::string>{std::string(kSpace) + "a"});
  EXPECT_EQ(*tokenizer->encode("B"), (std::vector<int32_t>{1, 0}));
}

TEST(SentencePieceModel, KeepsOnlyWhatEncodingNeeds) {
  const std::string wanted = pieces() + field(2, "") + normalizer("");
  // Self tests (4) run at load and print; the denormalizer (5) holds a second map.
  const auto model = checked_sentencepiece_model(
      to_bytes(field(4, "x") + wanted + field(5, "y") + varint(9 << 3) + varint(1)), "m");
  ASSERT_TRUE(model.ok()) << model.status().to_string();
  EXPECT_EQ(*model, wanted);
}

TEST(SentencePieceModel, TheBundledModelIsFine) {
  const Bytes bytes =
      get_file(std::string(FO_SOURCE_DIR) + "/models/emoji-flux/tokenizer/spiece.model");
  const auto model = checked_sentencepiece_model(bytes, "m");
  ASSERT_TRUE(model.ok()) << model.status().to_string();
  EXPECT_GT(model->size(), bytes.size() / 2);
}

TEST(SentencePieceModel, RefusesBadWireFormat) {
  const std::string good = pieces();
  for (const std::string& bad : {
           good.substr(0, good.size() - 1),                    // cut
           good + varint(1 << 3 | 3) + varint(1 << 3 | 4),     // a group
           good + varint(1 << 3 | 7),                          // no such wire type
           good + varint(2),                                   // field number 0
           good + varint(1 << 3 | 2) + varint(1'000'000),      // length behind the end
           good + varint(1 << 3 | 2) + varint(UINT64_MAX),     // length of ten bytes
           good + varint((uint64_t{1} << 40) | 2) + varint(0)  // tag over 32 bits
       }) {
    EXPECT_TRUE(fails_with(check(bad), StatusCode::kCorruptFile, "protocol buffer"));
  }
  EXPECT_TRUE(fails_with(check(""), StatusCode::kCorruptFile, "no pieces"));
  EXPECT_TRUE(fails_with(check(normalizer("")), StatusCode::kCorruptFile, "no pieces"));
}

TEST(SentencePieceModel, RefusesBadPieces) {
  const struct {
    std::string piece;
    const char* words;
  } cases[] = {
      {piece("", 0), "piece 4: it is empty"},
      {piece(std::string("a\0b", 3), 0), "piece 4: it holds a NUL"},
      {piece(std::string(1025, 'a'), 0), "piece 4: it is longer than 1024 bytes"},
      {piece("b", std::nanf("")), "piece 4: its score is not finite"},
      {piece("b", -INFINITY), "piece 4: its score is not finite"},
      {field(1, varint(1 << 3 | 2) + varint(9)), "piece 4: it is malformed"},
  };
  for (const auto& c : cases) {
    EXPECT_TRUE(fails_with(check(pieces() + c.piece), StatusCode::kCorruptFile, c.words));
  }
  EXPECT_TRUE(check(pieces() + piece(std::string(1024, 'a'), 0)).ok());
}

TEST(SentencePieceModel, RefusesBadCharacterMaps) {
  const auto changed = [](const std::function<void(Units&)>& change) {
    Units units = one_letter(2);
    change(units);
    return chars_map(units, kTexts);
  };
  const uint32_t a = 256 ^ 'A';
  const struct {
    std::string map;
    const char* words;
  } cases[] = {
      {"abc", "cut short"},
      {word(0), "wrong size"},
      {word(0) + std::string(1, '\0'), "the trie is empty"},
      {word(4), "wrong size"},
      {word(UINT32_MAX) + kTexts, "wrong size"},
      {word(3) + kTexts + kTexts, "wrong size"},
      {chars_map(one_letter(2), ""), "wrong size"},
      {chars_map(one_letter(2), "xa"), "replacement texts have no end"},
      {std::string((16u << 20) + 1, '\0'), "larger than 16 MiB"},
      {chars_map(Units(255), kTexts), "leads outside itself"},
      {changed([](Units& u) { u[0] = unit(0, 0, 768); }), "leads outside itself"},
      {changed([a](Units& u) { u[a] = unit(a, 'A', 1024, kLeaf); }), "leads outside itself"},
      // Bit 9 multiplies the offset by 256.
      {changed([](Units& u) { u[0] = (1u << 9) | 3u << 10; }), "leads outside itself"},
      {changed([](Units& u) { u[512] = 0x80000004u; }), "outside its replacement texts"},
      {changed([](Units& u) { u[512] = 0xffffffffu; }), "outside its replacement texts"},
      {changed([a](Units& u) { u[a] = unit(a, 'A', 256, kLeaf); }), "has a cycle"},
      {changed([a](Units& u) {
         u[a] = unit(a, 'A', 512);
         u[512 ^ 'B'] = unit(512 ^ 'B', 'B', 256);
       }),
       "has a cycle"},
  };
  for (const auto& c : cases) {
    EXPECT_TRUE(fails_with(check(pieces() + normalizer(c.map)), StatusCode::kCorruptFile,
                           std::string("character map: ")));
    EXPECT_TRUE(fails_with(check(pieces() + normalizer(c.map)), StatusCode::kCorruptFile, c.words));
  }
  EXPECT_TRUE(check(pieces() + normalizer("")).ok());
  // The last unreachable units may hold anything.
  EXPECT_TRUE(check(pieces() + normalizer(changed([](Units& u) { u[300] = 0x7fffff00u; }))).ok());
}

// The library has room for 32 matches along one text and does not check.
TEST(SentencePieceModel, RefusesTooManyMatches) {
  const auto chain = [](uint32_t length) {
    Units units(256 * (length + 2), kUnused);
    units[0] = unit(0, 0, 256);
    for (uint32_t k = 1; k <= length; ++k) {
      const uint32_t i = (256 * k) ^ 'A';
      units[i] = unit(i, 'A', 256 * (k + 1), kLeaf);
      units[256 * (k + 1)] = 0x80000000u;
    }
    return pieces() + normalizer(chars_map(units, kTexts));
  };
  EXPECT_TRUE(check(chain(32)).ok());
  EXPECT_TRUE(fails_with(check(chain(33)), StatusCode::kCorruptFile, "too many matches"));
}

}  // namespace
}  // namespace flashomni
