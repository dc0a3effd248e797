// SPDX-License-Identifier: Apache-2.0
//
// The GEMM-Q kernel: roles of the warps. See gemm_q_schedule.cuh for what a tile is.
#include "cuda/kernels/common/tma.cuh"
#include "cuda/kernels/sm90/gemm_q_epilogue.cuh"

namespace flashomni::cuda::sm90 {
namespace {

template <int kHeadDim>
struct GemmQShared : GemmShared<kGemmQRows, gemm_q_columns(kHeadDim), GemmQItem> {
  alignas(16) float rms_weight[kGemmQSections][kHeadDim];
  int blocks[kGemmQMaxUnits];  // active, of every unit of the sparse section
};

template <int kHeadDim, class Shared>
__device__ __forceinline__ void load_tiles(const GemmQArgs& p, Shared& s) {
  const bool leader = threadIdx.x % 32 == 0;
  GemmQSchedule schedule(p, s.blocks);
  RingState<kStages> ring;
  RingState<kItems> items;
  GemmQTile tile;
  while (schedule.next(tile)) {
    barrier_wait(&s.item_empty[items.stage], items.phase ^ 1);
    __syncwarp();
    GemmQItem& item = s.items[items.stage];
    int box_rows;
    const int boxes = describe_tile<kHeadDim>(p, tile, item, box_rows);
    int row[kGemmQSlots];
#pragma unroll
    for (int j = 0; j < kGemmQSlots; ++j) {
      row[j] = item.block[j] * box_rows - (tile.section < p.num_dense ? 0 : p.token_offset);
    }
    const int group = item.head * kHeadDim / 32;
    const int batch = item.batch;
    if (leader) barrier_arrive(&s.item_full[items.stage]);
    items.advance();

    const CUtensorMap* x = box_rows == 128 ? &p.x128 : &p.x64;
    const CUtensorMap* weight = &p.sections[tile.section].weight;
    const int box_bytes = box_rows * kRowBytes;
    const uint32_t bytes = static_cast<uint32_t>(boxes * box_bytes + Shared::kBytesB);
    for (int k = 0; k < p.k_steps; ++k) {
      wait_free(s, ring);
      if (leader) {
        auto& stage = s.stages[ring.stage];
        uint64_t* full = &s.full[ring.stage];
        barrier_arrive_expect(full, bytes);
#pragma unroll
        for (int j = 0; j < kGemmQSlots; ++j) {
          if (j < boxes)
            tma_load_3d(stage.a + j * box_bytes, x, full, k * kGemmBlockK, row[j], batch);
        }
        tma_load_5d(stage.b, weight, full, k * kGemmBlockK, 0, 0, 0, group);
      }
      ring.advance();
    }
  }
  barrier_wait(&s.item_empty[items.stage], items.phase ^ 1);
  __syncwarp();
  if (leader) {
    s.items[items.stage].section = GemmQItem::kEnd;
    barrier_arrive(&s.item_full[items.stage]);
  }
}

template <class T, int kHeadDim, class Shared>
__device__ __forceinline__ void multiply_tiles(const GemmQArgs& p, Shared& s, int warpgroup) {
  // Slots are dealt to the warpgroups in turn, so that half a tile keeps both busy.
  KSteps<T, Shared, 2> steps(s, warpgroup, 2);
  RingState<kItems> items;
  for (;;) {
    barrier_wait(&s.item_full[items.stage], items.phase);
    const GemmQItem& item = s.items[items.stage];
    if (item.section == GemmQItem::kEnd) return;
    const float* rms_weight =
        p.sections[item.section].rms_weight ? s.rms_weight[item.section] : nullptr;
    // NOTE: not outside the loop, and not set: the first product overwrites them. Alive from tile
    // to tile they would leave the epilogue too few registers.
    float d[2][Shared::kColumns / 2];
    steps.begin();
    const bool first = item.row[warpgroup] != kNoRow, second = item.row[warpgroup + 2] != kNoRow;
    if (second) {
      for (int k = 0; k < p.k_steps; ++k) steps.template multiply<4, 2>(d);
    } else if (first) {
      for (int k = 0; k < p.k_steps; ++k) steps.template multiply<4, 1>(d);
    } else {
      for (int k = 0; k < p.k_steps; ++k) steps.pass();
    }
    steps.template finish<2>(d);
    if (first) store_heads<T, kHeadDim>(d[0], p, item, warpgroup, rms_weight);
    if (second) store_heads<T, kHeadDim>(d[1], p, item, warpgroup + 2, rms_weight);
    barrier_arrive(&s.item_empty[items.stage]);
    items.advance();
  }
}

template <class T, int kHeadDim>
__global__ void __launch_bounds__(kGemmThreads, 1)
    gemm_q_kernel(const __grid_constant__ GemmQArgs p) {
  extern __shared__ __align__(1024) uint8_t memory[];
  auto& s = *reinterpret_cast<GemmQShared<kHeadDim>*>(memory);

  if (threadIdx.x == 0) {
    init_barriers(s);
    prefetch_tensor_map(&p.x128);
    for (int i = 0; i < p.num_sections; ++i) prefetch_tensor_map(&p.sections[i].weight);
  }
  for (int i = 0; i < p.num_sections; ++i) {
    const float* weight = p.sections[i].rms_weight;
    if (weight && threadIdx.x < kHeadDim) s.rms_weight[i][threadIdx.x] = weight[threadIdx.x];
  }
  if (p.num_sections > p.num_dense) {
    const int units = p.batch * p.sections[p.num_sections - 1].groups;
    for (int u = static_cast<int>(threadIdx.x); u < units; u += kGemmThreads) {
      s.blocks[u] = count_blocks<gemm_q_heads(kHeadDim)>(p, u);
    }
  }
  __syncthreads();

  const int warpgroup = __shfl_sync(kAllLanes, static_cast<int>(threadIdx.x / 128), 0);
  if (warpgroup == 0) {
    registers_shrink<40>();
    if (threadIdx.x < 32) load_tiles<kHeadDim>(p, s);
  } else {
    registers_grow<232>();
    multiply_tiles<T, kHeadDim>(p, s, warpgroup - 1);
  }
}

template <class T, int kHeadDim>
cudaError_t launch(const GemmQArgs& args, int grid, cudaStream_t stream) {
  constexpr int kShared = static_cast<int>(sizeof(GemmQShared<kHeadDim>));
  static_assert(kShared <= 232448);
  const auto kernel = gemm_q_kernel<T, kHeadDim>;
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kShared);
  if (error != cudaSuccess) return error;
  kernel<<<grid, kGemmThreads, kShared, stream>>>(args);
  return cudaGetLastError();
}

template <class T>
cudaError_t launch(const GemmQArgs& args, int head_dim, int grid, cudaStream_t stream) {
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

cudaError_t launch_gemm_q(const GemmQArgs& args, DType dtype, int head_dim, int grid,
                          cudaStream_t stream) {
  return dtype == DType::kBF16 ? launch<__nv_bfloat16>(args, head_dim, grid, stream)
                               : launch<__half>(args, head_dim, grid, stream);
}

}  // namespace flashomni::cuda::sm90
