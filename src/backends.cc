// SPDX-License-Identifier: Apache-2.0
//
// The list of backends in this build. An explicit list rather than self-registration, so that a
// static library drops nothing and start-up order does not matter.
#include "cpu/backend.h"
#include "flashomni/backend.h"

#if FLASHOMNI_HAS_CUDA
#include "cuda/backend.h"
#endif

namespace flashomni {

std::vector<std::string> backend_names() {
#if FLASHOMNI_HAS_CUDA
  return {"cpu", "cuda"};
#else
  return {"cpu"};
#endif
}

Result<std::unique_ptr<Backend>> make_backend(const std::string& name,
                                              const BackendOptions& options) {
  if (name == "cpu") return cpu::make_cpu_backend(options);
#if FLASHOMNI_HAS_CUDA
  if (name == "cuda") return cuda::make_cuda_backend(options);
#endif
  std::string known;
  for (const std::string& n : backend_names()) known += (known.empty() ? "" : ", ") + n;
  return not_found("no backend '" + name + "' in this build; there is: " + known);
}

}  // namespace flashomni
