// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>

namespace flashomni::cpu {

// What a tile fetches while it multiplies: a line at a time, `step` bytes apart.
struct PrefetchStream {
  const char* at;
  int64_t step;
};

// Memory that coming products need, in the order of need. Hardware follows a stream only within its
// page of 4 KiB, so packed weights in L3 would cost a third of the time; tiles therefore fetch,
// line by line between their multiply-adds, what this queue holds.
class PrefetchQueue {
 public:
  enum Slot { kRightFactor, kLeftFactor, kResults };
  static constexpr int kMostResults = 6;

  // Replaces a slot: `rows` stretches of `row_bytes`, `stride_bytes` apart.
  void set(int slot, const void* data, int64_t row_bytes, int64_t rows = 1,
           int64_t stride_bytes = 0) {
    regions_[slot] = {static_cast<const char*>(data), row_bytes, stride_bytes, rows, 0};
  }

  // The next bytes of one row, for a tile that will fetch `lines` times; `idle` without any.
  PrefetchStream take(int64_t lines, const void* idle) {
    if (lines <= 0) return {static_cast<const char*>(idle), 0};
    for (Region& region : regions_) {
      if (region.rows <= 0) continue;
      const int64_t bytes = std::min(region.row_bytes - region.taken, kLine * lines);
      const PrefetchStream stream{region.data + region.taken, (bytes + lines - 1) / lines};
      region.taken += bytes;
      if (region.taken == region.row_bytes) {
        region.taken = 0;
        region.data += region.stride_bytes;
        --region.rows;
      }
      return stream;
    }
    return {static_cast<const char*>(idle), 0};
  }

 private:
  static constexpr int64_t kLine = 64;
  struct Region {
    const char* data = nullptr;
    int64_t row_bytes = 0;
    int64_t stride_bytes = 0;
    int64_t rows = 0;
    int64_t taken = 0;  // of the row at `data`
  };
  Region regions_[kResults + kMostResults];
};

}  // namespace flashomni::cpu
