// SPDX-License-Identifier: Apache-2.0
#include "tools/signals.h"

#include <atomic>
#include <csignal>

namespace flashomni::tools {
namespace {

constexpr int kStopSignals[] = {SIGINT, SIGTERM};
// The handler may run on any thread. A lock-free atomic is safe in it and between threads.
std::atomic<bool> stop = false;
static_assert(std::atomic<bool>::is_always_lock_free);

void request_stop(int) {
  stop = true;
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
  return stop;
}

}  // namespace flashomni::tools
