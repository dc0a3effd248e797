// SPDX-License-Identifier: Apache-2.0
//
// The charts of the HTML reports, as SVG inside the page: no script, colours from the style sheet,
// every mark with its numbers as a tooltip.
#pragma once

#include <string>
#include <vector>

#include "reports/run_detail.h"

namespace flashomni::html {

// One bar a step, coloured by what the step did.
std::string step_bars(const RunDetail& detail);
// Layers from top to bottom (all of one guidance stream, then the next), steps from left to right.
std::string sparsity_heat_map(const RunDetail& detail);

struct ScatterPoint {
  double x = 0, y = 0;
  std::string text;  // tooltip
};
struct ScatterCurve {
  std::string name;
  std::vector<ScatterPoint> points;  // all of them
  std::vector<size_t> front;         // indices of those that are joined
};
struct Scatter {
  std::string x_label, y_label;
  std::vector<ScatterCurve> curves;
  double marked_x = 0;  // a dashed line, "dense"
};
std::string scatter(const Scatter& plot);
// The colours of the curves with their names.
std::string curve_legend(const std::vector<ScatterCurve>& curves);

}  // namespace flashomni::html
