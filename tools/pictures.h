// SPDX-License-Identifier: Apache-2.0
//
// Pictures put together from pictures and numbers.
#pragma once

#include <vector>

#include "io/image.h"

namespace flashomni::tools {

// A filled rectangle.
struct Colour {
  uint8_t r, g, b;
};
Image blank_image(int width, int height, Colour colour);

// Rows of pictures side by side, top left aligned, on grey with `kSheetGap` pixels around each.
inline constexpr int kSheetGap = 8;
Image contact_sheet(const std::vector<std::vector<Image>>& rows);
// How many rows of `per_row` pictures of this size one PNG can hold, at least 1.
int rows_per_sheet(int per_row, int width, int height);

// One square of `cell` pixels a value, 0 in the colour of computed blocks, 1 in that of cached ones
// (see symbols_picture). REQUIRES rows of equal length.
Image heat_map(const std::vector<std::vector<double>>& rows, int cell);

}  // namespace flashomni::tools
