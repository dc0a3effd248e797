// SPDX-License-Identifier: Apache-2.0
#include "cpu/isa.h"

#include <algorithm>
#include <cctype>
#include <fstream>

#include "cpu/amx.h"
#include "cpu/simd_targets.h"
#include "hwy/targets.h"

namespace flashomni::cpu {
namespace {

bool is_fallback(int64_t target) {
  return target == HWY_SCALAR || target == HWY_EMU128;
}

std::string upper(std::string s) {
  std::transform(s.begin(), s.end(), s.begin(), [](unsigned char c) { return std::toupper(c); });
  return s;
}

}  // namespace

std::vector<Isa> available_isas() {
  const int64_t supported = hwy::SupportedTargets();
  std::vector<Isa> isas;
  for (const int64_t* target = built_targets(); *target != 0; ++target) {
    // The fallback runs everywhere, whatever Highway calls it on this compiler.
    if (!is_fallback(*target) && (*target & supported) == 0) continue;
    Isa isa;
    isa.kernels = kernel_table(*target);
    isa.name = is_fallback(*target) ? "SCALAR" : hwy::TargetName(*target);
    isa.description = isa.name;
    if (!is_fallback(*target)) {
      isa.description += " (" + std::to_string(32 * isa.kernels->lanes) + " bit)";
    }
    isas.push_back(isa);
  }
  // Not before the others: whoever asks for no set in particular gets products in f32.
  if (const KernelTable* amx = amx_kernel_table()) {
    isas.push_back({"AMX", "AVX3 (512 bit), linear layers in bf16 (AMX)", amx});
  }
  return isas;
}

Result<Isa> find_isa(const std::string& name) {
  std::string known;
  for (const Isa& isa : available_isas()) {
    if (name.empty() || isa.name == upper(name)) return isa;
    known += (known.empty() ? "" : ", ") + isa.name;
  }
  return unsupported("instruction set '" + name + "' is not available here; there is: " + known);
}

std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(": ");
    if (line.rfind("model name", 0) == 0 && colon != std::string::npos) {
      return line.substr(colon + 2);
    }
  }
  return "unknown processor";
}

}  // namespace flashomni::cpu
