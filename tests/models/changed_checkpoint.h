// SPDX-License-Identifier: Apache-2.0
//
// Copies of the fixtures' checkpoints whose tensors a test has altered.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "base/half.h"
#include "io/weight_store.h"
#include "tests/models/fixture.h"

namespace flashomni {

struct StoredTensor {
  std::string name;
  StoredDType dtype = StoredDType::kF32;
  std::vector<int64_t> shape;
  std::vector<uint8_t> bytes;
};
using Tensors = std::vector<StoredTensor>;
using Change = std::function<void(Tensors&)>;

inline Tensors read_tensors(const std::string& folder) {
  const auto store = WeightStore::open(folder);
  EXPECT_TRUE(store.ok()) << store.status().message();
  Tensors out;
  for (const TensorEntry* t : store->tensors()) {
    out.push_back({t->name, t->dtype, t->shape, *read_tensor(*t)});
  }
  return out;
}

// A copy of a fixture's folder whose tensors `change` has altered.
inline void put_changed(const std::string& fixture, const std::string& folder,
                        const Change& change) {
  std::filesystem::copy_file(fixture_folder(fixture) + "/config.json", folder + "/config.json");
  Tensors tensors = read_tensors(fixture_folder(fixture));
  change(tensors);
  std::vector<TensorToWrite> write;
  for (const StoredTensor& t : tensors) write.push_back({t.name, t.dtype, t.shape, t.bytes});
  const Status s = write_safetensors(folder + "/diffusion_pytorch_model.safetensors", write);
  ASSERT_TRUE(s.ok()) << s.message();
}

// All values in 16 bits.
inline void round_to(StoredDType dtype, Tensors& tensors) {
  for (StoredTensor& t : tensors) {
    std::vector<uint8_t> narrow(t.bytes.size() / 2);
    for (size_t i = 0; i < narrow.size() / 2; ++i) {
      float value;
      std::memcpy(&value, t.bytes.data() + 4 * i, 4);
      const uint16_t bits = dtype == StoredDType::kBF16 ? f32_to_bf16(value) : f32_to_f16(value);
      std::memcpy(narrow.data() + 2 * i, &bits, 2);
    }
    t.dtype = dtype;
    t.bytes = std::move(narrow);
  }
}

}  // namespace flashomni
