// SPDX-License-Identifier: Apache-2.0
//
// Amounts of memory as people write them.
#pragma once

#include <cstddef>
#include <string>

#include "flashomni/status.h"

namespace flashomni {

// "4GiB", "512 MiB", "1.5GB", "1e9", "123B": a decimal number with one of B, KiB, MiB, GiB, TiB
// (powers of 1024), KB, MB, GB, TB (powers of 1000), in any case; bytes without one. Fractions of a
// byte are dropped. kInvalidArgument says what was seen and what was wanted.
Result<size_t> parse_byte_size(const std::string& text);

// "4.0 GiB", "512.0 MiB", "17 B".
std::string byte_size_text(size_t bytes);

}  // namespace flashomni
