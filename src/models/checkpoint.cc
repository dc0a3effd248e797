// SPDX-License-Identifier: Apache-2.0
#include "models/checkpoint.h"

#include <algorithm>
#include <set>

#include "io/messages.h"

namespace flashomni {
namespace {

constexpr size_t kNameLength = 160;  // of one entry, in a message

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string s = "[";
  for (size_t i = 0; i < shape.size(); ++i) s += (i ? "," : "") + std::to_string(shape[i]);
  return s + "]";
}

bool loadable(StoredDType dtype) {
  return dtype == StoredDType::kF32 || dtype == StoredDType::kF16 || dtype == StoredDType::kBF16;
}

}  // namespace

std::string few_names(const std::vector<std::string>& names, size_t most) {
  std::string out;
  for (size_t i = 0; i < std::min(names.size(), most); ++i) {
    out += (i ? ", " : "") + printable(names[i], kNameLength);
  }
  if (names.size() > most) out += " and " + std::to_string(names.size() - most) + " more";
  return out;
}

std::string CheckpointProblems::text(size_t most) const {
  std::string out;
  auto add = [&](const std::vector<std::string>& names, const std::string& what) {
    if (names.empty()) return;
    out += (out.empty() ? "" : ", ") + std::to_string(names.size()) + " " + what + " (" +
           few_names(names, most) + ")";
  };
  add(missing, "missing");
  add(misshaped, "of another shape");
  add(unsupported, "of a type that cannot be loaded");
  add(unexpected, "that the model does not have");
  return out;
}

Status CheckpointProblems::status(const std::string& folder, size_t most) const {
  if (loads()) return ok_status();
  return corrupt_file(folder + ": the weights cannot be loaded, tensors are wrong: " + text(most));
}

CheckpointProblems check_checkpoint(const std::vector<Parameter>& wanted,
                                    const WeightStore& store) {
  CheckpointProblems problems;
  std::set<std::string> names;
  for (const Parameter& p : wanted) {
    names.insert(p.name);
    const TensorEntry* e = store.find(p.name);
    if (!e) {
      problems.missing.push_back(p.name);
    } else if (e->shape != p.shape) {
      problems.misshaped.push_back(p.name + " " + shape_text(e->shape) + ", wanted " +
                                   shape_text(p.shape));
    } else if (!loadable(e->dtype)) {
      problems.unsupported.push_back(p.name + " " + stored_dtype_name(e->dtype));
    }
  }
  for (const TensorEntry* e : store.tensors()) {
    if (!names.count(e->name)) problems.unexpected.push_back(e->name);
  }
  return problems;
}

}  // namespace flashomni
