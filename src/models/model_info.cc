// SPDX-License-Identifier: Apache-2.0
#include "models/model_info.h"

#include <filesystem>

#include "io/json.h"
#include "models/checkpoint.h"
#include "models/flux/transformer.h"
#include "models/hunyuan_video/transformer.h"
#include "models/wan/transformer.h"

namespace flashomni {
namespace {

constexpr char kDouble[] = "double-stream";
constexpr char kSingle[] = "single-stream";

Result<ModelInfo> flux_info(Backend& backend, const std::string& path) {
  FO_ASSIGN_OR_RETURN(const flux::FluxConfig c, flux::load_flux_config(path));
  ModelInfo m;
  m.family = "flux";
  m.heads = c.num_attention_heads;
  m.head_dim = c.attention_head_dim;
  m.layers = {{kDouble, c.num_layers}, {kSingle, c.num_single_layers}};
  m.token_in = c.in_channels;
  m.token_out = c.output_width();
  m.text_width = c.joint_attention_dim;
  m.guidance = c.guidance_embeds;
  FO_ASSIGN_OR_RETURN(m.list, parameters_of<flux::FluxTransformer>(backend, c));
  return m;
}

Result<ModelInfo> hunyuan_video_info(Backend& backend, const std::string& path) {
  using namespace hunyuan_video;
  FO_ASSIGN_OR_RETURN(const HunyuanVideoConfig c, load_hunyuan_video_config(path));
  ModelInfo m;
  m.family = "hunyuan_video";
  m.heads = c.num_attention_heads;
  m.head_dim = c.attention_head_dim;
  m.layers = {{"text refiner", c.num_refiner_layers},
              {kDouble, c.num_layers},
              {kSingle, c.num_single_layers}};
  m.token_in = c.input_width();
  m.token_out = c.output_width();
  m.text_width = c.text_embed_dim;
  m.guidance = c.guidance_embeds;
  FO_ASSIGN_OR_RETURN(m.list, parameters_of<HunyuanVideoTransformer>(backend, c));
  return m;
}

Result<ModelInfo> wan_info(Backend& backend, const std::string& path) {
  FO_ASSIGN_OR_RETURN(const wan::WanConfig c, wan::load_wan_config(path));
  ModelInfo m;
  m.family = "wan";
  m.heads = c.num_attention_heads;
  m.head_dim = c.attention_head_dim;
  m.layers = {{"self- and cross-attention", c.num_layers}};
  m.token_in = c.input_width();
  m.token_out = c.output_width();
  m.text_width = c.text_dim;
  m.dense_gemm_q = wan::kDenseGemmQ;
  FO_ASSIGN_OR_RETURN(m.list, parameters_of<wan::WanTransformer>(backend, c));
  return m;
}

struct Family {
  const char* class_name;
  Result<ModelInfo> (*read)(Backend& backend, const std::string& path);
};

constexpr Family kFamilies[] = {{"FluxTransformer2DModel", flux_info},
                                {"HunyuanVideoTransformer3DModel", hunyuan_video_info},
                                {"WanTransformer3DModel", wan_info}};

}  // namespace

int64_t ModelInfo::parameters() const {
  int64_t n = 0;
  for (const Parameter& p : list) n += p.numel();
  return n;
}

std::vector<std::string> model_classes() {
  std::vector<std::string> out;
  for (const Family& f : kFamilies) out.push_back(f.class_name);
  return out;
}

Result<ModelInfo> read_model_info(Backend& backend, const std::string& path) {
  const std::string file = std::filesystem::is_directory(path) ? path + "/config.json" : path;
  FO_ASSIGN_OR_RETURN(const nlohmann::json json, read_json_file(file));
  if (!json.is_object()) return corrupt_file(file + ": not a JSON object");
  JsonFields f(json, file);
  f.require("_class_name");
  const std::string name = f.text("_class_name", "");
  FO_RETURN_IF_ERROR(f.status());
  for (const Family& family : kFamilies) {
    if (name != family.class_name) continue;
    FO_ASSIGN_OR_RETURN(ModelInfo info, family.read(backend, file));
    info.class_name = name;
    return info;
  }
  std::string known;
  for (const std::string& c : model_classes()) known += (known.empty() ? "" : ", ") + c;
  return unsupported(file + ": model class is " + name + ", wanted one of " + known);
}

}  // namespace flashomni
