// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace flashomni::testkit {

// Whether this is a sanitizer's build: everything is many times slower there, and memory that was
// given back stays in quarantine.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

}  // namespace flashomni::testkit
