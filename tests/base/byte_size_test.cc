// SPDX-License-Identifier: Apache-2.0
//
// Amounts of memory: what is read, what is refused, what is written.
#include "base/byte_size.h"

#include <gtest/gtest.h>

namespace flashomni {
namespace {

TEST(ByteSize, ReadsWhatPeopleWrite) {
  const std::pair<const char*, size_t> cases[] = {{"0", 0},
                                                  {"17", 17},
                                                  {"1e9", 1000000000},
                                                  {"4GiB", size_t{4} << 30},
                                                  {"512MiB", size_t{512} << 20},
                                                  {"512 mib", size_t{512} << 20},
                                                  {"1.5KiB", 1536},
                                                  {"2TiB", size_t{2} << 40},
                                                  {"1.5GB", 1500000000},
                                                  {"3kb", 3000},
                                                  {"7MB", 7000000},
                                                  {"1TB", 1000000000000},
                                                  {"123B", 123},
                                                  {"0.9", 0}};
  for (const auto& [text, bytes] : cases) {
    const Result<size_t> read = parse_byte_size(text);
    ASSERT_TRUE(read.ok()) << text << ": " << read.status().message();
    EXPECT_EQ(*read, bytes) << text;
  }
}

TEST(ByteSize, RefusesTheRestByName) {
  for (const char* text : {"", "GiB", "-1", "4 GiB GiB", "4G", "4giga", "nan", "inf", "1e400",
                           "9e18TiB", "0x10", "4,5GiB", "4GiB ", " 4GiB", "4\tGiB"}) {
    const Result<size_t> read = parse_byte_size(text);
    ASSERT_FALSE(read.ok()) << text;
    EXPECT_EQ(read.status().code(), StatusCode::kInvalidArgument);
    EXPECT_NE(read.status().message().find("'" + std::string(text) + "'"), std::string::npos);
    EXPECT_NE(read.status().message().find("4GiB"), std::string::npos);
  }
}

TEST(ByteSize, WritesOneDecimal) {
  EXPECT_EQ(byte_size_text(0), "0 B");
  EXPECT_EQ(byte_size_text(1023), "1023 B");
  EXPECT_EQ(byte_size_text(1024), "1.0 KiB");
  EXPECT_EQ(byte_size_text(size_t{4} << 30), "4.0 GiB");
  EXPECT_EQ(byte_size_text((size_t{3} << 29)), "1.5 GiB");
  EXPECT_EQ(byte_size_text(size_t{5000} << 40), "5000.0 TiB");
}

}  // namespace
}  // namespace flashomni
