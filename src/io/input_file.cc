// SPDX-License-Identifier: Apache-2.0
#include "io/input_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "io/messages.h"

namespace flashomni {
namespace {

// Linux reads at most about 2 GiB a call.
constexpr size_t kMaxRead = size_t{1} << 30;

const char* file_kind(mode_t mode) {
  if (S_ISDIR(mode)) return "a folder";
  if (S_ISFIFO(mode)) return "a FIFO";
  if (S_ISSOCK(mode)) return "a socket";
  return "a device";
}

Status changed(const std::string& path, uint64_t now, uint64_t before) {
  return corrupt_file(path + " changed while it was read: it has " + std::to_string(now) +
                      " bytes, had " + std::to_string(before));
}

}  // namespace

Result<InputFile> InputFile::open(const std::string& path) {
  InputFile file;
  file.path_ = path;
  // Without O_NONBLOCK, opening a FIFO waits for a writer.
  file.fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file.fd_ < 0) return errno_status("cannot open " + path);

  struct stat info;
  if (fstat(file.fd_, &info) != 0) return errno_status("cannot read " + path);
  if (!S_ISREG(info.st_mode)) {
    return invalid_argument(path + " is " + file_kind(info.st_mode) + ", wanted a file");
  }
  file.size_ = static_cast<uint64_t>(info.st_size);
  return file;
}

InputFile::InputFile(InputFile&& other) noexcept
    : path_(std::move(other.path_)),
      fd_(std::exchange(other.fd_, -1)),
      size_(std::exchange(other.size_, 0)) {}

InputFile& InputFile::operator=(InputFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(fd_, other.fd_);
  std::swap(size_, other.size_);
  return *this;
}

InputFile::~InputFile() {
  if (fd_ >= 0) close(fd_);
}

Status InputFile::read(uint64_t offset, std::span<uint8_t> out) const {
  size_t done = 0;
  while (done < out.size()) {
    const size_t want = std::min(out.size() - done, kMaxRead);
    const ssize_t got = pread(fd_, out.data() + done, want, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno_status("cannot read " + path_);
    if (got == 0) return changed(path_, offset + done, size_);
    done += static_cast<size_t>(got);
  }
  return ok_status();
}

Status InputFile::check_unchanged() const {
  struct stat info;
  if (fstat(fd_, &info) != 0) return errno_status("cannot read " + path_);
  const auto now = static_cast<uint64_t>(info.st_size);
  return now == size_ ? ok_status() : changed(path_, now, size_);
}

Result<std::vector<uint8_t>> read_file(const std::string& path, uint64_t max_bytes) {
  FO_ASSIGN_OR_RETURN(const InputFile file, InputFile::open(path));
  if (file.size() > max_bytes) {
    return unsupported(path + " has " + std::to_string(file.size()) + " bytes, at most " +
                       std::to_string(max_bytes) + " are read");
  }
  std::vector<uint8_t> bytes(file.size());
  FO_RETURN_IF_ERROR(file.read(0, bytes));
  FO_RETURN_IF_ERROR(check_not_lfs_pointer(bytes, path));
  return bytes;
}

Status check_not_lfs_pointer(std::span<const uint8_t> start, const std::string& path) {
  if (!as_text(start).starts_with("version https://git-lfs")) return ok_status();
  return corrupt_file(path +
                      " is a git-lfs pointer, not the file itself; fetch it with git lfs pull");
}

}  // namespace flashomni
