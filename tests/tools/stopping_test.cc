// SPDX-License-Identifier: Apache-2.0
//
// Ctrl-C and the progress line, which only a terminal sees.
#include <algorithm>

#include "tests/tools/cli.h"

namespace flashomni::tools {
namespace {

bool first_step_seen(const Finished& f) {
  return f.err.find("step 1/") != std::string::npos;
}

class Stopping : public CliTest, public ::testing::WithParamInterface<int> {};

TEST_P(Stopping, EndsAfterTheStepWithoutAFile) {
  start(small({"generate", "x"}, {"--steps", "2000", "--json", "run.json"}), /*terminal=*/true);
  read_until(first_step_seen);
  ASSERT_EQ(kill(running_, GetParam()), 0);
  const Finished f = finish();
  EXPECT_EQ(f.exit_code, 130);
  EXPECT_EQ(f.signal, 0);
  EXPECT_NE(f.err.find("flashomni: stopped after step "), std::string::npos) << f.err;
  EXPECT_EQ(f.out, "");
  EXPECT_TRUE(files().empty()) << files().front();
}

INSTANTIATE_TEST_SUITE_P(Signals, Stopping, ::testing::Values(SIGINT, SIGTERM),
                         [](const auto& test) { return test.param == SIGINT ? "Int" : "Term"; });

TEST_F(CliTest, CompareStopsWithoutPictures) {
  start(small({"compare", "x"}, {"--steps", "2000"}), /*terminal=*/true);
  read_until([](const Finished& f) { return f.err.find("1/1 dense step 1/") != f.err.npos; });
  ASSERT_EQ(kill(running_, SIGINT), 0);
  EXPECT_EQ(finish().exit_code, 130);
  EXPECT_TRUE(fs::is_empty(path("out")));
}

// One step of this size takes far longer than the test waits.
TEST_F(CliTest, ASecondCtrlCKillsAtOnce) {
  start({"compare", "x", "--width", "1024", "--height", "1024", "--quiet"});
  for (int i = 0; i < 6000 && !fs::exists(path("out")); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  ASSERT_TRUE(fs::exists(path("out")));
  std::this_thread::sleep_for(std::chrono::seconds(1));  // until it is in its first step
  ASSERT_EQ(kill(running_, SIGINT), 0);
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  ASSERT_EQ(waitpid(running_, nullptr, WNOHANG), 0) << "it did not wait for its step to end";
  ASSERT_EQ(kill(running_, SIGINT), 0);
  const Finished f = finish();
  EXPECT_EQ(f.signal, SIGINT);
  EXPECT_TRUE(fs::is_empty(path("out")));
}

TEST_F(CliTest, ProgressIsForTerminals) {
  start(small({"generate", "x"}), /*terminal=*/true);
  const Finished on_terminal = finish();
  EXPECT_EQ(on_terminal.exit_code, 0);
  EXPECT_NE(on_terminal.err.find("\rstep 2/2 ["), std::string::npos) << on_terminal.err;
  EXPECT_NE(on_terminal.err.find("s/step"), std::string::npos) << on_terminal.err;

  const Finished in_pipe = run(small({"generate", "x"}));
  EXPECT_EQ(in_pipe.exit_code, 0);
  EXPECT_EQ((in_pipe.out + in_pipe.err).find('\r'), std::string::npos);
  EXPECT_EQ((in_pipe.out + in_pipe.err).find("\x1b["), std::string::npos);
  EXPECT_EQ(in_pipe.err.find("step 2/2"), std::string::npos) << in_pipe.err;
}

TEST_F(CliTest, QuietPrintsNothingOnATerminal) {
  start(small({"generate", "x", "--quiet"}), /*terminal=*/true);
  const Finished f = finish();
  EXPECT_EQ(f.exit_code, 0);
  EXPECT_EQ(f.out + f.err, "");
  EXPECT_TRUE(fs::exists(path("out.png")));
}

}  // namespace
}  // namespace flashomni::tools
