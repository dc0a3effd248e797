// SPDX-License-Identifier: Apache-2.0
//
// Embeddings, latents and videos: runs whose text encoders or decoder are elsewhere.
#include <algorithm>
#include <array>
#include <cstdlib>

#include "io/image.h"
#include "io/safetensors.h"
#include "tests/tools/cli.h"

namespace flashomni::tools {
namespace {

class FilesTest : public CliTest {
 protected:
  // Writes an f32 tensor of small changing values for each name and shape.
  void put_tensors(const std::string& name,
                   const std::vector<std::pair<std::string, std::vector<int64_t>>>& wanted) {
    std::vector<std::vector<float>> values;
    for (const auto& [tensor, shape] : wanted) {
      int64_t n = 1;
      for (const int64_t d : shape) n *= d;
      values.emplace_back();
      for (int64_t i = 0; i < n; ++i) values.back().push_back(float((i * 37 + 11) % 101) / 50 - 1);
    }
    std::vector<TensorToWrite> tensors;
    for (size_t i = 0; i < wanted.size(); ++i) {
      const auto bytes = std::as_bytes(std::span(values[i]));
      tensors.push_back({wanted[i].first,
                         StoredDType::kF32,
                         wanted[i].second,
                         {reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}});
    }
    const Status s = write_safetensors(path(name).string(), tensors);
    ASSERT_TRUE(s.ok()) << s.to_string();
  }
  std::vector<int64_t> shape_of(const std::string& name, const std::string& tensor) {
    const auto f = SafetensorsFile::open(path(name).string());
    EXPECT_TRUE(f.ok()) << f.status().to_string();
    const TensorEntry* t = f.ok() ? f->find(tensor) : nullptr;
    return t ? t->shape : std::vector<int64_t>{};
  }
  std::vector<float> values_of(const std::string& name, const std::string& tensor) {
    const auto f = SafetensorsFile::open(path(name).string());
    EXPECT_TRUE(f.ok()) << f.status().to_string();
    const TensorEntry* t = f.ok() ? f->find(tensor) : nullptr;
    return t ? *to_f32(*t) : std::vector<float>{};
  }
  // A FLUX.1 folder around a tiny transformer: 4 channels, text of 24 features.
  void put_flux(const std::string& fixture) {
    fs::create_directories(path("flux/scheduler"));
    write("flux/model_index.json", R"({"_class_name": "FluxPipeline"})");
    write("flux/scheduler/scheduler_config.json", R"({"use_dynamic_shifting": true})");
    fs::create_directory_symlink(FO_SOURCE_DIR "/tests/models/fixtures/" + fixture,
                                 path("flux/transformer"));
  }
  static std::vector<std::string> joined(std::vector<std::string> a,
                                         const std::vector<std::string>& b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
  }
};

TEST_F(FilesTest, SavedEmbeddingsGiveTheSamePicture) {
  ASSERT_EQ(run(small({"generate", "3d red apple", "--negative-prompt", "blue", "--strategy",
                       "dense", "-o", "a.png", "--save-embeddings", "e.safetensors"}))
                .exit_code,
            0);
  EXPECT_EQ(shape_of("e.safetensors", "prompt_embeds"), (std::vector<int64_t>{1, 64, 384}));
  EXPECT_EQ(shape_of("e.safetensors", "negative_pooled_prompt_embeds"),
            (std::vector<int64_t>{1, 384}));
  const Finished again = run(small({"generate", "--embeddings", "e.safetensors", "--strategy",
                                    "dense", "-o", "b.png", "--json", "b.json"}));
  ASSERT_EQ(again.exit_code, 0) << again.err;
  EXPECT_FALSE(file("a.png").empty());
  EXPECT_EQ(file("a.png"), file("b.png"));
  EXPECT_EQ(json("b.json")["embeddings"], "e.safetensors");
}

TEST_F(FilesTest, LatentsInAndOut) {
  const auto dense = [&](const std::vector<std::string>& more) {
    const Finished f = run(joined(small({"generate", "x", "--strategy", "dense"}), more));
    EXPECT_EQ(f.exit_code, 0) << f.err;
  };
  dense({"-o", "a.safetensors"});
  EXPECT_EQ(shape_of("a.safetensors", "latents"), (std::vector<int64_t>{1, 3, 64, 64}));
  put_tensors("noise.safetensors", {{"latents", {1, 3, 64, 64}}});
  dense({"--latents", "noise.safetensors", "-o", "b.png"});
  dense({"--latents", "noise.safetensors", "--seed", "9", "-o", "c.png"});
  dense({"-o", "d.png"});
  EXPECT_EQ(file("b.png"), file("c.png")) << "the noise of the file, whatever the seed";
  EXPECT_NE(file("b.png"), file("d.png"));

  put_tensors("other.safetensors", {{"latents", {1, 3, 32, 64}}});
  expect_refusal(run(small({"generate", "x", "--latents", "other.safetensors"})), 1,
                 "'latents' F32[1,3,32,64] does not fit this run, wanted [1,3,64,64]");
}

TEST_F(FilesTest, EmbeddingsAreCheckedAgainstTheModel) {
  const auto refused = [&](int code, const std::string& message,
                           const std::vector<std::string>& more = {}) {
    expect_refusal(run(joined(small({"generate", "--embeddings", "e.safetensors"}), more)), code,
                   message);
  };
  refused(1, "e.safetensors");
  put_tensors("e.safetensors", {{"prompt_embeds", {1, 5, 32}}, {"pooled_prompt_embeds", {1, 384}}});
  refused(2, "32 features in prompt_embeds and 384 in pooled_prompt_embeds, the model takes 384");
  put_tensors("e.safetensors",
              {{"prompt_embeds", {1, 5, 384}}, {"pooled_prompt_embeds", {1, 384}}});
  refused(2, "lack negative_prompt_embeds");
  refused(2, "--prompt and --embeddings are both given", {"--prompt", "x"});
  // Without guidance one prompt is enough, of any length.
  EXPECT_EQ(run(small({"generate", "--embeddings", "e.safetensors", "--guidance", "1"})).exit_code,
            0);
}

TEST_F(FilesTest, AFluxFolderTakesEmbeddingsAndGivesLatents) {
  put_flux("flux_dev");
  put_tensors("e.safetensors", {{"prompt_embeds", {1, 7, 24}}, {"pooled_prompt_embeds", {1, 12}}});
  const std::vector<std::string> common = {"generate", "--model", "flux",    "--width", "64",
                                           "--height", "32",      "--steps", "4"};
  const auto flux = [&](const std::vector<std::string>& more) { return run(joined(common, more)); };
  expect_refusal(flux({"--prompt", "x", "-o", "l.safetensors"}), 2, "--embeddings FILE");
  expect_refusal(flux({"--embeddings", "e.safetensors"}), 2, "latents are the result");

  for (const char* strategy : {"dense", "flashomni"}) {
    const Finished f = flux({"--embeddings", "e.safetensors", "-o", "l.safetensors", "--json",
                             "l.json", "--strategy", strategy});
    ASSERT_EQ(f.exit_code, 0) << f.err;
    // 8x8 pixels a latent; 4 features of a token are one channel in patches of 2x2.
    EXPECT_EQ(shape_of("l.safetensors", "latents"), (std::vector<int64_t>{1, 1, 4, 8}));
    EXPECT_EQ(json("l.json")["model"]["family"], "flux");
    EXPECT_EQ(json("l.json")["settings"]["guidance"], 3.5);
  }
  const Finished info = run({"info", "--model", "flux"});
  EXPECT_EQ(info.exit_code, 0) << info.err;
}

// FLUX.1 Kontext: the picture to edit comes as latents of the run's size.
TEST_F(FilesTest, AKontextFolderEditsLatents) {
  put_flux("flux_dev");
  write("flux/model_index.json", R"({"_class_name": "FluxKontextPipeline"})");
  put_tensors("e.safetensors", {{"prompt_embeds", {1, 7, 24}}, {"pooled_prompt_embeds", {1, 12}}});
  put_tensors("in.safetensors", {{"latents", {1, 1, 16, 32}}});
  const auto edit = [&](const std::vector<std::string>& more) {
    return run(joined({"edit", "--model", "flux", "--embeddings", "e.safetensors", "--width", "256",
                       "--height", "128", "--steps", "4", "-o", "out.safetensors"},
                      more));
  };
  const std::vector<std::string> dense = {"--image-latents", "in.safetensors", "--strategy",
                                          "dense"};
  const Finished f = edit(joined(dense, {"--json", "a.json"}));
  ASSERT_EQ(f.exit_code, 0) << f.err;
  EXPECT_EQ(shape_of("out.safetensors", "latents"), (std::vector<int64_t>{1, 1, 16, 32}));
  EXPECT_EQ(json("a.json")["image_latents"], "in.safetensors");
  const std::string first = file("out.safetensors");
  // Another picture gives another result, and none of them is that of no picture.
  std::vector<float> grey(16 * 32, 0.5f);
  const auto bytes = std::as_bytes(std::span(grey));
  const TensorToWrite other[] = {{"latents",
                                  StoredDType::kF32,
                                  {1, 1, 16, 32},
                                  {reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}}};
  ASSERT_TRUE(write_safetensors(path("in.safetensors").string(), other).ok());
  ASSERT_EQ(edit(dense).exit_code, 0);
  EXPECT_NE(file("out.safetensors"), first);

  const Finished sparse = edit({"--image-latents", "in.safetensors", "--json", "b.json", "--preset",
                                "quality", "--set", "warmup=1", "--set", "schedule_steps=0",
                                "--set", "block_q=32", "--set", "block_kv=32", "--set", "ramp=0"});
  ASSERT_EQ(sparse.exit_code, 0) << sparse.err;
  EXPECT_EQ(json("b.json")["strategy"]["options"]["order"], 1) << "the preset for edits";
  EXPECT_GT(json("b.json")["dispatch_sparsity"], 0);

  const double kept = json("b.json")["dispatch_sparsity"];
  ASSERT_EQ(edit({"--image-latents", "in.safetensors", "--json", "b.json", "--preset", "quality",
                  "--set", "warmup=1", "--set", "schedule_steps=0", "--set", "block_q=32", "--set",
                  "block_kv=32", "--set", "ramp=0", "--skip-reference"})
                .exit_code,
            0);
  EXPECT_GT(json("b.json")["dispatch_sparsity"], kept);

  expect_refusal(edit({}), 2, "--image is required (or --image-latents)");
  expect_refusal(edit(joined(dense, {"--image", "x.png"})), 2, "both given");
  put_tensors("in.safetensors", {{"latents", {1, 1, 16, 16}}});
  expect_refusal(edit(dense), 1, "does not fit this run, wanted [1,1,16,32]");
  expect_refusal(run(small({"edit", "x", "--image-latents", "in.safetensors"})), 1, "wanted");
}

class VideoTest : public FilesTest {
 protected:
  void SetUp() override {
    put_tensors("e.safetensors", {{"prompt_embeds", {1, 6, 16}},
                                  {"pooled_prompt_embeds", {1, 8}},
                                  {"prompt_attention_mask", {1, 6}}});
  }
  Finished video(const std::vector<std::string>& more) {
    std::vector<std::string> args = {"video", "--model",
                                     FO_SOURCE_DIR "/tests/models/fixtures/hunyuan_video",
                                     "--embeddings", "e.safetensors"};
    for (const auto& [flag, value] : {std::pair<std::string, std::string>{"--width", "64"},
                                      {"--height", "48"},
                                      {"--frames", "9"},
                                      {"--steps", "4"}}) {
      if (std::find(more.begin(), more.end(), flag) != more.end()) continue;
      args.insert(args.end(), {flag, value});
    }
    return run(joined(args, more));
  }
};

TEST_F(VideoTest, LatentsPreviewAndSheet) {
  const Finished f = video({"--strategy", "dense", "-o", "v.safetensors", "--preview", "v.png",
                            "--sheet", "sheet.png", "--json", "v.json"});
  ASSERT_EQ(f.exit_code, 0) << f.err;
  // 4 channels, one latent for 8x8 pixels and, after the first, 4 frames.
  EXPECT_EQ(shape_of("v.safetensors", "latents"), (std::vector<int64_t>{1, 4, 3, 6, 8}));
  EXPECT_NE(f.out.find("linear preview of latents, not a decoded video"), std::string::npos);
  const auto first = load_image(path("v.png").string());
  ASSERT_TRUE(first.ok()) << first.status().to_string();
  EXPECT_EQ(first->width, 64);
  EXPECT_EQ(first->height, 48);
  EXPECT_NE(file("v.png").find("acTL"), std::string::npos);
  const auto sheet = load_image(path("sheet.png").string());
  ASSERT_TRUE(sheet.ok());
  EXPECT_EQ(sheet->width, 2 * 64 + 3 * 8) << "three frames in two columns";
  const nlohmann::json doc = json("v.json");
  EXPECT_EQ(doc["preview"]["kind"], "linear preview of latents, not a decoded video");
  EXPECT_EQ(doc["settings"]["frames"], 9);
  EXPECT_EQ(doc["per_step"].size(), 4u);
  EXPECT_EQ(doc["settings"]["guidance"], 6.0);

  // The same seed gives the same bytes, and latents can be the start.
  ASSERT_EQ(video({"--strategy", "dense", "-o", "w.safetensors"}).exit_code, 0);
  EXPECT_EQ(file("v.safetensors"), file("w.safetensors"));
  ASSERT_EQ(
      video({"--strategy", "dense", "-o", "x.safetensors", "--latents", "v.safetensors"}).exit_code,
      0);
  EXPECT_NE(file("v.safetensors"), file("x.safetensors"));
}

TEST_F(VideoTest, RunsSparse) {
  const Finished f = video(joined(sparse(), {"--set", "order=0", "--json", "v.json"}));
  ASSERT_EQ(f.exit_code, 0) << f.err;
  EXPECT_EQ(json("v.json")["per_step"][2]["layers"], (nlohmann::json{{"sparse", 4}}));
  EXPECT_GT(json("v.json")["dispatch_sparsity"], 0.3);
}

// 3 x 3 x 4 tokens in tiles of 3 x 2 x 2: another order throughout the run, undone at its end.
TEST_F(VideoTest, StrategiesMayOrderTheTokens) {
  ASSERT_EQ(video({"--strategy", "dense", "-o", "d.safetensors"}).exit_code, 0);
  const std::vector<std::string> tiles = {"--set", "tile_frames=3", "--set", "tile_rows=2",
                                          "--set", "tile_cols=2",   "--set", "block_q=32",
                                          "--set", "block_kv=32"};
  const Finished all =
      video(joined({"--strategy", "vsa", "--set", "sparsity=0", "-o", "o.safetensors"}, tiles));
  ASSERT_EQ(all.exit_code, 0) << all.err;
  const std::vector<float> dense = values_of("d.safetensors", "latents");
  const std::vector<float> ordered = values_of("o.safetensors", "latents");
  ASSERT_EQ(ordered.size(), dense.size());
  double worst = 0;
  for (size_t i = 0; i < dense.size(); ++i) {
    worst = std::max(worst, std::abs(double(ordered[i]) - double(dense[i])));
  }
  EXPECT_LT(worst, 1e-3) << "nothing is left out: only rounding may differ";
  const Finished sparse = video(joined(
      {"--strategy", "sta", "--set", "window_frames=1", "--set", "window_rows=1", "--set",
       "window_cols=1", "--set", "warmup=1", "--set", "schedule_steps=0", "--json", "v.json"},
      tiles));
  ASSERT_EQ(sparse.exit_code, 0) << sparse.err;
}

TEST_F(VideoTest, WritesWebpWhereItCan) {
  const Finished f = video({"--preview", "v.webp"});
  if (f.exit_code == 0) {
    EXPECT_EQ(file("v.webp").substr(8, 4), "WEBP");
  } else {
    expect_refusal(f, 1, "this build has no libwebp");
  }
}

// The whole way with the real programs: three latent frames, six a second.
TEST_F(VideoTest, WritesMp4WhereFfmpegIs) {
  if (std::system("command -v ffmpeg ffprobe > /dev/null") != 0) {
    expect_refusal(video({"--preview", "v.mp4"}), 1, "there is no ffmpeg program in PATH");
    GTEST_SKIP() << "MP4 IS NOT TESTED: there is no ffmpeg and ffprobe in PATH";
  }
  const Finished f = video({"--preview", "v.mp4", "--strategy", "dense"});
  ASSERT_EQ(f.exit_code, 0) << f.err;
  const std::string command =
      "ffprobe -v error -count_frames -show_entries "
      "stream=codec_name,width,height,r_frame_rate,nb_read_frames -of csv=p=0 '" +
      path("v.mp4").string() + "' > '" + path("probe").string() + "'";
  ASSERT_EQ(std::system(command.c_str()), 0);
  EXPECT_EQ(file("probe"), "h264,64,48,6/1,3\n");
}

// A transformer without embedded guidance: two prompts, evaluated one after the other.
class GuidedVideoTest : public VideoTest {
 protected:
  void SetUp() override {
    const fs::path fixture = FO_SOURCE_DIR "/tests/models/fixtures/hunyuan_video";
    fs::create_directory(path("hv"));
    fs::create_symlink(fixture / "diffusion_pytorch_model.safetensors",
                       path("hv/diffusion_pytorch_model.safetensors"));
    auto config = read_json_file((fixture / "config.json").string());
    ASSERT_TRUE(config.ok());
    (*config)["guidance_embeds"] = false;
    write("hv/config.json", config->dump());
  }
  // Prompts of `tokens` states of which the first `valid` count.
  void put_prompts(std::array<int, 2> tokens, std::array<int, 2> valid) {
    std::vector<std::vector<float>> values;
    std::vector<TensorToWrite> tensors;
    values.reserve(6);
    for (size_t p = 0; p < 2; ++p) {
      const std::string prefix = p ? "negative_" : "";
      const auto add = [&](const char* name, std::vector<int64_t> shape, auto&& value) {
        values.emplace_back();
        for (int64_t i = 0; i < shape.back() * shape[shape.size() - 2]; ++i) {
          values.back().push_back(float(value(i)));
        }
        const auto bytes = std::as_bytes(std::span(values.back()));
        tensors.push_back({prefix + name,
                           StoredDType::kF32,
                           std::move(shape),
                           {reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()}});
      };
      const auto wave = [&](int64_t i) {
        return double((i * 37 + 11 * int64_t(p)) % 101) / 50 - 1;
      };
      add("prompt_embeds", {1, tokens[p], 16}, wave);
      add("pooled_prompt_embeds", {1, 8}, wave);
      add("prompt_attention_mask", {1, tokens[p]}, [&](int64_t i) { return i < valid[p]; });
    }
    const Status s = write_safetensors(path("e.safetensors").string(), tensors);
    ASSERT_TRUE(s.ok()) << s.to_string();
  }
  Finished guided() {
    return run({"video", "--model", "hv", "--embeddings", "e.safetensors", "--width", "64",
                "--height", "48", "--frames", "9", "--steps", "3", "--guidance", "4", "--strategy",
                "dense", "-o", "v.safetensors"});
  }
};

TEST_F(GuidedVideoTest, PromptsOfEqualValidLength) {
  put_prompts({6, 9}, {4, 4});
  const Finished f = guided();
  ASSERT_EQ(f.exit_code, 0) << f.err;
  const std::string padded = file("v.safetensors");
  // What is masked does not count: the same without any padding.
  put_prompts({4, 4}, {4, 4});
  ASSERT_EQ(guided().exit_code, 0);
  EXPECT_EQ(file("v.safetensors"), padded);
}

TEST_F(GuidedVideoTest, PromptsOfUnequalValidLengthAreRefused) {
  put_prompts({6, 6}, {6, 4});
  expect_refusal(guided(), 1,
                 "the prompt has 6 valid tokens and the negative prompt 4, wanted the same number");
  EXPECT_EQ(files(), (std::vector<std::string>{"e.safetensors", "hv"}));
}

// Wan 2.2 A14B's two experts are described; what would switch between them is not here.
TEST_F(VideoTest, WanIsDescribedAndRefused) {
  for (const char* expert : {"transformer", "transformer_2"}) {
    fs::create_directories(path(std::string("wan/") + expert));
    write(std::string("wan/") + expert + "/config.json",
          R"({"_class_name": "WanTransformer3DModel"})");
  }
  const Finished info = run({"info", "wan", "--json", "info.json"});
  ASSERT_EQ(info.exit_code, 0) << info.err;
  const nlohmann::json components = json("info.json")["components"];
  ASSERT_EQ(components.size(), 2u);
  for (const nlohmann::json& c : components) {
    EXPECT_EQ(c["parameters"], 14'288'491'584);
  }
  expect_refusal(run({"video", "--model", "wan", "--embeddings", "e.safetensors"}), 1,
                 "model class is WanTransformer3DModel, wanted HunyuanVideoTransformer3DModel");
}

TEST_F(VideoTest, IsRefusedByName) {
  expect_refusal(video({"--frames", "8"}), 2, "frames is 8, wanted one more than a multiple of 4");
  expect_refusal(video({"--width", "60"}), 2, "width is 60, wanted a multiple of 8");
  expect_refusal(video({"-o", "v.mp4"}), 2, "--out is v.mp4");
  expect_refusal(video({"--preview", "v.gif"}), 2, "v.gif is no name of a video");
  expect_refusal(video({"--sheet", "v.jpg"}), 2, "--sheet is v.jpg");
  expect_refusal(run({"video", "--embeddings", "e.safetensors"}), 2, "--model is required");
  expect_refusal(run({"video", "--model", "x"}), 2, "--embeddings is required");
  put_tensors("e.safetensors", {{"prompt_embeds", {1, 6, 15}}, {"pooled_prompt_embeds", {1, 8}}});
  expect_refusal(video({}), 2, "15 features in prompt_embeds");
  EXPECT_EQ(files(), std::vector<std::string>{"e.safetensors"});
}

}  // namespace
}  // namespace flashomni::tools
