// SPDX-License-Identifier: Apache-2.0
//
// The bare transformers of each family, and what they share.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "models/weights.h"
#include "pipelines/bare_transformer.h"

namespace flashomni::bare {

inline constexpr char kFluxDev[] = "flux.1-dev";
inline constexpr char kFluxSchnell[] = "flux.1-schnell";
inline constexpr char kHunyuanVideo[] = "hunyuan-video";

// `folder` holds config.json; empty: the known configuration called `name`.
Result<std::unique_ptr<BareTransformer>> make_flux(Backend& backend, const std::string& name,
                                                   const std::string& folder,
                                                   const BareTransformerOptions& options);

Result<std::unique_ptr<BareTransformer>> make_hunyuan_video(Backend& backend,
                                                            const std::string& name,
                                                            const std::string& folder,
                                                            const BareTransformerOptions& options);

Status check_pixels(const char* name, int pixels, int multiple);
// Calls `load` with random weights or those in the folder, as the options ask.
Status with_loader(Backend& backend, const BareTransformerOptions& options,
                   const std::string& folder, const std::function<Status(WeightLoader&)>& load);
// Standard normal values, the same for the same seed.
std::vector<float> normal_values(uint64_t seed, size_t count);
// Denoises and collects what there is to know.
Result<BareTransformerResult> finish(Backend& backend, Engine& engine, const Denoising& run,
                                     size_t activation_bytes, const ProgressCallback& progress);

}  // namespace flashomni::bare
