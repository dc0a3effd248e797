// SPDX-License-Identifier: Apache-2.0
//
// Means over tokens. Queries and keys are far larger than everything else that selection reads, so
// each element is loaded once, and both the mean and the similarity come from that one load. Where
// addresses allow it, every thread keeps a ring of 16-byte copies to shared memory under way: loads
// into registers are put just before their use by ptxas, and memory waits.
#include "cuda/error.h"
#include "cuda/kernels/common/async_copy.cuh"
#include "cuda/kernels/common/block.cuh"
#include "cuda/kernels/common/element.cuh"
#include "cuda/kernels/symbols/pooling.h"

namespace flashomni::cuda {
namespace {

// The vectors that one thread reads, one after the other: turn n is element n of `at`, or zeros
// where `at` says null. kDepth of them are under way in the thread's own places of `ring`, uint4
// [kDepth][threads].
template <class T, int kVector, int kDepth, class At>
class VectorStream {
 public:
  __device__ __forceinline__ VectorStream(uint4* ring, const T* base, const At& at)
      : ring_(ring + threadIdx.x), base_(base), at_(at) {
    if constexpr (kVector > 1) {
#pragma unroll
      for (int n = 0; n < kDepth; ++n) fetch(n, n);
    }
  }

  // REQUIRES: turns in order from 0, by all threads of a warp together.
  __device__ __forceinline__ void read(int turn, float (&v)[kVector]) {
    if constexpr (kVector > 1) {
      async_copy_wait<kDepth - 1>();
      load_elements<kVector>(reinterpret_cast<const T*>(ring_ + place_ * blockDim.x), v);
      fetch(place_, turn + kDepth);
      place_ = place_ + 1 == kDepth ? 0 : place_ + 1;
    } else {
      const T* from = at_(turn);
      v[0] = from ? to_float(*from) : 0.f;
    }
  }

 private:
  __device__ __forceinline__ void fetch(int place, int turn) {
    const T* from = at_(turn);
    async_copy_16(ring_ + place * blockDim.x, from ? from : base_, from != nullptr);
    async_copy_commit();
  }

  uint4* ring_;
  const T* base_;
  const At& at_;
  int place_ = 0;
};

// ---- token_mean

constexpr int kMeanThreads = 512;
constexpr int kMeanDepth = 5;

struct MeanArgs {
  const void* x;
  float* out;
  int64_t x_batch, x_token, x_head, out_batch, out_head;
  int64_t tokens;
  int heads, head_dim, slabs;
};

// A CTA a (batch, head, slab of kLanes * kVector channels): every token row is read in segments of
// kLanes vectors, so that one head is spread over several CTAs without a second pass.
template <class T, int kVector, int kLanes>
__global__ __launch_bounds__(kMeanThreads) void token_mean_kernel(MeanArgs a) {
  constexpr int kRows = kMeanThreads / kLanes;
  constexpr int kWidth = kLanes * kVector;
  // First the ring, then the sums of the rows.
  __shared__ uint4 memory[kMeanDepth * kMeanThreads];
  static_assert(sizeof(float) * kRows * kWidth <= sizeof(memory));
  const int slab = blockIdx.x % a.slabs;
  const int h = blockIdx.x / a.slabs % a.heads;
  const int b = blockIdx.x / a.slabs / a.heads;
  const int lane = threadIdx.x % kLanes, row = threadIdx.x / kLanes;
  const int column = slab * kWidth + lane * kVector;
  const T* x = static_cast<const T*>(a.x) + b * a.x_batch + h * a.x_head;
  const auto at = [&](int turn) -> const T* {
    const int64_t n = static_cast<int64_t>(turn) * kRows + row;
    return column < a.head_dim && n < a.tokens ? x + n * a.x_token + column : nullptr;
  };
  VectorStream<T, kVector, kMeanDepth, decltype(at)> stream(memory, x, at);
  float sum[kVector] = {};
  const int turns = static_cast<int>((a.tokens + kRows - 1) / kRows);
  for (int turn = 0; turn < turns; ++turn) {
    float v[kVector];
    stream.read(turn, v);
#pragma unroll
    for (int e = 0; e < kVector; ++e) sum[e] += v[e];
  }
  async_copy_wait<0>();
  __syncthreads();
  float* partial = reinterpret_cast<float*>(memory);  // [kRows][kWidth]
#pragma unroll
  for (int e = 0; e < kVector; ++e) partial[row * kWidth + lane * kVector + e] = sum[e];
  __syncthreads();
  const int c = slab * kWidth + threadIdx.x;
  if (threadIdx.x >= kWidth || c >= a.head_dim) return;
  float total = 0;
  for (int r = 0; r < kRows; ++r) total += partial[r * kWidth + threadIdx.x];
  a.out[b * a.out_batch + h * a.out_head + c] = total / static_cast<float>(a.tokens);
}

template <class T, int kVector, int kLanes>
void launch_token_mean(cudaStream_t stream, MeanArgs args, int64_t groups) {
  constexpr int kWidth = kVector * kLanes;
  args.slabs = (args.head_dim + kWidth - 1) / kWidth;
  token_mean_kernel<T, kVector, kLanes>
      <<<static_cast<unsigned>(groups * args.slabs), kMeanThreads, 0, stream>>>(args);
}

// ---- pool

constexpr int kPoolThreads = 256;
constexpr int kPoolDepth = 8;

struct PoolArgs {
  const void* x;
  const float* mean;
  float* out;
  uint8_t* gate;
  int64_t x_batch, x_token, x_head, mean_batch, mean_head;
  int64_t out_batch, out_head, out_block, gate_batch, gate_head;
  int64_t tokens;
  int heads, blocks, head_dim, block;
  float theta_sim;
};

// A CTA a (batch, block, head), heads innermost: those of a token are neighbours in memory. kLanes
// threads share a token row; each has kSteps vectors of kVector channels of it.
template <class T, int kVector, int kSteps, int kLanes, bool kGate>
__global__ __launch_bounds__(kPoolThreads) void pool_kernel(PoolArgs a) {
  constexpr int kSlots = kPoolThreads / kLanes;  // token rows at a time
  constexpr int kWidth = kLanes * kVector * kSteps;
  // First the ring, then the sums of the slots, of the tokens and of their unit vectors.
  __shared__ uint4 memory[kPoolDepth * kPoolThreads];
  static_assert(2 * sizeof(float) * kSlots * kWidth <= sizeof(memory));
  __shared__ float scratch[kBlockScratch];
  const int h = blockIdx.x % a.heads;
  const int i = blockIdx.x / a.heads % a.blocks;
  const int b = blockIdx.x / a.heads / a.blocks;
  const int lane = threadIdx.x % kLanes, slot = threadIdx.x / kLanes;
  const int64_t first = static_cast<int64_t>(i) * a.block;
  const int rows = static_cast<int>(min(static_cast<int64_t>(a.block), a.tokens - first));
  const T* x = static_cast<const T*>(a.x) + b * a.x_batch + first * a.x_token + h * a.x_head;
  const auto column = [&](int k) { return (k * kLanes + lane) * kVector; };

  float shift[kSteps][kVector] = {}, sum[kSteps][kVector] = {}, unit[kSteps][kVector] = {};
  if (a.mean) {
    const float* mean = a.mean + b * a.mean_batch + h * a.mean_head;
#pragma unroll
    for (int k = 0; k < kSteps; ++k) {
#pragma unroll
      for (int e = 0; e < kVector; ++e) {
        if (column(k) < a.head_dim) shift[k][e] = mean[column(k) + e];
      }
    }
  }
  // A turn is step k of one row. As many turns for every thread: the lanes of a row add up squares
  // together.
  const auto at = [&](int turn) -> const T* {
    const int row = turn / kSteps * kSlots + slot, c = column(turn % kSteps);
    return row < rows && c < a.head_dim ? x + row * a.x_token + c : nullptr;
  };
  VectorStream<T, kVector, kPoolDepth, decltype(at)> stream(memory, x, at);
  for (int base = 0; base < rows; base += kSlots) {
    const bool inside = base + slot < rows;
    float v[kSteps][kVector];
    float square = 0;
#pragma unroll
    for (int k = 0; k < kSteps; ++k) {
      stream.read(base / kSlots * kSteps + k, v[k]);
#pragma unroll
      for (int e = 0; e < kVector; ++e) {
        // Past the last channel both are 0.
        v[k][e] = inside ? v[k][e] - shift[k][e] : 0.f;
        sum[k][e] += v[k][e];
        square = fmaf(v[k][e], v[k][e], square);
      }
    }
    if constexpr (kGate) {
      // 1 / max(|v|, 1e-12)
      const float inverse = fminf(rsqrtf(warp_reduce<kLanes>(square, Add{})), 1e12f);
#pragma unroll
      for (int k = 0; k < kSteps; ++k) {
#pragma unroll
        for (int e = 0; e < kVector; ++e) unit[k][e] = fmaf(v[k][e], inverse, unit[k][e]);
      }
    }
  }
  async_copy_wait<0>();
  __syncthreads();
  float* sums = reinterpret_cast<float*>(memory);  // [kSlots][kWidth]
  float* unit_sums = sums + kSlots * kWidth;       // [kSlots][kWidth]
#pragma unroll
  for (int k = 0; k < kSteps; ++k) {
#pragma unroll
    for (int e = 0; e < kVector; ++e) {
      sums[slot * kWidth + column(k) + e] = sum[k][e];
      if constexpr (kGate) unit_sums[slot * kWidth + column(k) + e] = unit[k][e];
    }
  }
  __syncthreads();
  const int c = threadIdx.x;
  const float count = static_cast<float>(rows);
  float similarity = 0;
  if (c < a.head_dim) {
    float total = 0, unit_total = 0;
    for (int s = 0; s < kSlots; ++s) {
      total += sums[s * kWidth + c];
      if constexpr (kGate) unit_total += unit_sums[s * kWidth + c];
    }
    a.out[b * a.out_batch + h * a.out_head + i * a.out_block + c] = total / count;
    unit_total /= count;
    similarity = unit_total * unit_total;
  }
  if constexpr (kGate) {
    similarity = block_reduce(similarity, 0.f, Add{}, scratch);
    if (threadIdx.x == 0) {
      a.gate[b * a.gate_batch + h * a.gate_head + i] = similarity > a.theta_sim;
    }
  }
}

template <class T, int kVector, int kSteps, int kLanes>
void launch_pool(cudaStream_t stream, const PoolArgs& args, unsigned ctas) {
  if (args.gate) {
    pool_kernel<T, kVector, kSteps, kLanes, true><<<ctas, kPoolThreads, 0, stream>>>(args);
  } else {
    pool_kernel<T, kVector, kSteps, kLanes, false><<<ctas, kPoolThreads, 0, stream>>>(args);
  }
}

// Whether every row of a head starts at a multiple of 16 bytes and is that long.
bool takes_vectors(const TensorView& x) {
  const int64_t vector = 16 / static_cast<int64_t>(dtype_bytes(x.dtype));
  bool aligned = reinterpret_cast<uintptr_t>(x.data) % 16 == 0 && x.size(3) % vector == 0;
  for (int i = 0; i < 3; ++i) aligned = aligned && (x.size(i) == 1 || x.stride[i] % vector == 0);
  return aligned;
}

template <class T>
void launch_token_mean(cudaStream_t stream, const MeanArgs& args, int64_t groups, bool vectors) {
  if (vectors) {
    launch_token_mean<T, 16 / sizeof(T), 4>(stream, args, groups);
  } else {
    launch_token_mean<T, 1, 32>(stream, args, groups);
  }
}

template <class T>
void launch_pool(cudaStream_t stream, const PoolArgs& args, unsigned ctas, bool vectors) {
  constexpr int kVector = 16 / sizeof(T);
  const int per_row = (args.head_dim + kVector - 1) / kVector;
  if (!vectors || per_row > kWarp) {
    launch_pool<T, 1, kMaxPoolHeadDim / kWarp, kWarp>(stream, args, ctas);
  } else if (per_row <= 8) {
    launch_pool<T, kVector, 1, 8>(stream, args, ctas);
  } else if (per_row <= 16) {
    launch_pool<T, kVector, 1, 16>(stream, args, ctas);
  } else {
    launch_pool<T, kVector, 1, kWarp>(stream, args, ctas);
  }
}

}  // namespace

Status token_mean(cudaStream_t stream, const TokenMeanParams& p) {
  const TensorView& x = p.x;
  if (x.numel() == 0) return ok_status();
  const MeanArgs args{.x = x.data,
                      .out = p.out.as<float>(),
                      .x_batch = x.stride[0],
                      .x_token = x.stride[1],
                      .x_head = x.stride[2],
                      .out_batch = p.out.stride[0],
                      .out_head = p.out.stride[1],
                      .tokens = x.size(1),
                      .heads = static_cast<int>(x.size(2)),
                      .head_dim = static_cast<int>(x.size(3)),
                      .slabs = 0};
  const int64_t groups = x.size(0) * x.size(2);
  const bool vectors = takes_vectors(x);
  if (x.dtype == DType::kBF16) {
    launch_token_mean<__nv_bfloat16>(stream, args, groups, vectors);
  } else if (x.dtype == DType::kF16) {
    launch_token_mean<__half>(stream, args, groups, vectors);
  } else {
    launch_token_mean<float>(stream, args, groups, vectors);
  }
  return launch_status("token_mean");
}

Status pool(cudaStream_t stream, const PoolParams& p) {
  const TensorView& x = p.x;
  if (x.numel() == 0) return ok_status();
  const int64_t blocks = (x.size(1) + p.block - 1) / p.block;
  PoolArgs args{};
  args.x = x.data;
  args.x_batch = x.stride[0];
  args.x_token = x.stride[1];
  args.x_head = x.stride[2];
  if (p.mean) {
    args.mean = p.mean.as<float>();
    args.mean_batch = p.mean.stride[0];
    args.mean_head = p.mean.stride[1];
  }
  args.out = p.out.as<float>();
  args.out_batch = p.out.stride[0];
  args.out_head = p.out.stride[1];
  args.out_block = p.out.stride[2];
  if (p.gate) {
    args.gate = p.gate.as<uint8_t>();
    args.gate_batch = p.gate.stride[0];
    args.gate_head = p.gate.stride[1];
  }
  args.tokens = x.size(1);
  args.heads = static_cast<int>(x.size(2));
  args.blocks = static_cast<int>(blocks);
  args.head_dim = static_cast<int>(x.size(3));
  args.block = p.block;
  args.theta_sim = p.theta_sim;
  const unsigned ctas = static_cast<unsigned>(x.size(0) * blocks * x.size(2));
  const bool vectors = takes_vectors(x);
  if (x.dtype == DType::kBF16) {
    launch_pool<__nv_bfloat16>(stream, args, ctas, vectors);
  } else if (x.dtype == DType::kF16) {
    launch_pool<__half>(stream, args, ctas, vectors);
  } else {
    launch_pool<float>(stream, args, ctas, vectors);
  }
  return launch_status("pool");
}

}  // namespace flashomni::cuda
