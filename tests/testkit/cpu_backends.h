// SPDX-License-Identifier: Apache-2.0
//
// The CPU backend in all its forms on this machine, made once a process.
#pragma once

#include <gtest/gtest.h>

#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "flashomni/backend.h"

namespace flashomni::testkit {

// Instruction sets that this build and machine offer; never empty.
inline const std::vector<std::string>& cpu_isas() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> found;
    for (const char* isa : {"SCALAR", "AVX2", "AVX3", "NEON"}) {
      if (make_backend("cpu", {.threads = 1, .isa = isa}).ok()) found.push_back(isa);
    }
    return found;
  }();
  EXPECT_FALSE(names.empty()) << "no instruction set was accepted";
  return names;
}

// The set whose linear layers, GEMM-Q and GEMM-O take their factors in bf16; empty on machines
// without it. Right for factors that bf16 holds exactly.
inline const std::vector<std::string>& bf16_isas() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> found;
    if (make_backend("cpu", {.threads = 1, .isa = "AMX"}).ok()) found.push_back("AMX");
    if (found.empty()) std::printf("no AMX on this machine: products in bf16 are not tested\n");
    return found;
  }();
  return names;
}

// Both, for what holds of any set by itself.
inline std::vector<std::string> all_cpu_isas() {
  std::vector<std::string> names = cpu_isas();
  names.insert(names.end(), bf16_isas().begin(), bf16_isas().end());
  return names;
}

// REQUIRES one of these names, or "" for the best one.
inline Backend& cpu_backend(const std::string& isa = "", int threads = 2) {
  static std::map<std::pair<std::string, int>, std::unique_ptr<Backend>> made;
  std::unique_ptr<Backend>& backend = made[{isa, threads}];
  if (!backend) backend = make_backend("cpu", {.threads = threads, .isa = isa}).value();
  return *backend;
}

}  // namespace flashomni::testkit
