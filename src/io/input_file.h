// SPDX-License-Identifier: Apache-2.0
//
// A file that is read: how every loader sees its bytes. Files are read, not mapped: a mapping whose
// file another process shortens kills the program at the next access (SIGBUS), a read says so.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "flashomni/status.h"

namespace flashomni {

// An open regular file of fixed size; move-only. Reads may run on several threads at once.
class InputFile {
 public:
  // Folders, FIFOs, sockets and devices are refused without waiting for them.
  static Result<InputFile> open(const std::string& path);

  InputFile(InputFile&& other) noexcept;
  InputFile& operator=(InputFile&& other) noexcept;
  ~InputFile();

  const std::string& path() const { return path_; }
  uint64_t size() const { return size_; }  // when it was opened

  // Fills `out` from byte `offset` on. kCorruptFile when the file ends before that, kIoError when
  // the system cannot read it.
  Status read(uint64_t offset, std::span<uint8_t> out) const;
  // kCorruptFile when the file no longer has the size that it was opened with.
  Status check_unchanged() const;

 private:
  InputFile() = default;

  std::string path_;
  int fd_ = -1;
  uint64_t size_ = 0;
};

// The whole file at `path`. kUnsupported for one of more than `max_bytes`, kCorruptFile for the few
// lines that git-lfs leaves in place of a large file.
Result<std::vector<uint8_t>> read_file(const std::string& path, uint64_t max_bytes);

// The bytes as text.
inline std::string_view as_text(std::span<const uint8_t> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// kCorruptFile when a file that starts with these bytes is a git-lfs pointer.
Status check_not_lfs_pointer(std::span<const uint8_t> start, const std::string& path);

}  // namespace flashomni
