// SPDX-License-Identifier: Apache-2.0
#include "io/input_file.h"

#include <sys/stat.h>

#include "tests/io/io_testing.h"

namespace flashomni {
namespace {

using testing::Bytes;
using testing::fails_with;
using testing::put_file;
using testing::TempDir;
using testing::to_bytes;

Bytes read(const InputFile& file, uint64_t offset, size_t count) {
  Bytes out(count);
  EXPECT_TRUE(file.read(offset, out).ok());
  return out;
}

TEST(InputFile, GivesTheBytes) {
  TempDir dir;
  put_file(dir / "a", "hello\n");
  const auto file = InputFile::open(dir / "a");
  ASSERT_TRUE(file.ok()) << file.status().to_string();
  EXPECT_EQ(file->size(), 6u);
  EXPECT_EQ(file->path(), dir / "a");
  EXPECT_EQ(read(*file, 0, 6), to_bytes("hello\n"));
  EXPECT_EQ(read(*file, 3, 2), to_bytes("lo"));
  EXPECT_EQ(read(*file, 6, 0), Bytes());
  EXPECT_TRUE(file->check_unchanged().ok());
  EXPECT_EQ(*read_file(dir / "a", 6), to_bytes("hello\n"));
}

TEST(InputFile, EmptyFile) {
  TempDir dir;
  put_file(dir / "a", "");
  EXPECT_EQ(*read_file(dir / "a", 0), Bytes());
}

TEST(InputFile, MoveKeepsTheFile) {
  TempDir dir;
  put_file(dir / "a", "first");
  put_file(dir / "b", "second");
  auto a = InputFile::open(dir / "a");
  auto b = InputFile::open(dir / "b");
  ASSERT_TRUE(a.ok() && b.ok());
  InputFile moved = std::move(a).value();
  EXPECT_EQ(read(moved, 0, 5), to_bytes("first"));
  moved = std::move(b).value();
  EXPECT_EQ(read(moved, 0, 6), to_bytes("second"));
}

TEST(InputFile, RefusesWhatIsNotAFile) {
  TempDir dir;
  EXPECT_TRUE(fails_with(InputFile::open(dir / "none").status(), StatusCode::kNotFound,
                         "No such file or directory"));
  EXPECT_TRUE(fails_with(InputFile::open(dir.path()).status(), StatusCode::kInvalidArgument,
                         dir.path() + " is a folder, wanted a file"));
  ASSERT_EQ(mkfifo((dir / "fifo").c_str(), 0600), 0);
  // Must return although nobody writes to it.
  EXPECT_TRUE(fails_with(InputFile::open(dir / "fifo").status(), StatusCode::kInvalidArgument,
                         "is a FIFO"));
  EXPECT_TRUE(fails_with(InputFile::open("/dev/zero").status(), StatusCode::kInvalidArgument,
                         "is a device"));
}

TEST(InputFile, LargeFilesAreRefusedUnread) {
  TempDir dir;
  put_file(dir / "a", "0123456789");
  EXPECT_TRUE(fails_with(read_file(dir / "a", 9).status(), StatusCode::kUnsupported,
                         "has 10 bytes, at most 9 are read"));
}

// Another process shortens the file: an error, where a mapping would end the program.
TEST(InputFile, NoticesAShortenedFile) {
  TempDir dir;
  put_file(dir / "a", "0123456789");
  const auto file = InputFile::open(dir / "a");
  ASSERT_TRUE(file.ok());
  std::filesystem::resize_file(dir / "a", 4);
  Bytes out(10);
  for (const Status& s : {file->check_unchanged(), file->read(0, out)}) {
    EXPECT_TRUE(fails_with(s, StatusCode::kCorruptFile, "changed while it was read: it has 4"));
  }
  EXPECT_TRUE(fails_with(file->read(8, {out.data(), 1}), StatusCode::kCorruptFile, "had 10"));
}

TEST(InputFile, KnowsGitLfsPointers) {
  TempDir dir;
  put_file(dir / "a", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n");
  put_file(dir / "b", "version 2");
  EXPECT_TRUE(
      fails_with(read_file(dir / "a", 100).status(), StatusCode::kCorruptFile, "git lfs pull"));
  EXPECT_TRUE(read_file(dir / "b", 100).ok());
}

}  // namespace
}  // namespace flashomni
