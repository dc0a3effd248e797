// SPDX-License-Identifier: Apache-2.0
#include "reports/html_charts.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "reports/html.h"
#include "reports/number_text.h"

namespace flashomni::html {
namespace {

// Told apart by every common kind of colour vision, on white and on dark grey.
constexpr const char* kCurveColours[] = {"#2f7fc1", "#e2603c", "#2fa07a", "#d99a1c", "#9b62c2",
                                         "#7f8a97", "#22a7bd", "#d66aa8", "#8da51f", "#a0673c"};

std::string coordinate(double x) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.2f", x);
  return text;
}

std::string general(double x) {
  char text[32];
  std::snprintf(text, sizeof(text), "%g", x);
  return text;
}

std::string open_svg(double width, double height, const std::string& name) {
  return "<div class=\"chart\"><svg viewBox=\"0 0 " + coordinate(width) + " " + coordinate(height) +
         "\" role=\"img\" aria-label=\"" + escape(name) + "\">\n";
}

constexpr char kCloseSvg[] = "</svg></div>\n";

std::string rectangle(double x, double y, double w, double h, const std::string& paint,
                      const std::string& tooltip = "") {
  return "<rect x=\"" + coordinate(x) + "\" y=\"" + coordinate(y) + "\" width=\"" + coordinate(w) +
         "\" height=\"" + coordinate(h) + "\" " + paint + ">" +
         (tooltip.empty() ? "" : "<title>" + escape(tooltip) + "</title>") + "</rect>\n";
}

std::string line(double x0, double y0, double x1, double y1, const std::string& paint) {
  return "<line x1=\"" + coordinate(x0) + "\" y1=\"" + coordinate(y0) + "\" x2=\"" +
         coordinate(x1) + "\" y2=\"" + coordinate(y1) + "\" " + paint + "/>\n";
}

std::string label(double x, double y, const char* anchor, const std::string& text) {
  return "<text x=\"" + coordinate(x) + "\" y=\"" + coordinate(y) + "\" text-anchor=\"" + anchor +
         "\">" + escape(text) + "</text>\n";
}

std::string fill(const std::string& variable) {
  return "fill=\"var(--" + variable + ")\"";
}

std::string kind_colour(const std::string& kind) {
  if (kind == "update" || kind == "dispatch" || kind == "full") return kind;
  return "skip";
}

std::string legend(const std::vector<std::pair<std::string, std::string>>& colours) {
  std::string out = "<div class=\"legend\">";
  for (const auto& [colour, name] : colours) {
    out += "<span><i style=\"background:" + escape(colour) + "\"></i>" + escape(name) + "</span>";
  }
  return out + "</div>\n";
}

// Every how many steps a number is written.
size_t label_step(size_t count) {
  return std::max<size_t>(1, (count + 19) / 20);
}

constexpr double kLeft = 56, kWidth = 1000;

}  // namespace

std::string step_bars(const RunDetail& d) {
  constexpr double kHeight = 190, kTop = 10, kBottom = 160;
  double most = 1e-9;
  for (const RunDetail::Step& s : d.steps) most = std::max(most, s.seconds);
  const double pitch = (kWidth - kLeft - 4) / double(d.steps.size());
  std::vector<std::pair<std::string, std::string>> colours;
  std::string out = open_svg(kWidth, kHeight, "seconds per step");
  for (const double t : round_ticks(0, most, 4)) {
    const double y = kBottom - t / most * (kBottom - kTop);
    out += line(kLeft, y, kWidth, y, "stroke=\"var(--line)\"");
    out += label(kLeft - 6, y + 4, "end", general(t) + " s");
  }
  for (size_t i = 0; i < d.steps.size(); ++i) {
    const RunDetail::Step& s = d.steps[i];
    const double h = s.seconds / most * (kBottom - kTop);
    const std::string colour = kind_colour(s.kind);
    out += rectangle(
        kLeft + pitch * double(i) + pitch * .08, kBottom - h, pitch * .84, h, fill(colour),
        "step " + std::to_string(i) + " (" + s.kind + "): " + fixed(s.seconds, 3) + " s");
    if (i % label_step(d.steps.size()) == 0) {
      out += label(kLeft + pitch * (double(i) + .5), kBottom + 16, "middle", std::to_string(i));
    }
    const std::pair<std::string, std::string> entry = {"var(--" + colour + ")", s.kind};
    if (std::find(colours.begin(), colours.end(), entry) == colours.end()) {
      colours.push_back(entry);
    }
  }
  return out + kCloseSvg + legend(colours);
}

std::string sparsity_heat_map(const RunDetail& d) {
  constexpr double kCell = 13, kGap = 8, kTop = 4;
  const size_t layers = d.layers.size();
  const double height =
      kTop + double(d.streams) * (kCell * double(layers) + kGap) + (d.streams ? 20 : 0);
  const double pitch = (kWidth - kLeft - 4) / double(d.steps.size());
  std::string out = open_svg(kWidth, height, "attention sparsity by step and layer");
  for (int stream = 0; stream < d.streams; ++stream) {
    const double top = kTop + double(stream) * (kCell * double(layers) + kGap);
    out += rectangle(kLeft, top, kWidth - kLeft - 4, kCell * double(layers), fill("computed"));
    for (size_t layer = 0; layer < layers; ++layer) {
      const double y = top + kCell * double(layer);
      if (layer % label_step(layers) == 0) {
        out += label(
            kLeft - 6, y + kCell - 3, "end",
            (d.streams > 1 ? std::string(stream == 0 ? "p" : "n") : "L") + std::to_string(layer));
      }
      for (size_t step = 0; step < d.steps.size(); ++step) {
        const size_t at = size_t(stream) * layers + layer;
        const double share = std::clamp(d.sparsity[step][at], 0.0, 1.0);
        out +=
            rectangle(kLeft + pitch * double(step) + .5, y + .5, pitch - 1, kCell - 1,
                      fill("left-out") + " fill-opacity=\"" + coordinate(share) + "\"",
                      "step " + std::to_string(step) + ", layer " + std::to_string(layer) + " (" +
                          d.layers[layer] + ")" +
                          (d.streams > 1 ? ", stream " + std::to_string(stream) : "") + ": " +
                          layer_kind_text(d.kinds[step][at]) + ", " + percent(share) + " left out");
      }
    }
  }
  for (size_t step = 0; step < d.steps.size(); step += label_step(d.steps.size())) {
    out += label(kLeft + pitch * (double(step) + .5), height - 8, "middle", std::to_string(step));
  }
  return out + kCloseSvg +
         legend({{"var(--computed)", "everything computed"}, {"var(--left-out)", "all left out"}}) +
         "<p class=\"quiet\">Steps from left to right, layers from top to bottom" +
         (d.streams > 1 ? std::string("; p: with the prompt, n: the guidance stream without it.")
                        : std::string(".")) +
         "</p>\n";
}

std::string scatter(const Scatter& p) {
  constexpr double kHeight = 420, kTop = 12, kBottom = 372;
  double x_low = p.marked_x, x_high = p.marked_x, y_low = 1e300, y_high = -1e300;
  for (const ScatterCurve& c : p.curves) {
    for (const ScatterPoint& q : c.points) {
      x_low = std::min(x_low, q.x);
      x_high = std::max(x_high, q.x);
      y_low = std::min(y_low, q.y);
      y_high = std::max(y_high, q.y);
    }
  }
  if (y_low > y_high) return "<p class=\"quiet\">Nothing to draw: no run differs from dense.</p>\n";
  const double x_margin = std::max(.05 * (x_high - x_low), 1e-6);
  const double y_margin = std::max(.06 * (y_high - y_low), 1e-4);
  x_low -= x_margin;
  x_high += x_margin;
  y_low -= y_margin;
  y_high += y_margin;
  const auto to_x = [&](double v) {
    return kLeft + (v - x_low) / (x_high - x_low) * (kWidth - kLeft);
  };
  const auto to_y = [&](double v) {
    return kBottom - (v - y_low) / (y_high - y_low) * (kBottom - kTop);
  };

  std::string out = open_svg(kWidth, kHeight, p.y_label + " over " + p.x_label);
  for (const double t : round_ticks(y_low, y_high, 7)) {
    out += line(kLeft, to_y(t), kWidth, to_y(t), "stroke=\"var(--line)\"");
    out += label(kLeft - 6, to_y(t) + 4, "end", general(t));
  }
  for (const double t : round_ticks(x_low, x_high, 9)) {
    out += line(to_x(t), kTop, to_x(t), kBottom, "stroke=\"var(--line)\"");
    out += label(to_x(t), kBottom + 16, "middle", general(t));
  }
  out += line(to_x(p.marked_x), kTop, to_x(p.marked_x), kBottom,
              "stroke=\"var(--quiet)\" stroke-dasharray=\"6 4\"");
  out += label(to_x(p.marked_x) + 5, kTop + 12, "start", "dense");
  out += label((kLeft + kWidth) / 2, kHeight - 8, "middle", p.x_label);
  out += label(kLeft + 6, kBottom - 8, "start", p.y_label);
  for (size_t i = 0; i < p.curves.size(); ++i) {
    const ScatterCurve& c = p.curves[i];
    const std::string colour = kCurveColours[i % std::size(kCurveColours)];
    std::string path;
    for (const size_t k : c.front) {
      path += (path.empty() ? "M" : "L") + coordinate(to_x(c.points[k].x)) + " " +
              coordinate(to_y(c.points[k].y));
    }
    if (!path.empty()) {
      out +=
          "<path d=\"" + path + "\" fill=\"none\" stroke=\"" + colour + "\" stroke-width=\"2\"/>\n";
    }
    for (size_t k = 0; k < c.points.size(); ++k) {
      const bool joined = std::find(c.front.begin(), c.front.end(), k) != c.front.end();
      out += "<circle cx=\"" + coordinate(to_x(c.points[k].x)) + "\" cy=\"" +
             coordinate(to_y(c.points[k].y)) + "\" r=\"" + (joined ? "5" : "3.5") + "\" fill=\"" +
             colour + "\"" + (joined ? "" : " fill-opacity=\".55\"") + "><title>" +
             escape(c.points[k].text) + "</title></circle>\n";
    }
  }
  return out + kCloseSvg;
}

std::string curve_legend(const std::vector<ScatterCurve>& curves) {
  std::vector<std::pair<std::string, std::string>> colours;
  for (size_t i = 0; i < curves.size(); ++i) {
    colours.emplace_back(kCurveColours[i % std::size(kCurveColours)], curves[i].name);
  }
  return legend(colours);
}

}  // namespace flashomni::html
