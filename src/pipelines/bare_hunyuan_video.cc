// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "models/hunyuan_video/transformer.h"
#include "pipelines/bare_models.h"
#include "pipelines/flow_match_euler.h"

namespace flashomni::bare {
namespace {

constexpr int kPixelsPerToken = 16;  // the VAE's 8 times patches of 2
constexpr int kFramesPerLatent = 4;  // after the first frame
constexpr int kTextTokens = 256;     // the longest prompt
constexpr float kGuidance = 6.f;
constexpr double kShift = 7.0;  // of the noise levels

class BareHunyuanVideo final : public BareTransformer {
 public:
  BareHunyuanVideo(Backend& backend, std::string name, const BareTransformerOptions& options)
      : backend_(backend), name_(std::move(name)), o_(options) {}

  Status load(hunyuan_video::HunyuanVideoConfig config, const std::string& folder) {
    if (o_.layers > 0) {
      config.num_layers = std::min(config.num_layers, o_.layers);
      config.num_single_layers = std::min(config.num_single_layers, o_.layers);
    }
    FO_RETURN_IF_ERROR(check_pixels("width", o_.width, kPixelsPerToken));
    FO_RETURN_IF_ERROR(check_pixels("height", o_.height, kPixelsPerToken));
    if (o_.frames < 1 || o_.frames % kFramesPerLatent != 1) {
      return invalid_argument("frames is " + std::to_string(o_.frames) +
                              ", wanted one more than a multiple of " +
                              std::to_string(kFramesPerLatent));
    }
    return with_loader(backend_, o_, folder, [&](WeightLoader& loader) -> Status {
      FO_ASSIGN_OR_RETURN(model_,
                          hunyuan_video::HunyuanVideoTransformer::make(backend_, config, loader));
      return ok_status();
    });
  }

  const std::string& name() const override { return name_; }
  const std::string& family() const override {
    static const std::string family = "hunyuan_video";
    return family;
  }
  int64_t parameters() const override { return model_->parameters(); }
  size_t weight_bytes() const override { return model_->weight_bytes(); }
  int layers() const override {
    return model_->config().num_layers + model_->config().num_single_layers;
  }
  SequenceInfo sequence() const override {
    SequenceInfo s;
    s.heads = model_->config().num_attention_heads;
    s.head_dim = model_->config().attention_head_dim;
    s.tokens = latents() + text_tokens();
    s.text_begin = latents();
    s.text_end = s.tokens;
    return s;
  }

  Result<BareTransformerResult> run(int steps, std::unique_ptr<Strategy> strategy,
                                    const EngineOptions& options,
                                    const ProgressCallback& progress) override {
    const hunyuan_video::HunyuanVideoConfig& c = model_->config();
    FlowMatchEulerConfig scheduler;
    scheduler.shift = kShift;
    Denoising d;
    d.sigmas = flow_match_sigmas(scheduler, steps, latents());

    hunyuan_video::RunSetup setup;
    setup.sigmas.assign(d.sigmas.begin(), d.sigmas.end() - 1);
    setup.text_tokens = text_tokens();
    setup.frames = frames();
    setup.rows = rows();
    setup.cols = columns();
    setup.guidance = kGuidance;
    setup.streams.push_back(
        {normal_values(o_.seed + 1, size_t(text_tokens()) * size_t(c.text_embed_dim)),
         normal_values(o_.seed + 2, size_t(c.pooled_projection_dim))});

    Engine engine(backend_, std::move(strategy), options);
    FO_RETURN_IF_ERROR(model_->begin_run(engine, setup));
    d.exec = model_->exec();
    const std::vector<float> noise =
        normal_values(o_.seed + 3, size_t(latents()) * size_t(c.input_width()));
    FO_ASSIGN_OR_RETURN(Tensor x, Tensor::upload(backend_, noise, {1, latents(), c.input_width()}));
    d.input = d.latents = x;
    d.evaluate = [&](int step, int stream, const TensorView& in, const TensorView& out) {
      return model_->forward(engine, step, stream, in, out);
    };
    return finish(backend_, engine, d, model_->activation_bytes(), progress);
  }

 private:
  int text_tokens() const { return o_.text_tokens > 0 ? o_.text_tokens : kTextTokens; }
  int frames() const { return (o_.frames - 1) / kFramesPerLatent + 1; }
  int rows() const { return o_.height / kPixelsPerToken; }
  int columns() const { return o_.width / kPixelsPerToken; }
  int latents() const { return frames() * rows() * columns(); }

  Backend& backend_;
  const std::string name_;
  const BareTransformerOptions o_;
  std::unique_ptr<hunyuan_video::HunyuanVideoTransformer> model_;
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
