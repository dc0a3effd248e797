// SPDX-License-Identifier: Apache-2.0
#pragma once

#define FLASHOMNI_VERSION_MAJOR 0
#define FLASHOMNI_VERSION_MINOR 1
#define FLASHOMNI_VERSION_PATCH 0
#define FLASHOMNI_VERSION "0.1.0"

namespace flashomni {

// Version of the library that is linked, which a shared build may have newer than the headers.
const char* version();

}  // namespace flashomni
