// SPDX-License-Identifier: Apache-2.0
//
// Means over tokens. Queries and keys are far larger than everything else that selection reads, so
// each element is loaded once, and both the mean and the similarity come from that one load. Where
// addresses allow it, every thread keeps a ring of 16-byte copies to shared memory under way: loads
// into registers are put just before their use by ptxas, and memory waits.
#include "cuda/error.h"
#include "cuda/kernels/common/async_copy.cuh"
#include "cuda/kernels/common/block.cuh"
#include "cuda/kernels/common/chain.cuh"
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
  chain_release();
  chain_wait();
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
cudaError_t launch_token_mean(cudaStream_t stream, MeanArgs args, int64_t groups) {
  constexpr int kWidth = kVector * kLanes;
  args.slabs = (args.head_dim + kWidth - 1) / kWidth;
  return launch_chained(token_mean_kernel<T, kVector, kLanes>,
                        static_cast<unsigned>(groups * args.slabs), kMeanThreads, 0, stream, args);
}

// ---- pool

constexpr int kPoolThreads = 256;
constexpr int kPoolDepth = 8;

struct PoolPart {
  const void* x;
  const float* mean;
  float* out;
  uint8_t* gate;
  const int32_t* starts;  // of ragged blocks; null: blocks of one size
  int64_t x_batch, x_token, x_head, mean_batch, mean_head;
  int64_t out_batch, out_head, out_block, gate_batch, gate_head;
  int64_t tokens;
  int heads, blocks, head_dim, block;
  float theta_sim;
};

// Two tensors in one launch: the second one's CTAs fill the GPU where the first one's end.
struct PoolArgs {
  PoolPart part[2];
  unsigned first_ctas;  // of part 0
  unsigned ctas;        // of all parts
};

// A CTA a (batch, block, head), heads innermost: those of a token are neighbours in memory. kLanes
// threads share a token row; each has kSteps vectors of kVector channels of it. kGate: any part
// wants gates.
template <class T, int kVector, int kSteps, int kLanes, bool kGate>
__global__ __launch_bounds__(kPoolThreads) void pool_kernel(const __grid_constant__ PoolArgs args) {
  constexpr int kSlots = kPoolThreads / kLanes;  // token rows at a time
  constexpr int kWidth = kLanes * kVector * kSteps;
  // First the ring, then the sums of the slots, of the tokens and of their unit vectors.
  __shared__ uint4 memory[kPoolDepth * kPoolThreads];
  static_assert(2 * sizeof(float) * kSlots * kWidth <= sizeof(memory));
  __shared__ float scratch[kBlockScratch];
  chain_release();
  chain_wait();
  const bool second = blockIdx.x >= args.first_ctas;
  const PoolPart& a = args.part[second];
  const unsigned cta = second ? blockIdx.x - args.first_ctas : blockIdx.x;
  const int h = cta % a.heads;
  const int i = cta / a.heads % a.blocks;
  const int b = cta / a.heads / a.blocks;
  const int lane = threadIdx.x % kLanes, slot = threadIdx.x / kLanes;
  const int64_t first = a.starts ? a.starts[i] : static_cast<int64_t>(i) * a.block;
  const int64_t most = a.starts ? a.starts[i + 1] - first : static_cast<int64_t>(a.block);
  const int rows = static_cast<int>(min(most, a.tokens - first));
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
    if (threadIdx.x == 0 && a.gate) {
      a.gate[b * a.gate_batch + h * a.gate_head + i] = similarity > a.theta_sim;
    }
  }
}

template <class T, int kVector, int kSteps, int kLanes>
cudaError_t launch_pool(cudaStream_t stream, const PoolArgs& args) {
  const bool gate = args.part[0].gate || args.part[1].gate;
  const auto kernel = gate ? pool_kernel<T, kVector, kSteps, kLanes, true>
                           : pool_kernel<T, kVector, kSteps, kLanes, false>;
  return launch_chained(kernel, args.ctas, kPoolThreads, 0, stream, args);
}

// Whether every row of a head starts at a multiple of 16 bytes and is that long.
bool takes_vectors(const TensorView& x) {
  const int64_t vector = 16 / static_cast<int64_t>(dtype_bytes(x.dtype));
  bool aligned = reinterpret_cast<uintptr_t>(x.data) % 16 == 0 && x.size(3) % vector == 0;
  for (int i = 0; i < 3; ++i) aligned = aligned && (x.size(i) == 1 || x.stride[i] % vector == 0);
  return aligned;
}

template <class T>
cudaError_t launch_token_mean(cudaStream_t stream, const MeanArgs& args, int64_t groups,
                              bool vectors) {
  return vectors ? launch_token_mean<T, 16 / sizeof(T), 4>(stream, args, groups)
                 : launch_token_mean<T, 1, 32>(stream, args, groups);
}

template <class T>
cudaError_t launch_pool(cudaStream_t stream, const PoolArgs& args, bool vectors) {
  constexpr int kVector = 16 / sizeof(T);
  const int per_row = (args.part[0].head_dim + kVector - 1) / kVector;
  if (!vectors || per_row > kWarp) {
    return launch_pool<T, 1, kMaxPoolHeadDim / kWarp, kWarp>(stream, args);
  }
  if (per_row <= 8) return launch_pool<T, kVector, 1, 8>(stream, args);
  if (per_row <= 16) return launch_pool<T, kVector, 1, 16>(stream, args);
  return launch_pool<T, kVector, 1, kWarp>(stream, args);
}

int blocks_of(const PoolParams& p) {
  return static_cast<int>(p.starts ? p.out.size(2) : (p.x.size(1) + p.block - 1) / p.block);
}

PoolPart part_of(const PoolParams& p) {
  const TensorView& x = p.x;
  PoolPart part{};
  part.x = x.data;
  part.x_batch = x.stride[0];
  part.x_token = x.stride[1];
  part.x_head = x.stride[2];
  if (p.mean) {
    part.mean = p.mean.as<float>();
    part.mean_batch = p.mean.stride[0];
    part.mean_head = p.mean.stride[1];
  }
  part.out = p.out.as<float>();
  part.out_batch = p.out.stride[0];
  part.out_head = p.out.stride[1];
  part.out_block = p.out.stride[2];
  if (p.gate) {
    part.gate = p.gate.as<uint8_t>();
    part.gate_batch = p.gate.stride[0];
    part.gate_head = p.gate.stride[1];
  }
  part.tokens = x.size(1);
  part.heads = static_cast<int>(x.size(2));
  part.starts = p.starts;
  part.blocks = blocks_of(p);
  part.head_dim = static_cast<int>(x.size(3));
  part.block = p.block;
  part.theta_sim = p.theta_sim;
  return part;
}

unsigned ctas_of(const PoolParams& p) {
  return static_cast<unsigned>(p.x.size(0) * p.x.size(2) * blocks_of(p));
}

Status launch_pool(cudaStream_t stream, const PoolArgs& args, DType dtype, bool vectors) {
  const cudaError_t launched = dtype == DType::kBF16
                                   ? launch_pool<__nv_bfloat16>(stream, args, vectors)
                               : dtype == DType::kF16 ? launch_pool<__half>(stream, args, vectors)
                                                      : launch_pool<float>(stream, args, vectors);
  return cuda_status(launched, "launching pool");
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
  const cudaError_t launched =
      x.dtype == DType::kBF16  ? launch_token_mean<__nv_bfloat16>(stream, args, groups, vectors)
      : x.dtype == DType::kF16 ? launch_token_mean<__half>(stream, args, groups, vectors)
                               : launch_token_mean<float>(stream, args, groups, vectors);
  return cuda_status(launched, "launching token_mean");
}

Status pool(cudaStream_t stream, const PoolParams& p) {
  if (p.x.numel() == 0) return ok_status();
  PoolArgs args{};
  args.part[0] = part_of(p);
  args.first_ctas = args.ctas = ctas_of(p);
  return launch_pool(stream, args, p.x.dtype, takes_vectors(p.x));
}

Status pool_pair(cudaStream_t stream, const PoolParams& p, const PoolParams& q) {
  const bool alike = p.x.dtype == q.x.dtype && p.x.size(3) == q.x.size(3) &&
                     takes_vectors(p.x) == takes_vectors(q.x) && p.x.numel() > 0 &&
                     q.x.numel() > 0 && int64_t{ctas_of(p)} + ctas_of(q) <= 0x7fffffff;
  if (!alike) {
    FO_RETURN_IF_ERROR(pool(stream, p));
    return pool(stream, q);
  }
  PoolArgs args{};
  args.part[0] = part_of(p);
  args.part[1] = part_of(q);
  args.first_ctas = ctas_of(p);
  args.ctas = ctas_of(p) + ctas_of(q);
  return launch_pool(stream, args, p.x.dtype, takes_vectors(p.x));
}

}  // namespace flashomni::cuda
