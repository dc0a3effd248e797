// SPDX-License-Identifier: Apache-2.0
#include "io/mapped_file.h"

#include <sys/stat.h>

#include "tests/io/io_testing.h"

namespace flashomni {
namespace {

using testing::fails_with;
using testing::put_file;
using testing::TempDir;

TEST(MappedFile, GivesTheBytes) {
  TempDir dir;
  put_file(dir / "a", "hello\n");
  const auto file = MappedFile::open(dir / "a");
  ASSERT_TRUE(file.ok()) << file.status().to_string();
  EXPECT_EQ(file->text(), "hello\n");
  EXPECT_EQ(file->bytes().size(), 6u);
  EXPECT_EQ(file->path(), dir / "a");
  EXPECT_TRUE(file->check_unchanged().ok());
}

TEST(MappedFile, EmptyFileIsAnEmptySpan) {
  TempDir dir;
  put_file(dir / "a", "");
  const auto file = MappedFile::open(dir / "a");
  ASSERT_TRUE(file.ok()) << file.status().to_string();
  EXPECT_TRUE(file->bytes().empty());
}

TEST(MappedFile, MoveKeepsTheMapping) {
  TempDir dir;
  put_file(dir / "a", "first");
  put_file(dir / "b", "second");
  auto a = MappedFile::open(dir / "a");
  auto b = MappedFile::open(dir / "b");
  ASSERT_TRUE(a.ok() && b.ok());
  const uint8_t* data = a->bytes().data();
  MappedFile moved = std::move(a).value();
  EXPECT_EQ(moved.bytes().data(), data);
  moved = std::move(b).value();
  EXPECT_EQ(moved.text(), "second");
}

TEST(MappedFile, RefusesWhatIsNotAFile) {
  TempDir dir;
  EXPECT_TRUE(fails_with(MappedFile::open(dir / "none").status(), StatusCode::kNotFound,
                         "No such file or directory"));
  EXPECT_TRUE(fails_with(MappedFile::open(dir.path()).status(), StatusCode::kInvalidArgument,
                         dir.path() + " is a folder, wanted a file"));
  ASSERT_EQ(mkfifo((dir / "fifo").c_str(), 0600), 0);
  // Must return although nobody writes to it.
  EXPECT_TRUE(fails_with(MappedFile::open(dir / "fifo").status(), StatusCode::kInvalidArgument,
                         "is a FIFO"));
  EXPECT_TRUE(fails_with(MappedFile::open("/dev/zero").status(), StatusCode::kInvalidArgument,
                         "is a device"));
}

TEST(MappedFile, NoticesAChangedSize) {
  TempDir dir;
  put_file(dir / "a", "0123456789");
  const auto file = MappedFile::open(dir / "a");
  ASSERT_TRUE(file.ok());
  std::filesystem::resize_file(dir / "a", 4);
  EXPECT_TRUE(
      fails_with(file->check_unchanged(), StatusCode::kCorruptFile, "it has 4 bytes, had 10"));
}

TEST(MappedFile, KnowsGitLfsPointers) {
  TempDir dir;
  put_file(dir / "a", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n");
  put_file(dir / "b", "version 2");
  const auto pointer = MappedFile::open(dir / "a");
  const auto other = MappedFile::open(dir / "b");
  ASSERT_TRUE(pointer.ok() && other.ok());
  EXPECT_TRUE(
      fails_with(pointer->check_not_lfs_pointer(), StatusCode::kCorruptFile, "git lfs pull"));
  EXPECT_TRUE(other->check_not_lfs_pointer().ok());
}

}  // namespace
}  // namespace flashomni
