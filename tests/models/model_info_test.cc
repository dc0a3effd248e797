// SPDX-License-Identifier: Apache-2.0
//
// What follows from config.json alone: parameter counts of the published models to the unit, every
// tensor's shape, refusals by name; and what is found wrong with a checkpoint without reading it.
#include "models/model_info.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "models/checkpoint.h"
#include "tests/models/fixture.h"
#include "tests/testkit/temp_dir.h"

namespace flashomni {
namespace {

Result<ModelInfo> read_info(const std::string& path) {
  static const std::unique_ptr<Backend> backend = std::move(*make_backend("cpu", {.threads = 1}));
  return read_model_info(*backend, path);
}

std::string write_config(const testkit::TempDir& dir, const std::string& text) {
  const std::string path = dir / "config.json";
  std::ofstream(path) << text;
  return path;
}

struct Published {
  const char* name;
  const char* config;
  int64_t parameters;
  size_t tensors;  // 0: not known from elsewhere
};

// The published configurations and their counts: summed over an independent listing of parameters,
// and for FLUX.1-dev equal to the size of its files. Fields left out are class defaults.
constexpr Published kPublished[] = {
    {"FLUX.1-dev", R"({"_class_name": "FluxTransformer2DModel", "guidance_embeds": true,
      "in_channels": 64, "out_channels": null, "num_layers": 19, "num_single_layers": 38,
      "attention_head_dim": 128, "num_attention_heads": 24, "joint_attention_dim": 4096,
      "pooled_projection_dim": 768, "patch_size": 1, "axes_dims_rope": [16, 56, 56]})",
     11'901'408'320, 1160},
    {"FLUX.1-schnell", R"({"_class_name": "FluxTransformer2DModel", "guidance_embeds": false})",
     11'891'178'560, 1156},
    {"HunyuanVideo", R"({"_class_name": "HunyuanVideoTransformer3DModel", "in_channels": 16,
      "patch_size": 2, "patch_size_t": 1, "rope_axes_dim": [16, 56, 56], "rope_theta": 256.0,
      "image_condition_type": null, "qk_norm": "rms_norm", "mlp_ratio": 4.0})",
     12'821'012'544, 1264},
    {"Wan2.1-T2V-14B", R"({"_class_name": "WanTransformer3DModel", "num_attention_heads": 40,
      "ffn_dim": 13824, "num_layers": 40, "patch_size": [1, 2, 2], "image_dim": null,
      "added_kv_proj_dim": null, "qk_norm": "rms_norm_across_heads"})",
     14'288'491'584, 1095},
    {"Wan2.1-T2V-1.3B", R"({"_class_name": "WanTransformer3DModel", "num_attention_heads": 12,
      "ffn_dim": 8960, "num_layers": 30})",
     1'418'996'800, 825},
    {"Wan2.2-TI2V-5B", R"({"_class_name": "WanTransformer3DModel", "num_attention_heads": 24,
      "ffn_dim": 14336, "num_layers": 30, "in_channels": 48, "out_channels": 48})",
     4'999'787'712, 0},
};

TEST(ModelInfo, ParameterCountsOfThePublishedModels) {
  const testkit::TempDir dir;
  for (const Published& p : kPublished) {
    SCOPED_TRACE(p.name);
    const auto info = read_info(write_config(dir, p.config));
    ASSERT_TRUE(info.ok()) << info.status().message();
    EXPECT_EQ(info->parameters(), p.parameters);
    if (p.tensors) {
      EXPECT_EQ(info->list.size(), p.tensors);
    }
  }
}

const Parameter* find(const ModelInfo& info, const std::string& name) {
  const auto it = std::find_if(info.list.begin(), info.list.end(),
                               [&](const Parameter& p) { return p.name == name; });
  return it == info.list.end() ? nullptr : &*it;
}

struct Shape {
  int model;  // index in kPublished
  const char* name;
  std::vector<int64_t> shape;
};

TEST(ModelInfo, ShapesOfThePublishedModels) {
  const std::vector<Shape> shapes = {
      {0, "x_embedder.weight", {3072, 64}},
      {0, "transformer_blocks.18.norm1_context.linear.weight", {18432, 3072}},
      {0, "transformer_blocks.0.attn.norm_added_k.weight", {128}},
      {0, "single_transformer_blocks.37.proj_out.weight", {3072, 15360}},
      {0, "time_text_embed.guidance_embedder.linear_1.weight", {3072, 256}},
      {0, "norm_out.linear.bias", {6144}},
      {0, "proj_out.weight", {64, 3072}},
      {2, "x_embedder.proj.weight", {3072, 16, 1, 2, 2}},
      {2, "context_embedder.token_refiner.refiner_blocks.1.ff.net.0.proj.weight", {12288, 3072}},
      {2, "context_embedder.time_text_embed.text_embedder.linear_1.weight", {3072, 4096}},
      {2, "proj_out.weight", {64, 3072}},
      {3, "patch_embedding.weight", {5120, 16, 1, 2, 2}},
      {3, "blocks.39.attn2.norm_k.weight", {5120}},
      {3, "blocks.0.scale_shift_table", {1, 6, 5120}},
      {3, "condition_embedder.time_proj.weight", {30720, 5120}},
      {3, "scale_shift_table", {1, 2, 5120}},
      {5, "proj_out.weight", {192, 3072}},
  };
  const testkit::TempDir dir;
  for (const Shape& s : shapes) {
    SCOPED_TRACE(s.name);
    const auto info = read_info(write_config(dir, kPublished[s.model].config));
    ASSERT_TRUE(info.ok());
    const Parameter* p = find(*info, s.name);
    ASSERT_NE(p, nullptr);
    EXPECT_EQ(p->shape, s.shape);
  }
  const auto schnell = read_info(write_config(dir, kPublished[1].config));
  EXPECT_EQ(find(*schnell, "time_text_embed.guidance_embedder.linear_1.weight"), nullptr);
}

// What diffusers saved is exactly what is listed from its config.
TEST(ModelInfo, ListsWhatDiffusersSaves) {
  int folders = 0;
  for (const auto& entry : std::filesystem::directory_iterator(fixture_folder(""))) {
    if (!entry.is_directory()) continue;
    SCOPED_TRACE(entry.path().string());
    const auto info = read_info(entry.path().string());
    ASSERT_TRUE(info.ok()) << info.status().message();
    const auto store = WeightStore::open(entry.path().string());
    ASSERT_TRUE(store.ok()) << store.status().message();
    const CheckpointProblems problems = check_checkpoint(info->list, *store);
    EXPECT_TRUE(problems.loads());
    EXPECT_TRUE(problems.unexpected.empty());
    EXPECT_EQ(info->list.size(), store->tensors().size());
    ++folders;
  }
  EXPECT_EQ(folders, 8);
}

TEST(ModelInfo, NamesWhatIsWrongWithACheckpoint) {
  const auto info = read_info(fixture_folder("wan"));
  const auto store = WeightStore::open(fixture_folder("wan"));
  ASSERT_TRUE(info.ok() && store.ok());
  std::vector<Parameter> wanted = info->list;
  wanted.push_back({"blocks.2.ffn.net.2.bias", {24}});  // missing
  wanted[0].shape = {24, 4, 1, 2, 3};
  const std::string gone = wanted[1].name;
  wanted.erase(wanted.begin() + 1);  // the file's is unexpected then
  const CheckpointProblems problems = check_checkpoint(wanted, *store);
  EXPECT_FALSE(problems.loads());
  EXPECT_EQ(problems.missing, std::vector<std::string>{"blocks.2.ffn.net.2.bias"});
  EXPECT_EQ(problems.unexpected, std::vector<std::string>{gone});
  EXPECT_EQ(problems.misshaped,
            std::vector<std::string>{"patch_embedding.weight [24,4,1,2,2], wanted [24,4,1,2,3]"});
}

struct Refused {
  const char* config;
  const char* message;  // after "<path>: "
};

TEST(ModelInfo, RefusesConfigsByName) {
  const Refused cases[] = {
      {"[]", "not a JSON object"},
      {"{}", "field '_class_name' is missing"},
      {R"({"_class_name": "UNet2DConditionModel"})",
       "model class is UNet2DConditionModel, wanted one of FluxTransformer2DModel, "
       "HunyuanVideoTransformer3DModel, WanTransformer3DModel"},
      {R"({"_class_name": "FluxTransformer2DModel", "quantization_config": {"bits": 4}})",
       "the checkpoint is quantised (quantization_config); only f32, f16 and bf16 weights can be "
       "loaded"},
      {R"({"_class_name": "FluxTransformer2DModel", "axes_dims_rope": [16, 56, 54]})",
       "axes_dims_rope has 3 axes that sum to 126, wanted at most 3 that sum to "
       "attention_head_dim 128"},
      {R"({"_class_name": "FluxTransformer2DModel", "num_layers": "many"})",
       "field 'num_layers' is 'many', wanted an integer"},
      {R"({"_class_name": "HunyuanVideoTransformer3DModel",
           "image_condition_type": "latent_concat"})",
       "image_condition_type is latent_concat, wanted null (text-to-video)"},
      {R"({"_class_name": "HunyuanVideoTransformer3DModel", "qk_norm": "layer_norm"})",
       "qk_norm is layer_norm, wanted rms_norm"},
      {R"({"_class_name": "HunyuanVideoTransformer3DModel", "num_layers": 0,
           "num_single_layers": 0})",
       "num_layers and num_single_layers are both 0"},
      {R"({"_class_name": "WanTransformer3DModel", "added_kv_proj_dim": 5120})",
       "added_kv_proj_dim is 5120, wanted null (text-to-video)"},
      {R"({"_class_name": "WanTransformer3DModel", "patch_size": [2, 2]})",
       "patch_size has 2 entries, wanted 3 (frames, rows, columns)"},
      {R"({"_class_name": "WanTransformer3DModel", "patch_size": [1, 0, 2]})",
       "patch_size holds 0, wanted 1 to 64"},
      {R"({"_class_name": "WanTransformer3DModel", "attention_head_dim": 15})",
       "attention_head_dim is 15, wanted an even number"},
  };
  const testkit::TempDir dir;
  for (const Refused& c : cases) {
    const std::string path = write_config(dir, c.config);
    EXPECT_EQ(read_info(path).status().message(), path + ": " + c.message);
  }
}

}  // namespace
}  // namespace flashomni
