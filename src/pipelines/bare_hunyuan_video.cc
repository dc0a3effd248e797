// SPDX-License-Identifier: Apache-2.0
#include "models/hunyuan_video/transformer.h"
#include "pipelines/bare_models.h"
#include "pipelines/flow_match_euler.h"

namespace flashomni::bare {
namespace {

constexpr int kFramesPerLatent = 4;  // after the first frame
constexpr int kTextTokens = 256;     // the longest prompt
constexpr float kGuidance = 6.f;
constexpr double kShift = 7.0;  // of the noise levels

class BareHunyuanVideo final : public BareModel<hunyuan_video::HunyuanVideoTransformer> {
 public:
  BareHunyuanVideo(Backend& backend, std::string name, const BareTransformerOptions& options)
      : BareModel(backend, std::move(name), "hunyuan_video", kTextTokens, options) {}

  Status load(const hunyuan_video::HunyuanVideoConfig& config, const std::string& folder) {
    if (options().frames < 1 || options().frames % kFramesPerLatent != 1) {
      return invalid_argument("frames is " + std::to_string(options().frames) +
                              ", wanted one more than a multiple of " +
                              std::to_string(kFramesPerLatent));
    }
    return load_model(config, folder);
  }

  SequenceInfo sequence() const override {
    SequenceInfo s = heads_of(latents() + text_tokens());
    s.text_begin = latents();
    s.text_end = s.tokens;
    return s;
  }

  Result<BareTransformerResult> run(int steps, std::unique_ptr<Strategy> strategy,
                                    const EngineOptions& engine_options,
                                    const ProgressCallback& progress) override {
    const hunyuan_video::HunyuanVideoConfig& c = model().config();
    FlowMatchEulerConfig scheduler;
    scheduler.shift = kShift;
    std::vector<float> sigmas = flow_match_sigmas(scheduler, steps, latents());

    hunyuan_video::RunSetup setup;
    setup.sigmas.assign(sigmas.begin(), sigmas.end() - 1);
    setup.text_tokens = text_tokens();
    setup.frames = frames();
    setup.rows = rows();
    setup.cols = columns();
    setup.guidance = kGuidance;
    setup.streams.push_back({text_states(c.text_embed_dim), pooled_text(c.pooled_projection_dim)});
    return denoise_noise(setup, std::move(sigmas), latents(), c.input_width(), std::move(strategy),
                         engine_options, progress);
  }

 private:
  int frames() const { return (options().frames - 1) / kFramesPerLatent + 1; }
  int latents() const { return frames() * rows() * columns(); }
};

}  // namespace

Result<std::unique_ptr<BareTransformer>> make_hunyuan_video(Backend& backend,
                                                            const std::string& name,
                                                            const std::string& folder,
                                                            const BareTransformerOptions& options) {
  hunyuan_video::HunyuanVideoConfig config;
  if (!folder.empty()) {
    FO_ASSIGN_OR_RETURN(config, hunyuan_video::load_hunyuan_video_config(folder + "/config.json"));
  }
  auto model = std::make_unique<BareHunyuanVideo>(backend, name, options);
  FO_RETURN_IF_ERROR(model->load(config, folder));
  return std::unique_ptr<BareTransformer>(std::move(model));
}

}  // namespace flashomni::bare
