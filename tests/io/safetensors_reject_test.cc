// SPDX-License-Identifier: Apache-2.0
//
// Every way a safetensors file can lie, one row each, and the size of file with which it can hurt.
#include <limits>

#include "io/safetensors.h"
#include "tests/io/io_testing.h"

namespace flashomni {
namespace {

using testing::Bytes;
using testing::fails_with;
using testing::put_file;
using testing::safetensors_bytes;
using testing::TempDir;
using testing::to_bytes;
using testing::with_header_length;

Status open_status(const Bytes& bytes) {
  TempDir dir;
  put_file(dir / "a.safetensors", bytes);
  return SafetensorsFile::open(dir / "a.safetensors").status();
}

struct Case {
  std::string what;
  Bytes bytes;
  std::string words;  // of the message
};

class Reject : public ::testing::TestWithParam<Case> {};

TEST_P(Reject, WithItsReason) {
  EXPECT_TRUE(
      fails_with(open_status(GetParam().bytes), StatusCode::kCorruptFile, GetParam().words));
}

std::string case_name(const ::testing::TestParamInfo<Case>& info) {
  std::string name = info.param.what;
  for (char& c : name) c = isalnum(static_cast<unsigned char>(c)) ? c : '_';
  return name;
}

INSTANTIATE_TEST_SUITE_P(
    Length, Reject,
    ::testing::Values(
        Case{"empty file", {}, "has 0 bytes"}, Case{"7 bytes", Bytes(7), "has 7 bytes"},
        Case{"N is 0", with_header_length(0, ""), "the header is empty"},
        Case{"N over 100 MB", with_header_length(100'000'001, "{}"),
             "header length is 100000001, at most"},
        Case{"N behind the end", with_header_length(3, "{}"),
             "the file has only 2 bytes behind it"},
        Case{"N at 100 MB behind the end", with_header_length(100'000'000, "{}"),
             "has only 2 bytes"},
        Case{"N is 2^64-1", with_header_length(std::numeric_limits<uint64_t>::max(), "{}"),
             "at most"},
        Case{"N is 1 and byte ff", with_header_length(1, "\xff"), "starts with '\\xff'"},
        Case{"N is 1 and a brace", with_header_length(1, "{"), "not valid JSON"},
        Case{"header of white space", with_header_length(4, " \t\r\n"), "the header is empty"},
        Case{"git-lfs pointer", to_bytes("version https://git-lfs.github.com/spec/v1\n"),
             "git-lfs pointer"}),
    case_name);

// A whole header and how many bytes of data follow.
Case header_case(std::string what, const std::string& header, std::string words, size_t data = 0) {
  return {std::move(what), safetensors_bytes(header, data), std::move(words)};
}
// A header of one tensor 'x' with this record.
Case record_case(std::string what, const std::string& record, std::string words, size_t data = 0) {
  return header_case(std::move(what), "{\"x\":" + record + "}", std::move(words), data);
}

INSTANTIATE_TEST_SUITE_P(
    Json, Reject,
    ::testing::Values(
        header_case("not UTF-8", "{\"\xff\":1}", "ill-formed UTF-8"),
        header_case("overlong UTF-8", "{\"\xc0\x80\":1}", "ill-formed UTF-8"),
        header_case("list", "[]", "starts with '['"),
        header_case("string", "\"x\"", "starts with '\"'"),
        header_case("number", "1", "starts with '1'"),
        header_case("null", "null", "starts with 'n'"),
        header_case("byte order mark", "\xef\xbb\xbf{}", "starts with '\\xef'"),
        header_case("truncated", R"({"x":{"dtype":"U8")", "not valid JSON"),
        header_case("deep list", "{\"x\":" + std::string(1'000'000, '['), "wanted an object"),
        record_case("deep unknown field", R"({"u":)" + std::string(1'000'000, '[') + "}",
                    "nested more than 8 levels deep"),
        record_case("deep unknown objects", R"({"u":{"u":{"u":{"u":{"u":{"u":{"u":{}}}}}}}})",
                    "nested more than 8 levels deep"),
        header_case("text behind the object", "{}x", "not valid JSON"),
        header_case("second object", "{}{}", "not valid JSON"),
        header_case("NUL behind the object", std::string("{}\0", 3), "NUL byte at 2"),
        header_case("NUL inside", std::string("{\0}", 3), "NUL byte at 1"),
        header_case("tensor twice",
                    R"({"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                    R"("x":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
                    "tensor 'x' appears twice", 2),
        header_case("tensor twice by escape",
                    R"({"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                    R"("\u0078":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
                    "tensor 'x' appears twice", 2),
        record_case("field twice",
                    R"({"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]})",
                    "tensor 'x': key 'dtype' appears twice", 1),
        record_case("unknown field twice",
                    R"({"u":1,"u":1,"dtype":"U8","shape":[1],"data_offsets":[0,1]})",
                    "key 'u' appears twice", 1),
        header_case("metadata twice", R"({"__metadata__":{},"__metadata__":{}})",
                    "__metadata__ appears twice"),
        header_case("metadata and null metadata", R"({"__metadata__":{},"__metadata__":null})",
                    "__metadata__ appears twice"),
        header_case("metadata key twice", R"({"__metadata__":{"a":"1","a":"2"}})",
                    "__metadata__: key 'a' appears twice"),
        header_case("metadata list", R"({"__metadata__":[]})", "wanted an object"),
        header_case("metadata number", R"({"__metadata__":{"a":1}})", "holds 1, wanted a string"),
        header_case("metadata null value", R"({"__metadata__":{"a":null}})", "wanted a string"),
        header_case("metadata object value", R"({"__metadata__":{"a":{}}})", "wanted a string")),
    case_name);

INSTANTIATE_TEST_SUITE_P(
    Record, Reject,
    ::testing::Values(
        record_case("null", "null", "'x' is null, wanted an object"),
        record_case("list form", R"(["U8",[1],[0,1]])", "'x' is a list, wanted an object", 1),
        record_case("string", R"("U8")", "wanted an object"),
        record_case("empty", "{}", "tensor 'x': dtype is missing"),
        record_case("no dtype", R"({"shape":[1],"data_offsets":[0,1]})", "dtype is missing", 1),
        record_case("no shape", R"({"dtype":"U8","data_offsets":[0,1]})", "shape is missing", 1),
        record_case("no offsets", R"({"dtype":"U8","shape":[1]})", "data_offsets is missing", 1),
        header_case("fields of another record do not count",
                    R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"x":{"shape":[1]}})",
                    "tensor 'x': dtype is missing", 1),
        record_case("unknown dtype", R"({"dtype":"F31","shape":[1],"data_offsets":[0,1]})",
                    "dtype 'F31' is not known", 1),
        record_case("lower-case dtype", R"({"dtype":"u8","shape":[1],"data_offsets":[0,1]})",
                    "dtype 'u8' is not known", 1),
        record_case("dtype number", R"({"dtype":8,"shape":[1],"data_offsets":[0,1]})",
                    "wanted a string", 1),
        record_case("dtype list", R"({"dtype":["U8"],"shape":[1],"data_offsets":[0,1]})",
                    "wanted a string", 1),
        record_case("shape number", R"({"dtype":"U8","shape":1,"data_offsets":[0,1]})",
                    "wanted a list", 1),
        record_case("shape null", R"({"dtype":"U8","shape":null,"data_offsets":[0,1]})",
                    "wanted a list", 1),
        record_case("shape negative", R"({"dtype":"U8","shape":[-1],"data_offsets":[0,1]})",
                    "holds -1, wanted non-negative integers", 1),
        record_case("shape float", R"({"dtype":"U8","shape":[1.0],"data_offsets":[0,1]})",
                    "holds 1.0, wanted non-negative", 1),
        record_case("shape exponent", R"({"dtype":"U8","shape":[1e0],"data_offsets":[0,1]})",
                    "wanted non-negative", 1),
        record_case("shape string", R"({"dtype":"U8","shape":["1"],"data_offsets":[0,1]})",
                    "wanted non-negative", 1),
        record_case("shape nested", R"({"dtype":"U8","shape":[[1]],"data_offsets":[0,1]})",
                    "wanted non-negative", 1),
        record_case("shape over 2^48",
                    R"({"dtype":"U8","shape":[281474976710657],"data_offsets":[0,1]})",
                    "a dimension is 281474976710657, at most 2^48", 1),
        record_case("shape over 2^64",
                    R"({"dtype":"U8","shape":[18446744073709551616],"data_offsets":[0,1]})",
                    "wanted non-negative", 1),
        record_case("product overflow 2 x 2^63",
                    R"({"dtype":"U8","shape":[2,9223372036854775808],"data_offsets":[0,0]})",
                    "at most 2^48"),
        record_case("product overflow 2 x (2^64-2)",
                    R"({"dtype":"U8","shape":[2,18446744073709551614],"data_offsets":[0,0]})",
                    "at most 2^48"),
        record_case("product overflow of allowed dimensions",
                    R"({"dtype":"U8","shape":[281474976710656,65536],"data_offsets":[0,0]})",
                    "product of the shape overflows"),
        record_case("bits overflow",
                    R"({"dtype":"F64","shape":[281474976710656,4096],"data_offsets":[0,0]})",
                    "size in bits overflows"),
        record_case("rank 9", R"({"dtype":"U8","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,1]})",
                    "more than 8 dimensions", 1),
        record_case("half a byte", R"({"dtype":"F4","shape":[3],"data_offsets":[0,2]})",
                    "12 bits are not a whole number of bytes", 2),
        record_case("offsets empty", R"({"dtype":"U8","shape":[1],"data_offsets":[]})",
                    "data_offsets has 0 numbers", 1),
        record_case("one offset", R"({"dtype":"U8","shape":[1],"data_offsets":[0]})",
                    "data_offsets has 1 numbers", 1),
        record_case("three offsets", R"({"dtype":"U8","shape":[1],"data_offsets":[0,1,2]})",
                    "data_offsets has more than 2 numbers", 1),
        record_case("offset negative", R"({"dtype":"U8","shape":[1],"data_offsets":[-1,0]})",
                    "wanted non-negative", 1),
        record_case("offset float", R"({"dtype":"U8","shape":[1],"data_offsets":[0,1.0]})",
                    "wanted non-negative", 1),
        record_case("offsets object", R"({"dtype":"U8","shape":[1],"data_offsets":{"0":0}})",
                    "wanted a list", 1),
        record_case("offsets backwards", R"({"dtype":"U8","shape":[1],"data_offsets":[1,0]})",
                    "[1, 0] run backwards", 1),
        record_case("offsets over the shape", R"({"dtype":"U8","shape":[1],"data_offsets":[0,2]})",
                    "needs 1 bytes, its data_offsets span 2", 2),
        record_case("offsets under the shape",
                    R"({"dtype":"F32","shape":[1],"data_offsets":[0,3]})",
                    "tensor 'x' F32[1] needs 4 bytes", 3),
        record_case("scalar without bytes", R"({"dtype":"U8","shape":[],"data_offsets":[0,0]})",
                    "needs 1 bytes"),
        header_case("name over 64 KiB",
                    "{\"" + std::string(65537, 'n') +
                        R"(":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
                    "has 65537 bytes, at most 65536", 1)),
    case_name);

INSTANTIATE_TEST_SUITE_P(
    Tiling, Reject,
    ::testing::Values(
        record_case("end behind the file", R"({"dtype":"U8","shape":[5],"data_offsets":[0,5]})",
                    "tensors end at byte 5 of the data, the file has 4 (truncated)", 4),
        record_case("end near 2^64",
                    R"({"dtype":"U8","shape":[1],)"
                    R"("data_offsets":[18446744073709551614,18446744073709551615]})",
                    "begins at byte 18446744073709551614 (hole), wanted 0", 1),
        record_case("trailing data", R"({"dtype":"U8","shape":[1],"data_offsets":[0,1]})",
                    "the file has 2 (trailing bytes)", 2),
        header_case("data without tensors", "{}", "the file has 1 (trailing bytes)", 1),
        record_case("first offset not 0", R"({"dtype":"U8","shape":[1],"data_offsets":[1,2]})",
                    "begins at byte 1 (hole), wanted 0", 2),
        header_case("hole",
                    R"({"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                    R"("y":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}})",
                    "tensor 'y' U8[1] begins at byte 2 (hole), wanted 1", 3),
        header_case("overlap",
                    R"({"x":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
                    R"("y":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
                    "tensor 'y' U8[2] begins at byte 1 (overlap), wanted 2", 3),
        header_case("alias",
                    R"({"x":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
                    R"("y":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})",
                    "(overlap)", 2),
        header_case("empty tensor inside another",
                    R"({"x":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
                    R"("y":{"dtype":"U8","shape":[0],"data_offsets":[1,1]}})",
                    "(overlap)", 2)),
    case_name);

TEST(RejectFile, NotAFile) {
  TempDir dir;
  EXPECT_TRUE(fails_with(SafetensorsFile::open(dir.path()).status(), StatusCode::kInvalidArgument,
                         "is a folder"));
  EXPECT_TRUE(fails_with(SafetensorsFile::open(dir / "none").status(), StatusCode::kNotFound,
                         "cannot open"));
}

// A header of many records that all claim the same bytes: the work must grow like a sort, so a few
// hundred thousand (of the two million that fit) pass quickly.
TEST(RejectFile, ManyAliasesFailFast) {
  std::string header = "{";
  for (int i = 0; i < 300'000; ++i) {
    header += (i ? ",\"" : "\"") + std::to_string(i) +
              R"(":{"dtype":"U8","shape":[1],"data_offsets":[0,1]})";
  }
  EXPECT_TRUE(fails_with(open_status(safetensors_bytes(header + "}", 1)), StatusCode::kCorruptFile,
                         "(overlap)"));
}

TEST(RejectFile, ManyUnknownFieldsAreNotQuadratic) {
  std::string record = "{\"x\":{";
  for (int i = 0; i < 300'000; ++i) record += "\"" + std::to_string(i) + "\":0,";
  record += R"("dtype":"U8","shape":[1],"data_offsets":[0,1]}})";
  EXPECT_TRUE(open_status(safetensors_bytes(record, 1)).ok());
}

// Messages must not carry what a file put into a name to a terminal.
TEST(RejectFile, NamesInMessagesArePrintable) {
  const Status s = open_status(
      safetensors_bytes("{\"\\u001b[31m" + std::string(1000, 'n') + "\":{\"dtype\":\"U8\"}}", 0));
  ASSERT_FALSE(s.ok());
  EXPECT_EQ(s.message().find('\x1b'), std::string::npos);
  EXPECT_NE(s.message().find("\\x1b[31m"), std::string::npos);
  EXPECT_LT(s.message().size(), 300u);
}

}  // namespace
}  // namespace flashomni
