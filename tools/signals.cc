// SPDX-License-Identifier: Apache-2.0
#include "tools/signals.h"

#include <csignal>

namespace flashomni::tools {
namespace {

constexpr int kStopSignals[] = {SIGINT, SIGTERM};
volatile std::sig_atomic_t stop = 0;

void request_stop(int) {
  stop = 1;
  for (const int s : kStopSignals) std::signal(s, SIG_DFL);
}

}  // namespace

void install_stop_handler() {
  for (const int s : kStopSignals) {
    struct sigaction action = {};
    if (sigaction(s, nullptr, &action) == 0 && action.sa_handler == SIG_IGN) continue;
    action = {};
    action.sa_handler = request_stop;
    action.sa_flags = SA_RESTART;
    sigaction(s, &action, nullptr);
  }
}

bool stop_requested() {
  return stop != 0;
}

}  // namespace flashomni::tools
