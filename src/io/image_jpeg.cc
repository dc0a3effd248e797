// SPDX-License-Identifier: Apache-2.0
//
// JPEG through libjpeg. Its errors leave by longjmp, so the calls sit in a class whose methods hold
// no C++ objects of their own.
#include <csetjmp>
#include <cstdio>
// jpeglib.h needs stdio first.
#include <jpeglib.h>
// and this one jpeglib.h.
#include <jerror.h>

#include "io/image_formats.h"
#include "io/messages.h"

namespace flashomni {
namespace {

// A progressive file may repeat tiny scans over a large picture for minutes; real ones have ten.
constexpr int kMaxScans = 100;

class JpegReader {
 public:
  JpegReader() {
    jpeg_.err = jpeg_std_error(&errors_);
    errors_.error_exit = [](j_common_ptr jpeg) {
      auto* self = static_cast<JpegReader*>(jpeg->client_data);
      self->errors_.format_message(jpeg, self->message_);
      std::longjmp(self->escape_, 1);
    };
    // Warnings are counted, so that a cut file is noticed, and not printed. Bytes between segments
    // harm nothing; some cameras leave them.
    errors_.emit_message = [](j_common_ptr jpeg, int level) {
      if (level >= 0 || jpeg->err->msg_code == JWRN_EXTRANEOUS_DATA) return;
      auto* self = static_cast<JpegReader*>(jpeg->client_data);
      if (self->errors_.num_warnings++ == 0) self->errors_.format_message(jpeg, self->message_);
    };
    progress_.progress_monitor = [](j_common_ptr jpeg) {
      auto* self = static_cast<JpegReader*>(jpeg->client_data);
      if (self->jpeg_.input_scan_number <= kMaxScans) return;
      std::snprintf(self->message_, sizeof(self->message_), "more than %d scans", kMaxScans);
      std::longjmp(self->escape_, 1);
    };
    jpeg_.client_data = this;
  }
  ~JpegReader() {
    if (created_) jpeg_destroy_decompress(&jpeg_);
  }
  JpegReader(const JpegReader&) = delete;
  JpegReader& operator=(const JpegReader&) = delete;

  // Both return false with message() set. `bytes` must outlive the reader.
  bool read_header(std::span<const uint8_t> bytes) {
    if (setjmp(escape_) != 0) return false;
    jpeg_create_decompress(&jpeg_);
    created_ = true;
    jpeg_.progress = &progress_;
    jpeg_mem_src(&jpeg_, bytes.data(), bytes.size());
    jpeg_read_header(&jpeg_, TRUE);
    return true;
  }
  // `rgb` has width() * height() * 3 bytes.
  bool read_pixels(uint8_t* rgb) {
    if (setjmp(escape_) != 0) return false;
    jpeg_.out_color_space = JCS_RGB;
    jpeg_start_decompress(&jpeg_);
    while (jpeg_.output_scanline < jpeg_.output_height) {
      JSAMPROW row = rgb + size_t{jpeg_.output_scanline} * jpeg_.output_width * 3;
      jpeg_read_scanlines(&jpeg_, &row, 1);
    }
    jpeg_finish_decompress(&jpeg_);
    return errors_.num_warnings == 0;
  }

  int width() const { return static_cast<int>(jpeg_.image_width); }
  int height() const { return static_cast<int>(jpeg_.image_height); }
  bool is_cmyk() const {
    return jpeg_.jpeg_color_space == JCS_CMYK || jpeg_.jpeg_color_space == JCS_YCCK;
  }
  std::string message() const { return printable(message_, sizeof message_); }

 private:
  jpeg_decompress_struct jpeg_ = {};
  jpeg_error_mgr errors_ = {};
  jpeg_progress_mgr progress_ = {};
  std::jmp_buf escape_;
  char message_[JMSG_LENGTH_MAX] = "";
  bool created_ = false;
};

}  // namespace

Result<Image> decode_jpeg(std::span<const uint8_t> bytes, const std::string& source) {
  JpegReader reader;
  if (!reader.read_header(bytes)) {
    return corrupt_file(source + " is a damaged JPEG: " + reader.message());
  }
  const std::string problem = image_size_problem(reader.width(), reader.height());
  if (!problem.empty()) return unsupported(source + ": " + problem);
  if (reader.is_cmyk()) return unsupported(source + " is a CMYK JPEG, wanted RGB or grey");

  Image image{.width = reader.width(), .height = reader.height(), .rgb = {}};
  image.rgb.resize(size_t(image.width) * size_t(image.height) * 3);
  if (!reader.read_pixels(image.rgb.data())) {
    return corrupt_file(source + " is a damaged JPEG: " + reader.message());
  }
  return image;
}

}  // namespace flashomni
