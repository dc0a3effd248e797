// SPDX-License-Identifier: Apache-2.0
//
// A file mapped read-only into memory: how every loader sees its bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "flashomni/status.h"

namespace flashomni {

// Owns the mapping; move-only. The bytes are the file's own pages, so another process that shortens
// the file pulls them away (reading past the new end then kills the process): check_unchanged()
// before a long read turns the usual case of that into an error.
class MappedFile {
 public:
  // Maps the regular file at `path`; an empty file gives an empty span. Folders, FIFOs, sockets and
  // devices are refused without waiting for them.
  static Result<MappedFile> open(const std::string& path);

  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  const std::string& path() const { return path_; }
  std::span<const uint8_t> bytes() const { return {data_, size_}; }
  std::string_view text() const { return {reinterpret_cast<const char*>(data_), size_}; }

  // kCorruptFile when the file no longer has the size that was mapped.
  Status check_unchanged() const;
  // kCorruptFile when the file is the few lines that git-lfs leaves in place of a large file.
  Status check_not_lfs_pointer() const;

 private:
  MappedFile() = default;

  std::string path_;
  int fd_ = -1;
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace flashomni
