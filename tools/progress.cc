// SPDX-License-Identifier: Apache-2.0
#include "tools/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tools/signals.h"
#include "tools/table.h"

namespace flashomni::tools {
namespace {

constexpr size_t kMaxBar = 30;

bool can_redraw() {
  const char* term = std::getenv("TERM");
  return isatty(STDERR_FILENO) && !(term && std::strcmp(term, "dumb") == 0);
}

// A line that wraps cannot be redrawn, so the text has to fit.
size_t terminal_columns() {
  winsize size = {};
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
  return size.ws_col;
}

}  // namespace

Progress::Progress(bool quiet) : visible_(!quiet && can_redraw()) {}

ProgressCallback Progress::track(std::string label) {
  return [this, label = std::move(label), total = 0.0](const StepProgress& p) mutable {
    total += p.seconds;
    if (visible_) draw(label, p, total);
    return !stop_requested();
  };
}

void Progress::draw(const std::string& label, const StepProgress& p, double seconds_so_far) {
  const double each = seconds_so_far / p.step;
  const std::string head = (label.empty() ? "" : label + " ") + "step " + std::to_string(p.step) +
                           "/" + std::to_string(p.steps) + " ";
  const std::string tail = std::string(" ") + step_kind_name(p.kind) + ", " + percent(p.sparsity) +
                           " skipped, " + fixed(p.seconds, 2) + " s/step, " +
                           fixed(each * (p.steps - p.step), 0) + " s left";
  const size_t columns = terminal_columns() - 1;
  const size_t used = text_columns(head) + tail.size() + 2;
  std::string line = head;
  if (columns > used + 4) {
    const size_t bar = std::min(kMaxBar, columns - used);
    const size_t full = bar * size_t(p.step) / size_t(p.steps);
    line += "[" + std::string(full, '#') + std::string(bar - full, '.') + "]";
  }
  std::fprintf(stderr, "\r%s\x1b[K", shortened(line + tail, columns).c_str());
  drawn_ = true;
}

void Progress::clear() {
  if (!drawn_) return;
  std::fputs("\r\x1b[K", stderr);
  drawn_ = false;
}

}  // namespace flashomni::tools
