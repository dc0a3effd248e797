// SPDX-License-Identifier: Apache-2.0
//
// Progress of long work: one line on stderr that is redrawn after every step, on a terminal only.
#pragma once

#include <string>

#include "pipelines/text_to_image.h"

namespace flashomni::tools {

class Progress {
 public:
  // Draws nothing when `quiet` or when stderr is no terminal that can redraw a line.
  explicit Progress(bool quiet);
  ~Progress() { clear(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // The callback of one run. It draws "<label> step 3/20 ..." and ends the run when the user asked
  // to stop. REQUIRES this object to outlive the run.
  ProgressCallback track(std::string label = "");
  // Removes the line, before anything else is printed.
  void clear();

 private:
  void draw(const std::string& label, const StepProgress& p, double seconds_so_far);

  bool visible_ = false;
  bool drawn_ = false;
};

}  // namespace flashomni::tools
