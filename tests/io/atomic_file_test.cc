// SPDX-License-Identifier: Apache-2.0
#include "io/atomic_file.h"

#include <sys/stat.h>
#include <unistd.h>

#include <thread>

#include "tests/io/io_testing.h"

namespace flashomni {
namespace {

using testing::fails_with;
using testing::get_text;
using testing::put_file;
using testing::TempDir;
using Names = std::vector<std::string>;

TEST(AtomicFile, WritesTheWholeFileAndNothingElse) {
  TempDir dir;
  ASSERT_TRUE(write_file(dir / "a.txt", "one").ok());
  EXPECT_EQ(get_text(dir / "a.txt"), "one");
  ASSERT_TRUE(
      write_file(dir / "a.txt", std::vector<uint8_t>{'t', 'w', 'o'}, Durability::kPowerLoss).ok());
  EXPECT_EQ(get_text(dir / "a.txt"), "two");
  EXPECT_EQ(dir.names(), Names{"a.txt"});
}

TEST(AtomicFile, RelativePathsWork) {
  TempDir dir;
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(dir.path());
  const Status status = write_file("plain.txt", "x");
  std::filesystem::current_path(before);
  ASSERT_TRUE(status.ok()) << status.to_string();
  EXPECT_EQ(get_text(dir / "plain.txt"), "x");
}

TEST(AtomicFile, TargetAppearsOnlyAtCommit) {
  TempDir dir;
  put_file(dir / "a", "old");
  auto file = AtomicFile::create(dir / "a");
  ASSERT_TRUE(file.ok()) << file.status().to_string();
  ASSERT_TRUE(file->write("new").ok());
  EXPECT_EQ(get_text(dir / "a"), "old");
  ASSERT_TRUE(file->commit().ok());
  EXPECT_EQ(get_text(dir / "a"), "new");
}

TEST(AtomicFile, AbandonedWriteLeavesTheOldFile) {
  TempDir dir;
  put_file(dir / "a", "old");
  {
    auto file = AtomicFile::create(dir / "a");
    ASSERT_TRUE(file.ok());
    ASSERT_TRUE(file->write("half a").ok());
    EXPECT_EQ(dir.names().size(), 2u);  // the temporary one is in the same folder
  }
  EXPECT_EQ(get_text(dir / "a"), "old");
  EXPECT_EQ(dir.names(), Names{"a"});
}

TEST(AtomicFile, SeveralWritersToOneFolder) {
  TempDir dir;
  auto a = AtomicFile::create(dir / "x");
  auto b = AtomicFile::create(dir / "x");
  ASSERT_TRUE(a.ok() && b.ok());
  ASSERT_TRUE(a->write("first").ok());
  ASSERT_TRUE(b->write("second").ok());
  ASSERT_TRUE(b->commit().ok());
  ASSERT_TRUE(a->commit().ok());
  EXPECT_EQ(get_text(dir / "x"), "first");
  EXPECT_EQ(dir.names(), Names{"x"});
}

TEST(AtomicFile, KeepsALinkAndReplacesTheFileBehindIt) {
  TempDir dir;
  put_file(dir / "real", "old");
  std::filesystem::create_symlink(dir / "real", dir / "link");
  ASSERT_TRUE(write_file(dir / "link", "new").ok());
  EXPECT_TRUE(std::filesystem::is_symlink(dir / "link"));
  EXPECT_EQ(get_text(dir / "real"), "new");
}

TEST(AtomicFile, WritesDevicesInPlace) {
  ASSERT_TRUE(check_writable("/dev/null").ok());
  ASSERT_TRUE(write_file("/dev/null", "gone").ok());
  EXPECT_TRUE(std::filesystem::is_character_file("/dev/null"));
}

TEST(AtomicFile, WritesAFifoInPlace) {
  TempDir dir;
  ASSERT_EQ(mkfifo((dir / "fifo").c_str(), 0600), 0);
  ASSERT_TRUE(check_writable(dir / "fifo").ok());  // without waiting for a reader
  std::string seen;
  std::thread reader([&] { seen = get_text(dir / "fifo"); });
  EXPECT_TRUE(write_file(dir / "fifo", "through").ok());
  reader.join();
  EXPECT_EQ(seen, "through");
}

TEST(AtomicFile, SaysWhyItCannot) {
  TempDir dir;
  put_file(dir / "file", "x");
  const struct {
    std::string path;
    StatusCode code;
    std::string words;
  } cases[] = {
      {"", StatusCode::kInvalidArgument, "the file name is empty"},
      {dir.path(), StatusCode::kInvalidArgument, "cannot write " + dir.path() + ": it is a folder"},
      {dir / "new/", StatusCode::kInvalidArgument, "names a folder"},
      {dir / "no/a", StatusCode::kNotFound,
       "cannot write " + (dir / "no/a") + ": folder " + (dir / "no") + ": No such file"},
      {dir / "file/a", StatusCode::kIoError, "Not a directory"},
      {"/proc/flashomni", StatusCode::kNotFound, "cannot write /proc/flashomni"},
  };
  for (const auto& c : cases) {
    EXPECT_TRUE(fails_with(write_file(c.path, "x"), c.code, c.words)) << c.path;
    EXPECT_TRUE(fails_with(check_writable(c.path), c.code, c.words)) << c.path;
  }
  EXPECT_EQ(dir.names(), Names{"file"});
}

TEST(AtomicFile, RespectsReadOnlyFilesAndFolders) {
  if (geteuid() == 0) GTEST_SKIP() << "root may write anywhere";
  TempDir dir;
  put_file(dir / "kept", "x");
  chmod((dir / "kept").c_str(), 0444);
  EXPECT_TRUE(fails_with(write_file(dir / "kept", "y"), StatusCode::kIoError, "Permission denied"));
  chmod(dir.path().c_str(), 0555);
  EXPECT_TRUE(fails_with(check_writable(dir / "new"), StatusCode::kIoError, "Permission denied"));
  chmod(dir.path().c_str(), 0755);
  EXPECT_EQ(get_text(dir / "kept"), "x");
}

TEST(AtomicFile, FullDiskIsAnErrorAndLeavesTheTarget) {
  if (access("/dev/full", W_OK) != 0) GTEST_SKIP() << "no /dev/full here";
  EXPECT_TRUE(fails_with(write_file("/dev/full", "x"), StatusCode::kIoError,
                         "cannot write /dev/full: No space left"));
}

TEST(CheckWritable, LeavesNothingAndTouchesNothing) {
  TempDir dir;
  put_file(dir / "a", "old");
  const auto before = std::filesystem::last_write_time(dir / "a");
  EXPECT_TRUE(check_writable(dir / "a").ok());
  EXPECT_TRUE(check_writable(dir / "b").ok());
  EXPECT_EQ(dir.names(), Names{"a"});
  EXPECT_EQ(std::filesystem::last_write_time(dir / "a"), before);
}

}  // namespace
}  // namespace flashomni
