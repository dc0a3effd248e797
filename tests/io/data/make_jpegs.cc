// SPDX-License-Identifier: Apache-2.0
//
// Made the JPEG files in this folder, once, with libjpeg-turbo 2.1.5:
//   g++ -std=c++20 make_jpegs.cc -o make_jpegs -ljpeg && ./make_jpegs
// A horizontal ramp in red, a vertical one in green, blue 128.
#include <cstdio>
// jpeglib.h needs stdio first.
#include <jpeglib.h>

#include <vector>

namespace {

void write(const char* path, int width, int height, int channels, bool progressive) {
  std::FILE* file = std::fopen(path, "wb");
  jpeg_compress_struct jpeg;
  jpeg_error_mgr errors;
  jpeg.err = jpeg_std_error(&errors);
  jpeg_create_compress(&jpeg);
  jpeg_stdio_dest(&jpeg, file);
  jpeg.image_width = static_cast<JDIMENSION>(width);
  jpeg.image_height = static_cast<JDIMENSION>(height);
  jpeg.input_components = channels;
  jpeg.in_color_space = channels == 1 ? JCS_GRAYSCALE : channels == 3 ? JCS_RGB : JCS_CMYK;
  jpeg_set_defaults(&jpeg);  // 4:2:0 for colour
  jpeg_set_quality(&jpeg, 90, TRUE);
  if (progressive) jpeg_simple_progression(&jpeg);
  jpeg_start_compress(&jpeg, TRUE);
  for (int y = 0; y < height; ++y) {
    std::vector<JSAMPLE> row;
    for (int x = 0; x < width; ++x) {
      row.push_back(static_cast<JSAMPLE>(255 * x / (width - 1)));
      if (channels == 1) continue;
      row.push_back(static_cast<JSAMPLE>(255 * y / (height - 1)));
      row.push_back(128);
      if (channels == 4) row.push_back(0);
    }
    JSAMPROW rows[] = {row.data()};
    jpeg_write_scanlines(&jpeg, rows, 1);
  }
  jpeg_finish_compress(&jpeg);
  jpeg_destroy_compress(&jpeg);
  std::fclose(file);
}

}  // namespace

int main() {
  write("baseline.jpg", 40, 24, 3, false);
  write("progressive.jpg", 33, 17, 3, true);
  write("grey.jpg", 16, 16, 1, false);
  write("cmyk.jpg", 8, 8, 4, false);
}
