// SPDX-License-Identifier: Apache-2.0
#include "tools/memory_report.h"

#include <algorithm>
#include <filesystem>

#include "pipelines/run_json.h"

namespace flashomni::tools {
namespace {

namespace fs = std::filesystem;

size_t safetensors_bytes(const fs::path& folder) {
  size_t sum = 0;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    if (entry.path().extension() != ".safetensors") continue;
    const auto size = fs::file_size(entry.path(), error);
    if (!error) sum += size;
  }
  return sum;
}

}  // namespace

nlohmann::json memory_json(const Runtime& runtime, const TextToImageResult& result) {
  const MemoryLedger& ledger = result.report.ledger;
  const flux::FluxTransformer& transformer = runtime.pipeline->transformer();
  const size_t weights = transformer.weight_bytes();
  const size_t text_encoder = runtime.pipeline->text_encoder().bytes();
  const size_t checkpoint = safetensors_bytes(fs::path(runtime.folder) / "transformer");
  // The ledger's scratch counts the workspace, and so do the activations.
  const size_t running = result.activation_bytes + result.report.peak_cache_bytes + ledger.scratch -
                         transformer.exec().workspace_bytes;
  const size_t peak = process_peak_bytes();

  nlohmann::json out = ledger_json(ledger);
  out["program"] = runtime.program_bytes;
  out["weights"] = weights;
  out["text_encoder"] = text_encoder;
  out["checkpoint"] = checkpoint;
  out["activations"] = result.activation_bytes;
  out["cache_peak"] = result.report.peak_cache_bytes;
  out["process_peak"] = peak;
  out["loading_peak"] = runtime.loading_peak_bytes;
  if (runtime.backend->info().name != "cpu") return out;  // its memory is not the process's
  const size_t explained =
      runtime.program_bytes + weights + text_encoder + std::max(checkpoint, running);
  out["explained"] = explained;
  out["explained_share"] = peak > 0 ? double(explained) / double(peak) : 0;
  return out;
}

}  // namespace flashomni::tools
