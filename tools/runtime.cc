// SPDX-License-Identifier: Apache-2.0
#include "tools/runtime.h"

#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "flashomni/version.h"
#include "pipelines/run_json.h"
#include "tools/commit.h"  // made by the build

namespace flashomni::tools {
namespace {

namespace fs = std::filesystem;

constexpr char kBundledModel[] = "emoji-flux";

bool is_checkpoint(const fs::path& folder) {
  std::error_code error;
  return fs::is_regular_file(folder / "model_index.json", error);
}

// Folders that may hold the bundled model, best first.
std::vector<fs::path> model_candidates() {
  std::vector<fs::path> out;
  const char* models = std::getenv("FLASHOMNI_MODELS");
  if (models && *models) {
    out.push_back(fs::path(models) / kBundledModel);
    return out;  // a folder that was named is not silently replaced by another
  }
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  const fs::path installed = fs::path("share/flashomni/models") / kBundledModel;
  if (!error) out.push_back(program.parent_path().parent_path() / installed);
  out.push_back(fs::path(FLASHOMNI_INSTALL_MODELS_DIR) / kBundledModel);
  const fs::path in_tree = fs::path("models") / kBundledModel;
  out.push_back(in_tree);
  for (fs::path p = program.parent_path(); p.has_relative_path(); p = p.parent_path()) {
    out.push_back(p / in_tree);
  }
  return out;
}

}  // namespace

Result<std::string> find_model_folder(const ModelFlags& flags) {
  if (!flags.model.empty()) {
    if (is_checkpoint(flags.model)) return flags.model;
    return not_found("no model in " + flags.model + ": it has no model_index.json");
  }
  std::string tried;
  for (const fs::path& folder : model_candidates()) {
    if (is_checkpoint(folder)) return folder.string();
    tried += (tried.empty() ? "" : ", ") + folder.string();
  }
  return not_found(
      "the bundled model was not found; give --model DIR or set FLASHOMNI_MODELS "
      "(tried " +
      tried + ")");
}

Result<std::unique_ptr<Backend>> open_backend(const ModelFlags& flags) {
  const BackendOptions options{flags.threads.value_or(0), flags.isa};
  const std::vector<std::string> names = backend_names();
  const bool has_cuda = std::find(names.begin(), names.end(), "cuda") != names.end();
  if (flags.device == "cuda" && !has_cuda) {
    return unsupported("device is cuda, but this build has only the CPU backend");
  }
  if (flags.device == "auto" && has_cuda) {
    auto cuda = make_backend("cuda", options);
    if (cuda.ok()) return cuda;
  }
  auto backend = make_backend(flags.device == "auto" ? "cpu" : flags.device, options);
  if (backend.ok() || flags.device == "auto") return backend;
  return Status(backend.status().code(),
                "device is " + flags.device + ", but " + backend.status().message());
}

size_t process_peak_bytes() {
  rusage usage{};
  if (getrusage(RUSAGE_SELF, &usage) != 0) return 0;
  return static_cast<size_t>(usage.ru_maxrss) * 1024;  // Linux counts KiB
}

Result<Runtime> open_runtime(const ModelFlags& flags, bool profile) {
  Runtime r;
  r.program_bytes = process_peak_bytes();
  FO_ASSIGN_OR_RETURN(r.folder, find_model_folder(flags));
  const auto load = [&](const ModelFlags& device) -> Status {
    r.pipeline.reset();
    r.profiler.reset();
    FO_ASSIGN_OR_RETURN(r.backend, open_backend(device));
    if (profile) r.profiler = std::make_unique<ProfilingBackend>(*r.backend);
    Backend& backend = profile ? *r.profiler : *r.backend;
    FO_ASSIGN_OR_RETURN(r.pipeline, TextToImagePipeline::load(backend, r.folder));
    return ok_status();
  };
  Status loaded = load(flags);
  if (flags.device == "auto" && loaded.code() == StatusCode::kUnsupported && r.backend &&
      r.backend->info().name != "cpu") {
    std::fprintf(stderr, "flashomni: not on %s: %s\n", r.backend->info().device.c_str(),
                 loaded.message().c_str());
    ModelFlags cpu = flags;
    cpu.device = "cpu";
    loaded = load(cpu);
  }
  FO_RETURN_IF_ERROR(loaded);
  r.loading_peak_bytes = process_peak_bytes();
  return r;
}

const char* build_commit() {
  return FLASHOMNI_COMMIT;
}

html::Origin origin_of(const Runtime& runtime) {
  return {runtime.backend->info(), runtime.folder, build_commit()};
}

nlohmann::json json_head(const std::string& command_line, const Runtime& runtime) {
  return json_head(command_line, runtime.backend->info(), runtime.folder,
                   runtime.pipeline->defaults().family);
}

nlohmann::json json_head(const std::string& command_line, const BackendInfo& machine,
                         const std::string& folder, const std::string& family) {
  return {{"version", version()},
          {"commit", build_commit()},
          {"command", command_line},
          {"machine", machine_json(machine)},
          {"model", {{"folder", folder}, {"family", family}}}};
}

}  // namespace flashomni::tools
