// SPDX-License-Identifier: Apache-2.0
//
// A plain line plot as a picture: enough for speed-up over
// sparsity and for Pareto curves, without a plotting library.
#pragma once

#include <string>
#include <vector>

#include "io/image.h"

namespace flashomni::tools {

struct PlotLine {
  std::string name;
  std::vector<double> x, y;
  bool dashed = false;
  bool markers = true;
  bool joined = true;     // false: markers only
  bool in_legend = true;  // false: in the colour of the line before it, without a name
};

struct Plot {
  std::string title, x_label, y_label;
  double x_min = 0, x_max = 1, y_min = 0, y_max = 1;
  std::vector<double> x_ticks, y_ticks;
  bool log_y = false;
  bool legend_right = false;  // where curves pass through the upper left
  std::vector<PlotLine> lines;
};

// 8-bit RGB, white background, legend at the upper left or right. Texts are ASCII.
Image draw_plot(const Plot& plot, int width, int height);

}  // namespace flashomni::tools
