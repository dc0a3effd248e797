// SPDX-License-Identifier: Apache-2.0
//
// Flags that several subcommands share, and what they stand for.
#pragma once

#include <CLI/CLI.hpp>
#include <charconv>
#include <optional>
#include <string>
#include <vector>

#include "pipelines/strategy_config.h"
#include "pipelines/text_to_image.h"

namespace flashomni::tools {

// A decimal number of at least `lowest`. (CLI11's own conversions take octal and wrap negative
// numbers round.)
template <class T>
CLI::Option* add_number(CLI::App& app, const std::string& name, std::optional<T>& target, T lowest,
                        const std::string& help) {
  const auto parse = [name, lowest, &target](const std::string& text) {
    T value{};
    const auto end = std::from_chars(text.data(), text.data() + text.size(), value);
    if (end.ec != std::errc() || end.ptr != text.data() + text.size() || !(value >= lowest)) {
      throw CLI::ValidationError(name + " is '" + text + "', wanted a " +
                                 (std::is_integral_v<T> ? "whole " : "") + "number of at least " +
                                 option_to_string(OptionValue(static_cast<int64_t>(lowest))));
    }
    target = value;
  };
  return app.add_option_function<std::string>(name, parse, help)->type_name("N");
}

// Where and with which checkpoint to compute.
struct ModelFlags {
  std::string model;
  std::string device = "auto";
  std::string isa;
  std::optional<int> threads;
  void add_to(CLI::App& app);
  // Without --model, for commands that need no checkpoint.
  void add_device_to(CLI::App& app);
};

// What to draw, besides the prompt.
struct PictureFlags {
  std::string negative_prompt;
  std::optional<uint64_t> seed;
  std::optional<int> steps, width, height;
  std::optional<double> guidance;
  std::string image;  // a PNG or JPEG to edit; empty: none
  void add_to(CLI::App& app);
  // Without --seed, for commands that take a list of seeds.
  void add_settings_to(CLI::App& app);
  CLI::Option* add_image_to(CLI::App& app);
  // The picture of --image; empty without that flag.
  Result<Image> load_picture() const;
  // With the model's defaults filled in and everything checked. A picture to edit is scaled to the
  // size of the run, keeping its proportions, on white.
  Result<TextToImageRequest> request(const std::string& prompt, const TextToImagePipeline& pipeline,
                                     const Image& picture = {},
                                     std::optional<EmbeddingsFile> embeddings = {}) const;
};

// Which strategy with which options: a named one with a preset, or a config file; settings on top.
struct StrategyFlags {
  std::string strategy = "flashomni";
  std::string preset;
  std::string config;
  std::vector<std::string> settings;
  std::optional<double> quality;
  void add_to(CLI::App& app);
  Result<StrategyChoice> resolve(const std::string& model_family) const;
};

// How the engine runs a strategy.
struct EngineFlags {
  size_t cache_budget = kNoCacheBudget;
  bool no_graphs = false;
  void add_to(CLI::App& app);
  EngineOptions options() const { return {.cache_budget = cache_budget, .graphs = !no_graphs}; }
};

struct OutputFlags {
  std::string json;
  bool quiet = false;
  void add_to(CLI::App& app);
};

// A seed out of a list. kInvalidArgument names `flag`.
Result<uint64_t> parse_seed(const std::string& flag, const std::string& text);

// --report FILE.
void add_report(CLI::App& app, std::string& target);

// Makes `folder` where it does not exist and checks that a file can be written there.
Status prepare_folder(const std::string& folder);
// check_writable for a path that may be absent (empty).
Status check_optional_output(const std::string& path);

}  // namespace flashomni::tools
