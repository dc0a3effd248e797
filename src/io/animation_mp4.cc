// SPDX-License-Identifier: Apache-2.0
//
// MP4 through the ffmpeg program: raw frames into its standard input, a file out of it. No shell is
// involved, so that names need no quoting.
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <sstream>

#include "io/animation.h"
#include "io/animation_formats.h"
#include "io/input_file.h"
#include "io/messages.h"

namespace flashomni {
namespace {

// The program as the shell would find it; empty: there is none.
std::string find_ffmpeg() {
  const char* path = std::getenv("PATH");
  std::stringstream folders(path ? path : "");
  for (std::string folder; std::getline(folders, folder, ':');) {
    std::string file = (folder.empty() ? "." : folder) + "/ffmpeg";
    if (access(file.c_str(), X_OK) == 0 && std::filesystem::is_regular_file(file)) return file;
  }
  return "";
}

// Writes all of `bytes`; false when the reader has gone.
bool write_pipe(int fd, std::span<const uint8_t> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return false;
    bytes = bytes.subspan(size_t(n));
  }
  return true;
}

// The frame with even sides, as yuv420p wants them.
std::vector<uint8_t> even_frame(const Image& f) {
  const int width = (f.width + 1) / 2 * 2, height = (f.height + 1) / 2 * 2;
  std::vector<uint8_t> out;
  out.reserve(size_t(width) * size_t(height) * 3);
  for (int y = 0; y < height; ++y) {
    const uint8_t* row = f.rgb.data() + size_t(std::min(y, f.height - 1)) * size_t(f.width) * 3;
    out.insert(out.end(), row, row + size_t(f.width) * 3);
    if (width != f.width)
      out.insert(out.end(), row + size_t(f.width - 1) * 3, row + size_t(f.width) * 3);
  }
  return out;
}

// Removes a file at the end of a scope.
struct Removed {
  std::string path;
  ~Removed() { unlink(path.c_str()); }
};

std::string last_line(const std::string& path) {
  const auto bytes = read_file(path, uint64_t{1} << 20);
  if (!bytes.ok()) return "";
  std::string_view text = as_text(*bytes);
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.remove_suffix(1);
  const size_t start = text.rfind('\n');
  return printable(start == text.npos ? text : text.substr(start + 1), 200);
}

}  // namespace

Status check_mp4(const std::string& path) {
  if (!find_ffmpeg().empty()) return ok_status();
  return unsupported("cannot write " + path +
                     ": there is no ffmpeg program in PATH; install it, or name a .webp or .png "
                     "to get an animated picture");
}

Status save_mp4(const std::string& path, std::span<const Image> frames, int fps) {
  FO_RETURN_IF_ERROR(check_frames(path, frames, fps));
  FO_RETURN_IF_ERROR(check_mp4(path));
  const std::string program = find_ffmpeg();
  const std::string size = std::to_string((frames[0].width + 1) / 2 * 2) + "x" +
                           std::to_string((frames[0].height + 1) / 2 * 2);
  const Removed part{path + ".tmp" + std::to_string(getpid()) + ".mp4"};
  const Removed log{part.path + ".log"};
  // "file:" so that no name is taken for a protocol or an option.
  std::vector<std::string> args = {program,
                                   "-nostdin",
                                   "-v",
                                   "error",
                                   "-y",
                                   "-f",
                                   "rawvideo",
                                   "-pix_fmt",
                                   "rgb24",
                                   "-s",
                                   size,
                                   "-r",
                                   std::to_string(fps),
                                   "-i",
                                   "pipe:0",
                                   "-c:v",
                                   "libx264",
                                   "-pix_fmt",
                                   "yuv420p",
                                   "-movflags",
                                   "+faststart",
                                   "file:" + part.path};
  std::vector<char*> argv;
  for (std::string& a : args) argv.push_back(a.data());
  argv.push_back(nullptr);

  int in[2];
  if (pipe2(in, O_CLOEXEC) != 0) return errno_status("cannot make a pipe to ffmpeg");
  const int out = open(log.path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (out < 0) {
    Status failed = errno_status("cannot write " + path);
    close(in[0]);
    close(in[1]);
    return failed;
  }
  const pid_t child = fork();
  if (child == 0) {
    signal(SIGPIPE, SIG_DFL);
    dup2(in[0], STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    dup2(out, STDERR_FILENO);
    execv(program.c_str(), argv.data());
    _exit(127);
  }
  close(in[0]);
  close(out);
  if (child < 0) {
    close(in[1]);
    return errno_status("cannot start ffmpeg");
  }
  // A program that ends early must not take this one with it.
  struct sigaction ignore {};
  struct sigaction before {};
  ignore.sa_handler = SIG_IGN;
  sigaction(SIGPIPE, &ignore, &before);
  bool all_written = true;
  for (const Image& f : frames) all_written = all_written && write_pipe(in[1], even_frame(f));
  close(in[1]);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  sigaction(SIGPIPE, &before, nullptr);
  std::error_code error;
  if (!all_written || !WIFEXITED(status) || WEXITSTATUS(status) != 0 ||
      !std::filesystem::is_regular_file(part.path, error)) {
    return io_error("cannot write " + path + ": ffmpeg failed: " + last_line(log.path));
  }
  std::filesystem::rename(part.path, path, error);
  if (error) return io_error("cannot write " + path + ": " + error.message());
  return ok_status();
}

}  // namespace flashomni
