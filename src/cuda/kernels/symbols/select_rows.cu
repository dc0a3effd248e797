// SPDX-License-Identifier: Apache-2.0
//
// S_c: a CTA a head adds up the text scores of its vision blocks, turns them into one distribution
// and caches what weighs least: all whose running sum in ascending order stays within theta. Long
// rows are sorted for it; for short ones every block adds up what sorts before it, which needs no
// barrier. Four lanes share such sums, over fixed places: they never fall when a block is added.
#include <algorithm>
#include <bit>
#include <cmath>

#include "cuda/error.h"
#include "cuda/kernels/common/chain.cuh"
#include "cuda/kernels/symbols/drop_rows.cuh"
#include "cuda/kernels/symbols/select.h"
#include "cuda/kernels/symbols/sort.cuh"

namespace flashomni::cuda {
namespace {

constexpr int kMaxThreads = 1024;
constexpr int kMaxCounted = 512;  // query blocks of a head; longer rows are sorted
constexpr double kInfinity = INFINITY;

struct RowsArgs {
  const float* scores;
  int64_t score_batch, score_head, score_row;
  const uint8_t* gate_q;
  int64_t gate_q_batch, gate_q_head;
  uint64_t* c;
  BlockRange text_q, text_kv;
  TextScoreMode mode;
  float theta;
  int heads, num_q, num_kv, c_words;
  int q_tokens, block_q, block_kv;
  int num_keys;  // power of two, at least num_q
};

struct RowKey {
  double weight;  // not negative; infinite past all vision blocks
  int64_t block;
  __device__ bool operator<(const RowKey& o) const {
    return weight != o.weight ? weight < o.weight : block < o.block;
  }
};

__device__ __forceinline__ double usable(double x) {
  return isnan(x) ? -kInfinity : x;
}

// exp(x - top) of every value in place, 1 where x is the top; returns the sum.
__device__ double softmax_weights(double* x, int n, double* scratch) {
  double top = -kInfinity;
  for (int k = threadIdx.x; k < n; k += blockDim.x) top = fmax(top, x[k]);
  top = block_reduce(top, -kInfinity, Max{}, scratch);
  double sum = 0;
  for (int k = threadIdx.x; k < n; k += blockDim.x) {
    x[k] = x[k] == top ? 1.0 : exp(x[k] - top);
    sum += x[k];
  }
  return block_reduce(sum, 0.0, Add{}, scratch);
}

// Dynamic shared memory: u and w, double [num_q] each, and after them, in the same memory if
// sorted, RowKey [num_keys].
template <bool kSorted>
__global__ __launch_bounds__(kMaxThreads) void select_rows_kernel(RowsArgs a) {
  extern __shared__ __align__(16) char dynamic[];
  __shared__ uint32_t words[kMaxSelectRows / 32];
  __shared__ double scratch[kBlockScratch];
  __shared__ int int_scratch[kSorted ? kBlockScratch : 1];
  chain_release();
  chain_wait();
  const int tid = threadIdx.x, threads = blockDim.x;
  const int64_t group = blockIdx.x;
  const int64_t h = group % a.heads, b = group / a.heads;
  const float* z = a.scores + b * a.score_batch + h * a.score_head;
  const auto score = [&](int i, int j) { return static_cast<double>(z[i * a.score_row + j]); };

  for (int w = tid; w < 2 * a.c_words; w += threads) {
    const int rest = a.num_q - 32 * w;
    words[w] = rest >= 32 ? ~0u : rest > 0 ? (1u << rest) - 1 : 0;
  }
  // Vision blocks are those before and after the text.
  const bool any_text = a.text_q.begin < a.text_q.end && a.text_kv.begin < a.text_kv.end;
  const int text = a.text_q.begin < a.text_q.end ? a.text_q.end - a.text_q.begin : 0;
  const int n = a.num_q - text;
  const bool select = !(a.theta < 0) && any_text && n > 0;  // the same for all threads
  if (select) {
    double* u = reinterpret_cast<double*>(dynamic);
    double* w = u + a.num_q;
    const auto block_of = [&](int k) { return k < a.text_q.begin ? k : k + text; };
    const int lane = tid % kLanes;
    for (int base = 0; base < n; base += threads / kLanes) {  // the same for all threads
      const bool inside = base + tid / kLanes < n;
      const int k = min(base + tid / kLanes, n - 1);
      const int i = block_of(k);
      // Kv blocks that hold tokens of query block i; with fewer key tokens than queries, the last.
      const int last_block = a.num_kv - 1;
      const int last_token = min((i + 1) * a.block_q, a.q_tokens) - 1;
      const int first = min(i * a.block_q / a.block_kv, last_block);
      const int last = min(last_token / a.block_kv, last_block);
      double from_text = 0, to_text = 0;
      for (int r = a.text_q.begin + lane; r < a.text_q.end; r += kLanes) {
        for (int j = first; j <= last; ++j) from_text += score(r, j);
      }
      for (int j = a.text_kv.begin + lane; j < a.text_kv.end; j += kLanes) to_text += score(i, j);
      from_text = usable(group_sum(from_text));
      to_text = usable(group_sum(to_text));
      if (inside && lane == 0) {
        if (a.mode == TextScoreMode::kSoftmaxOfSum) {
          u[k] = usable(from_text + to_text);
        } else {
          u[k] = from_text;
          w[k] = to_text;
        }
      }
    }
    __syncthreads();
    const double u_sum = softmax_weights(u, n, scratch);
    const bool mean = a.mode == TextScoreMode::kMeanOfSoftmaxes;
    const double w_sum = mean ? softmax_weights(w, n, scratch) : 1.0;
    const auto weight_of = [&](int k) {
      return mean ? (u[k] / u_sum + w[k] / w_sum) / 2 : u[k] / u_sum;
    };
    const auto drop = [&](int i) {
      const bool keep = a.gate_q && a.gate_q[b * a.gate_q_batch + h * a.gate_q_head + i] == 0;
      if (!keep) atomicAnd(&words[i / 32], ~(1u << (i % 32)));
    };
    if constexpr (kSorted) {
      // A thread keeps what it needs while u and w give way to the keys: at most four values.
      constexpr int kEach = kMaxSelectRows / kMaxThreads;
      double weights[kEach];
#pragma unroll
      for (int e = 0; e < kEach; ++e) {
        const int k = tid + e * threads;
        weights[e] = k < n ? weight_of(k) : kInfinity;
      }
      __syncthreads();
      RowKey* keys = reinterpret_cast<RowKey*>(dynamic);
#pragma unroll
      for (int e = 0; e < kEach; ++e) {
        const int k = tid + e * threads;
        if (k < a.num_keys) keys[k] = {weights[e], k < n ? block_of(k) : k};
      }
      sort_keys(keys, a.num_keys);
      const auto weight = [&](int r) { return keys[r].weight; };
      const double theta = a.theta;
      const auto above = [&](double sum, int) { return sum > theta; };
      const int dropped = min(first_stop(n, weight, above, scratch, int_scratch), n - 1);
      for (int r = tid; r < dropped; r += threads) drop(static_cast<int>(keys[r].block));
    } else {
      double* weights = w + a.num_q;
      for (int k = tid; k < n; k += threads) weights[k] = weight_of(k);
      __syncthreads();
      drop_counted(weights, n, a.theta, [&](int k) { drop(block_of(k)); });
    }
  }
  __syncthreads();
  for (int w = tid; w < a.c_words; w += threads) {
    a.c[group * a.c_words + w] = words[2 * w] | (static_cast<uint64_t>(words[2 * w + 1]) << 32);
  }
}

}  // namespace

Status select_cached_rows(cudaStream_t stream, const SelectCachedRowsParams& p) {
  const SymbolGeometry& g = p.symbols.geometry;
  RowsArgs args{};
  args.scores = p.scores.as<float>();
  args.score_batch = p.scores.stride[0];
  args.score_head = p.scores.stride[1];
  args.score_row = p.scores.stride[2];
  if (p.gate_q) {
    args.gate_q = p.gate_q.as<uint8_t>();
    args.gate_q_batch = p.gate_q.stride[0];
    args.gate_q_head = p.gate_q.stride[1];
  }
  args.c = p.symbols.c;
  args.text_q = p.text_q;
  args.text_kv = p.text_kv;
  args.mode = p.mode;
  args.theta = p.theta;
  args.heads = g.heads;
  args.num_q = g.num_q_blocks();
  args.num_kv = g.num_kv_blocks();
  args.c_words = g.c_words();
  args.q_tokens = g.q_tokens;
  args.block_q = g.block_q;
  args.block_kv = g.block_kv;
  const auto ctas = static_cast<unsigned>(g.batch * g.heads);
  cudaError_t launched = cudaSuccess;
  if (args.num_q <= kMaxCounted) {
    const int lanes = (kLanes * args.num_q + kWarp - 1) / kWarp * kWarp;
    const size_t bytes = 3 * sizeof(double) * static_cast<size_t>(args.num_q);
    launched =
        launch_chained(select_rows_kernel<false>, ctas,
                       static_cast<unsigned>(std::min(lanes, kMaxThreads)), bytes, stream, args);
  } else {
    // As many threads as keys, so that a thread holds one weight (or a few of long rows).
    args.num_keys = static_cast<int>(std::bit_ceil(static_cast<unsigned>(args.num_q)));
    const size_t bytes = static_cast<size_t>(args.num_keys) * sizeof(RowKey);
    FO_CUDA(
        cudaFuncSetAttribute(select_rows_kernel<true>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             kMaxSelectRows * int{sizeof(RowKey)}),
        "asking for shared memory for select_cached_rows");
    launched = launch_chained(select_rows_kernel<true>, ctas, kMaxThreads, bytes, stream, args);
  }
  return cuda_status(launched, "launching select_cached_rows");
}

}  // namespace flashomni::cuda
