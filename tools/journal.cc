// SPDX-License-Identifier: Apache-2.0
#include "tools/journal.h"

#include <fcntl.h>
#include <unistd.h>

#include <fstream>
#include <iterator>
#include <string_view>
#include <utility>

#include "io/json.h"
#include "io/messages.h"

namespace flashomni::tools {
namespace {

using nlohmann::json;

Status check_header(const std::string& path, const json& seen, const json& wanted) {
  if (!seen.is_object()) return corrupt_file(path + ": line 1 is no JSON object");
  for (const auto& [key, value] : wanted.items()) {
    const json found = seen.value(key, json());
    if (found == value) continue;
    return invalid_argument(path + " holds runs with " + key + " " + printable(found.dump(), 80) +
                            ", wanted " + printable(value.dump(), 80) +
                            "; give another folder or remove the file");
  }
  return ok_status();
}

}  // namespace

Result<Journal> Journal::open(const std::string& path, const json& header) {
  Journal j;
  j.path_ = path;
  std::string text;
  if (std::ifstream file(path, std::ios::binary); file) {
    text.assign(std::istreambuf_iterator<char>(file), {});
    if (file.bad()) return io_error("cannot read " + path);
  }
  const size_t whole = text.rfind('\n') == std::string::npos ? 0 : text.rfind('\n') + 1;
  size_t number = 0;
  for (size_t at = 0; at < whole;) {
    const size_t end = text.find('\n', at);
    const std::string where = path + ": line " + std::to_string(++number);
    FO_ASSIGN_OR_RETURN(json value, parse_json(std::string_view(text).substr(at, end - at), where));
    if (number == 1) {
      FO_RETURN_IF_ERROR(check_header(path, value, header));
    } else {
      j.entries_.push_back(std::move(value));
    }
    at = end + 1;
  }
  j.fd_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
  if (j.fd_ < 0) return errno_status("cannot write " + path);
  if (ftruncate(j.fd_, static_cast<off_t>(whole)) != 0 || lseek(j.fd_, 0, SEEK_END) < 0) {
    return errno_status("cannot write " + path);
  }
  if (number == 0) FO_RETURN_IF_ERROR(j.write_line(header));
  return j;
}

Journal::Journal(Journal&& other) noexcept
    : path_(std::move(other.path_)),
      fd_(std::exchange(other.fd_, -1)),
      entries_(std::move(other.entries_)) {}

Journal::~Journal() {
  if (fd_ >= 0) ::close(fd_);
}

Status Journal::append(json entry) {
  FO_RETURN_IF_ERROR(write_line(entry));
  entries_.push_back(std::move(entry));
  return ok_status();
}

Status Journal::write_line(const json& value) {
  // Bytes that are no UTF-8 become U+FFFD, as in every JSON file of ours.
  const std::string line = value.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
  for (size_t done = 0; done < line.size();) {
    const ssize_t n = ::write(fd_, line.data() + done, line.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return errno_status("cannot write " + path_);
    done += static_cast<size_t>(n);
  }
  if (fsync(fd_) != 0 && errno != EINVAL && errno != EROFS) {
    return errno_status("cannot write " + path_);
  }
  return ok_status();
}

}  // namespace flashomni::tools
