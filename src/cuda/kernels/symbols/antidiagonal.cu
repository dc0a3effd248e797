// SPDX-License-Identifier: Apache-2.0
//
// XAttention's scores. The logits of groups of tokens are a product of matrices: row m of the one
// holds the queries of group m from the last to the first, row n of the other the keys of group n
// from the first to the last. A CTA makes a tile of it on tensor cores and keeps, for every row and
// kv block, the logarithm of the sum of the exponentials; a second kernel divides each row by its
// sum and adds up the rows of a query block.
#include <algorithm>
#include <cmath>

#include "cuda/error.h"
#include "cuda/kernels/common/block.cuh"
#include "cuda/kernels/common/chain.cuh"
#include "cuda/kernels/sm80/gemm_tile.cuh"
#include "cuda/kernels/symbols/scores.h"

namespace flashomni::cuda {
namespace {

constexpr int kTile = 128;  // groups, each way; a kv block is never wider
constexpr int kPitch = kTile + 1;
constexpr int kMassThreads = 256;

template <class T>
using Tile = sm80::GemmTile<T, kTile, kTile, 64, 64>;

struct GroupArgs {
  const void* q;
  const void* k;
  int64_t q_batch, q_token, q_head, k_batch, k_token, k_head;
  float* sums;       // [B * H, groups, sums_row]: of exponentials, their logarithm
  int64_t sums_row;  // at least num_kv
  int64_t tokens;
  int heads, groups, stride, head_dim;
  int width;  // groups of a kv block
  int num_kv;
  float scale;
};

// log(sum of exp(x[c])) over `n` values; what is not a number weighs nothing.
__device__ __forceinline__ float log_sum(const float* x, int n) {
  float top = -INFINITY;
  for (int c = 0; c < n; ++c) top = fmaxf(top, x[c]);
  if (isinf(top)) return top;
  float sum = 0;
  for (int c = 0; c < n; ++c) {
    if (!isnan(x[c])) sum += expf(x[c] - top);
  }
  return top + logf(sum);
}

// Grid: (key tiles, query tiles, batch * heads).
template <class T>
__global__ void __launch_bounds__(Tile<T>::kThreads, 2) group_logits_kernel(GroupArgs a) {
  using Tile = Tile<T>;
  extern __shared__ __align__(128) char memory[];
  chain_release();
  chain_wait();
  const int h = static_cast<int>(blockIdx.z) % a.heads, b = static_cast<int>(blockIdx.z) / a.heads;
  const int m0 = static_cast<int>(blockIdx.y) * kTile, n0 = static_cast<int>(blockIdx.x) * kTile;

  // A step takes kGemmBlockK channels of one token of every group: of the queries the last one
  // first. Groups past the end have no tokens, and tokens past the end count as zeros.
  int64_t q_token = int64_t{m0 + Tile::copy_row()} * a.stride + a.stride - 1;
  int64_t k_token = int64_t{n0 + Tile::copy_row_b()} * a.stride;
  int channel = Tile::copy_column();
  const T* const q = static_cast<const T*>(a.q) + b * a.q_batch + h * a.q_head;
  const T* const k = static_cast<const T*>(a.k) + b * a.k_batch + h * a.k_head;
  const auto load = [&](uint32_t to_a, uint32_t to_b) {
#pragma unroll
    for (int i = 0; i < Tile::kCopiesA; ++i) {
      const int64_t token = q_token + int64_t{i * Tile::kCopyRows} * a.stride;
      async_copy_16(to_a + i * Tile::kCopyRows * Tile::kRowBytes, q + token * a.q_token + channel,
                    token < a.tokens);
    }
#pragma unroll
    for (int i = 0; i < Tile::kCopiesB; ++i) {
      const int64_t token = k_token + int64_t{i * Tile::kCopyRows} * a.stride;
      async_copy_16(to_b + i * Tile::kCopyRows * Tile::kRowBytes, k + token * a.k_token + channel,
                    token < a.tokens);
    }
    channel += sm80::kGemmBlockK;
    if (channel >= a.head_dim) {
      channel = Tile::copy_column();
      --q_token;
      ++k_token;
    }
  };
  typename Tile::Sums d;
  const auto begin = [&] {
    sm80::start_sums<Tile>(d, [](int, float(&v)[8]) {
#pragma unroll
      for (float& x : v) x = 0;
    });
  };
  const int steps = a.stride * (a.head_dim / sm80::kGemmBlockK);
  Tile::template multiply_all<true>(smem_address(memory), d, steps, load, begin,
                                    [] { return true; });

  // The ring gives way to the logits.
  async_copy_wait<0>();
  __syncthreads();
  float* const logits = reinterpret_cast<float*>(memory);  // [kTile][kPitch]
  const int lane = static_cast<int>(threadIdx.x % kWarp);
#pragma unroll
  for (int m = 0; m < Tile::kM; ++m) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float* const row = logits + (Tile::first_row() + 16 * m + 8 * r + lane / 4) * kPitch +
                         Tile::first_column() + 8 * (lane % 4);
#pragma unroll
      for (int g = 0; g < Tile::kGroups; ++g) {
#pragma unroll
        for (int i = 0; i < 8; ++i) row[32 * g + i] = a.scale * d[m][accumulator(g, r, i)];
      }
    }
  }
  __syncthreads();
  const int blocks = kTile / a.width;
  for (int n = static_cast<int>(threadIdx.x); n < kTile * blocks; n += Tile::kThreads) {
    const int row = n % kTile, m = m0 + row;
    const int first = n / kTile * a.width, j = (n0 + first) / a.width;
    if (m >= a.groups || j >= a.num_kv) continue;
    const int count = min(a.width, a.groups - n0 - first);
    a.sums[(int64_t{blockIdx.z} * a.groups + m) * a.sums_row + j] =
        log_sum(logits + row * kPitch + first, count);
  }
}

struct MassArgs {
  const float* sums;
  int64_t sums_row;
  float* out;
  int64_t out_batch, out_head, out_row;
  int heads, groups, num_q, num_kv;
  int rows;  // groups of a query block
};

// exp(x - total), where both may be infinite.
__device__ __forceinline__ float share(float x, float total) {
  if (total == -INFINITY) return 0.f;
  return x == total ? 1.f : expf(x - total);
}

// A CTA a (batch, head, query block).
__global__ __launch_bounds__(kMassThreads) void block_mass_kernel(MassArgs a) {
  __shared__ float totals[kTile];  // of a row: the logarithm of the sum of all its exponentials
  chain_release();
  chain_wait();
  const int i = static_cast<int>(blockIdx.x) % a.num_q;
  const int64_t group = blockIdx.x / a.num_q;
  const int first = i * a.rows, rows = min(a.rows, a.groups - first);
  const float* const sums = a.sums + (group * a.groups + first) * a.sums_row;
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  for (int m = static_cast<int>(threadIdx.x / kWarp); m < rows; m += kMassThreads / kWarp) {
    const float* const row = sums + m * a.sums_row;
    float top = -INFINITY;
    for (int j = lane; j < a.num_kv; j += kWarp) top = fmaxf(top, row[j]);
    top = warp_reduce(top, Max{});
    float sum = 0;
    for (int j = lane; j < a.num_kv; j += kWarp) sum += share(row[j], top);
    sum = warp_reduce(sum, Add{});
    if (lane == 0) totals[m] = isinf(top) ? top : top + logf(sum);
  }
  __syncthreads();
  float* const out =
      a.out + group / a.heads * a.out_batch + group % a.heads * a.out_head + i * a.out_row;
  for (int j = static_cast<int>(threadIdx.x); j < a.num_kv; j += kMassThreads) {
    float mass = 0;
    for (int m = 0; m < rows; ++m) mass += share(sums[m * a.sums_row + j], totals[m]);
    out[j] = logf(mass);
  }
}

template <class T>
cudaError_t launch_logits(cudaStream_t stream, const GroupArgs& args, unsigned batches) {
  constexpr int kBytes = std::max(Tile<T>::kBytes, kTile * kPitch * int{sizeof(float)});
  const cudaError_t error = cudaFuncSetAttribute(
      group_logits_kernel<T>, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  if (error != cudaSuccess) return error;
  const auto tiles = static_cast<unsigned>((args.groups + kTile - 1) / kTile);
  return launch_chained(group_logits_kernel<T>, dim3(tiles, tiles, batches), Tile<T>::kThreads,
                        kBytes, stream, args);
}

}  // namespace

Status antidiagonal_scores(cudaStream_t stream, const AntidiagonalScoresParams& p) {
  if (p.out.numel() == 0) return ok_status();
  GroupArgs args{};
  args.q = p.q.data;
  args.k = p.k.data;
  args.q_batch = p.q.stride[0];
  args.q_token = p.q.stride[1];
  args.q_head = p.q.stride[2];
  args.k_batch = p.k.stride[0];
  args.k_token = p.k.stride[1];
  args.k_head = p.k.stride[2];
  args.sums = p.workspace.as<float>();
  args.sums_row = p.workspace.size(3);
  args.tokens = p.q.size(1);
  args.heads = static_cast<int>(p.q.size(2));
  args.groups = static_cast<int>(p.workspace.size(2));
  args.stride = p.stride;
  args.head_dim = static_cast<int>(p.q.size(3));
  args.width = p.block_kv / p.stride;
  args.num_kv = static_cast<int>(p.out.size(3));
  args.scale = p.scale != 0.f
                   ? p.scale
                   : 1.f / (std::sqrt(static_cast<float>(args.head_dim)) * float(p.stride));
  const auto batches = static_cast<unsigned>(p.q.size(0) * p.q.size(2));
  FO_CUDA(p.q.dtype == DType::kBF16 ? launch_logits<__nv_bfloat16>(stream, args, batches)
                                    : launch_logits<__half>(stream, args, batches),
          "launching antidiagonal_scores");
  const MassArgs mass{.sums = args.sums,
                      .sums_row = args.sums_row,
                      .out = p.out.as<float>(),
                      .out_batch = p.out.stride[0],
                      .out_head = p.out.stride[1],
                      .out_row = p.out.stride[2],
                      .heads = args.heads,
                      .groups = args.groups,
                      .num_q = static_cast<int>(p.out.size(2)),
                      .num_kv = args.num_kv,
                      .rows = p.block_q / p.stride};
  return cuda_status(launch_chained(block_mass_kernel, batches * static_cast<unsigned>(mass.num_q),
                                    kMassThreads, 0, stream, mass),
                     "launching antidiagonal_scores");
}

}  // namespace flashomni::cuda
