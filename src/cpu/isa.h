// SPDX-License-Identifier: Apache-2.0
//
// Choice of the instruction set, once per backend instance: nothing here is global state, so two
// backends with different sets can live in one process (the tests compare them).
#pragma once

#include <string>
#include <vector>

#include "cpu/kernel_table.h"
#include "flashomni/status.h"

namespace flashomni::cpu {

struct Isa {
  std::string name;         // "AVX3", "AVX2", "SCALAR", "NEON"; "AMX": AVX3 with products in bf16
  std::string description;  // "AVX3 (512 bit)"
  const KernelTable* kernels = nullptr;
};

// Instruction sets that this build has and this machine can run, best first; never empty.
std::vector<Isa> available_isas();

// The one called `name` in any letter case, or the best when `name` is empty. Otherwise an error
// that lists the available ones.
Result<Isa> find_isa(const std::string& name);

// "Intel(R) Xeon(R) Processor", or "unknown processor".
std::string processor_name();

}  // namespace flashomni::cpu
