// SPDX-License-Identifier: Apache-2.0
#include "pipelines/bare_transformer.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "base/rng.h"
#include "io/json.h"
#include "pipelines/bare_models.h"

namespace flashomni {
namespace bare {

Status check_pixels(const char* name, int pixels, int multiple) {
  if (pixels > 0 && pixels % multiple == 0) return ok_status();
  return invalid_argument(std::string(name) + " is " + std::to_string(pixels) +
                          ", wanted a positive multiple of " + std::to_string(multiple));
}

std::vector<float> normal_values(uint64_t seed, size_t count) {
  Rng rng(seed);
  std::vector<float> out(count);
  for (float& v : out) v = static_cast<float>(rng.normal());
  return out;
}

Result<BareTransformerResult> finish(Backend& backend, Engine& engine, const Denoising& run,
                                     size_t activation_bytes, const ProgressCallback& progress) {
  BareTransformerResult out;
  FO_ASSIGN_OR_RETURN(out.seconds, denoise(backend, engine, run, progress));
  out.latents.resize(size_t(run.latents.numel()));
  FO_RETURN_IF_ERROR(backend.download(run.exec, out.latents.data(), run.latents.data,
                                      out.latents.size() * sizeof(float)));
  // Numbers that are no numbers could be computed at another speed.
  if (!std::all_of(out.latents.begin(), out.latents.end(),
                   [](float v) { return std::isfinite(v); }))
    return internal_error("the result holds NaN or infinity");
  out.report = engine.report();
  out.activation_bytes = activation_bytes;
  return out;
}

}  // namespace bare

std::vector<std::string> bare_transformer_names() {
  return {bare::kFluxDev, bare::kFluxSchnell, bare::kHunyuanVideo, bare::kWanSmall,
          bare::kWanLarge};
}

Result<std::unique_ptr<BareTransformer>> load_bare_transformer(
    Backend& backend, const BareTransformerOptions& options) {
  namespace fs = std::filesystem;
  std::error_code error;
  for (const char* part : {"", "transformer"}) {
    const fs::path folder = fs::path(options.model) / part;
    if (!fs::is_regular_file(folder / "config.json", error)) continue;
    const std::string path = (folder / "config.json").string();
    FO_ASSIGN_OR_RETURN(const nlohmann::json json, read_json_file(path));
    JsonFields fields(json, path);
    const std::string kind = json.is_object() ? fields.text("_class_name", "") : "";
    const std::string name = fs::path(options.model).lexically_normal().filename().string();
    if (kind == "FluxTransformer2DModel") {
      return bare::make_flux(backend, name, folder.string(), options);
    }
    if (kind == "HunyuanVideoTransformer3DModel") {
      return bare::make_hunyuan_video(backend, name, folder.string(), options);
    }
    if (kind == "WanTransformer3DModel") {
      return bare::make_wan(backend, name, folder.string(), options);
    }
    return unsupported(path + ": model class is '" + kind +
                       "', wanted FluxTransformer2DModel, HunyuanVideoTransformer3DModel or "
                       "WanTransformer3DModel");
  }
  const std::vector<std::string> names = bare_transformer_names();
  std::string known;
  for (const std::string& n : names) known += (known.empty() ? "" : ", ") + n;
  if (std::find(names.begin(), names.end(), options.model) == names.end()) {
    return not_found("no transformer in " + options.model +
                     ": it has no config.json, and the known configurations are " + known);
  }
  if (!options.random_weights) {
    return invalid_argument(options.model + " is a configuration without weights; give a folder " +
                            "that has them, or ask for random ones");
  }
  if (options.model == bare::kHunyuanVideo) {
    return bare::make_hunyuan_video(backend, options.model, "", options);
  }
  if (options.model == bare::kWanSmall || options.model == bare::kWanLarge) {
    return bare::make_wan(backend, options.model, "", options);
  }
  return bare::make_flux(backend, options.model, "", options);
}

}  // namespace flashomni
