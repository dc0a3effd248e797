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
  int before[kGemmQMaxCounts];  // see count_windows()
};

// Describes the tiles of this CTA, ahead of those who load and multiply them: to find one takes
// longer than the ring of k steps lasts.
template <int kHeadDim, class Shared>
__device__ __forceinline__ void deal_tiles(const GemmQArgs& p, Shared& s) {
  GemmQSchedule schedule(p, s.before);
  RingState<kItems> items;
  GemmQTile tile;
  for (;;) {
    const bool more = schedule.next(tile);
    barrier_wait(&s.item_empty[items.stage], items.phase ^ 1);
    __syncwarp();
    GemmQItem& item = s.items[items.stage];
    if (more) {
      describe_tile<kHeadDim>(p, tile, item);
    } else if (threadIdx.x % 32 == 0) {
      item.section = GemmQItem::kEnd;
    }
    barrier_arrive(&s.item_full[items.stage]);
    if (!more) return;
    items.advance();
  }
}

template <int kHeadDim, class Shared>
__device__ __forceinline__ void load_tiles(const GemmQArgs& p, Shared& s) {
  const bool leader = threadIdx.x % 32 == 0;
  RingState<kStages> ring;
  RingState<kItems> items;
  for (;;) {
    barrier_wait(&s.item_full[items.stage], items.phase);
    const GemmQItem& item = s.items[items.stage];
    if (item.section == GemmQItem::kEnd) return;
    const GemmQSection& section = p.sections[item.section];
    const int boxes = item.boxes, box_rows = item.box_rows;
    int row[kGemmQSlots];
#pragma unroll
    for (int j = 0; j < kGemmQSlots; ++j) {
      row[j] = item.block[j] * box_rows - (item.section < p.num_dense ? 0 : p.token_offset);
    }
    const int group = item.head * kHeadDim / 32;
    const int batch = item.batch;

    const CUtensorMap* x = box_rows == 128 ? &p.x128 : &p.x64;
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
        tma_load_5d(stage.b, &section.weight, full, k * kGemmBlockK, 0, 0, 0, group);
      }
      ring.advance();
    }
    for (int slot = 0; section.rope && slot < kGemmQSlots; ++slot) {
      if (item.row[slot] == kNoRow) continue;
      constexpr int kBoxes = kRopeBoxes<kHeadDim>;
      wait_free(s, ring);
      if (leader) {
        uint8_t* memory = s.stages[ring.stage].a;
        uint64_t* full = &s.full[ring.stage];
        barrier_arrive_expect(full, 2 * kBoxes * kRopeBoxBytes);
        const int token = p.token_offset + item.row[slot];
        for (int b = 0; b < 2 * kBoxes; ++b) {
          tma_load_2d(memory + b * kRopeBoxBytes, b < kBoxes ? &section.cos : &section.sin, full,
                      b % kBoxes * kGemmQRopeColumns, token);
        }
      }
      ring.advance();
    }
    barrier_arrive(&s.item_empty[items.stage]);
    items.advance();
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
    const int index = uniform(item.section);
    if (index == GemmQItem::kEnd) return;
    const GemmQSection& section = p.sections[index];
    const float* rms_weight = section.rms_weight ? s.rms_weight[index] : nullptr;
    // NOTE: not outside the loop: alive from tile to tile they would leave the epilogue too few
    // registers.
    float d[2][Shared::kColumns / 2];
    const bool first = uniform(item.row[warpgroup]) != kNoRow;
    const bool second = uniform(item.row[warpgroup + 2]) != kNoRow;
    if (first) start_with_bias(d[0], item);
    if (second) {
      start_with_bias(d[1], item);
      steps.template multiply_all<2>(d, p.k_steps);
    } else if (first) {
      steps.template multiply_all<1>(d, p.k_steps);
    } else {
      for (int k = 0; k < p.k_steps; ++k) steps.pass();
    }
    // The rows of cos and sin of the other warpgroup's slots go by.
    const auto pass_slot = [&](int slot) {
      if (section.rope && uniform(item.row[slot]) != kNoRow) steps.pass();
    };
    if (warpgroup == 1) pass_slot(0);
    if (first) store_heads<T, kHeadDim>(d[0], steps, p, section, item, warpgroup, rms_weight);
    pass_slot(warpgroup == 0 ? 1 : 2);
    if (second) store_heads<T, kHeadDim>(d[1], steps, p, section, item, warpgroup + 2, rms_weight);
    if (warpgroup == 0) pass_slot(3);
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
  if (p.num_sections > p.num_dense) count_windows<gemm_q_heads(kHeadDim)>(p, s.before);
  __syncthreads();

  const int warpgroup = uniform(static_cast<int>(threadIdx.x / 128));
  if (warpgroup == 0) {
    registers_shrink<40>();
    const int warp = uniform(static_cast<int>(threadIdx.x / 32));
    if (warp == 0) load_tiles<kHeadDim>(p, s);
    if (warp == 1) deal_tiles<kHeadDim>(p, s);
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
