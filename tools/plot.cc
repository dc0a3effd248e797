// SPDX-License-Identifier: Apache-2.0
#include "tools/plot.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <string_view>

namespace flashomni::tools {
namespace {

using Color = std::array<uint8_t, 3>;
constexpr Color kBlack = {30, 30, 30}, kGrey = {215, 215, 215};
constexpr Color kPalette[] = {{0, 90, 181},   {220, 50, 32}, {0, 140, 90},   {200, 120, 0},
                              {130, 60, 160}, {90, 90, 90},  {0, 160, 190},  {210, 90, 160},
                              {110, 140, 0},  {120, 70, 30}, {90, 130, 230}, {240, 130, 110},
                              {60, 190, 140}, {180, 160, 20}};

// A 5x7 font: per character seven rows of five pixels, most significant bit left. Characters that
// are not listed are drawn as a space; lower case is drawn as upper case.
struct Glyph {
  char c;
  uint8_t rows[7];
};
constexpr Glyph kFont[] = {
    {'0', {14, 17, 19, 21, 25, 17, 14}}, {'1', {4, 12, 4, 4, 4, 4, 14}},
    {'2', {14, 17, 1, 2, 4, 8, 31}},     {'3', {31, 2, 4, 2, 1, 17, 14}},
    {'4', {2, 6, 10, 18, 31, 2, 2}},     {'5', {31, 16, 30, 1, 1, 17, 14}},
    {'6', {6, 8, 16, 30, 17, 17, 14}},   {'7', {31, 1, 2, 4, 8, 8, 8}},
    {'8', {14, 17, 17, 14, 17, 17, 14}}, {'9', {14, 17, 17, 15, 1, 2, 12}},
    {'A', {14, 17, 17, 31, 17, 17, 17}}, {'B', {30, 17, 17, 30, 17, 17, 30}},
    {'C', {14, 17, 16, 16, 16, 17, 14}}, {'D', {28, 18, 17, 17, 17, 18, 28}},
    {'E', {31, 16, 16, 30, 16, 16, 31}}, {'F', {31, 16, 16, 30, 16, 16, 16}},
    {'G', {14, 17, 16, 23, 17, 17, 15}}, {'H', {17, 17, 17, 31, 17, 17, 17}},
    {'I', {14, 4, 4, 4, 4, 4, 14}},      {'J', {7, 2, 2, 2, 2, 18, 12}},
    {'K', {17, 18, 20, 24, 20, 18, 17}}, {'L', {16, 16, 16, 16, 16, 16, 31}},
    {'M', {17, 27, 21, 21, 17, 17, 17}}, {'N', {17, 17, 25, 21, 19, 17, 17}},
    {'O', {14, 17, 17, 17, 17, 17, 14}}, {'P', {30, 17, 17, 30, 16, 16, 16}},
    {'Q', {14, 17, 17, 17, 21, 18, 13}}, {'R', {30, 17, 17, 30, 20, 18, 17}},
    {'S', {15, 16, 16, 14, 1, 1, 30}},   {'T', {31, 4, 4, 4, 4, 4, 4}},
    {'U', {17, 17, 17, 17, 17, 17, 14}}, {'V', {17, 17, 17, 17, 17, 10, 4}},
    {'W', {17, 17, 17, 21, 21, 21, 10}}, {'X', {17, 17, 10, 4, 10, 17, 17}},
    {'Y', {17, 17, 17, 10, 4, 4, 4}},    {'Z', {31, 1, 2, 4, 8, 16, 31}},
    {'.', {0, 0, 0, 0, 0, 12, 12}},      {',', {0, 0, 0, 0, 12, 4, 8}},
    {'-', {0, 0, 0, 31, 0, 0, 0}},       {'_', {0, 0, 0, 0, 0, 0, 31}},
    {'/', {0, 1, 2, 4, 8, 16, 0}},       {'(', {2, 4, 8, 8, 8, 4, 2}},
    {')', {8, 4, 2, 2, 2, 4, 8}},        {'=', {0, 0, 31, 0, 31, 0, 0}},
    {'+', {0, 4, 4, 31, 4, 4, 0}},       {'%', {24, 25, 2, 4, 8, 19, 3}},
    {':', {0, 12, 12, 0, 12, 12, 0}},
};
constexpr int kScale = 2, kAdvance = 6 * kScale, kLineHeight = 10 * kScale;

class Canvas {
 public:
  Canvas(int width, int height)
      : image_{width, height, std::vector<uint8_t>(size_t(width) * size_t(height) * 3, 255)} {}

  void dot(int x, int y, int size, const Color& c) {
    for (int dy = 0; dy < size; ++dy) {
      for (int dx = 0; dx < size; ++dx) set(x + dx - size / 2, y + dy - size / 2, c);
    }
  }
  void line(double x0, double y0, double x1, double y1, int size, bool dashed, const Color& c) {
    const double length = std::hypot(x1 - x0, y1 - y0);
    const int steps = std::max(1, static_cast<int>(length * 2));
    for (int i = 0; i <= steps; ++i) {
      const double t = double(i) / steps;
      if (dashed && std::fmod(t * length, 14.0) > 8.0) continue;
      dot(static_cast<int>(std::lround(x0 + t * (x1 - x0))),
          static_cast<int>(std::lround(y0 + t * (y1 - y0))), size, c);
    }
  }
  void text(int x, int y, std::string_view s, const Color& c) {
    for (const char raw : s) {
      const char upper = raw >= 'a' && raw <= 'z' ? static_cast<char>(raw - 'a' + 'A') : raw;
      for (const Glyph& g : kFont) {
        if (g.c != upper) continue;
        for (int row = 0; row < 7 * kScale; ++row) {
          for (int col = 0; col < 5 * kScale; ++col) {
            if (g.rows[row / kScale] >> (4 - col / kScale) & 1) set(x + col, y + row, c);
          }
        }
      }
      x += kAdvance;
    }
  }
  Image take() { return std::move(image_); }

 private:
  void set(int x, int y, const Color& c) {
    if (x < 0 || y < 0 || x >= image_.width || y >= image_.height) return;
    std::copy(c.begin(), c.end(), &image_.rgb[(size_t(y) * size_t(image_.width) + size_t(x)) * 3]);
  }
  Image image_;
};

std::string number(double x) {
  char text[32];
  std::snprintf(text, sizeof(text), "%g", x);
  return text;
}

int text_width(const std::string& s) {
  return static_cast<int>(s.size()) * kAdvance;
}

}  // namespace

Image draw_plot(const Plot& p, int width, int height) {
  Canvas canvas(width, height);
  const int left = 90, right = width - 24, top = 48, bottom = height - 64;
  const auto scale = [&](double v) { return p.log_y ? std::log2(v) : v; };
  const auto to_x = [&](double v) {
    return left + (v - p.x_min) / (p.x_max - p.x_min) * (right - left);
  };
  const auto to_y = [&](double v) {
    return bottom -
           (scale(v) - scale(p.y_min)) / (scale(p.y_max) - scale(p.y_min)) * (bottom - top);
  };

  canvas.text(left, 14, p.title, kBlack);
  for (const double t : p.y_ticks) {
    canvas.line(left, to_y(t), right, to_y(t), 1, false, kGrey);
    const std::string label = number(t);
    canvas.text(left - 10 - text_width(label), static_cast<int>(to_y(t)) - 7, label, kBlack);
  }
  for (const double t : p.x_ticks) {
    canvas.line(to_x(t), top, to_x(t), bottom, 1, false, kGrey);
    const std::string label = number(t);
    canvas.text(static_cast<int>(to_x(t)) - text_width(label) / 2, bottom + 10, label, kBlack);
  }
  canvas.line(left, bottom, right, bottom, 2, false, kBlack);
  canvas.line(left, top, left, bottom, 2, false, kBlack);
  canvas.text((left + right - text_width(p.x_label)) / 2, bottom + 36, p.x_label, kBlack);
  canvas.text(left + 10, top + 6, p.y_label, kBlack);

  size_t widest = 0;
  for (const PlotLine& l : p.lines) widest = std::max(widest, l.in_legend ? l.name.size() : 0);
  const int legend = p.legend_right ? right - 72 - static_cast<int>(widest) * kAdvance : left + 12;
  size_t named = 0;
  for (const PlotLine& l : p.lines) {
    if (l.in_legend) ++named;
    const Color& color = kPalette[(named + std::size(kPalette) - 1) % std::size(kPalette)];
    for (size_t k = 0; k < l.x.size(); ++k) {
      if (k > 0 && l.joined) {
        canvas.line(to_x(l.x[k - 1]), to_y(l.y[k - 1]), to_x(l.x[k]), to_y(l.y[k]), 2, l.dashed,
                    color);
      }
      if (l.markers) {
        canvas.dot(static_cast<int>(to_x(l.x[k])), static_cast<int>(to_y(l.y[k])), l.joined ? 7 : 5,
                   color);
      }
    }
    if (!l.in_legend) continue;
    const int y = top + 6 + kLineHeight * static_cast<int>(named);
    canvas.line(legend, y + 7, legend + 40, y + 7, 3, l.dashed, color);
    canvas.text(legend + 52, y, l.name, kBlack);
  }
  return canvas.take();
}

}  // namespace flashomni::tools
