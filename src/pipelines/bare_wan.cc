// SPDX-License-Identifier: Apache-2.0
#include "models/wan/transformer.h"
#include "pipelines/bare_models.h"
#include "pipelines/flow_match_euler.h"

namespace flashomni::bare {
namespace {

constexpr int kFramesPerLatent = 4;  // after the first frame
constexpr int kTextTokens = 512;
constexpr double kGuidance = 5.0;
constexpr double kShift = 5.0;  // of the noise levels
constexpr float kTimeScale = 1000.f;

class BareWan final : public BareModel<wan::WanTransformer> {
 public:
  BareWan(Backend& backend, std::string name, const BareTransformerOptions& options)
      : BareModel(backend, std::move(name), "wan", kTextTokens, options) {}

  Status load(const wan::WanConfig& config, const std::string& folder) {
    if (options().frames < 1 || options().frames % kFramesPerLatent != 1) {
      return invalid_argument("frames is " + std::to_string(options().frames) +
                              ", wanted one more than a multiple of " +
                              std::to_string(kFramesPerLatent));
    }
    if (config.patch != PatchSize{1, 2, 2}) {
      return unsupported("patches of " + std::to_string(config.patch.frames) + "x" +
                         std::to_string(config.patch.height) + "x" +
                         std::to_string(config.patch.width) + ", wanted 1x2x2");
    }
    return load_model(config, folder);
  }

  // The text is no part of the sequence: it has a cross-attention of its own.
  SequenceInfo sequence() const override {
    SequenceInfo s = heads_of(latents());
    s.grid = {frames(), rows(), columns()};
    return s;
  }
  int text() const override { return text_tokens(); }
  int streams() const override { return guidance() == 1 ? 1 : 2; }

  Result<BareTransformerResult> run(int steps, std::unique_ptr<Strategy> strategy,
                                    const EngineOptions& engine_options,
                                    const ProgressCallback& progress) override {
    const wan::WanConfig& c = model().config();
    FlowMatchEulerConfig scheduler;
    scheduler.shift = kShift;
    std::vector<float> sigmas = flow_match_sigmas(scheduler, steps, latents());

    wan::RunSetup setup;
    for (size_t t = 0; t + 1 < sigmas.size(); ++t) {
      setup.timesteps.push_back(kTimeScale * sigmas[t]);
    }
    setup.text_tokens = text_tokens();
    setup.frames = frames();
    setup.rows = rows();
    setup.cols = columns();
    for (int s = 0; s < streams(); ++s) {
      setup.streams.push_back({text_states(c.text_dim, static_cast<uint64_t>(s))});
    }
    return denoise_noise(setup, std::move(sigmas), latents(), c.input_width(), std::move(strategy),
                         engine_options, progress, guidance());
  }

 private:
  double guidance() const { return options().guidance < 0 ? kGuidance : options().guidance; }
  int frames() const { return (options().frames - 1) / kFramesPerLatent + 1; }
  int latents() const { return frames() * rows() * columns(); }
};

// Wan 2.1 T2V-1.3B; the class defaults are those of 14B.
wan::WanConfig small_config() {
  wan::WanConfig c;
  c.num_attention_heads = 12;
  c.ffn_dim = 8960;
  c.num_layers = 30;
  return c;
}

}  // namespace

Result<std::unique_ptr<BareTransformer>> make_wan(Backend& backend, const std::string& name,
                                                  const std::string& folder,
                                                  const BareTransformerOptions& options) {
  wan::WanConfig config = name == kWanSmall ? small_config() : wan::WanConfig{};
  if (!folder.empty()) {
    FO_ASSIGN_OR_RETURN(config, wan::load_wan_config(folder + "/config.json"));
  }
  auto model = std::make_unique<BareWan>(backend, name, options);
  FO_RETURN_IF_ERROR(model->load(config, folder));
  return std::unique_ptr<BareTransformer>(std::move(model));
}

}  // namespace flashomni::bare
