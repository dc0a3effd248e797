// SPDX-License-Identifier: Apache-2.0
//
// The journal of finished trials: what survives a crash, and what is refused.
#include "tools/journal.h"

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>

#include "tests/testkit/temp_dir.h"

namespace flashomni::tools {
namespace {

using nlohmann::json;

class JournalTest : public ::testing::Test {
 protected:
  std::string path() const { return folder_ / "j.jsonl"; }
  void write(const std::string& text) const { std::ofstream(path(), std::ios::binary) << text; }
  std::string text() const {
    std::ifstream in(path(), std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  testkit::TempDir folder_;
  const json header_ = {{"version", 1}, {"steps", 20}};
};

TEST_F(JournalTest, EntriesComeBackInOrder) {
  {
    auto j = Journal::open(path(), header_);
    ASSERT_TRUE(j.ok()) << j.status().to_string();
    EXPECT_TRUE(j->entries().empty());
    ASSERT_TRUE(j->append({{"n", 1}}).ok());
    ASSERT_TRUE(j->append({{"n", 2}}).ok());
    EXPECT_EQ(j->entries().size(), 2u);
  }
  auto again = Journal::open(path(), header_);
  ASSERT_TRUE(again.ok()) << again.status().to_string();
  ASSERT_EQ(again->entries().size(), 2u);
  EXPECT_EQ(again->entries()[1]["n"], 2);
}

// A crash in the middle of a line, at every byte of it.
TEST_F(JournalTest, ALineThatWasCutOffIsDropped) {
  const std::string whole = header_.dump() + "\n{\"n\":1}\n";
  const std::string last = "{\"n\":2}\n";
  for (size_t cut = 0; cut < last.size(); ++cut) {
    write(whole + last.substr(0, cut));
    auto j = Journal::open(path(), header_);
    ASSERT_TRUE(j.ok()) << j.status().to_string();
    EXPECT_EQ(j->entries().size(), 1u) << cut;
    ASSERT_TRUE(j->append({{"n", 3}}).ok());
    EXPECT_EQ(text(), whole + "{\"n\":3}\n") << cut;
  }
}

TEST_F(JournalTest, AHeaderThatWasCutOffStartsAnew) {
  write(header_.dump().substr(0, 5));
  auto j = Journal::open(path(), header_);
  ASSERT_TRUE(j.ok()) << j.status().to_string();
  EXPECT_EQ(text(), header_.dump() + "\n");
}

TEST_F(JournalTest, RefusesByName) {
  write("{\"version\":1,\"steps\":50}\n");
  const Status other = Journal::open(path(), header_).status();
  EXPECT_EQ(other.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(other.message().find("steps 50, wanted 20"), std::string::npos) << other.message();

  write(header_.dump() + "\nno json\n{\"n\":1}\n");
  const Status broken = Journal::open(path(), header_).status();
  EXPECT_EQ(broken.code(), StatusCode::kCorruptFile);
  EXPECT_NE(broken.message().find("line 2"), std::string::npos) << broken.message();

  write("[1]\n");
  EXPECT_EQ(Journal::open(path(), header_).status().code(), StatusCode::kCorruptFile);
  EXPECT_FALSE(Journal::open(folder_ / "no/j", header_).ok());
}

}  // namespace
}  // namespace flashomni::tools
