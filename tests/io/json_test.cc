// SPDX-License-Identifier: Apache-2.0
#include "io/json.h"

#include <cmath>

#include "tests/io/io_testing.h"

namespace flashomni {
namespace {

using nlohmann::json;
using testing::Bytes;
using testing::damaged;
using testing::fails_with;
using testing::get_text;
using testing::put_file;
using testing::TempDir;
using testing::to_bytes;

const char kSample[] =
    R"({"a": [1, -2, 3.5e3, true, false, null, "x\u00e9\n"], "b": {"c": {}, "d": []},
  "big": 18446744073709551615, "small": -9223372036854775808, "": "empty key"})";

TEST(Json, ParsesLikeTheLibrary) {
  const auto v = parse_json(kSample, "sample");
  ASSERT_TRUE(v.ok()) << v.status().to_string();
  EXPECT_EQ(*v, json::parse(kSample));
  for (const char* scalar : {"1", " \"x\" ", "null", "[]", "-0.5"}) {
    const auto s = parse_json(scalar, "scalar");
    ASSERT_TRUE(s.ok()) << scalar;
    EXPECT_EQ(*s, json::parse(scalar));
  }
}

TEST(Json, RefusesMalformedText) {
  for (const std::string& text :
       {std::string(), std::string(" "), std::string("{"), std::string("[1,]"), std::string("{}x"),
        std::string("{} {}"), std::string("nul"), std::string("'a'"), std::string("[01]"),
        std::string("[1e999]"), std::string("\"\xff\""), std::string("\"\xed\xa0\x80\""),
        std::string("\"\\ud800\""), std::string("// c\n1"), std::string("NaN"),
        std::string("{}\0", 3), std::string("{}\0{}", 5), std::string("\0", 1)}) {
    EXPECT_TRUE(fails_with(parse_json(text, "t.json").status(), StatusCode::kCorruptFile,
                           "t.json: not valid JSON"))
        << text;
  }
}

TEST(Json, MessagesAreShortAndPrintable) {
  const std::string text = "[\"" + std::string(1 << 20, 'a') + "\x01\"]";
  const auto v = parse_json(text, "t.json");
  ASSERT_FALSE(v.ok());
  EXPECT_LT(v.status().message().size(), 300u);
  EXPECT_EQ(v.status().message().find('\x01'), std::string::npos);
}

TEST(Json, DepthIsCapped) {
  const auto nested = [](int depth) {
    return std::string(size_t(depth), '[') + std::string(size_t(depth), ']');
  };
  EXPECT_TRUE(parse_json(nested(64), "t").ok());
  EXPECT_TRUE(fails_with(parse_json(nested(65), "t").status(), StatusCode::kCorruptFile,
                         "nested more than 64 levels deep"));
  EXPECT_TRUE(fails_with(parse_json(std::string(10'000'000, '['), "t").status(),
                         StatusCode::kCorruptFile, "nested"));
  EXPECT_TRUE(fails_with(parse_json(R"({"a":{"b":1}})", "t", {.max_depth = 1}).status(),
                         StatusCode::kCorruptFile, "nested more than 1"));
}

TEST(Json, DuplicateKeysAreAnErrorUnlessAllowed) {
  const char* text = R"({"a": 1, "b": {"a": 2}, "a": 3})";
  EXPECT_TRUE(fails_with(parse_json(text, "t").status(), StatusCode::kCorruptFile,
                         "key 'a' appears twice"));
  const auto v = parse_json(text, "t", {.unique_keys = false});
  ASSERT_TRUE(v.ok());
  EXPECT_EQ((*v)["a"], 3);
  EXPECT_TRUE(parse_json(R"([{"a": 1}, {"a": 1}])", "t").ok());
}

TEST(Json, SizeIsCapped) {
  EXPECT_TRUE(fails_with(parse_json("[1, 2]", "t", {.max_bytes = 5}).status(),
                         StatusCode::kCorruptFile, "6 bytes of JSON, at most 5"));
}

TEST(Json, FileRoundTrip) {
  TempDir dir;
  const json value = {{"pi", 3.25}, {"list", {1, 2}}, {"text", "é"}};
  ASSERT_TRUE(write_json_file(dir / "a.json", value).ok());
  EXPECT_EQ(get_text(dir / "a.json").back(), '\n');
  const auto read = read_json_file(dir / "a.json");
  ASSERT_TRUE(read.ok()) << read.status().to_string();
  EXPECT_EQ(*read, value);
  EXPECT_TRUE(fails_with(read_json_file(dir / "b.json").status(), StatusCode::kNotFound, "b.json"));
  put_file(dir / "c.json", "{\"a\" 1}");
  EXPECT_TRUE(fails_with(read_json_file(dir / "c.json").status(), StatusCode::kCorruptFile,
                         dir / "c.json"));
}

TEST(Json, WritesWhatJsonCannotHold) {
  const auto v = parse_json(json_text({{"nan", std::nan("")}, {"bytes", "a\xff"}}), "t");
  ASSERT_TRUE(v.ok()) << v.status().to_string();
  EXPECT_TRUE((*v)["nan"].is_null());
  EXPECT_EQ((*v)["bytes"], "a\xef\xbf\xbd");
}

TEST(JsonFields, ReadsTypedFieldsAndFallsBack) {
  const json o = json::parse(
      R"({"i": 7, "x": 2.5, "n": 3, "b": true, "s": "t", "l": [1, 2], "f": [1, 2.5], "w": ["a"],
          "null": null})");
  JsonFields f(o, "c.json");
  EXPECT_EQ(f.integer("i", 0), 7);
  EXPECT_EQ(f.number("x", 0), 2.5);
  EXPECT_EQ(f.number("n", 0), 3.0);
  EXPECT_TRUE(f.boolean("b", false));
  EXPECT_EQ(f.text("s", ""), "t");
  EXPECT_EQ(f.integers("l", {}), (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(f.numbers("f", {}), (std::vector<double>{1, 2.5}));
  EXPECT_EQ(f.texts("w", {}), (std::vector<std::string>{"a"}));
  EXPECT_EQ(f.integer("null", 5), 5);
  EXPECT_EQ(f.integer("absent", 6), 6);
  EXPECT_EQ(f.text("absent", "d"), "d");
  EXPECT_TRUE(f.has("i"));
  EXPECT_FALSE(f.has("null"));
  f.require("i");
  f.forbid_unread();
  EXPECT_TRUE(f.status().ok()) << f.status().to_string();
}

TEST(JsonFields, NamesFileFieldAndBothValues) {
  const json o = json::parse(
      R"({"s": "two", "i": 20, "h": 2.0, "u": 9223372036854775808, "l": [1, "x"], "o": {}, "n": 1})");
  const struct {
    void (*read)(JsonFields&);
    const char* message;
  } cases[] = {
      {[](JsonFields& f) { f.integer("s", 0); }, "c.json: field 's' is 'two', wanted an integer"},
      {[](JsonFields& f) { f.integer("i", 0, 1, 10); }, "c.json: field 'i' is 20, wanted 1..10"},
      {[](JsonFields& f) { f.integer("h", 0); }, "c.json: field 'h' is 2.0, wanted an integer"},
      {[](JsonFields& f) { f.integer("u", 0); },
       "c.json: field 'u' is 9223372036854775808, wanted an integer"},
      {[](JsonFields& f) { f.number("s", 0); }, "c.json: field 's' is 'two', wanted a number"},
      {[](JsonFields& f) { f.number("i", 0, 0, 1); }, "c.json: field 'i' is 20, wanted 0.0..1.0"},
      {[](JsonFields& f) { f.boolean("n", false); },
       "c.json: field 'n' is 1, wanted true or false"},
      {[](JsonFields& f) { f.text("o", ""); }, "c.json: field 'o' is an object, wanted a string"},
      {[](JsonFields& f) { f.integers("l", {}); },
       "c.json: field 'l' holds 'x', wanted a list of integers"},
      {[](JsonFields& f) { f.integers("n", {}); },
       "c.json: field 'n' is 1, wanted a list of integers"},
      {[](JsonFields& f) { f.text("l", ""); }, "c.json: field 'l' is a list of 2, wanted a string"},
      {[](JsonFields& f) { f.require("absent"); }, "c.json: field 'absent' is missing"},
  };
  for (const auto& c : cases) {
    JsonFields f(o, "c.json");
    c.read(f);
    EXPECT_EQ(f.status().message(), c.message);
    EXPECT_EQ(f.status().code(), StatusCode::kInvalidArgument);
  }
}

TEST(JsonFields, KeepsTheFirstProblemAndGivesFallbacks) {
  const json o = {{"a", "x"}, {"b", "y"}};
  JsonFields f(o, "c");
  EXPECT_EQ(f.integer("a", 3), 3);
  EXPECT_EQ(f.number("b", 4.5), 4.5);
  EXPECT_NE(f.status().message().find("'a'"), std::string::npos);
}

TEST(JsonFields, FindsUnreadFieldsAndNonObjects) {
  const json o = {{"steps", 3}, {"stpes", 4}};
  JsonFields f(o, "c");
  f.integer("steps", 0);
  f.forbid_unread();
  EXPECT_EQ(f.status().message(), "c: field 'stpes' is not known here");

  const json list = json::array({1});
  JsonFields g(list, "c");
  EXPECT_EQ(g.integer("steps", 2), 2);
  g.require("steps");
  g.forbid_unread();
  EXPECT_EQ(g.status().message(), "c: it is a list of 1, wanted an object");
}

TEST(JsonFuzz, DamagedTextNeverCrashesAndAcceptedTextAgreesWithTheLibrary) {
  Rng rng(11);
  const Bytes sample = to_bytes(kSample);
  const Bytes other = to_bytes("{}[],:\"\\u0000\\ud800\"1e9-0.0truefalsenull\xff\xc0\x80[[[[[[[[");
  int accepted = 0;
  for (int i = 0; i < 20000; ++i) {
    const Bytes b = damaged(sample, other, rng);
    const std::string text(b.begin(), b.end());
    const auto v = parse_json(text, "fuzz", {.unique_keys = false});
    const json theirs = json::parse(text, nullptr, false);
    if (v.ok()) {
      ++accepted;
      EXPECT_EQ(*v, theirs) << text;
    } else {
      EXPECT_LT(v.status().message().size(), 400u);
    }
  }
  EXPECT_GT(accepted, 100);  // the damage is not always fatal, else the comparison tests nothing
}

}  // namespace
}  // namespace flashomni
