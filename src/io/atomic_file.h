// SPDX-License-Identifier: Apache-2.0
//
// Files that appear whole or not at all: written under a temporary name in the same folder, renamed
// when complete. Every output of the project goes through here.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "flashomni/status.h"

namespace flashomni {

enum class Durability {
  kProcessCrash,  // the target is whole even if this process dies at any point
  kPowerLoss,     // also if the machine does (fsync of the file and its folder)
};

// A file being written. Destroying it before commit() leaves the target as it was and removes the
// temporary file. A symbolic link keeps pointing where it did: the file behind it is replaced.
// A target that is not a regular file (/dev/stdout, a FIFO) is written in place.
class AtomicFile {
 public:
  // All failures read "cannot write <path>: <reason>".
  static Result<AtomicFile> create(const std::string& path);

  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&&) = delete;
  ~AtomicFile();

  // Appends. After a failure only destruction makes sense.
  Status write(std::span<const uint8_t> bytes);
  Status write(std::string_view text);
  // Makes the target what was written. Call once, last.
  Status commit(Durability durability = Durability::kProcessCrash);

 private:
  AtomicFile() = default;
  Status failure(int error) const;

  std::string path_;       // as the caller named it, for messages
  std::string target_;     // path_ with links followed
  std::string temporary_;  // empty: writing in place, or nothing left to remove
  int fd_ = -1;
};

Status write_file(const std::string& path, std::span<const uint8_t> bytes,
                  Durability durability = Durability::kProcessCrash);
Status write_file(const std::string& path, std::string_view text,
                  Durability durability = Durability::kProcessCrash);

// Whether AtomicFile::create(path) would succeed now, so that a long run can refuse a bad output
// path before it starts. Leaves nothing behind and does not touch the target.
Status check_writable(const std::string& path);

}  // namespace flashomni
