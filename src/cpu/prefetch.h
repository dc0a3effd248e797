// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>

namespace flashomni::cpu {

// What a tile fetches while it multiplies: a line at a time, `step` bytes apart; nothing where
// `step` is 0.
struct PrefetchStream {
  const char* at = nullptr;
  int64_t step = 0;
};

inline constexpr int64_t kCacheLine = 64;

// Fetches the lines of `bytes` from `data` into L2.
inline void prefetch_row(const char* data, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += kCacheLine) __builtin_prefetch(data + i, 0, 2);
}

// Memory that coming products need, in the order of need. Hardware follows a stream only within its
// page of 4 KiB and does not see short rows coming, so that weights, keys and values in L3 would
// cost a third of the time; tiles therefore fetch what this queue holds, a little each.
class PrefetchQueue {
 public:
  // Of matrix products: up to kMostRightFactors stretches of the weight, the rows, and up to
  // kMostResults regions.
  static constexpr int kMostRightFactors = 8;
  static constexpr int kMostResults = 6;
  enum Slot { kRightFactor = 0, kLeftFactor = kMostRightFactors, kResults };
  // Of attention.
  enum AttentionSlot { kQueries, kKeys, kValues, kOutputs };

  // Replaces a slot: `rows` stretches of `row_bytes`, `stride_bytes` apart.
  void set(int slot, const void* data, int64_t row_bytes, int64_t rows = 1,
           int64_t stride_bytes = 0) {
    regions_[slot] = {static_cast<const char*>(data), row_bytes, stride_bytes, rows, 0};
    first_ = std::min(first_, slot);
  }

  // The next bytes of one row, for a tile that will fetch `lines` times.
  PrefetchStream take(int64_t lines) {
    if (lines <= 0) return {};
    for (; first_ < kSlots; ++first_) {
      Region& region = regions_[first_];
      if (region.rows <= 0) continue;
      const int64_t bytes = std::min(region.row_bytes - region.taken, kCacheLine * lines);
      const PrefetchStream stream{region.data + region.taken, (bytes + lines - 1) / lines};
      region.advance(bytes);
      return stream;
    }
    return {};
  }

  // Fetches up to so many lines at once. A burst must fit the queues that the products need too.
  void fetch(int64_t lines) {
    for (; first_ < kSlots; ++first_) {
      Region& region = regions_[first_];
      while (region.rows > 0) {
        const int64_t bytes = std::min(region.row_bytes - region.taken, kCacheLine * lines);
        prefetch_row(region.data + region.taken, bytes);
        region.advance(bytes);
        lines -= (bytes + kCacheLine - 1) / kCacheLine;
        if (lines <= 0) return;
      }
    }
  }

 private:
  static constexpr int kSlots = kResults + kMostResults;
  struct Region {
    const char* data = nullptr;
    int64_t row_bytes = 0;
    int64_t stride_bytes = 0;
    int64_t rows = 0;
    int64_t taken = 0;  // of the row at `data`

    void advance(int64_t bytes) {
      taken += bytes;
      if (taken < row_bytes) return;
      taken = 0;
      data += stride_bytes;
      --rows;
    }
  };
  Region regions_[kSlots];
  int first_ = kSlots;  // the regions before it are done
};

}  // namespace flashomni::cpu
