// SPDX-License-Identifier: Apache-2.0
#include "models/layers/config_file.h"

#include <numeric>

namespace flashomni {

Result<nlohmann::json> read_model_config(const std::string& path, const std::string& class_name) {
  FO_ASSIGN_OR_RETURN(nlohmann::json json, read_json_file(path));
  if (!json.is_object()) return corrupt_file(path + ": not a JSON object");
  JsonFields f(json, path);
  const std::string seen = f.text("_class_name", class_name);
  FO_RETURN_IF_ERROR(f.status());
  if (seen != class_name) {
    return unsupported(path + ": model class is " + seen + ", wanted " + class_name);
  }
  if (f.has("quantization_config")) {
    return unsupported(path +
                       ": the checkpoint is quantised (quantization_config); only f32, f16 "
                       "and bf16 weights can be loaded");
  }
  return json;
}

Result<std::vector<int>> check_rope_axes(const std::vector<int64_t>& axes, int head_dim,
                                         const std::string& source, const std::string& field) {
  if (head_dim % 2 != 0) {
    return corrupt_file(source + ": attention_head_dim is " + std::to_string(head_dim) +
                        ", wanted an even number");
  }
  std::vector<int> out;
  for (int64_t a : axes) {
    if (a < 0 || a > 1024 || a % 2 != 0) {
      return corrupt_file(source + ": " + field + " holds " + std::to_string(a) +
                          ", wanted even numbers up to 1024");
    }
    out.push_back(static_cast<int>(a));
  }
  const int sum = std::accumulate(out.begin(), out.end(), 0);
  if (sum != head_dim || out.size() > 3) {
    return corrupt_file(source + ": " + field + " has " + std::to_string(out.size()) +
                        " axes that sum to " + std::to_string(sum) +
                        ", wanted at most 3 that sum to attention_head_dim " +
                        std::to_string(head_dim));
  }
  return out;
}

}  // namespace flashomni
