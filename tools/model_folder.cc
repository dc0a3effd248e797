// SPDX-License-Identifier: Apache-2.0
#include "tools/model_folder.h"

#include <filesystem>
#include <set>

#include "models/checkpoint.h"
#include "models/model_info.h"
#include "tools/table.h"

namespace flashomni::tools {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// Names that a message or a short text lists; --json has all of them.
constexpr size_t kMostNames = 3;

std::vector<std::string> component_folders(const std::string& folder) {
  std::vector<std::string> out;
  for (const char* name : {"transformer", "transformer_2"}) {
    const std::string inside = folder + "/" + name;
    if (fs::exists(inside + "/config.json")) out.push_back(inside);
  }
  if (out.empty() || fs::exists(folder + "/config.json")) return {folder};
  return out;
}

// "1,234,567"
std::string grouped(int64_t n) {
  std::string s = std::to_string(n);
  for (auto at = static_cast<std::ptrdiff_t>(s.size()) - 3; at > 0; at -= 3) {
    s.insert(static_cast<size_t>(at), ",");
  }
  return s;
}

std::string gigabytes(double bytes) {
  return fixed(bytes / 1e9, bytes < 1e9 ? 3 : 1) + " GB";
}

json weights_json(const WeightStore& store, const CheckpointProblems& p) {
  std::set<std::string> dtypes;
  for (const TensorEntry* t : store.tensors()) dtypes.insert(stored_dtype_name(t->dtype));
  return {{"files", store.files().size()},
          {"bytes", store.total_bytes()},
          {"tensors", store.tensors().size()},
          {"dtypes", dtypes},
          {"missing", p.missing},
          {"unexpected", p.unexpected},
          {"misshaped", p.misshaped},
          {"unsupported", p.unsupported},
          {"loads", p.loads()},
          {"warnings", store.warnings()}};
}

json model_json(const std::string& folder, const ModelInfo& m) {
  json layers = json::array(), tensors = json::array();
  for (const auto& [kind, count] : m.layers) layers.push_back({{"kind", kind}, {"count", count}});
  for (const Parameter& p : m.list) tensors.push_back({{"name", p.name}, {"shape", p.shape}});
  return {{"folder", folder},
          {"class", m.class_name},
          {"family", m.family},
          {"layers", layers},
          {"heads", m.heads},
          {"head_dim", m.head_dim},
          {"token_in", m.token_in},
          {"token_out", m.token_out},
          {"text_width", m.text_width},
          {"guidance_embedded", m.guidance},
          {"parameters", m.parameters()},
          {"dense_gemm_q", m.dense_gemm_q},
          {"tensors", tensors},
          {"weights", nullptr}};
}

std::string weights_text(const json& w) {
  if (w.is_null()) return "none in the folder; all of this follows from config.json";
  std::string dtypes;
  for (const json& t : w["dtypes"]) dtypes += (dtypes.empty() ? "" : "/") + t.get<std::string>();
  const auto files = w["files"].get<size_t>();
  std::string out = std::to_string(files) + (files == 1 ? " file, " : " files, ") +
                    gigabytes(w["bytes"].get<double>()) + ", " + dtypes;
  const auto names = [&](const char* key) { return w[key].get<std::vector<std::string>>(); };
  const CheckpointProblems p{names("missing"), names("unexpected"), names("misshaped"),
                             names("unsupported")};
  if (p.loads()) out += ", all tensors there";
  const std::string wrong = p.text(kMostNames);
  if (!wrong.empty()) out += "; " + wrong;
  for (const json& warning : w["warnings"]) out += "\n            " + warning.get<std::string>();
  return out;
}

std::string component_text(const json& m) {
  auto number = [&](const char* key) { return std::to_string(m[key].get<int64_t>()); };
  std::string layers;
  for (const json& l : m["layers"]) {
    layers += (layers.empty() ? "" : " + ") + std::to_string(l["count"].get<int>()) + " " +
              l["kind"].get<std::string>();
  }
  const auto parameters = m["parameters"].get<int64_t>();
  const auto width = m["heads"].get<int64_t>() * m["head_dim"].get<int64_t>();
  const auto dense_q = m["dense_gemm_q"].get<std::string>();
  return "folder      " + m["folder"].get<std::string>() + "\nmodel       " +
         m["class"].get<std::string>() + " (presets of " + m["family"].get<std::string>() +
         ")\nblocks      " + layers + ", " + number("heads") + " heads of " + number("head_dim") +
         ", width " + std::to_string(width) + "\ntokens      " + number("token_in") + " in, " +
         number("token_out") + " out, text states of " + number("text_width") +
         (m["guidance_embedded"].get<bool>() ? ", guidance embedded" : "") + "\nparameters  " +
         grouped(parameters) + " in " + std::to_string(m["tensors"].size()) + " tensors, " +
         gigabytes(2.0 * double(parameters)) +
         " in 16 bits\nsparsity    attention, GEMM-Q, GEMM-O" +
         (dense_q.empty() ? "" : "; GEMM-Q dense: " + dense_q) + "\nweights     " +
         weights_text(m["weights"]) + "\n";
}

}  // namespace

Result<FolderSummary> summarize_folder(Backend& backend, const std::string& folder) {
  if (!fs::exists(folder)) return not_found(folder + " does not exist");
  FolderSummary out;
  for (const std::string& component : component_folders(folder)) {
    FO_ASSIGN_OR_RETURN(const ModelInfo info, read_model_info(backend, component));
    json m = model_json(component, info);
    if (fs::is_directory(component)) {
      const Result<WeightStore> store = WeightStore::open(component);
      if (store.ok()) {
        const CheckpointProblems problems = check_checkpoint(info.list, *store);
        m["weights"] = weights_json(*store, problems);
        if (out.weights.ok()) out.weights = problems.status(component, kMostNames);
      } else if (store.status().code() != StatusCode::kNotFound) {
        return store.status();
      }
    }
    out.components.push_back(std::move(m));
  }
  return out;
}

std::string folder_text(const FolderSummary& summary) {
  std::string out;
  for (const json& m : summary.components) out += (out.empty() ? "" : "\n") + component_text(m);
  return out;
}

}  // namespace flashomni::tools
