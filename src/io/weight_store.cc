// SPDX-License-Identifier: Apache-2.0
#include "io/weight_store.h"

#include <sys/stat.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <utility>

#include "io/json.h"
#include "io/messages.h"

namespace flashomni {
namespace {

constexpr const char* kStems[] = {"diffusion_pytorch_model", "model"};
// What older checkpoints hold instead; named in the error so that the user knows what to convert.
constexpr const char* kPickles[] = {"diffusion_pytorch_model.bin", "pytorch_model.bin", "model.pt"};
constexpr size_t kListed = 10;  // names in one message

bool exists(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0;
}

bool is_folder(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

// Nothing that could leave the folder or cut a C string short.
bool is_plain_file_name(const std::string& name) {
  return !name.empty() && name != "." && name != ".." &&
         name.find_first_of(std::string_view("/\\\0", 3)) == name.npos &&
         name.find("..") == name.npos;
}

// "3 tensors ('a', 'b', 'c')", cut after kListed.
std::string listed(const std::vector<std::string_view>& names) {
  std::string out = std::to_string(names.size()) + (names.size() == 1 ? " tensor (" : " tensors (");
  for (size_t i = 0; i < std::min(names.size(), kListed); ++i) {
    out += (i ? ", " : "") + quote(names[i]);
  }
  return out + (names.size() > kListed ? ", ...)" : ")");
}

struct WeightIndex {
  std::map<std::string, std::string> shard_of;  // tensor -> file name
  double total_size = -1;                       // bytes; negative: not given
};

Result<WeightIndex> read_index(const std::string& path) {
  FO_ASSIGN_OR_RETURN(const nlohmann::json root, read_json_file(path, {.max_depth = 8}));
  const auto map = root.find("weight_map");
  if (map == root.end() || !map->is_object()) {
    return corrupt_file(path + ": weight_map is " +
                        (map == root.end() ? "missing" : map->type_name()) +
                        ", wanted an object of tensor name to file name");
  }
  WeightIndex index;
  for (const auto& [tensor, shard] : map->items()) {
    if (!shard.is_string()) {
      return corrupt_file(path + ": weight_map entry " + quote(tensor) + " is " +
                          shard.type_name() + ", wanted a file name");
    }
    const auto& name = shard.get_ref<const std::string&>();
    if (!is_plain_file_name(name)) {
      return corrupt_file(path + ": weight_map entry " + quote(tensor) + " names " + quote(name) +
                          ", wanted a plain file name in the same folder");
    }
    index.shard_of.emplace(tensor, name);
  }
  if (const auto metadata = root.find("metadata"); metadata != root.end()) {
    const auto size = metadata->find("total_size");
    // Some writers save it as a float.
    if (size != metadata->end() && size->is_number()) index.total_size = size->get<double>();
  }
  return index;
}

Status nothing_found(const std::string& folder, const std::vector<std::string>& tried) {
  std::string message = "no weights in " + folder + "; looked for ";
  for (size_t i = 0; i < tried.size(); ++i) message += (i ? ", " : "") + tried[i];
  for (const char* pickle : kPickles) {
    if (exists(folder + "/" + pickle)) {
      return unsupported(message + "; " + pickle + " is a pickle, which is not loaded: convert it");
    }
  }
  return not_found(message);
}

}  // namespace

Result<WeightStore> WeightStore::open(const std::string& path, const std::string& variant) {
  if (!is_folder(path)) {
    return path.ends_with(".json") ? open_index(path) : open_file(path);
  }
  const std::string v = variant.empty() ? "" : "." + variant;
  std::vector<std::string> tried;
  for (const char* stem : kStems) {
    tried.push_back(std::string(stem) + ".safetensors.index" + v + ".json");
    if (exists(path + "/" + tried.back())) return open_index(path + "/" + tried.back());
    tried.push_back(stem + v + ".safetensors");
    if (exists(path + "/" + tried.back())) return open_file(path + "/" + tried.back());
  }
  return nothing_found(path, tried);
}

Result<WeightStore> WeightStore::open_file(const std::string& path) {
  FO_ASSIGN_OR_RETURN(SafetensorsFile file, SafetensorsFile::open(path));
  WeightStore store;
  store.files_.push_back(std::move(file));
  FO_RETURN_IF_ERROR(store.collect());
  return store;
}

Result<WeightStore> WeightStore::open_index(const std::string& path) {
  FO_ASSIGN_OR_RETURN(const WeightIndex index, read_index(path));
  const size_t slash = path.rfind('/');
  const std::string folder = slash == path.npos ? "" : path.substr(0, slash + 1);

  std::set<std::string> shards;
  for (const auto& [tensor, shard] : index.shard_of) shards.insert(shard);
  WeightStore store;
  std::map<std::string, size_t> file_of;
  for (const std::string& shard : shards) {
    auto file = SafetensorsFile::open(folder + shard);
    if (!file.ok()) {
      // A checkpoint without one of its shards is broken; kNotFound says that there is none.
      const StatusCode code = file.status().code();
      return Status(code == StatusCode::kNotFound ? StatusCode::kCorruptFile : code,
                    file.status().message() + " (a shard listed in " + path + ")");
    }
    file_of.emplace(shard, store.files_.size());
    store.files_.push_back(std::move(file).value());
  }
  FO_RETURN_IF_ERROR(store.collect());

  std::vector<std::string_view> missing;
  for (const auto& [tensor, shard] : index.shard_of) {
    if (store.files_[file_of.at(shard)].find(tensor) == nullptr) missing.push_back(tensor);
  }
  if (!missing.empty()) {
    return corrupt_file(path + ": " + listed(missing) + " not in the shard that weight_map names");
  }
  std::vector<std::string_view> unlisted;
  for (const TensorEntry* t : store.tensors_) {
    if (!index.shard_of.contains(t->name)) unlisted.push_back(t->name);
  }
  if (!unlisted.empty()) {
    store.warnings_.push_back(path + ": " + listed(unlisted) + " in a shard but not in weight_map");
  }
  const auto total = static_cast<double>(store.total_bytes());
  if (index.total_size >= 0 && index.total_size != total) {
    store.warnings_.push_back(path + ": total_size is " + nlohmann::json(index.total_size).dump() +
                              ", the tensors have " + std::to_string(store.total_bytes()) +
                              " bytes");
  }
  return store;
}

// Lists the tensors of all files; each name may be in one of them only.
Status WeightStore::collect() {
  for (const SafetensorsFile& file : files_) {
    for (const TensorEntry& t : file.tensors()) tensors_.push_back(&t);
  }
  std::sort(tensors_.begin(), tensors_.end(),
            [](const TensorEntry* a, const TensorEntry* b) { return a->name < b->name; });
  const auto twice = std::adjacent_find(
      tensors_.begin(), tensors_.end(),
      [](const TensorEntry* a, const TensorEntry* b) { return a->name == b->name; });
  if (twice == tensors_.end()) return ok_status();
  std::string holders;
  for (const SafetensorsFile& file : files_) {
    if (file.find((*twice)->name)) holders += (holders.empty() ? "" : " and ") + file.path();
  }
  return corrupt_file("tensor " + quote((*twice)->name) + " is in " + holders);
}

const TensorEntry* WeightStore::find(std::string_view name) const {
  const auto it =
      std::lower_bound(tensors_.begin(), tensors_.end(), name,
                       [](const TensorEntry* e, std::string_view n) { return e->name < n; });
  return it != tensors_.end() && (*it)->name == name ? *it : nullptr;
}

uint64_t WeightStore::total_bytes() const {
  uint64_t bytes = 0;
  for (const TensorEntry* t : tensors_) bytes += t->bytes;
  return bytes;
}

}  // namespace flashomni
