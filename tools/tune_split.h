// SPDX-License-Identifier: Apache-2.0
//
// Which prompts `tune` searches on and which it checks the winner on.
#pragma once

#include <cstddef>
#include <vector>

namespace flashomni::tools {

struct PromptSplit {
  std::vector<size_t> search, held_out;  // indices into the prompts
};

// Two halves that are alike in difficulty: prompts sorted by how well one and the same setting does
// on them are cut into pairs of neighbours; one of each goes to either side, the better one in
// turns. Of an odd number the last one is searched on. The search half begins with its median, then
// comes what is in the middle of its lower and of its upper part, and so on, so that its first few
// stand for all of it.
PromptSplit split_by_difficulty(const std::vector<double>& quality);

}  // namespace flashomni::tools
