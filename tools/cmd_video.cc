// SPDX-License-Identifier: Apache-2.0
//
// flashomni video: embeddings of a prompt in, latents of a video out, with frames to look at. There
// is no VAE here, so that frames are a linear preview of the latents, and are called that.
#include <cmath>
#include <cstdio>
#include <filesystem>

#include "io/animation.h"
#include "io/atomic_file.h"
#include "io/json.h"
#include "pipelines/latent_preview.h"
#include "pipelines/run_json.h"
#include "pipelines/text_to_video.h"
#include "tools/commands.h"
#include "tools/pictures.h"
#include "tools/progress.h"
#include "tools/report_text.h"
#include "tools/runtime.h"
#include "tools/signals.h"
#include "tools/table.h"

namespace flashomni::tools {
namespace {

constexpr int kFps = 24;           // HunyuanVideo's
constexpr int kPreviewFps = 6;     // one latent frame stands for four
constexpr int kPreviewSide = 512;  // pixels that a preview frame may have

struct Flags {
  std::string embeddings, latents, preview, sheet;
  std::string out = "out.safetensors";
  std::optional<uint64_t> seed;
  std::optional<int> steps, width, height, frames, fps;
  std::optional<double> guidance;
  ModelFlags model;
  StrategyFlags strategy;
  EngineFlags engine;
  OutputFlags output;
};

Status check_flags(const Flags& flags) {
  if (std::filesystem::path(flags.out).extension() != ".safetensors") {
    return invalid_argument("--out is " + flags.out +
                            ", wanted a name that ends in .safetensors (latents); --preview takes "
                            "names of videos");
  }
  if (!flags.preview.empty()) FO_RETURN_IF_ERROR(check_animation_path(flags.preview));
  if (flags.fps && *flags.fps > kMaxFps) {
    return invalid_argument("--fps is " + std::to_string(*flags.fps) + ", wanted 1.." +
                            std::to_string(kMaxFps));
  }
  if (!flags.sheet.empty() && std::filesystem::path(flags.sheet).extension() != ".png") {
    return invalid_argument("--sheet is " + flags.sheet + ", wanted a name that ends in .png");
  }
  for (const std::string& path : {flags.out, flags.preview, flags.sheet, flags.output.json}) {
    FO_RETURN_IF_ERROR(check_optional_output(path));
  }
  return ok_status();
}

Result<TextToVideoRequest> make_request(const Flags& flags, const TextToVideoPipeline& pipeline) {
  TextToVideoRequest r;
  FO_ASSIGN_OR_RETURN(r.embeddings, load_embeddings(flags.embeddings));
  r.seed = flags.seed.value_or(0);
  r.steps = flags.steps.value_or(0);  // 0 and -1 stand for the model's default
  r.guidance = flags.guidance.value_or(-1);
  r.frames = flags.frames.value_or(0);
  r.width = flags.width.value_or(0);
  r.height = flags.height.value_or(0);
  FO_RETURN_IF_ERROR(pipeline.resolve(r));
  if (!flags.latents.empty()) {
    FO_ASSIGN_OR_RETURN(r.noise, load_latents(flags.latents, "latents", pipeline.latent_shape(r),
                                              pipeline.latent_patch()));
  }
  return r;
}

// All frames of a clip in rows of about a square.
Image frames_sheet(const std::vector<Image>& frames) {
  const auto columns = static_cast<size_t>(std::ceil(std::sqrt(double(frames.size()))));
  std::vector<std::vector<Image>> rows;
  for (size_t i = 0; i < frames.size(); ++i) {
    if (i % columns == 0) rows.emplace_back();
    rows.back().push_back(frames[i]);
  }
  return contact_sheet(rows);
}

Status save_previews(const Flags& flags, const TextToVideoResult& result, const LatentShape& shape,
                     const PatchSize& patch) {
  if (flags.preview.empty() && flags.sheet.empty()) return ok_status();
  FO_ASSIGN_OR_RETURN(const std::vector<float> latents,
                      tokens_to_latents(result.latents, shape, patch));
  const int scale = std::max(1, kPreviewSide / std::max(shape.width, shape.height));
  FO_ASSIGN_OR_RETURN(
      const std::vector<Image> frames,
      linear_preview(latents, shape, std::min(scale, TextToVideoPipeline::kPixelsPerLatent)));
  if (!flags.preview.empty()) {
    const int fps =
        flags.fps ? std::max(1, *flags.fps / TextToVideoPipeline::kFramesPerLatent) : kPreviewFps;
    FO_RETURN_IF_ERROR(save_animation(flags.preview, frames, fps));
  }
  if (!flags.sheet.empty()) FO_RETURN_IF_ERROR(save_png(flags.sheet, frames_sheet(frames)));
  return ok_status();
}

nlohmann::json document(const Flags& flags, const std::string& command_line, const Backend& backend,
                        const TextToVideoRequest& request, const StrategyChoice& choice,
                        const TextToVideoResult& result) {
  nlohmann::json doc =
      json_head(command_line, backend.info(), flags.model.model, TextToVideoPipeline::family());
  doc["embeddings"] = flags.embeddings;
  doc["settings"] = {{"steps", request.steps},   {"width", request.width},
                     {"height", request.height}, {"frames", request.frames},
                     {"seed", request.seed},     {"guidance", request.guidance}};
  doc["strategy"] = to_json(choice);
  doc["output"] = flags.out;
  if (!flags.preview.empty()) doc["preview"] = {{"file", flags.preview}, {"kind", kLinearPreview}};
  if (!flags.sheet.empty()) doc["sheet"] = {{"file", flags.sheet}, {"kind", kLinearPreview}};
  doc["seconds"] = result.seconds;
  doc.update(summary_json(result.report));
  doc["activation_bytes"] = result.activation_bytes;
  doc["per_step"] = steps_json(result.report);
  return doc;
}

Status video(const Flags& flags, const std::string& command_line) {
  FO_RETURN_IF_ERROR(check_flags(flags));
  FO_ASSIGN_OR_RETURN(const std::unique_ptr<Backend> backend, open_backend(flags.model));
  FO_ASSIGN_OR_RETURN(const std::unique_ptr<TextToVideoPipeline> pipeline,
                      TextToVideoPipeline::load(*backend, flags.model.model));
  FO_ASSIGN_OR_RETURN(const StrategyChoice choice,
                      flags.strategy.resolve(TextToVideoPipeline::family()));
  FO_ASSIGN_OR_RETURN(const TextToVideoRequest request, make_request(flags, *pipeline));
  FO_ASSIGN_OR_RETURN(std::unique_ptr<Strategy> strategy, make_strategy(choice));
  if (stop_requested()) return cancelled("stopped before the first step");

  Progress progress(flags.output.quiet);
  const Result<TextToVideoResult> result =
      pipeline->generate(request, std::move(strategy), flags.engine.options(), progress.track());
  progress.clear();
  FO_RETURN_IF_ERROR(result.status());

  const LatentShape shape = pipeline->latent_shape(request);
  FO_RETURN_IF_ERROR(save_latents(flags.out, result->latents, shape, pipeline->latent_patch(), true,
                                  {{"frames", std::to_string(request.frames)},
                                   {"width", std::to_string(request.width)},
                                   {"height", std::to_string(request.height)},
                                   {"fps", std::to_string(flags.fps.value_or(kFps))},
                                   {"family", TextToVideoPipeline::family()}}));
  FO_RETURN_IF_ERROR(save_previews(flags, *result, shape, pipeline->latent_patch()));
  if (!flags.output.json.empty()) {
    FO_RETURN_IF_ERROR(write_json_file(
        flags.output.json, document(flags, command_line, *backend, request, choice, *result)));
  }
  if (flags.output.quiet) return ok_status();
  print_fallbacks(result->report.fallbacks);
  print_cache_budget(result->report.cache_budget);
  std::printf("%s: latents of %dx%d, %d frames, seed %llu, %d steps in %s s\n", flags.out.c_str(),
              request.width, request.height, request.frames,
              static_cast<unsigned long long>(request.seed), request.steps,
              fixed(result->seconds, 2).c_str());
  for (const std::string& path : {flags.preview, flags.sheet}) {
    if (!path.empty()) std::printf("%s: %s\n", path.c_str(), kLinearPreview);
  }
  std::printf("%s: %s\n", strategy_text(choice).c_str(), sparsity_text(result->report).c_str());
  return ok_status();
}

}  // namespace

void add_video(CLI::App& app, CommandLine& line) {
  CLI::App* sub = app.add_subcommand("video", "make the latents of a video from embeddings");
  const auto flags = std::make_shared<Flags>();
  sub->add_option("--embeddings", flags->embeddings,
                  "prompt embeddings (safetensors, see docs/checkpoints.md)")
      ->required()
      ->type_name("FILE");
  sub->add_option("--latents", flags->latents, "noise to start from in place of a seed")
      ->type_name("FILE");
  sub->add_option("-o,--out", flags->out,
                  "latents to write, for a VAE elsewhere (default out.safetensors)")
      ->type_name("FILE");
  sub->add_option("--preview", flags->preview,
                  "also write a linear preview: .png or .apng (APNG), .webp, .mp4 (needs ffmpeg)")
      ->type_name("FILE");
  sub->add_option("--sheet", flags->sheet, "also write all frames of the preview as one PNG")
      ->type_name("FILE");
  add_number(*sub, "--frames", flags->frames, 1, "frames, 4n + 1 (default 129)");
  add_number(*sub, "--width", flags->width, 1, "pixels (default 1280)");
  add_number(*sub, "--height", flags->height, 1, "pixels (default 720)");
  add_number(*sub, "--fps", flags->fps, 1, "frames a second of the video (default 24)");
  add_number(*sub, "--seed", flags->seed, uint64_t{0}, "seed of the noise (default 0)");
  add_number(*sub, "--steps", flags->steps, 1, "denoising steps (default 50)");
  add_number(*sub, "--guidance", flags->guidance, 0.0, "guidance (default 6 where it is embedded)");
  flags->strategy.add_to(*sub);
  flags->engine.add_to(*sub);
  flags->model.add_to(*sub);
  sub->get_option("--model")->required()->description(
      "checkpoint folder of HunyuanVideo's layout, or its transformer folder");
  flags->output.add_to(*sub);
  sub->callback([flags, &line] { line.run = [flags, &line] { return video(*flags, line.text); }; });
}

}  // namespace flashomni::tools
