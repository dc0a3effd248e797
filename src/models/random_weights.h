// SPDX-License-Identifier: Apache-2.0
//
// Seeded stand-ins for the weights of a model whose checkpoint is not at hand: of the right shapes
// and sizes, so that speed can be measured, and without any meaning, so that pictures cannot.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/parallel.h"
#include "io/safetensors.h"

namespace flashomni {

class RandomWeights {
 public:
  explicit RandomWeights(uint64_t seed) : seed_(seed) {}

  // A bf16 tensor whose values depend only on the seed, its name and its shape: nearly normal (the
  // sum of four uniform numbers), scaled so that activations neither die out nor grow over many
  // layers. Matrices [out, in] have a deviation of 1/sqrt(in), those of modulations ("norm" in the
  // name) 0.3 of it; vectors called "weight" are 1 +- 0.1, other vectors 0 +- 0.02.
  // `memory` holds the values and must live as long as the entry.
  TensorEntry make(const std::string& name, const std::vector<int64_t>& shape,
                   std::vector<uint8_t>& memory);

 private:
  uint64_t seed_;
  ThreadPool threads_;
};

}  // namespace flashomni
