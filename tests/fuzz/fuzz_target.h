// SPDX-License-Identifier: Apache-2.0
//
// What every fuzz target shares. A target is the libFuzzer entry point LLVMFuzzerTestOneInput:
// whatever the bytes are, it returns 0, and what a reader accepts keeps its promises.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size);

// Ends the program, which libFuzzer records as a finding. Unlike assert, in every build.
#define FUZZ_CHECK(condition)                                                      \
  do {                                                                             \
    if (!(condition)) {                                                            \
      std::fprintf(stderr, "%s:%d: broken: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                \
    }                                                                              \
  } while (false)
