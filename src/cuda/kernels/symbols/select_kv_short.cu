// SPDX-License-Identifier: Apache-2.0
//
// S_s of rows of up to kMaxShortRow kv blocks: a warp a row, its scores in registers, and no
// sorting. Every rule keeps or drops what comes before one entry of the sorted row, the crossing:
// the first whose running sum passes a limit. The sum up to a score is that of all entries that
// sort no later, so the crossing's score is found by halving the range of scores, from one that is
// there to another that is there; equal scores weigh the same and go by index. Sums are trees over
// fixed places, with zeros for what is left out: they never fall when an entry is added.
#include "cuda/kernels/common/block.cuh"
#include "cuda/kernels/common/chain.cuh"
#include "cuda/kernels/symbols/select_kv_args.h"
#include "cuda/kernels/symbols/sort.cuh"

namespace flashomni::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kRowsPerCta = kThreads / kWarp;
constexpr uint32_t kNoKey = 0xffffffffu;  // sorts after every score

// Entry e * 32 + lane of a row is number e of a lane. Keys ascend in sorted order.
template <int kEach>
struct SortedRow {
  uint32_t key[kEach];
  double weight[kEach];

  __device__ __forceinline__ double sum_up_to(uint32_t limit) const {
    double sum = 0;
#pragma unroll
    for (int e = 0; e < kEach; ++e) sum += key[e] <= limit ? weight[e] : 0.0;
    return warp_reduce(sum, Add{});
  }
  __device__ __forceinline__ int count_up_to(uint32_t limit) const {
    int count = 0;
#pragma unroll
    for (int e = 0; e < kEach; ++e) count += key[e] <= limit;
    return __reduce_add_sync(kAllLanes, count);
  }
  // The least key above `limit`, the largest up to it. No score's key is 0.
  __device__ __forceinline__ uint32_t least_above(uint32_t limit) const {
    uint32_t least = kNoKey;
#pragma unroll
    for (int e = 0; e < kEach; ++e) least = key[e] > limit ? min(least, key[e]) : least;
    return __reduce_min_sync(kAllLanes, least);
  }
  __device__ __forceinline__ uint32_t most_up_to(uint32_t limit) const {
    uint32_t most = 0;
#pragma unroll
    for (int e = 0; e < kEach; ++e) most = key[e] <= limit ? max(most, key[e]) : most;
    return __reduce_max_sync(kAllLanes, most);
  }
  __device__ __forceinline__ double weight_of(uint32_t value) const {
    double own = 0;
    bool here = false;
#pragma unroll
    for (int e = 0; e < kEach; ++e) {
      if (key[e] == value) {
        own = weight[e];
        here = true;
      }
    }
    return __shfl_sync(kAllLanes, own, __ffs(static_cast<int>(__ballot_sync(kAllLanes, here))) - 1);
  }
};

// An entry in sorted order: the one with this key that has `ties_before` others of it before it,
// and `before` entries in all.
struct Crossing {
  uint32_t key;
  int ties_before;
  int before;
};

template <int kEach>
__device__ Crossing last_entry(const SortedRow<kEach>& row, int n) {
  const uint32_t key = row.most_up_to(kNoKey - 1);
  return {key, n - 1 - row.count_up_to(key - 1), n - 1};
}

// stop(sum) is false up to some sum, and true of the sum of the whole row. All lanes call and get
// the same.
template <int kEach, class Stop>
__device__ Crossing find_crossing(const SortedRow<kEach>& row, const Stop& stop) {
  uint32_t low = row.least_above(0), high = row.most_up_to(kNoKey - 1);
  double below = 0;  // the sum of all keys under low
  while (low < high) {
    const uint32_t middle = low + (high - low) / 2;
    const double sum = row.sum_up_to(middle);
    if (stop(sum)) {
      high = row.most_up_to(middle);
    } else {
      low = row.least_above(middle);
      below = sum;
    }
  }
  const int count_below = row.count_up_to(low - 1);
  const int ties = row.count_up_to(low) - count_below;
  if (ties == 1) return {low, 0, count_below};
  const double weight = row.weight_of(low);
  int from = 1, to = ties;  // how many of them it takes
  while (from < to) {
    const int middle = (from + to) / 2;
    if (stop(below + middle * weight)) {
      to = middle;
    } else {
      from = middle + 1;
    }
  }
  return {low, from - 1, count_below + from - 1};
}

// Bit e of the result: entry e of this lane is kept.
template <int kEach>
__device__ uint32_t apply_rule(const SelectKvArgs& a, const SortedRow<kEach>& row, double total) {
  const int n = a.num_kv;
  const double limit = a.parameter;
  const double mark = limit * total;
  const auto above = [&](double sum) { return sum > mark; };
  const auto reached = [&](double sum) { return !(sum < mark); };
  const auto counted = [&](double sum) { return sum >= fmin(floor(limit), double(n)); };

  bool keep_before = true, keep_at = false, keep_after = false;
  Crossing at{};
  switch (a.rule) {
    case SelectRule::kDropCdf:
      keep_before = false;
      keep_at = keep_after = true;
      // The last entry stays whatever the limit.
      at = above(total) ? find_crossing(row, above) : last_entry(row, n);
      break;
    case SelectRule::kKeepCdfLt:
      if (!above(total)) {
        keep_at = keep_after = true;
        break;
      }
      at = find_crossing(row, above);
      keep_at = at.before == 0;  // at least one
      break;
    case SelectRule::kKeepCdfGe:
      keep_at = true;
      if (!reached(total)) {
        keep_after = true;
        break;
      }
      at = find_crossing(row, reached);
      break;
    case SelectRule::kTopK:
      // Also none for a parameter that is not a number.
      if (!(a.parameter >= 1.f)) return 0;
      keep_at = true;
      at = find_crossing(row, counted);
      break;
  }
  uint32_t kept = 0;
  int ties = 0;
  const uint32_t lanes_before = (1u << (threadIdx.x % kWarp)) - 1;
#pragma unroll
  for (int e = 0; e < kEach; ++e) {
    const bool tie = row.key[e] == at.key;
    const uint32_t tied = __ballot_sync(kAllLanes, tie);
    const int place = ties + __popc(tied & lanes_before);
    ties += __popc(tied);
    const bool before = row.key[e] < at.key || (tie && place < at.ties_before);
    const bool is_at = tie && place == at.ties_before;
    const bool keep = before ? keep_before : is_at ? keep_at : keep_after;
    kept |= static_cast<uint32_t>(keep && row.key[e] != kNoKey) << e;
  }
  return kept;
}

template <int kEach>
__global__ __launch_bounds__(kThreads) void select_kv_short_kernel(SelectKvArgs a) {
  chain_release();
  chain_wait();
  const int lane = threadIdx.x % kWarp;
  const unsigned row = blockIdx.x * kRowsPerCta + threadIdx.x / kWarp;
  if (row >= a.rows) return;
  const unsigned group = row / a.num_q;
  const int i = static_cast<int>(row - group * a.num_q);
  const int64_t b = group / a.heads;
  const int64_t h = group - b * a.heads;
  const int n = a.num_kv;

  const bool active = (a.c[int64_t{group} * a.c_words + i / 64] >> (i % 64)) & 1;
  const bool whole = (a.keep_q.begin <= i && i < a.keep_q.end) ||
                     (a.gate_q && a.gate_q[b * a.gate_q_batch + h * a.gate_q_head + i] == 0);
  uint32_t kept = 0;
  if (active && whole) {
    kept = ~0u;
  } else if (active) {
    const float* z = a.scores + b * a.score_batch + h * a.score_head + i * a.score_row;
    const uint8_t* gate_kv =
        a.gate_kv ? a.gate_kv + b * a.gate_kv_batch + h * a.gate_kv_head : nullptr;
    // What is gated off or not a number weighs nothing.
    float x[kEach];
    uint32_t protect = 0;
    float top = -INFINITY;
#pragma unroll
    for (int e = 0; e < kEach; ++e) {
      const int j = e * kWarp + lane;
      x[e] = -INFINITY;
      if (j < n) {
        const float score = z[j];
        const bool off = gate_kv && gate_kv[j] == 0;
        if (!off && !isnan(score)) x[e] = score;
        protect |= static_cast<uint32_t>(off || (a.keep_kv.begin <= j && j < a.keep_kv.end)) << e;
      }
      top = fmaxf(top, x[e]);
    }
    top = warp_reduce(top, Max{});
    const bool drop = a.rule == SelectRule::kDropCdf;
    const bool count = a.rule == SelectRule::kTopK;
    SortedRow<kEach> sorted;
#pragma unroll
    for (int e = 0; e < kEach; ++e) {
      const double exponent = static_cast<double>(x[e]) - static_cast<double>(top);
      if (exponent < kLowestExponent) x[e] = -INFINITY;
      const uint32_t bits = ordered_bits(x[e]);
      const bool inside = e * kWarp + lane < n;
      sorted.key[e] = !inside ? kNoKey : drop ? bits : ~bits;
      double weight = 1.0;
      if (!count && x[e] != top) weight = exp(exponent);
      sorted.weight[e] = inside ? weight : 0.0;
    }
    kept = apply_rule(a, sorted, sorted.sum_up_to(kNoKey)) | protect;
  }
  // Word e holds entry e of every lane; lane e writes it.
  uint32_t word = 0;
  bool any = false;
#pragma unroll
  for (int e = 0; e < kEach; ++e) {
    const uint32_t bits = __ballot_sync(kAllLanes, (kept >> e & 1) && e * kWarp + lane < n);
    if (lane == e) word = bits;
    any = any || bits != 0;
  }
  if (active && !any) {
    // The kv block of the row block's first token, or the last one.
    const int j = min(i * a.block_q / a.block_kv, n - 1);
    if (lane == j / 32) word = 1u << (j % 32);
  }
  if (lane < 2 * a.s_words)
    reinterpret_cast<uint32_t*>(a.s + int64_t{row} * a.s_words)[lane] = word;
}

template <int kEach>
cudaError_t launch(const SelectKvArgs& args, cudaStream_t stream) {
  const auto ctas = static_cast<unsigned>((args.rows + kRowsPerCta - 1) / kRowsPerCta);
  return launch_chained(select_kv_short_kernel<kEach>, ctas, kThreads, 0, stream, args);
}

}  // namespace

cudaError_t launch_select_kv_short(const SelectKvArgs& args, cudaStream_t stream) {
  // A power of two of words, and one more: text makes rows a little longer than that.
  const int words = (args.num_kv + kWarp - 1) / kWarp;
  if (words <= 2) return launch<2>(args, stream);
  if (words <= 3) return launch<3>(args, stream);
  if (words <= 5) return launch<5>(args, stream);
  if (words <= 9) return launch<9>(args, stream);
  if (words <= 17) return launch<17>(args, stream);
  return launch<kMaxShortRow / kWarp>(args, stream);
}

}  // namespace flashomni::cuda
