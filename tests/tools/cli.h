// SPDX-License-Identifier: Apache-2.0
//
// Runs the flashomni command as a user would: as a process of its own, in an empty folder, with its
// output in pipes or stderr on a terminal.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "io/json.h"
#include "tests/testkit/sanitized.h"
#include "tests/testkit/temp_dir.h"

namespace flashomni::tools {

namespace fs = std::filesystem;

using testkit::kSanitized;

struct Finished {
  int exit_code = -1;  // -1: killed by `signal`
  int signal = 0;
  std::string out;
  std::string err;
  uint64_t peak_bytes = 0;  // largest resident size
  uint64_t bytes_read = 0;  // by read() and its like; 0: this system does not tell
};

// Arguments behind other arguments.
inline std::vector<std::string> joined(std::vector<std::string> a,
                                       const std::vector<std::string>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

// A folder of its own for each test, gone afterwards.
class CliTest : public ::testing::Test {
 protected:
  void TearDown() override {
    if (running_ > 0) {
      kill(running_, SIGKILL);
      waitpid(running_, nullptr, 0);
    }
  }

  fs::path path(const std::string& name) const { return folder_ / name; }
  std::string file(const std::string& name) const {
    std::ifstream in(path(name), std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(path(name), std::ios::binary) << text;
  }
  nlohmann::json json(const std::string& name) const {
    auto parsed = read_json_file(path(name).string());
    EXPECT_TRUE(parsed.ok()) << parsed.status().to_string();
    return parsed.ok() ? *parsed : nlohmann::json::object();
  }
  // Names in the test's folder, hidden ones too.
  std::vector<std::string> files() const { return folder_.names(); }

  // Starts the command. With `terminal`, stderr is a terminal of 80 columns.
  void start(const std::vector<std::string>& args, bool terminal = false,
             const std::string& stdout_path = "") {
    int out[2], err[2];
    ASSERT_EQ(pipe2(out, O_CLOEXEC), 0);
    if (terminal) {
      err[0] = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
      ASSERT_TRUE(err[0] >= 0 && grantpt(err[0]) == 0 && unlockpt(err[0]) == 0);
      err[1] = open(ptsname(err[0]), O_RDWR | O_NOCTTY | O_CLOEXEC);
      ASSERT_GE(err[1], 0);
    } else {
      ASSERT_EQ(pipe2(err, O_CLOEXEC), 0);
    }
    running_ = fork();
    ASSERT_GE(running_, 0);
    if (running_ == 0) {
      // A test runner in the background of a shell has SIGINT ignored; a user's shell does not.
      signal(SIGINT, SIG_DFL);
      signal(SIGTERM, SIG_DFL);
      if (chdir(folder_.path().c_str()) != 0) _exit(127);
      models_.empty() ? unsetenv("FLASHOMNI_MODELS")
                      : setenv("FLASHOMNI_MODELS", models_.c_str(), 1);
      setenv("TERM", "xterm", 1);
      if (!stdout_path.empty()) out[1] = open(stdout_path.c_str(), O_WRONLY);
      if (!input_.empty()) dup2(open(input_.c_str(), O_RDONLY), STDIN_FILENO);
      dup2(out[1], STDOUT_FILENO);
      dup2(err[1], STDERR_FILENO);
      std::vector<char*> argv = {program_.data()};
      for (const std::string& a : args) argv.push_back(const_cast<char*>(a.c_str()));
      argv.push_back(nullptr);
      execv(program_.c_str(), argv.data());
      _exit(127);
    }
    close(out[1]);
    close(err[1]);
    out_ = out[0];
    err_ = err[0];
    finished_ = {};
  }

  // Reads both outputs until they end or `seen` says that enough came.
  void read_until(const std::function<bool(const Finished&)>& seen) {
    pollfd streams[2] = {{out_, POLLIN, 0}, {err_, POLLIN, 0}};
    while (out_ >= 0 || err_ >= 0) {
      if (seen(finished_)) return;
      streams[0].fd = out_;
      streams[1].fd = err_;
      ASSERT_GT(poll(streams, 2, kSanitized ? 600000 : 120000), 0)
          << "no output and no end for two minutes";
      take(streams[0], out_, finished_.out);
      take(streams[1], err_, finished_.err);
    }
  }

  Finished finish() {
    read_until([](const Finished&) { return false; });
    // What it read is known only until it is waited for.
    siginfo_t ended{};
    EXPECT_EQ(waitid(P_PID, id_t(running_), &ended, WEXITED | WNOWAIT), 0);
    std::ifstream io("/proc/" + std::to_string(running_) + "/io");
    std::string key;
    if (io >> key && key == "rchar:") io >> finished_.bytes_read;
    int status = 0;
    rusage usage{};
    EXPECT_EQ(wait4(running_, &status, 0, &usage), running_);
    finished_.peak_bytes = uint64_t(usage.ru_maxrss) * 1024;
    running_ = -1;
    if (WIFEXITED(status)) finished_.exit_code = WEXITSTATUS(status);
    if (WIFSIGNALED(status)) finished_.signal = WTERMSIG(status);
    return finished_;
  }

  Finished run(const std::vector<std::string>& args) {
    start(args);
    return finish();
  }

  // With this on standard input.
  Finished run_with_input(const std::vector<std::string>& args, const std::string& input) {
    write("input", input);
    input_ = "input";
    const Finished finished = run(args);
    input_.clear();
    return finished;
  }

  // The smallest run: `args` and two steps of 64x64 pixels.
  static std::vector<std::string> small(std::vector<std::string> args,
                                        const std::vector<std::string>& more = {}) {
    args.insert(args.end(), {"--width", "64", "--height", "64"});
    if (std::find(more.begin(), more.end(), "--steps") == more.end()) {
      args.insert(args.end(), {"--steps", "2"});
    }
    args.insert(args.end(), more.begin(), more.end());
    return args;
  }
  // Options of a strategy that surely skips: Update, Dispatch, Dispatch, Full.
  static std::vector<std::string> sparse() {
    return {"--steps",    "4",
            "--strategy", "random",
            "--set",      "cached=0.5",
            "--set",      "skipped=0.5",
            "--set",      "block_q=32",
            "--set",      "block_kv=32",
            "--set",      "schedule_steps=0",
            "--set",      "warmup=1",
            "--set",      "interval=0"};
  }

  // One line on stderr that names `what`, nothing on stdout, `code`, and no file.
  void expect_refusal(const Finished& f, int code, const std::string& what) {
    EXPECT_EQ(f.exit_code, code) << f.err;
    EXPECT_EQ(f.out, "");
    EXPECT_EQ(f.err.rfind("flashomni: ", 0), 0u) << f.err;
    EXPECT_EQ(std::count(f.err.begin(), f.err.end(), '\n'), 1) << f.err;
    EXPECT_TRUE(f.err.ends_with("\n")) << f.err;
    EXPECT_NE(f.err.find(what), std::string::npos) << f.err << "wanted: " << what;
  }

  std::string program_ = FO_CLI;
  std::string models_ = FO_SOURCE_DIR "/models";  // $FLASHOMNI_MODELS; empty: not set
  std::string input_;  // the file that is standard input; empty: this program's own
  pid_t running_ = -1;

 private:
  static void take(const pollfd& stream, int& fd, std::string& text) {
    if (fd < 0 || stream.revents == 0) return;
    char bytes[4096];
    const ssize_t n = ::read(fd, bytes, sizeof(bytes));
    if (n > 0) {
      text.append(bytes, size_t(n));
      return;
    }
    close(fd);  // a terminal answers with EIO when its other side is closed
    fd = -1;
  }

  testkit::TempDir folder_;
  int out_ = -1, err_ = -1;
  Finished finished_;
};

}  // namespace flashomni::tools
