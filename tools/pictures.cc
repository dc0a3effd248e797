// SPDX-License-Identifier: Apache-2.0
#include "tools/pictures.h"

#include <algorithm>
#include <cmath>

namespace flashomni::tools {
namespace {

constexpr Colour kSheetGrey = {190, 190, 190};
constexpr Colour kComputed = {31, 78, 121};
constexpr Colour kCached = {240, 160, 60};

void paste(const Image& source, int left, int top, Image& target) {
  const size_t line = 3 * size_t(source.width);
  for (int y = 0; y < source.height; ++y) {
    const size_t at = 3 * (size_t(top + y) * size_t(target.width) + size_t(left));
    std::copy_n(source.rgb.begin() + static_cast<ptrdiff_t>(line * size_t(y)), line,
                target.rgb.begin() + static_cast<ptrdiff_t>(at));
  }
}

uint8_t mix(uint8_t a, uint8_t b, double share) {
  return static_cast<uint8_t>(std::lround(a + (double(b) - double(a)) * share));
}

}  // namespace

Image blank_image(int width, int height, Colour colour) {
  Image image{width, height, std::vector<uint8_t>(3 * size_t(width) * size_t(height))};
  for (size_t i = 0; i < image.rgb.size(); i += 3) {
    image.rgb[i] = colour.r;
    image.rgb[i + 1] = colour.g;
    image.rgb[i + 2] = colour.b;
  }
  return image;
}

Image contact_sheet(const std::vector<std::vector<Image>>& rows) {
  int width = 0, height = kSheetGap;
  for (const auto& row : rows) {
    int row_width = kSheetGap, row_height = 0;
    for (const Image& image : row) {
      row_width += image.width + kSheetGap;
      row_height = std::max(row_height, image.height);
    }
    width = std::max(width, row_width);
    height += row_height + kSheetGap;
  }
  Image sheet = blank_image(width, height, kSheetGrey);
  int top = kSheetGap;
  for (const auto& row : rows) {
    int left = kSheetGap, row_height = 0;
    for (const Image& image : row) {
      paste(image, left, top, sheet);
      left += image.width + kSheetGap;
      row_height = std::max(row_height, image.height);
    }
    top += row_height + kSheetGap;
  }
  return sheet;
}

int rows_per_sheet(int per_row, int width, int height) {
  const int64_t sheet_width = int64_t{per_row} * (width + kSheetGap) + kSheetGap;
  const int64_t sheet_height = std::min<int64_t>(kMaxImageSide, kMaxImagePixels / sheet_width);
  return static_cast<int>(std::max<int64_t>(1, (sheet_height - kSheetGap) / (height + kSheetGap)));
}

Image heat_map(const std::vector<std::vector<double>>& rows, int cell) {
  const int height = static_cast<int>(rows.size()) * cell;
  const int width = rows.empty() ? 0 : static_cast<int>(rows.front().size()) * cell;
  Image map = blank_image(width, height, kComputed);
  for (size_t y = 0; y < rows.size(); ++y) {
    for (size_t x = 0; x < rows[y].size(); ++x) {
      const double share = std::clamp(rows[y][x], 0.0, 1.0);
      const Colour colour = {mix(kComputed.r, kCached.r, share), mix(kComputed.g, kCached.g, share),
                             mix(kComputed.b, kCached.b, share)};
      paste(blank_image(cell, cell, colour), int(x) * cell, int(y) * cell, map);
    }
  }
  return map;
}

}  // namespace flashomni::tools
