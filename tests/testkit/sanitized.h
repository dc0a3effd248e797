// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

namespace flashomni::testkit {

// Whether this is a sanitizer's build: everything is many times slower there, and memory that was
// given back stays in quarantine.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

}  // namespace flashomni::testkit

// Ends the test in such builds: "WHAT are left to builds without sanitizers".
#define SKIP_WHERE_SANITIZED(what)                                 \
  if (::flashomni::testkit::kSanitized) {                          \
    GTEST_SKIP() << what " are left to builds without sanitizers"; \
  }                                                                \
  static_assert(true)
