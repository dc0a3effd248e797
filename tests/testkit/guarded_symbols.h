// SPDX-License-Identifier: Apache-2.0
//
// Symbols and their plan in guarded backend memory.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "flashomni/backend.h"
#include "tests/testkit/guard_buffer.h"
#include "tests/testkit/symbols_adaptor.h"

namespace flashomni::testkit {

class GuardedSymbols {
 public:
  GuardedSymbols() = default;  // absent: the operation runs dense
  // Garbage of this geometry, for an operation to write.
  GuardedSymbols(Backend& backend, const SymbolGeometry& geometry,
                 std::span<const int32_t> starts = {})
      : backend_(&backend),
        geometry_(geometry),
        host_starts_(starts.begin(), starts.end()),
        c_(backend, static_cast<size_t>(geometry.total_c_words()) * 8),
        s_(backend, static_cast<size_t>(geometry.total_s_words()) * 8) {
    if (starts.empty()) return;
    starts_ = GuardBuffer(backend, starts.size_bytes());
    starts_.write(starts.data());
  }
  GuardedSymbols(Backend& backend, const SparseSymbols& symbols)
      : GuardedSymbols(backend, symbols.geometry(), symbols.starts()) {
    c_.write(symbols.c_words().data());
    s_.write(symbols.s_words().data());
  }

  SymbolsView view() const {
    if (!backend_) return {};
    return {geometry_, static_cast<uint64_t*>(c_.data()), static_cast<uint64_t*>(s_.data()),
            host_starts_.empty() ? nullptr : static_cast<const int32_t*>(starts_.data())};
  }
  // Work lists of the symbols as they are now.
  PlanView make_plan() {
    if (!backend_) return {};
    plan_ = GuardBuffer(*backend_, backend_->plan_bytes(geometry_));
    const PlanView plan{plan_.data(), plan_.bytes()};
    const Status status = backend_->plan({}, {view(), plan});
    EXPECT_TRUE(status.ok()) << status.to_string();
    return plan;
  }

  std::vector<uint64_t> c_words() const { return words(c_); }
  std::vector<uint64_t> s_words() const { return words(s_); }
  reference::BlockMask mask() const {
    return to_block_mask(geometry_, host_starts_, c_words(), s_words());
  }
  std::string damage() const {
    return c_.damage() + s_.damage() + plan_.damage() + starts_.damage();
  }

 private:
  static std::vector<uint64_t> words(const GuardBuffer& buffer) {
    const std::vector<uint8_t> bytes = buffer.read();
    std::vector<uint64_t> words(bytes.size() / 8);
    std::memcpy(words.data(), bytes.data(), bytes.size());
    return words;
  }

  Backend* backend_ = nullptr;
  SymbolGeometry geometry_;
  std::vector<int32_t> host_starts_;
  GuardBuffer c_, s_, plan_, starts_;
};

}  // namespace flashomni::testkit
