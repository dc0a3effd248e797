// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace flashomni {

// Standard normal numbers as PyTorch's CPU generator makes them for float32 tensors of 16 or more
// elements (torch.randn(count, generator=torch.Generator().manual_seed(seed))): Mersenne Twister
// 19937 and Box-Muller over groups of 16. The uniform draws are the same bits; the logarithm and
// cosine may differ from PyTorch's in the last place.
std::vector<float> torch_randn(uint64_t seed, size_t count);

}  // namespace flashomni
