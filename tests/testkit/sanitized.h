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

// Whether it is the thread sanitizer's, under which everything is slower still.
#if defined(__SANITIZE_THREAD__)
inline constexpr bool kThreadSanitized = true;
#else
inline constexpr bool kThreadSanitized = false;
#endif

}  // namespace flashomni::testkit

// End the test in such builds: "WHAT are left to builds without ...".
#define SKIP_WHERE_SANITIZED(what)                                 \
  if (::flashomni::testkit::kSanitized) {                          \
    GTEST_SKIP() << what " are left to builds without sanitizers"; \
  }                                                                \
  static_assert(true)
#define SKIP_WHERE_THREAD_SANITIZED(what)                                  \
  if (::flashomni::testkit::kThreadSanitized) {                            \
    GTEST_SKIP() << what " are left to builds without a thread sanitizer"; \
  }                                                                        \
  static_assert(true)
