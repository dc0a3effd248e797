// SPDX-License-Identifier: Apache-2.0
//
// A started device with a loaded model, and the head that every JSON result has.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "core/profiling_backend.h"
#include "pipelines/text_to_image.h"
#include "reports/html_sections.h"
#include "tools/common_options.h"

namespace flashomni::tools {

struct Runtime {
  std::unique_ptr<Backend> backend;
  std::unique_ptr<ProfilingBackend> profiler;  // between model and backend, if asked for
  std::string folder;
  std::unique_ptr<TextToImagePipeline> pipeline;  // after what it uses
  size_t program_bytes = 0;                       // resident before anything was loaded
  size_t loading_peak_bytes = 0;                  // most resident until everything was loaded
};

// The device that the flags ask for. kUnsupported when this build does not have it.
Result<std::unique_ptr<Backend>> open_backend(const ModelFlags& flags);
// The checkpoint folder: --model, or the bundled model in $FLASHOMNI_MODELS, beside the installed
// program, in models/ of the current folder or of one above the program. kNotFound lists what was
// tried.
Result<std::string> find_model_folder(const ModelFlags& flags);
// With `profile`, every operation is timed.
Result<Runtime> open_runtime(const ModelFlags& flags, bool profile = false);

// Most resident memory of this process so far, bytes.
size_t process_peak_bytes();
// The commit this program was built from; "unknown" outside a checkout.
const char* build_commit();
// What a page says of where its figures come from.
html::Origin origin_of(const Runtime& runtime);
// {"version", "commit", "command", "machine", "model"}.
nlohmann::json json_head(const std::string& command_line, const Runtime& runtime);
nlohmann::json json_head(const std::string& command_line, const BackendInfo& machine,
                         const std::string& folder, const std::string& family);

}  // namespace flashomni::tools
