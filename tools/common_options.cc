// SPDX-License-Identifier: Apache-2.0
#include "tools/common_options.h"

#include <filesystem>

#include "base/byte_size.h"
#include "io/atomic_file.h"
#include "io/image_resize.h"

namespace flashomni::tools {

void ModelFlags::add_to(CLI::App& app) {
  app.add_option("--model", model,
                 "checkpoint folder (default: emoji-flux in $FLASHOMNI_MODELS, or installed with "
                 "or lying above this program)")
      ->type_name("DIR");
  add_device_to(app);
}

void ModelFlags::add_device_to(CLI::App& app) {
  app.add_option("--device", device, "auto, cpu or cuda (auto: cuda where it starts)")
      ->type_name("NAME")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}));
  add_number(app, "--threads", threads, 1, "CPU threads (default: all cores)");
  app.add_option("--isa", isa,
                 "CPU instruction set (AMX: linear layers in bf16), or kernels of the GPU: hopper, "
                 "portable (default: the best in f32; see flashomni info)")
      ->type_name("NAME");
}

void PictureFlags::add_to(CLI::App& app) {
  add_number(app, "--seed", seed, uint64_t{0}, "seed of the noise (default 0)");
  add_settings_to(app);
}

void PictureFlags::add_settings_to(CLI::App& app) {
  add_number(app, "--steps", steps, 1, "denoising steps (default: the model's)");
  add_number(app, "--guidance", guidance, 0.0,
             "classifier-free guidance, 1 for none (default: the model's)");
  add_number(app, "--width", width, 1, "pixels (default: the model's)");
  add_number(app, "--height", height, 1, "pixels (default: the model's)");
  app.add_option("--negative-prompt", negative_prompt, "what guidance leads away from")
      ->type_name("TEXT");
}

CLI::Option* PictureFlags::add_image_to(CLI::App& app) {
  return app.add_option("--image", image, "picture to edit, PNG or JPEG; scaled to fit the run")
      ->type_name("FILE");
}

Result<Image> PictureFlags::load_picture() const {
  if (image.empty()) return Image{};
  return load_image(image);
}

Result<TextToImageRequest> PictureFlags::request(const std::string& prompt,
                                                 const TextToImagePipeline& pipeline,
                                                 const Image& picture,
                                                 std::optional<EmbeddingsFile> embeddings) const {
  TextToImageRequest r;
  r.prompt = prompt;
  r.embeddings = std::move(embeddings);
  r.negative_prompt = negative_prompt;
  r.seed = seed.value_or(0);
  r.steps = steps.value_or(0);  // 0 and -1 stand for the model's default
  r.guidance = guidance.value_or(-1);
  r.width = width.value_or(0);
  r.height = height.value_or(0);
  if (!picture.rgb.empty()) {
    TextToImageRequest size = r;  // checked before a picture of that size is made
    FO_RETURN_IF_ERROR(pipeline.resolve(size));
    r.reference = fit_image(picture, size.width, size.height);
  }
  FO_RETURN_IF_ERROR(pipeline.resolve(r));
  return r;
}

void StrategyFlags::add_to(CLI::App& app) {
  CLI::Option* name = app.add_option("--strategy", strategy,
                                     "sparsity strategy, default flashomni (see info --strategies)")
                          ->type_name("NAME");
  CLI::Option* named = app.add_option("--preset", preset,
                                      "named option set (default balanced for flashomni, unless "
                                      "--config or --set is given)")
                           ->type_name("NAME");
  CLI::Option* file =
      app.add_option("--config", config,
                     R"(JSON file {"strategy": ..., "preset": ..., "options": {...}})")
          ->type_name("FILE")
          ->excludes(name)
          ->excludes(named);
  add_number(app, "--quality", quality, 0.0,
             "0 (fastest) to 1 (dense): strategy flashomni-adaptive with this quality")
      ->excludes(file);
  app.add_option("--set", settings, "one option on top, by its name in JSON; may be repeated")
      ->type_name("NAME=VALUE")
      ->allow_extra_args(false);
}

Result<StrategyChoice> StrategyFlags::resolve(const std::string& model_family) const {
  StrategyChoice choice{strategy, preset, {}};
  if (quality) {
    const std::string adaptive = "flashomni-adaptive";
    if (strategy != StrategyChoice().name && strategy != adaptive) {
      return invalid_argument("--quality steers strategy " + adaptive + ", not " + strategy);
    }
    choice.name = adaptive;
    choice.options["quality"] = *quality;
  } else if (!config.empty()) {
    FO_ASSIGN_OR_RETURN(choice, read_strategy_choice(config));
  } else if (preset.empty() && settings.empty() && strategy == StrategyChoice().name) {
    choice.preset = "balanced";
  }
  for (const std::string& s : settings) FO_RETURN_IF_ERROR(set_option(choice, s));
  return resolve_strategy(choice, model_family);
}

void EngineFlags::add_to(CLI::App& app) {
  const auto parse = [this](const std::string& text) {
    const Result<size_t> bytes = parse_byte_size(text);
    if (!bytes.ok()) {
      throw CLI::ValidationError("--cache-budget is " + bytes.status().message());
    }
    cache_budget = *bytes;
  };
  app.add_option_function<std::string>(
         "--cache-budget", parse,
         "most that the strategy's cache may take (4GiB, 512MiB, 1e9): lowers Taylor orders, then "
         "leaves layers out, which run dense (default: no limit)")
      ->type_name("SIZE");
  app.add_flag("--no-graphs", no_graphs,
               "on a GPU, queue the operations of every step one by one (for profilers)");
}

void OutputFlags::add_to(CLI::App& app) {
  app.add_option("--json", json, "also write the results as JSON")->type_name("FILE");
  app.add_flag("--quiet", quiet, "print errors only");
}

void add_report(CLI::App& app, std::string& target) {
  app.add_option("--report", target,
                 "also write a page for the browser, complete in itself: pictures, charts, symbols")
      ->type_name("FILE");
}

Result<uint64_t> parse_seed(const std::string& flag, const std::string& text) {
  uint64_t seed = 0;
  const auto end = std::from_chars(text.data(), text.data() + text.size(), seed);
  if (end.ec == std::errc() && end.ptr == text.data() + text.size()) return seed;
  return invalid_argument(flag + " has '" + text + "', wanted whole numbers of at least 0");
}

Status prepare_folder(const std::string& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) return io_error("cannot make folder " + folder + ": " + error.message());
  const Status writable = check_writable(folder + "/.flashomni");
  if (!writable.ok()) return io_error("cannot write into folder " + folder);
  return ok_status();
}

Status check_optional_output(const std::string& path) {
  return path.empty() ? ok_status() : check_writable(path);
}

}  // namespace flashomni::tools
