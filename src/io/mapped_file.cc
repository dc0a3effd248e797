// SPDX-License-Identifier: Apache-2.0
#include "io/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utility>

#include "io/messages.h"

namespace flashomni {
namespace {

const char* file_kind(mode_t mode) {
  if (S_ISDIR(mode)) return "a folder";
  if (S_ISFIFO(mode)) return "a FIFO";
  if (S_ISSOCK(mode)) return "a socket";
  return "a device";
}

}  // namespace

Result<MappedFile> MappedFile::open(const std::string& path) {
  MappedFile file;
  file.path_ = path;
  // Without O_NONBLOCK, opening a FIFO waits for a writer.
  file.fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file.fd_ < 0) return errno_status("cannot open " + path);

  struct stat info;
  if (fstat(file.fd_, &info) != 0) return errno_status("cannot read " + path);
  if (!S_ISREG(info.st_mode)) {
    return invalid_argument(path + " is " + file_kind(info.st_mode) + ", wanted a file");
  }
  if (info.st_size == 0) return file;  // mmap refuses a length of 0

  const auto size = static_cast<size_t>(info.st_size);
  void* data = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.fd_, 0);
  if (data == MAP_FAILED) return errno_status("cannot map " + path);
  file.data_ = static_cast<const uint8_t*>(data);
  file.size_ = size;
  FO_RETURN_IF_ERROR(file.check_unchanged());
  return file;
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      fd_(std::exchange(other.fd_, -1)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(fd_, other.fd_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(const_cast<uint8_t*>(data_), size_);
  if (fd_ >= 0) close(fd_);
}

Status MappedFile::check_unchanged() const {
  struct stat info;
  if (fstat(fd_, &info) != 0) return errno_status("cannot read " + path_);
  if (static_cast<size_t>(info.st_size) == size_) return ok_status();
  return corrupt_file(path_ + " changed while it was read: it has " + std::to_string(info.st_size) +
                      " bytes, had " + std::to_string(size_));
}

Status MappedFile::check_not_lfs_pointer() const {
  if (!text().starts_with("version https://git-lfs")) return ok_status();
  return corrupt_file(path_ +
                      " is a git-lfs pointer, not the file itself; fetch it with git lfs pull");
}

}  // namespace flashomni
