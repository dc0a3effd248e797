// SPDX-License-Identifier: Apache-2.0
//
// The GEMM-O kernel: roles of the warps. Only the columns of k that belong to heads wanted in a
// tile are loaded; the others cost nothing.
#include "cuda/kernels/common/tma.cuh"
#include "cuda/kernels/sm90/gemm_o_epilogue.cuh"

namespace flashomni::cuda::sm90 {
namespace {

struct GemmOShared : GemmShared<kGemmORows, kGemmOColumns, GemmOItem> {
  GemmOPicked picked;
};

// A head of 96 takes two steps, of which the second multiplies 32 columns.
template <int kHeadDim>
constexpr int kHeadSteps = (kHeadDim + kGemmBlockK - 1) / kGemmBlockK;
template <int kHeadDim>
constexpr int kLastK16 = (kHeadDim - (kHeadSteps<kHeadDim> - 1) * kGemmBlockK) / 16;

// Brings what the epilogue of this tile reads into L2, while k is walked.
template <class T>
__device__ __forceinline__ void prefetch_rows(const GemmOArgs& p, const GemmOTile& at) {
  const int columns = min(kGemmOColumns, p.width - at.column);
  const uint32_t bytes = static_cast<uint32_t>(columns * sizeof(T));
  for (int i = static_cast<int>(threadIdx.x % 32); i < kGemmORows; i += 32) {
    const int row = at.row + i;
    if (row < p.token_offset || row >= p.token_offset + p.rows) continue;
    for (int m = 0; m < p.num_read; ++m) {
      prefetch_l2(plane_row<T>(p.planes[m], at.batch, row) + at.column, bytes);
    }
    if (p.residual) prefetch_l2(residual_row<T>(p, at.batch, row) + at.column, bytes);
  }
}

template <class T, int kHeadDim>
__device__ __forceinline__ void load_tiles(const GemmOArgs& p, GemmOShared& s) {
  const bool leader = threadIdx.x % 32 == 0;
  RingState<kStages> ring;
  RingState<kItems> items;
  const int grid = static_cast<int>(gridDim.x), cta = static_cast<int>(blockIdx.x);
  const int positions = p.batch * p.num_tiles * p.column_tiles * max(1, p.num_written);
  for (int round = 0;; ++round) {
    const int position = round * grid + (round % 2 == 0 ? cta : grid - 1 - cta);
    if (position >= positions) break;  // rounds are full but for the last
    barrier_wait(&s.item_empty[items.stage], items.phase ^ 1);
    __syncwarp();
    GemmOItem& item = s.items[items.stage];
    const GemmOTile at = locate_tile(p, s.picked, position);
    describe_tile<T>(p, at, item);
    if (leader) barrier_arrive(&s.item_full[items.stage]);
    if (at.last_pass == kActive) prefetch_rows<T>(p, at);

    const int group = at.column / 32;
    const CUtensorMap* features = &p.features[at.plane];
    constexpr uint32_t kBytes = sizeof(s.stages[0]);
    for (int pass = at.first_pass; pass <= at.last_pass; ++pass) {
      for (int w = 0; w < p.head_words; ++w) {
        uint64_t heads = item.heads[pass][0][w] | item.heads[pass][1][w];
        for (; heads; heads &= heads - 1) {
          const int head = 64 * w + __ffsll(static_cast<long long>(heads)) - 1;
#pragma unroll
          for (int c = 0; c < kHeadSteps<kHeadDim>; ++c) {
            wait_free(s, ring);
            if (leader) {
              auto& stage = s.stages[ring.stage];
              uint64_t* full = &s.full[ring.stage];
              barrier_arrive_expect(full, kBytes);
              tma_load_4d(stage.a, features, full, c * kGemmBlockK, head, at.row, at.batch);
              tma_load_5d(stage.b, &p.weight, full, head * kHeadDim + c * kGemmBlockK, 0, 0, 0,
                          group);
            }
            ring.advance();
          }
        }
      }
      if (pass == kCached) continue;
      for (int k = 0; k < p.mlp_steps; ++k) {
        wait_free(s, ring);
        if (leader) {
          auto& stage = s.stages[ring.stage];
          uint64_t* full = &s.full[ring.stage];
          barrier_arrive_expect(full, kBytes);
          tma_load_3d(stage.a, &p.mlp, full, k * kGemmBlockK, at.row - p.token_offset, at.batch);
          tma_load_5d(stage.b, &p.weight, full, p.mlp_column + k * kGemmBlockK, 0, 0, 0, group);
        }
        ring.advance();
      }
    }
    items.advance();
  }
  barrier_wait(&s.item_empty[items.stage], items.phase ^ 1);
  __syncwarp();
  if (leader) {
    s.items[items.stage].at.plane = GemmOTile::kEnd;
    barrier_arrive(&s.item_full[items.stage]);
  }
}

// The heads of one pass. Steps of heads that only the other half wants go by.
template <int kHeadDim, class Steps>
__device__ __forceinline__ void multiply_heads(Steps& steps, const GemmOArgs& p,
                                               const GemmOItem& item, int pass, int half,
                                               float (&d)[1][kGemmOSums]) {
  for (int w = 0; w < p.head_words; ++w) {
    uint64_t own = item.heads[pass][half][w];
    uint64_t loaded = own | item.heads[pass][1 - half][w];
    while (own) {
      const uint64_t head = own & (~own + 1);
      const uint64_t earlier = loaded & (head - 1);
      if (earlier) {
        steps.template finish<1>(d);
        for (int n = __popcll(earlier) * kHeadSteps<kHeadDim>; n > 0; --n) steps.pass();
      }
      own ^= head;
      loaded ^= earlier | head;
#pragma unroll
      for (int c = 0; c < kHeadSteps<kHeadDim> - 1; ++c) steps.template multiply<4, 1>(d);
      steps.template multiply<kLastK16<kHeadDim>, 1>(d);
    }
    if (loaded) {
      steps.template finish<1>(d);
      for (int n = __popcll(loaded) * kHeadSteps<kHeadDim>; n > 0; --n) steps.pass();
    }
  }
}

template <class T, int kHeadDim>
__device__ __forceinline__ void multiply_tiles(const GemmOArgs& p, GemmOShared& s, int half) {
  KSteps<T, GemmOShared, 1> steps(s, half, 1);
  RingState<kItems> items;
  for (;;) {
    barrier_wait(&s.item_full[items.stage], items.phase);
    const GemmOItem& item = s.items[items.stage];
    if (item.at.plane == GemmOTile::kEnd) return;
    const GemmOPlace at(p, item.at, half);
    // NOTE: not outside the loop: alive from tile to tile they would leave the epilogue too few
    // registers.
    float d[1][kGemmOSums];
    GemmORow next;
    steps.begin();
    for (int pass = item.at.first_pass; pass <= item.at.last_pass; ++pass) {
      multiply_heads<kHeadDim>(steps, p, item, pass, half, d);
      if (pass == kActive) {
        for (int k = 0; k < p.mlp_steps; ++k) steps.template multiply<4, 1>(d);
        start_inputs<T>(p, at, next);
      }
      steps.template finish<1>(d);
      if (!steps.started()) {
        // -0, which leaves any bias as it is, even another -0.
#pragma unroll
        for (int i = 0; i < kGemmOSums; ++i) d[0][i] = -0.f;
      }
      if (pass == kCached) {
        store_plane<T>(d[0], p, item, at);
      } else {
        store_result<T>(d[0], p, item, at, next);
      }
    }
    barrier_arrive(&s.item_empty[items.stage]);
    items.advance();
  }
}

template <class T, int kHeadDim>
__global__ void __launch_bounds__(kGemmThreads, 1)
    gemm_o_kernel(const __grid_constant__ GemmOArgs p) {
  extern __shared__ __align__(1024) uint8_t memory[];
  auto& s = *reinterpret_cast<GemmOShared*>(memory);

  if (threadIdx.x == 0) {
    init_barriers(s);
    prefetch_tensor_map(&p.weight);
    prefetch_tensor_map(&p.features[0]);
  }
  __syncthreads();
  if (!picks_all(p)) pick_tiles(p, s.picked);

  const int warpgroup = __shfl_sync(kAllLanes, static_cast<int>(threadIdx.x / 128), 0);
  if (warpgroup == 0) {
    registers_shrink<40>();
    if (threadIdx.x < 32) load_tiles<T, kHeadDim>(p, s);
  } else {
    registers_grow<232>();
    multiply_tiles<T, kHeadDim>(p, s, warpgroup - 1);
  }
}

template <class T, int kHeadDim>
cudaError_t launch(const GemmOArgs& args, int grid, cudaStream_t stream) {
  constexpr int kShared = static_cast<int>(sizeof(GemmOShared));
  static_assert(kShared <= 232448);
  const auto kernel = gemm_o_kernel<T, kHeadDim>;
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kShared);
  if (error != cudaSuccess) return error;
  kernel<<<grid, kGemmThreads, kShared, stream>>>(args);
  return cudaGetLastError();
}

template <class T>
cudaError_t launch(const GemmOArgs& args, int head_dim, int grid, cudaStream_t stream) {
  switch (head_dim) {
    case 64:
      return launch<T, 64>(args, grid, stream);
    case 96:
      return launch<T, 96>(args, grid, stream);
    case 128:
      return launch<T, 128>(args, grid, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace

cudaError_t launch_gemm_o(const GemmOArgs& args, DType dtype, int head_dim, int grid,
                          cudaStream_t stream) {
  return dtype == DType::kBF16 ? launch<__nv_bfloat16>(args, head_dim, grid, stream)
                               : launch<__half>(args, head_dim, grid, stream);
}

}  // namespace flashomni::cuda::sm90
