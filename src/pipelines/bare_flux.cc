// SPDX-License-Identifier: Apache-2.0
#include "models/flux/transformer.h"
#include "pipelines/bare_models.h"
#include "pipelines/flow_match_euler.h"

namespace flashomni::bare {
namespace {

constexpr int kTextTokens = 512;
constexpr float kGuidance = 3.5f;

class BareFlux final : public BareModel<flux::FluxTransformer> {
 public:
  BareFlux(Backend& backend, std::string name, const BareTransformerOptions& options)
      : BareModel(backend, std::move(name), "flux", kTextTokens, options) {}

  Status load(const flux::FluxConfig& config, const std::string& folder) {
    if (options().frames != 1) {
      return invalid_argument("frames is " + std::to_string(options().frames) +
                              ", wanted 1 of FLUX");
    }
    return load_model(config, folder);
  }

  SequenceInfo sequence() const override {
    SequenceInfo s = heads_of(text_tokens() + rows() * columns());
    s.text_end = text_tokens();
    return s;
  }

  Result<BareTransformerResult> run(int steps, std::unique_ptr<Strategy> strategy,
                                    const EngineOptions& engine_options,
                                    const ProgressCallback& progress) override {
    const flux::FluxConfig& c = model().config();
    const int tokens = rows() * columns();
    FlowMatchEulerConfig scheduler;
    scheduler.use_dynamic_shifting = true;
    std::vector<float> sigmas = flow_match_sigmas(scheduler, steps, tokens);

    flux::RunSetup setup;
    setup.sigmas.assign(sigmas.begin(), sigmas.end() - 1);
    setup.text_tokens = text_tokens();
    setup.output_tokens = tokens;
    setup.guidance = kGuidance;
    setup.streams.push_back(
        {text_states(c.joint_attention_dim), pooled_text(c.pooled_projection_dim)});
    setup.ids.assign(size_t(text_tokens()), PositionId{0, 0, 0});
    for (int y = 0; y < rows(); ++y) {
      for (int x = 0; x < columns(); ++x) {
        setup.ids.push_back({0, static_cast<float>(y), static_cast<float>(x)});
      }
    }
    return denoise_noise(setup, std::move(sigmas), tokens, c.in_channels, std::move(strategy),
                         engine_options, progress);
  }
};

}  // namespace

Result<std::unique_ptr<BareTransformer>> make_flux(Backend& backend, const std::string& name,
                                                   const std::string& folder,
                                                   const BareTransformerOptions& options) {
  flux::FluxConfig config;
  if (folder.empty()) {
    config.guidance_embeds = name == kFluxDev;
  } else {
    FO_ASSIGN_OR_RETURN(config, flux::load_flux_config(folder + "/config.json"));
  }
  auto model = std::make_unique<BareFlux>(backend, name, options);
  FO_RETURN_IF_ERROR(model->load(config, folder));
  return std::unique_ptr<BareTransformer>(std::move(model));
}

}  // namespace flashomni::bare
