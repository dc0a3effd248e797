// SPDX-License-Identifier: Apache-2.0
//
// PNG and JPEG. Check sums of a PNG are made right first, so that damage gets past them.
#include <vector>

#include "io/image.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/testkit/png_chunks.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using namespace flashomni;
  std::vector<uint8_t> file(bytes, bytes + size);
  if (size > 8 && file[0] == 0x89) {
    testkit::repair_png(file);
    // A header may promise megapixels in a few bytes; decoding that is slow, not wrong.
    if (size >= 24 && (file[16] | file[17] | file[20] | file[21] | file[18] | file[22]) != 0) {
      return 0;
    }
  }
  const auto image = decode_image(file, "fuzz");
  if (!image.ok()) {
    FUZZ_CHECK(!image.status().message().empty());
    return 0;
  }
  FUZZ_CHECK(image->width >= 1 && image->height >= 1);
  FUZZ_CHECK(int64_t{1} * image->width * image->height <= kMaxImagePixels);
  FUZZ_CHECK(image->rgb.size() == size_t(image->width) * size_t(image->height) * 3);
  return 0;
}
