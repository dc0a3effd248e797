// SPDX-License-Identifier: Apache-2.0
//
// S_c from any score of rows: a CTA a head lines up the rows that may be cached, in their order,
// and caches what weighs least.
#include <algorithm>
#include <cmath>

#include "cuda/error.h"
#include "cuda/kernels/common/chain.cuh"
#include "cuda/kernels/symbols/drop_rows.cuh"
#include "cuda/kernels/symbols/select.h"

namespace flashomni::cuda {
namespace {

constexpr int kMaxThreads = 1024;

struct ScoredRowsArgs {
  const float* scores;
  int64_t score_batch, score_head;
  const uint8_t* gate_q;
  int64_t gate_q_batch, gate_q_head;
  uint64_t* c;
  BlockRange keep;
  float theta;
  int heads, num_q, c_words;
};

// Dynamic shared memory: weights, double [num_q], and their rows, uint16 [num_q].
__global__ __launch_bounds__(kMaxThreads) void select_scored_rows_kernel(ScoredRowsArgs a) {
  extern __shared__ __align__(16) char dynamic[];
  __shared__ uint32_t words[kMaxSelectRows / 32];
  __shared__ double scratch[kBlockScratch];
  __shared__ int int_scratch[kBlockScratch];
  chain_release();
  chain_wait();
  double* const weights = reinterpret_cast<double*>(dynamic);
  uint16_t* const rows = reinterpret_cast<uint16_t*>(weights + a.num_q);
  const int tid = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  const int64_t group = blockIdx.x;
  const int64_t h = group % a.heads, b = group / a.heads;
  const float* const score = a.scores + b * a.score_batch + h * a.score_head;

  for (int w = tid; w < 2 * a.c_words; w += threads) {
    const int rest = a.num_q - 32 * w;
    words[w] = rest >= 32 ? ~0u : rest > 0 ? (1u << rest) - 1 : 0;
  }
  __syncthreads();
  if (a.theta >= 0) {  // the same for all threads; also not where it is no number
    int n = 0;
    for (int base = 0; base < a.num_q; base += threads) {
      const int i = base + tid;
      const float w = i < a.num_q ? score[i] : -1.f;
      const bool kept = a.keep.begin <= i && i < a.keep.end;
      const bool takes_part = !kept && isfinite(w) && w >= 0;
      int total;
      const int place = n + block_exclusive_sum(takes_part ? 1 : 0, int_scratch, total);
      if (takes_part) {
        weights[place] = w;
        rows[place] = static_cast<uint16_t>(i);
      }
      n += total;
    }
    __syncthreads();
    double sum = 0;
    for (int k = tid; k < n; k += threads) sum += weights[k];
    sum = block_reduce(sum, 0.0, Add{}, scratch);
    if (!(sum > 0)) {
      // Rows that are all worth nothing are all worth the same.
      for (int k = tid; k < n; k += threads) weights[k] = 1;
      __syncthreads();
    }
    drop_counted(weights, n, a.theta, [&](int k) {
      const int i = rows[k];
      const bool keep = a.gate_q && a.gate_q[b * a.gate_q_batch + h * a.gate_q_head + i] == 0;
      if (!keep) atomicAnd(&words[i / 32], ~(1u << (i % 32)));
    });
    __syncthreads();
  }
  for (int w = tid; w < a.c_words; w += threads) {
    a.c[group * a.c_words + w] = words[2 * w] | (static_cast<uint64_t>(words[2 * w + 1]) << 32);
  }
}

}  // namespace

Status select_rows(cudaStream_t stream, const SelectRowsParams& p) {
  const SymbolGeometry& g = p.symbols.geometry;
  ScoredRowsArgs args{};
  args.scores = p.scores.as<float>();
  args.score_batch = p.scores.stride[0];
  args.score_head = p.scores.stride[1];
  if (p.gate_q) {
    args.gate_q = p.gate_q.as<uint8_t>();
    args.gate_q_batch = p.gate_q.stride[0];
    args.gate_q_head = p.gate_q.stride[1];
  }
  args.c = p.symbols.c;
  args.keep = p.keep;
  args.theta = p.theta;
  args.heads = g.heads;
  args.num_q = g.num_q_blocks();
  args.c_words = g.c_words();
  const int lanes = (kLanes * args.num_q + kWarp - 1) / kWarp * kWarp;
  const size_t bytes = (sizeof(double) + sizeof(uint16_t)) * static_cast<size_t>(args.num_q);
  return cuda_status(
      launch_chained(select_scored_rows_kernel, static_cast<unsigned>(g.batch * g.heads),
                     static_cast<unsigned>(std::min(lanes, kMaxThreads)), bytes, stream, args),
      "launching select_rows");
}

}  // namespace flashomni::cuda
