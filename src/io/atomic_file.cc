// SPDX-License-Identifier: Apache-2.0
#include "io/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <utility>

#include "io/messages.h"

namespace flashomni {
namespace {

std::string cannot_write(const std::string& path) {
  return "cannot write " + path;
}

std::string folder_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

// Where the bytes of `path` have to go.
struct Target {
  std::string file;       // links followed
  bool in_place = false;  // a device or a FIFO: nothing that a rename could replace
};

Result<Target> find_target(const std::string& path) {
  if (path.empty()) return invalid_argument("cannot write '': the file name is empty");
  if (path.back() == '/') return invalid_argument(cannot_write(path) + ": that names a folder");

  struct stat info;
  if (stat(path.c_str(), &info) == 0) {
    if (S_ISDIR(info.st_mode)) return invalid_argument(cannot_write(path) + ": it is a folder");
    // A rename needs only the folder's permission; a file marked read-only is still to be kept.
    if (access(path.c_str(), W_OK) != 0) return errno_status(cannot_write(path));
    if (!S_ISREG(info.st_mode)) return Target{path, true};
    const std::unique_ptr<char, decltype(&free)> real(realpath(path.c_str(), nullptr), &free);
    if (real == nullptr) return errno_status(cannot_write(path));
    return Target{real.get(), false};
  }
  if (errno != ENOENT) return errno_status(cannot_write(path));

  const std::string folder = folder_of(path);
  if (stat(folder.c_str(), &info) != 0) {
    return errno_status(cannot_write(path) + ": folder " + folder);
  }
  return Target{path, false};
}

}  // namespace

Status AtomicFile::failure(int error) const {
  return errno_status(cannot_write(path_), error);
}

Result<AtomicFile> AtomicFile::create(const std::string& path) {
  FO_ASSIGN_OR_RETURN(const Target target, find_target(path));
  AtomicFile file;
  file.path_ = path;
  file.target_ = target.file;
  if (target.in_place) {
    file.fd_ = ::open(target.file.c_str(), O_WRONLY | O_CLOEXEC);
    if (file.fd_ < 0) return file.failure(errno);
    return file;
  }
  // The number only has to differ from other writers in this folder; O_EXCL decides.
  const std::string stem = folder_of(target.file) + "/.flashomni-" + std::to_string(getpid()) + "-";
  for (int attempt = 0; attempt < 1000; ++attempt) {
    const std::string name = stem + std::to_string(attempt) + ".tmp";
    file.fd_ = ::open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (file.fd_ >= 0) {
      file.temporary_ = name;
      return file;
    }
    if (errno != EEXIST) break;
  }
  return file.failure(errno);
}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : path_(std::move(other.path_)),
      target_(std::move(other.target_)),
      temporary_(std::exchange(other.temporary_, {})),
      fd_(std::exchange(other.fd_, -1)) {}

AtomicFile::~AtomicFile() {
  if (fd_ >= 0) close(fd_);
  if (!temporary_.empty()) unlink(temporary_.c_str());
}

Status AtomicFile::write(std::span<const uint8_t> bytes) {
  constexpr size_t kMaxChunk = size_t{1} << 30;  // one write() call takes less than 2 GiB
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd_, bytes.data(), std::min(bytes.size(), kMaxChunk));
    if (n >= 0) {
      bytes = bytes.subspan(static_cast<size_t>(n));
    } else if (errno != EINTR) {
      return failure(errno);
    }
  }
  return ok_status();
}

Status AtomicFile::write(std::string_view text) {
  return write(std::span(reinterpret_cast<const uint8_t*>(text.data()), text.size()));
}

Status AtomicFile::commit(Durability durability) {
  const bool renames = !temporary_.empty();
  const bool sync = renames && durability == Durability::kPowerLoss;
  if (sync && fsync(fd_) != 0) return failure(errno);
  // Some file systems report a full disk only here, so this comes before the rename.
  if (close(std::exchange(fd_, -1)) != 0) return failure(errno);
  if (!renames) return ok_status();
  if (rename(temporary_.c_str(), target_.c_str()) != 0) return failure(errno);
  temporary_.clear();
  if (!sync) return ok_status();

  const int folder = ::open(folder_of(target_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0) return failure(errno);
  const int error = fsync(folder) == 0 ? 0 : errno;
  close(folder);
  return error == 0 ? ok_status() : failure(error);
}

Status write_file(const std::string& path, std::span<const uint8_t> bytes, Durability durability) {
  FO_ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::create(path));
  FO_RETURN_IF_ERROR(file.write(bytes));
  return file.commit(durability);
}

Status write_file(const std::string& path, std::string_view text, Durability durability) {
  return write_file(path, std::span(reinterpret_cast<const uint8_t*>(text.data()), text.size()),
                    durability);
}

Status check_writable(const std::string& path) {
  FO_ASSIGN_OR_RETURN(const Target target, find_target(path));
  // Opening and closing a FIFO would end its reader's input; find_target asked for permission.
  if (target.in_place) return ok_status();
  return AtomicFile::create(path).status();
}

}  // namespace flashomni
