// SPDX-License-Identifier: Apache-2.0
//
// One picture from one run, with a report of what was skipped: the work of `generate` and `edit`.
#include "tools/draw.h"

#include <cstdio>
#include <filesystem>

#include "io/atomic_file.h"
#include "io/json.h"
#include "pipelines/run_json.h"
#include "pipelines/symbols_trace.h"
#include "tools/draw_report.h"
#include "tools/memory_report.h"
#include "tools/profile_text.h"
#include "tools/progress.h"
#include "tools/report_text.h"
#include "tools/runtime.h"
#include "tools/signals.h"
#include "tools/table.h"

namespace flashomni::tools {
namespace {

nlohmann::json document(const DrawFlags& flags, const std::string& command_line,
                        const Runtime& runtime, const TextToImageRequest& request,
                        const StrategyChoice& choice, const TextToImageResult& result) {
  nlohmann::json doc = json_head(command_line, runtime);
  doc["prompt"] = request.prompt;
  if (!flags.embeddings.empty()) doc["embeddings"] = flags.embeddings;
  if (!flags.latents.empty()) doc["latents"] = flags.latents;
  doc["settings"] = request_json(request);
  if (!flags.picture.image.empty()) doc["image"] = flags.picture.image;
  if (!flags.image_latents.empty()) doc["image_latents"] = flags.image_latents;
  if (flags.edit) doc["keep_reference"] = !flags.skip_reference;
  doc["strategy"] = to_json(choice);
  doc["output"] = flags.out;
  doc["seconds"] = result.seconds;
  doc.update(summary_json(result.report));
  doc["memory"] = memory_json(runtime, result);
  if (runtime.profiler) doc["profile"] = profile_json(runtime.profiler->rows());
  doc["per_step"] = steps_json(result.report);
  return doc;
}

bool is_latents_file(const std::string& path) {
  return std::filesystem::path(path).extension() == ".safetensors";
}

// A name that promises another format than what is written would mislead.
Status check_extension(const std::string& path) {
  const std::string extension = std::filesystem::path(path).extension().string();
  if (extension.empty() || extension == ".png" || extension == ".PNG" || is_latents_file(path)) {
    return ok_status();
  }
  return invalid_argument("--out is " + path +
                          ", wanted a name that ends in .png, or in .safetensors for latents");
}

// All that can be wrong with the flags by themselves.
Status check_flags(const DrawFlags& flags) {
  if (!flags.prompt && flags.embeddings.empty()) {
    return invalid_argument("--prompt is required (or --embeddings)");
  }
  if (flags.prompt && !flags.embeddings.empty()) {
    return invalid_argument("--prompt and --embeddings are both given, wanted one of them");
  }
  if (flags.edit && flags.picture.image.empty() == flags.image_latents.empty()) {
    return invalid_argument(flags.image_latents.empty()
                                ? "--image is required (or --image-latents)"
                                : "--image and --image-latents are both given, wanted one of them");
  }
  FO_RETURN_IF_ERROR(check_extension(flags.out));
  const std::string outputs[] = {flags.out, flags.output.json, flags.save_embeddings};
  const char* names[] = {"--out", "--json", "--save-embeddings"};
  for (int i = 0; i < 3; ++i) {
    for (int j = 0; j < i; ++j) {
      if (outputs[i].empty() || outputs[i] != outputs[j]) continue;
      return invalid_argument(std::string(names[j]) + " and " + names[i] + " are both " +
                              outputs[i] + ", wanted two files");
    }
  }
  FO_RETURN_IF_ERROR(check_writable(flags.out));
  FO_RETURN_IF_ERROR(check_optional_output(flags.save_embeddings));
  return check_optional_output(flags.output.json);
}

// The request with the files that stand in for prompts and noise.
Result<TextToImageRequest> make_request(const DrawFlags& flags, const Image& picture,
                                        const TextToImagePipeline& pipeline) {
  std::optional<EmbeddingsFile> embeddings;
  if (!flags.embeddings.empty()) {
    FO_ASSIGN_OR_RETURN(embeddings, load_embeddings(flags.embeddings));
  }
  FO_ASSIGN_OR_RETURN(
      TextToImageRequest request,
      flags.picture.request(flags.prompt.value_or(""), pipeline, picture, std::move(embeddings)));
  const auto load = [&](const std::string& path) {
    return load_latents(path, "latents", pipeline.latent_shape(request), pipeline.latent_patch());
  };
  if (!flags.latents.empty()) {
    FO_ASSIGN_OR_RETURN(request.noise, load(flags.latents));
  }
  if (!flags.image_latents.empty()) {
    FO_ASSIGN_OR_RETURN(request.reference_tokens, load(flags.image_latents));
    FO_RETURN_IF_ERROR(pipeline.resolve(request));
  }
  return request;
}

Status save_result(const std::string& path, const TextToImageResult& result,
                   const TextToImageRequest& request, const TextToImagePipeline& pipeline) {
  if (!is_latents_file(path)) return save_png(path, result.image);
  return save_latents(path, result.latents, pipeline.latent_shape(request), pipeline.latent_patch(),
                      false,
                      {{"width", std::to_string(request.width)},
                       {"height", std::to_string(request.height)},
                       {"family", pipeline.defaults().family}});
}

}  // namespace

void DrawFlags::add_to(CLI::App& app) {
  app.add_option("--prompt,prompt", prompt, "what to draw")->type_name("PROMPT");
  app.add_option("--embeddings", embeddings,
                 "prompt embeddings in place of a prompt (safetensors, see docs/checkpoints.md)")
      ->type_name("FILE");
  app.add_option("--latents", latents, "noise to start from in place of a seed (safetensors)")
      ->type_name("FILE");
  app.add_option("--save-embeddings", save_embeddings,
                 "also write the prompt's embeddings, as --embeddings reads them")
      ->type_name("FILE");
  app.add_option("-o,--out", out,
                 "PNG to write, or a .safetensors for the latents (default out.png)")
      ->type_name("FILE");
  app.add_flag("--profile", profile, "time every operation by layer");
  app.add_option("--trace-symbols", trace,
                 "also save the symbols of every Update, layer and guidance stream "
                 "(safetensors; see flashomni symbols, bench --replay)")
      ->type_name("FILE");
  add_report(app, report);
  picture.add_to(app);
  strategy.add_to(app);
  engine.add_to(app);
  model.add_to(app);
  output.add_to(app);
}

Status draw(const DrawFlags& flags, const std::string& command_line) {
  FO_RETURN_IF_ERROR(check_flags(flags));
  FO_RETURN_IF_ERROR(check_optional_output(flags.report));
  FO_RETURN_IF_ERROR(check_optional_output(flags.trace));
  FO_ASSIGN_OR_RETURN(const Image picture, flags.picture.load_picture());
  FO_ASSIGN_OR_RETURN(const Runtime runtime, open_runtime(flags.model, flags.profile));
  FO_ASSIGN_OR_RETURN(const StrategyChoice choice,
                      flags.strategy.resolve(flags.edit ? runtime.pipeline->defaults().edit_family
                                                        : runtime.pipeline->defaults().family));
  FO_ASSIGN_OR_RETURN(const TextToImageRequest request,
                      make_request(flags, picture, *runtime.pipeline));
  if (!runtime.pipeline->defaults().pixels && !is_latents_file(flags.out)) {
    return invalid_argument("--out is " + flags.out +
                            ", wanted a name that ends in .safetensors: the VAE of this checkpoint "
                            "does not run here, latents are the result");
  }
  FO_ASSIGN_OR_RETURN(std::unique_ptr<Strategy> strategy, make_strategy(choice));
  if (stop_requested()) return cancelled("stopped before the first step");

  if (runtime.profiler) runtime.profiler->clear();  // the loading is over
  Progress progress(flags.output.quiet);
  EngineOptions engine = flags.engine.options();
  engine.keep_reference = !flags.skip_reference;
  engine.keep_symbols = !flags.report.empty() || !flags.trace.empty();
  Result<TextToImageResult> result =
      runtime.pipeline->generate(request, std::move(strategy), engine, progress.track());
  progress.clear();
  FO_RETURN_IF_ERROR(result.status());

  FO_RETURN_IF_ERROR(save_result(flags.out, *result, request, *runtime.pipeline));
  if (!flags.save_embeddings.empty()) {
    FO_ASSIGN_OR_RETURN(const EmbeddingsFile embeddings, runtime.pipeline->embed(request));
    FO_RETURN_IF_ERROR(save_embeddings(flags.save_embeddings, embeddings));
  }
  if (!flags.output.json.empty()) {
    FO_RETURN_IF_ERROR(write_json_file(
        flags.output.json, document(flags, command_line, runtime, request, choice, *result)));
  }
  if (!flags.trace.empty()) {
    SymbolTrace trace = make_trace(result->report, result->snapshots);
    trace.head_dim = runtime.pipeline->transformer().config().attention_head_dim;
    trace.command = command_line;
    trace.strategy = to_json(choice).dump();
    FO_RETURN_IF_ERROR(save_trace(trace, flags.trace));
  }
  if (!flags.report.empty()) {
    FO_ASSIGN_OR_RETURN(const std::string page,
                        draw_report(command_line, runtime, request, choice, *result));
    FO_RETURN_IF_ERROR(write_file(flags.report, page));
  }
  if (flags.output.quiet) return ok_status();
  if (!picture.rgb.empty() &&
      (picture.width != request.width || picture.height != request.height)) {
    std::fprintf(stderr, "%s: %dx%d, scaled to fit %dx%d on white\n", flags.picture.image.c_str(),
                 picture.width, picture.height, request.width, request.height);
  }
  print_fallbacks(result->report.fallbacks);
  print_cache_budget(result->report.cache_budget);
  std::printf("%s: %dx%d, seed %llu, %d steps in %s s\n", flags.out.c_str(), request.width,
              request.height, static_cast<unsigned long long>(request.seed), request.steps,
              fixed(result->seconds, 2).c_str());
  std::printf("%s: %s\n", strategy_text(choice).c_str(), sparsity_text(result->report).c_str());
  if (runtime.profiler) {
    const double peak = runtime.backend->measure_peak_flops();
    std::fputs(profile_text(runtime.profiler->rows(), result->seconds, peak).c_str(), stdout);
  }
  return ok_status();
}

}  // namespace flashomni::tools
