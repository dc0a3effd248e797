// SPDX-License-Identifier: Apache-2.0
//
// Ctrl-C: the first SIGINT or SIGTERM asks the run to stop after its current step, the second kills
// the process at once.
#pragma once

namespace flashomni::tools {

// Signals that the parent process had ignored (nohup, a shell's background job) stay ignored.
void install_stop_handler();
// Whether the user asked to stop.
bool stop_requested();

}  // namespace flashomni::tools
