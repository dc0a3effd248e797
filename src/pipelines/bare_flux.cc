// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "models/flux/transformer.h"
#include "pipelines/bare_models.h"
#include "pipelines/flow_match_euler.h"

namespace flashomni::bare {
namespace {

constexpr int kPixelsPerToken = 16;  // the VAE's 8 times patches of 2
constexpr int kTextTokens = 512;
constexpr float kGuidance = 3.5f;

class BareFlux final : public BareTransformer {
 public:
  BareFlux(Backend& backend, std::string name, const BareTransformerOptions& options)
      : backend_(backend), name_(std::move(name)), o_(options) {}

  Status load(flux::FluxConfig config, const std::string& folder) {
    if (o_.layers > 0) {
      config.num_layers = std::min(config.num_layers, o_.layers);
      config.num_single_layers = std::min(config.num_single_layers, o_.layers);
    }
    FO_RETURN_IF_ERROR(check_pixels("width", o_.width, kPixelsPerToken));
    FO_RETURN_IF_ERROR(check_pixels("height", o_.height, kPixelsPerToken));
    if (o_.frames != 1) {
      return invalid_argument("frames is " + std::to_string(o_.frames) + ", wanted 1 of FLUX");
    }
    FO_RETURN_IF_ERROR(with_loader(backend_, o_, folder, [&](WeightLoader& loader) -> Status {
      FO_ASSIGN_OR_RETURN(model_, flux::FluxTransformer::make(backend_, config, loader));
      return ok_status();
    }));
    return ok_status();
  }

  const std::string& name() const override { return name_; }
  const std::string& family() const override {
    static const std::string family = "flux";
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
    s.tokens = text_tokens() + rows() * columns();
    s.text_end = text_tokens();
    return s;
  }

  Result<BareTransformerResult> run(int steps, std::unique_ptr<Strategy> strategy,
                                    const EngineOptions& options,
                                    const ProgressCallback& progress) override {
    const flux::FluxConfig& c = model_->config();
    const int tokens = rows() * columns();
    FlowMatchEulerConfig scheduler;
    scheduler.use_dynamic_shifting = true;
    Denoising d;
    d.sigmas = flow_match_sigmas(scheduler, steps, tokens);

    flux::RunSetup setup;
    setup.sigmas.assign(d.sigmas.begin(), d.sigmas.end() - 1);
    setup.text_tokens = text_tokens();
    setup.output_tokens = tokens;
    setup.guidance = kGuidance;
    setup.streams.push_back(
        {normal_values(o_.seed + 1, size_t(text_tokens()) * size_t(c.joint_attention_dim)),
         normal_values(o_.seed + 2, size_t(c.pooled_projection_dim))});
    setup.ids.assign(size_t(text_tokens()), PositionId{0, 0, 0});
    for (int y = 0; y < rows(); ++y) {
      for (int x = 0; x < columns(); ++x) {
        setup.ids.push_back({0, static_cast<float>(y), static_cast<float>(x)});
      }
    }

    Engine engine(backend_, std::move(strategy), options);
    FO_RETURN_IF_ERROR(model_->begin_run(engine, setup));
    d.exec = model_->exec();
    const std::vector<float> noise =
        normal_values(o_.seed + 3, size_t(tokens) * size_t(c.in_channels));
    FO_ASSIGN_OR_RETURN(Tensor x, Tensor::upload(backend_, noise, {1, tokens, c.in_channels}));
    d.input = d.latents = x;
    d.evaluate = [&](int step, int stream, const TensorView& in, const TensorView& out) {
      return model_->forward(engine, step, stream, in, out);
    };
    return finish(backend_, engine, d, model_->activation_bytes(), progress);
  }

 private:
  int text_tokens() const { return o_.text_tokens > 0 ? o_.text_tokens : kTextTokens; }
  int rows() const { return o_.height / kPixelsPerToken; }
  int columns() const { return o_.width / kPixelsPerToken; }

  Backend& backend_;
  const std::string name_;
  const BareTransformerOptions o_;
  std::unique_ptr<flux::FluxTransformer> model_;
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
