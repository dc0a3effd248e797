// SPDX-License-Identifier: Apache-2.0
//
// The CPU backend in all its forms on this machine, made once a process.
#pragma once

#include <gtest/gtest.h>

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

// REQUIRES a name from cpu_isas(), or "" for the best one.
inline Backend& cpu_backend(const std::string& isa = "", int threads = 2) {
  static std::map<std::pair<std::string, int>, std::unique_ptr<Backend>> made;
  std::unique_ptr<Backend>& backend = made[{isa, threads}];
  if (!backend) backend = make_backend("cpu", {.threads = threads, .isa = isa}).value();
  return *backend;
}

}  // namespace flashomni::testkit
