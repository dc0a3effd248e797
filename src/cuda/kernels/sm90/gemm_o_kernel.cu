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

// Describes the tiles of this CTA, ahead of those who load and multiply them.
template <class T, int kHeadDim>
__device__ __forceinline__ void deal_tiles(const GemmOArgs& p, GemmOShared& s) {
  const GemmOList list(p, kHeadSteps<kHeadDim>);
  RingState<kItems> items;
  GemmOTile at;
  for (int round = 0;; ++round) {
    const bool more = deal_tile(p, s.picked, list, round, at);
    barrier_wait(&s.item_empty[items.stage], items.phase ^ 1);
    __syncwarp();
    GemmOItem& item = s.items[items.stage];
    if (more) {
      describe_tile<T>(p, at, item);
    } else {
      at.plane = GemmOTile::kEnd;
    }
    if (threadIdx.x % 32 == 0) item.at = at;
    barrier_arrive(&s.item_full[items.stage]);
    if (!more) return;
    items.advance();
  }
}

template <int kHeadDim>
__device__ __forceinline__ void load_tiles(const GemmOArgs& p, GemmOShared& s) {
  const bool leader = threadIdx.x % 32 == 0;
  RingState<kStages> ring;
  // Rows of a tile that are not of k, in one or two steps.
  const auto load_rows = [&](const CUtensorMap* map, const GemmOTile& at, int row) {
    for (int column = 0; column < at.columns; column += 2 * kGemmBlockK) {
      wait_free(s, ring);
      if (leader) {
        uint8_t* memory = s.stages[ring.stage].a;
        uint64_t* full = &s.full[ring.stage];
        barrier_arrive_expect(full, 2 * kRowBoxBytes);
        for (int b = 0; b < 2; ++b) {
          tma_load_3d(memory + b * kRowBoxBytes, map, full, at.column + column + b * kGemmBlockK,
                      row, at.batch, kEvictFirst);
        }
      }
      ring.advance();
    }
  };
  RingState<kItems> items;
  for (;;) {
    barrier_wait(&s.item_full[items.stage], items.phase);
    const GemmOItem& item = s.items[items.stage];
    const GemmOTile at = item.at;
    if (at.plane == GemmOTile::kEnd) return;
    const int group = at.column / 32;
    const CUtensorMap* features = &p.features[at.plane];
    const CUtensorMap* weight = at.columns == kGemmOColumns ? &p.weight : &p.half_weight;
    const uint32_t bytes = static_cast<uint32_t>((kGemmORows + at.columns) * kRowBytes);
    // A step of k: this column of the weight, and `load_a`.
    const auto load_step = [&](int column, auto&& load_a) {
      wait_free(s, ring);
      if (leader) {
        auto& stage = s.stages[ring.stage];
        uint64_t* full = &s.full[ring.stage];
        barrier_arrive_expect(full, bytes);
        load_a(stage.a, full);
        tma_load_5d(stage.b, weight, full, column, 0, 0, 0, group);
      }
      ring.advance();
    };

    // More than one plane before k would leave no room in the ring for the first steps of k, while
    // the tile before is stored.
    if (at.last_pass == kActive && p.num_read > 0) load_rows(&p.plane_rows[0], at, at.row);
    for (int pass = at.first_pass; pass <= at.last_pass; ++pass) {
      for (int w = 0; w < p.head_words; ++w) {
        uint64_t heads = item.heads[pass][0][w] | item.heads[pass][1][w];
        for (; heads; heads &= heads - 1) {
          const int head = 64 * w + __ffsll(static_cast<long long>(heads)) - 1;
#pragma unroll
          for (int c = 0; c < kHeadSteps<kHeadDim>; ++c) {
            load_step(head * kHeadDim + c * kGemmBlockK, [&](void* a, uint64_t* full) {
              tma_load_4d(a, features, full, c * kGemmBlockK, head, at.row, at.batch);
            });
          }
        }
      }
      if (pass == kCached) continue;
      for (int k = 0; k < p.mlp_steps; ++k) {
        load_step(p.mlp_column + k * kGemmBlockK, [&](void* a, uint64_t* full) {
          tma_load_3d(a, &p.mlp, full, k * kGemmBlockK, at.row - p.token_offset, at.batch);
        });
      }
    }
    if (at.last_pass == kActive) {
      for (int m = 1; m < p.num_read; ++m) load_rows(&p.plane_rows[m], at, at.row);
      if (p.residual) load_rows(&p.residual_rows, at, at.row - p.token_offset);
    }
    barrier_arrive(&s.item_empty[items.stage]);
    items.advance();
  }
}

// n heads of the ring, of which kN columns are wanted.
template <int kHeadDim, int kN, class Steps>
__device__ __forceinline__ void multiply_heads(Steps& steps, int n, float (&d)[1][kGemmOSums]) {
  if constexpr (kLastK16<kHeadDim> == 4) {
    steps.template multiply_all<1, kN>(d, n * kHeadSteps<kHeadDim>);
  } else {
    steps.template multiply_all<1, kN>(d, n, [&] {
      steps.template multiply<4, 1, kN>(d);
      steps.template multiply<kLastK16<kHeadDim>, 1, kN>(d);
    });
  }
}

// The heads of one pass where the halves want different ones: steps of heads that only the other
// half wants go by.
template <int kHeadDim, int kN, class Steps>
__device__ __forceinline__ void multiply_unlike(Steps& steps, const GemmOArgs& p,
                                                const GemmOItem& item, int pass, int half,
                                                float (&d)[1][kGemmOSums]) {
  for (int w = 0; w < p.head_words; ++w) {
    uint64_t own = uniform(item.heads[pass][half][w]);
    uint64_t other = uniform(item.heads[pass][1 - half][w]) & ~own;
    while (own | other) {
      // The heads before the first one of the other half, and those before the next of this one.
      const uint64_t mine = other ? own & ((other & (~other + 1)) - 1) : own;
      own ^= mine;
      multiply_heads<kHeadDim, kN>(steps, __popcll(mine), d);
      const uint64_t skipped = own ? other & ((own & (~own + 1)) - 1) : other;
      other ^= skipped;
      for (int n = __popcll(skipped) * kHeadSteps<kHeadDim>; n > 0; --n) steps.pass();
    }
  }
}

// One pass over k.
template <int kHeadDim, int kN, class Steps>
__device__ __forceinline__ void multiply_pass(Steps& steps, const GemmOArgs& p,
                                              const GemmOItem& item, int pass, int half, bool alike,
                                              float (&d)[1][kGemmOSums]) {
  int whole = pass == kActive ? p.mlp_steps : 0;  // steps of 64 columns
  const int heads = uniform(item.count[pass]);
  if (!alike) {
    multiply_unlike<kHeadDim, kN>(steps, p, item, pass, half, d);
  } else if (kLastK16<kHeadDim> == 4) {
    whole += heads * kHeadSteps<kHeadDim>;
  } else {
    multiply_heads<kHeadDim, kN>(steps, heads, d);
  }
  steps.template multiply_all<1, kN>(d, whole);
}

template <class T, int kHeadDim>
__device__ __forceinline__ void multiply_tiles(const GemmOArgs& p, GemmOShared& s, int half) {
  KSteps<T, GemmOShared, 1> steps(s, half, 1);
  RingState<kItems> items;
  for (;;) {
    barrier_wait(&s.item_full[items.stage], items.phase);
    const GemmOItem& item = s.items[items.stage];
    if (uniform(item.at.plane) == GemmOTile::kEnd) return;
    const GemmOPlace at(p, item.at, half);
    const int columns = uniform(item.at.columns), row_steps = columns / 128;
    const bool alike = uniform(item.alike);
    const int last_pass = uniform(item.at.last_pass);
    // NOTE: not outside the loop: alive from tile to tile they would leave the epilogue too few
    // registers.
    float d[1][kGemmOSums];
    if (last_pass == kActive && p.num_read > 0) {
      take_plane<T, true>(d[0], steps, at, row_steps, p.planes[0].coefficient);
    } else {
      start_with_bias(d[0], item, at);
    }
    wgmma_keep(d[0]);
    for (int pass = uniform(item.at.first_pass); pass <= last_pass; ++pass) {
      if (columns == kGemmOColumns) {
        multiply_pass<kHeadDim, kGemmOColumns>(steps, p, item, pass, half, alike, d);
      } else {
        multiply_pass<kHeadDim, kGemmOColumns / 2>(steps, p, item, pass, half, alike, d);
      }
      if (pass == kCached) {
        store_plane<T>(d[0], p, item, at);
      } else {
        add_planes<T>(d[0], steps, p, at, row_steps);
        store_result<T>(d[0], steps, p, item, at, row_steps);
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

  const int warpgroup = uniform(static_cast<int>(threadIdx.x / 128));
  if (warpgroup == 0) {
    registers_shrink<40>();
    const int warp = uniform(static_cast<int>(threadIdx.x / 32));
    if (warp == 0) load_tiles<kHeadDim>(p, s);
    if (warp == 1) deal_tiles<T, kHeadDim>(p, s);
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
