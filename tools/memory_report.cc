// SPDX-License-Identifier: Apache-2.0
#include "tools/memory_report.h"

#include <algorithm>

#include "io/weight_store.h"
#include "pipelines/run_json.h"

namespace flashomni::tools {
namespace {

// The most that loading holds beside what it has packed: the largest tensor.
size_t largest_tensor_bytes(const std::string& folder) {
  size_t largest = 0;
  const auto store = WeightStore::open(folder);
  if (!store.ok()) return 0;
  for (const TensorEntry* t : store->tensors()) largest = std::max(largest, t->bytes);
  return largest;
}

}  // namespace

nlohmann::json memory_json(const Runtime& runtime, const TextToImageResult& result) {
  const MemoryLedger& ledger = result.report.ledger;
  const flux::FluxTransformer& transformer = runtime.pipeline->transformer();
  const size_t weights = transformer.weight_bytes();
  const size_t text_encoder =
      runtime.pipeline->defaults().pixels ? runtime.pipeline->text_encoder().bytes() : 0;
  const size_t largest = largest_tensor_bytes(runtime.folder + "/transformer");
  // The ledger's scratch counts the workspace, and so do the activations.
  const size_t running = result.activation_bytes + result.report.peak_cache_bytes + ledger.scratch -
                         transformer.exec().workspace_bytes;
  const size_t peak = process_peak_bytes();

  nlohmann::json out = ledger_json(ledger);
  out["program"] = runtime.program_bytes;
  out["weights"] = weights;
  out["text_encoder"] = text_encoder;
  out["largest_tensor"] = largest;
  out["activations"] = result.activation_bytes;
  out["cache_peak"] = result.report.peak_cache_bytes;
  out["process_peak"] = peak;
  out["loading_peak"] = runtime.loading_peak_bytes;
  if (runtime.backend->info().name != "cpu") return out;  // its memory is not the process's
  const size_t explained =
      runtime.program_bytes + weights + text_encoder + std::max(largest, running);
  out["explained"] = explained;
  out["explained_share"] = peak > 0 ? double(explained) / double(peak) : 0;
  return out;
}

}  // namespace flashomni::tools
