// SPDX-License-Identifier: Apache-2.0
//
// What every driver needs: the kernels of the chosen instruction set, the threads, and a way to cut
// the caller's workspace into aligned pieces.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/ceil_div.h"
#include "base/parallel.h"
#include "cpu/kernel_table.h"

namespace flashomni::cpu {

// Cache line, and the widest vector.
inline constexpr size_t kAlignment = 64;

constexpr size_t align_up(size_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}
constexpr size_t float_bytes(int64_t count) {
  return align_up(static_cast<size_t>(count) * sizeof(float));
}

struct Context {
  const KernelTable& kernels;
  ThreadPool& pool;
};

// Hands out consecutive aligned pieces of a block of memory. The block may start anywhere; its
// owner reserves kAlignment spare bytes for that.
class Arena {
 public:
  explicit Arena(void* memory)
      : next_(reinterpret_cast<char*>(align_up(reinterpret_cast<size_t>(memory)))) {}

  template <class T>
  T* take(int64_t count) {
    T* piece = reinterpret_cast<T*>(next_);
    next_ += align_up(static_cast<size_t>(count) * sizeof(T));
    return piece;
  }

 private:
  char* next_;
};

// Rows this many floats apart fall on few cache sets when the distance is a large power of two
// times an odd number; attention then reads a packed copy instead.
constexpr bool rows_collide(int64_t stride) {
  return stride * static_cast<int64_t>(sizeof(float)) % 1024 == 0;
}

}  // namespace flashomni::cpu
