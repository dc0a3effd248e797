// SPDX-License-Identifier: Apache-2.0
//
// Animated WebP through libwebp and libwebpmux.
#include "io/animation.h"
#include "io/animation_formats.h"
#include "io/atomic_file.h"

#ifdef FLASHOMNI_HAS_WEBP
#include <webp/encode.h>
#include <webp/mux.h>

#include <memory>
#endif

namespace flashomni {

#ifdef FLASHOMNI_HAS_WEBP
namespace {

struct DeleteEncoder {
  void operator()(WebPAnimEncoder* e) const { WebPAnimEncoderDelete(e); }
};

struct Picture : WebPPicture {
  Picture() : WebPPicture{} { WebPPictureInit(this); }
  ~Picture() { WebPPictureFree(this); }
  Picture(const Picture&) = delete;
  Picture& operator=(const Picture&) = delete;
};

}  // namespace

Status check_webp(const std::string& /*path*/) {
  return ok_status();
}

Status save_webp(const std::string& path, std::span<const Image> frames, int fps, int quality) {
  FO_RETURN_IF_ERROR(check_frames(path, frames, fps));
  const std::string cannot = "cannot write " + path + ": ";
  if (quality < 0 || quality > 100) {
    return invalid_argument(cannot + "quality is " + std::to_string(quality) + ", wanted 0..100");
  }
  if (frames[0].width > WEBP_MAX_DIMENSION || frames[0].height > WEBP_MAX_DIMENSION) {
    return invalid_argument(cannot + "WebP holds at most " + std::to_string(WEBP_MAX_DIMENSION) +
                            " pixels a side");
  }
  WebPAnimEncoderOptions options;
  WebPConfig config;
  if (!WebPAnimEncoderOptionsInit(&options) || !WebPConfigInit(&config)) {
    return internal_error(cannot + "libwebp is not the version it was built for");
  }
  config.quality = static_cast<float>(quality);
  const std::unique_ptr<WebPAnimEncoder, DeleteEncoder> encoder(
      WebPAnimEncoderNew(frames[0].width, frames[0].height, &options));
  if (!encoder) return out_of_memory(cannot + "no room for the encoder");
  const auto time = [&](size_t frame) {
    return int((frame * 1000 + size_t(fps) / 2) / size_t(fps));
  };
  for (size_t i = 0; i < frames.size(); ++i) {
    Picture picture;
    picture.use_argb = 1;
    picture.width = frames[i].width;
    picture.height = frames[i].height;
    if (!WebPPictureImportRGB(&picture, frames[i].rgb.data(), frames[i].width * 3) ||
        !WebPAnimEncoderAdd(encoder.get(), &picture, time(i), &config)) {
      return internal_error(cannot + "libwebp: " + WebPAnimEncoderGetError(encoder.get()));
    }
  }
  WebPData data;
  WebPDataInit(&data);
  // The empty picture ends the last frame.
  if (!WebPAnimEncoderAdd(encoder.get(), nullptr, time(frames.size()), nullptr) ||
      !WebPAnimEncoderAssemble(encoder.get(), &data)) {
    return internal_error(cannot + "libwebp: " + WebPAnimEncoderGetError(encoder.get()));
  }
  Status written = write_file(path, std::span<const uint8_t>(data.bytes, data.size));
  WebPDataClear(&data);
  return written;
}

#else

Status check_webp(const std::string& path) {
  return unsupported("cannot write " + path +
                     ": this build has no libwebp (install libwebp-dev and build again); name a "
                     ".png to get an APNG");
}

Status save_webp(const std::string& path, std::span<const Image> frames, int fps, int /*quality*/) {
  FO_RETURN_IF_ERROR(check_frames(path, frames, fps));
  return check_webp(path);
}

#endif

}  // namespace flashomni
