// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "flashomni/backend.h"

namespace flashomni::cpu {

// The CPU backend: f32 arithmetic, Highway kernels chosen at run time. Fails by name when
// options.isa is not available on this machine.
Result<std::unique_ptr<Backend>> make_cpu_backend(const BackendOptions& options);

}  // namespace flashomni::cpu
