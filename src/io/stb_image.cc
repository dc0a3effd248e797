// SPDX-License-Identifier: Apache-2.0
//
// The one place that compiles stb_image: two formats, no stdio, and memory that a small file cannot
// make grow without end (a PNG's compressed data may say "a billion zeros" in a megabyte).
#include <cstddef>
#include <cstdlib>

#include "io/image.h"

namespace {

// The largest block that an image within our limits needs: 16-bit RGBA.
constexpr size_t kMaxBlock = size_t{flashomni::kMaxImagePixels} * 8 + 65536;

// Zeroed, so that a file with parts missing decodes to the same picture every time.
void* capped_malloc(size_t bytes) {
  return bytes <= kMaxBlock ? std::calloc(1, bytes) : nullptr;
}
void* capped_realloc(void* block, size_t bytes) {
  return bytes <= kMaxBlock ? std::realloc(block, bytes) : nullptr;
}

}  // namespace

#define STBI_MALLOC(bytes) capped_malloc(bytes)
#define STBI_REALLOC(block, bytes) capped_realloc(block, bytes)
#define STBI_FREE(block) std::free(block)
// Damaged files must come back as errors in every build type; stb's checks that matter for memory
// are not asserts.
#define STBI_ASSERT(condition) static_cast<void>(0)
#define STBI_ONLY_PNG
#define STBI_ONLY_JPEG
#define STBI_NO_STDIO
#define STBI_NO_HDR
#define STBI_NO_LINEAR
#define STBI_MAX_DIMENSIONS 16384
#define STB_IMAGE_IMPLEMENTATION

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wall"
#pragma GCC diagnostic ignored "-Wextra"
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wshadow"
#include <stb_image.h>
#pragma GCC diagnostic pop

static_assert(STBI_MAX_DIMENSIONS == flashomni::kMaxImageSide);
