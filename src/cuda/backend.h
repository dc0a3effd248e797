// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "flashomni/backend.h"

namespace flashomni::cuda {

// The CUDA backend on the GPU that this thread uses. Says in words when there is none that it can
// use. options.isa asks for a kernel path (see config.h), and where it is empty the environment
// variable FLASHOMNI_CUDA_PATH does; info().isa names the one in use. options.threads is of no use
// here.
Result<std::unique_ptr<Backend>> make_cuda_backend(const BackendOptions& options);

}  // namespace flashomni::cuda
