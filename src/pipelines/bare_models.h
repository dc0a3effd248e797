// SPDX-License-Identifier: Apache-2.0
//
// The bare transformers of each family, and what they share.
#pragma once

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "models/checkpoint.h"
#include "pipelines/bare_transformer.h"

namespace flashomni::bare {

inline constexpr char kFluxDev[] = "flux.1-dev";
inline constexpr char kFluxSchnell[] = "flux.1-schnell";
inline constexpr char kHunyuanVideo[] = "hunyuan-video";
inline constexpr char kWanSmall[] = "wan-1.3b";
inline constexpr char kWanLarge[] = "wan-14b";

// `folder` holds config.json; empty: the known configuration called `name`.
Result<std::unique_ptr<BareTransformer>> make_flux(Backend& backend, const std::string& name,
                                                   const std::string& folder,
                                                   const BareTransformerOptions& options);

Result<std::unique_ptr<BareTransformer>> make_hunyuan_video(Backend& backend,
                                                            const std::string& name,
                                                            const std::string& folder,
                                                            const BareTransformerOptions& options);

Result<std::unique_ptr<BareTransformer>> make_wan(Backend& backend, const std::string& name,
                                                  const std::string& folder,
                                                  const BareTransformerOptions& options);

Status check_pixels(const char* name, int pixels, int multiple);
// Standard normal values, the same for the same seed.
std::vector<float> normal_values(uint64_t seed, size_t count);
// Denoises and collects what there is to know.
Result<BareTransformerResult> finish(Backend& backend, Engine& engine, const Denoising& run,
                                     size_t activation_bytes, const ProgressCallback& progress);

// What a bare model of any family does the same way. A token stands for 16 x 16 pixels: the VAE's 8
// times patches of 2.
template <class Model>
class BareModel : public BareTransformer {
 public:
  BareModel(Backend& backend, std::string name, std::string family, int default_text_tokens,
            const BareTransformerOptions& options)
      : backend_(backend),
        name_(std::move(name)),
        family_(std::move(family)),
        text_tokens_(options.text_tokens > 0 ? options.text_tokens : default_text_tokens),
        o_(options) {}

  const std::string& name() const override { return name_; }
  const std::string& family() const override { return family_; }
  int64_t parameters() const override { return model_->parameters(); }
  size_t weight_bytes() const override { return model_->weight_bytes(); }
  int layers() const override {
    const auto& c = model_->config();
    if constexpr (requires { c.num_single_layers; }) {
      return c.num_layers + c.num_single_layers;
    } else {
      return c.num_layers;
    }
  }

 protected:
  template <class Config>
  Status load_model(Config config, const std::string& folder) {
    if (o_.layers > 0) {
      config.num_layers = std::min(config.num_layers, o_.layers);
      if constexpr (requires { config.num_single_layers; }) {
        config.num_single_layers = std::min(config.num_single_layers, o_.layers);
      }
    }
    FO_RETURN_IF_ERROR(check_pixels("width", o_.width, kPixelsPerToken));
    FO_RETURN_IF_ERROR(check_pixels("height", o_.height, kPixelsPerToken));
    if (o_.random_weights) {
      WeightLoader loader(backend_, o_.seed);
      FO_ASSIGN_OR_RETURN(model_, Model::make(backend_, config, loader));
    } else {
      FO_ASSIGN_OR_RETURN(model_, load_checkpoint<Model>(backend_, config, folder));
    }
    return ok_status();
  }
  // Begins the run of `setup` and denoises [1, tokens, channels] of noise.
  template <class Setup>
  Result<BareTransformerResult> denoise_noise(const Setup& setup, std::vector<float> sigmas,
                                              int64_t tokens, int64_t channels,
                                              std::unique_ptr<Strategy> strategy,
                                              const EngineOptions& options,
                                              const ProgressCallback& progress,
                                              double guidance = 1) {
    Engine engine(backend_, std::move(strategy), options);
    FO_RETURN_IF_ERROR(model_->begin_run(engine, setup));
    Denoising d;
    d.exec = model_->exec();
    d.sigmas = std::move(sigmas);
    d.streams = static_cast<int>(setup.streams.size());
    d.guidance = guidance;
    const std::vector<float> noise = normal_values(o_.seed + 3, size_t(tokens * channels));
    FO_ASSIGN_OR_RETURN(Tensor x, Tensor::upload(backend_, noise, {1, tokens, channels}));
    d.input = d.latents = x;
    d.evaluate = [&](int step, int stream, const TensorView& in, const TensorView& out) {
      return model_->forward(engine, step, stream, in, out);
    };
    return finish(backend_, engine, d, model_->activation_bytes(), progress);
  }
  // Random conditioning: [text tokens, width] and [pooled_width].
  std::vector<float> text_states(int64_t width, uint64_t stream = 0) const {
    return normal_values(o_.seed + 1 + 10 * stream, size_t(text_tokens_) * size_t(width));
  }
  std::vector<float> pooled_text(int64_t width) const {
    return normal_values(o_.seed + 2, size_t(width));
  }
  SequenceInfo heads_of(int tokens) const {
    SequenceInfo s;
    s.heads = model_->config().num_attention_heads;
    s.head_dim = model_->config().attention_head_dim;
    s.tokens = tokens;
    return s;
  }
  int text_tokens() const { return text_tokens_; }
  int rows() const { return o_.height / kPixelsPerToken; }
  int columns() const { return o_.width / kPixelsPerToken; }
  const BareTransformerOptions& options() const { return o_; }
  const Model& model() const { return *model_; }

 private:
  static constexpr int kPixelsPerToken = 16;

  Backend& backend_;
  const std::string name_, family_;
  const int text_tokens_;
  const BareTransformerOptions o_;
  std::unique_ptr<Model> model_;
};

}  // namespace flashomni::bare
