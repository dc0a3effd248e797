// SPDX-License-Identifier: Apache-2.0
//
// GEMM-Q for any GPU from sm_80 on. A tile is one column group (a *unit*: batch item and head, or
// two heads of 64) times 128 rows: of a dense section neighbours, of the sparse one active query
// blocks, which need not be neighbours. Tile k of all units comes before tile k + 1, so that CTAs
// at work share rows of x. Which tiles there are follows from S_c, without a plan.
#include <algorithm>
#include <climits>

#include "cuda/kernels/common/block.cuh"
#include "cuda/kernels/sm80/gemm_tile.cuh"

namespace flashomni::cuda::sm80 {
namespace {

constexpr int kTileRows = 128;
constexpr int kSlotRows = 64;
constexpr int kSlots = kTileRows / kSlotRows;
constexpr int kNoRow = INT_MIN;
static_assert(kSlots == 2);

template <class T, int kHeadDim>
using Tile = GemmTile<T, kTileRows, gemm_q_columns(kHeadDim), kHeadDim == 96 ? 32 : 64,
                      kHeadDim == 96 ? 96 : 64>;

struct Item {
  int section, batch, head;
  int active;       // bit 2 * slot + h: head + h of this slot is wanted
  int row[kSlots];  // of x, first of the slot, may lie before the segment; kNoRow: none
};

// Bits [begin, end) of word w of a sequence.
__device__ __forceinline__ uint64_t range_mask(int w, int begin, int end) {
  const int low = max(begin - 64 * w, 0), high = min(end - 64 * w, 64);
  if (low >= high) return 0;
  return (~uint64_t{0} >> (64 - (high - low))) << low;
}

// Word w of the blocks of the segment in which a head, or any of those of a unit, is active.
__device__ __forceinline__ uint64_t head_word(const GemmQArgs& p, int b, int head, int w) {
  const int heads = p.sections[p.num_sections - 1].heads;
  if (head >= heads) return 0;
  const uint64_t* c = p.c + (int64_t{b} * heads + head) * p.c_words + w;
  return *c & range_mask(w, p.first_block, p.end_block);
}
template <int kHeads>
__device__ __forceinline__ uint64_t unit_word(const GemmQArgs& p, int unit, int w) {
  const int groups = p.sections[p.num_sections - 1].groups;
  const int b = unit / groups, head = unit % groups * kHeads;
  const uint64_t word = head_word(p, b, head, w);
  return kHeads == 2 ? word | head_word(p, b, head + 1, w) : word;
}

// The n-th lowest set bit. REQUIRES: it exists.
__device__ __forceinline__ int nth_bit(uint64_t word, int n) {
  for (; n > 0; --n) word &= word - 1;
  return __ffsll(static_cast<long long>(word)) - 1;
}

// Which tiles there are; `counts` of every sparse unit lie in shared memory.
template <int kHeads>
class Schedule {
 public:
  // By all threads of the CTA.
  __device__ Schedule(const GemmQArgs& p, int* counts) : p_(p), counts_(counts) {
    for (int s = 0; s < p.num_dense; ++s) dense_ += dense_tiles(s);
    if (p.num_sections == p.num_dense) return;
    per_tile_ = kTileRows / p.block_rows;
    units_ = p.batch * p.sections[p.num_sections - 1].groups;
    for (int u = static_cast<int>(threadIdx.x); u < units_; u += static_cast<int>(blockDim.x)) {
      int blocks = 0;
      for (int w = p.first_block / 64; 64 * w < p.end_block; ++w) {
        blocks += __popcll(unit_word<kHeads>(p, u, w));
      }
      counts_[u] = (blocks + per_tile_ - 1) / per_tile_;
    }
    __syncthreads();
    int most = 0;
    for (int u = lane(); u < units_; u += kWarp) most = max(most, counts_[u]);
    levels_ = warp_reduce(most, Max{});
  }

  // By a whole warp: tile `index` of the launch; false past the last one.
  __device__ bool find(int index, Item& item) const {
    for (int s = 0; s < p_.num_dense; ++s) {
      const int tiles = dense_tiles(s);
      if (index < tiles) {
        dense_item(s, index, item);
        return true;
      }
      index -= tiles;
    }
    if (index >= before(levels_)) return false;
    int low = 0, high = levels_;  // before(low) <= index < before(high)
    while (high - low > 1) {
      const int level = (low + high) / 2;
      (before(level) <= index ? low : high) = level;
    }
    index -= before(low);
    int unit = -1;
    for (int u0 = 0; unit < 0; u0 += kWarp) {
      const int u = u0 + lane();
      const unsigned found = __ballot_sync(kAllLanes, u < units_ && counts_[u] > low);
      const int count = __popc(found);
      if (index < count) unit = u0 + nth_bit(found, index);
      index -= count;
    }
    sparse_item(unit, low * per_tile_, item);
    return true;
  }

 private:
  static __device__ __forceinline__ int lane() { return static_cast<int>(threadIdx.x % kWarp); }

  __device__ int dense_tiles(int section) const {
    return p_.batch * ((p_.rows + kTileRows - 1) / kTileRows) * p_.sections[section].groups;
  }

  // Tiles of all levels below this one.
  __device__ int before(int level) const {
    int sum = 0;
    for (int u = lane(); u < units_; u += kWarp) sum += min(counts_[u], level);
    return warp_reduce(sum, Add{});
  }

  __device__ void dense_item(int section, int index, Item& item) const {
    const int row_tiles = (p_.rows + kTileRows - 1) / kTileRows;
    const int groups = p_.sections[section].groups;
    const int tile = index / groups % row_tiles;
    item.section = section;
    item.batch = index / groups / row_tiles;
    item.head = index % groups * kHeads;
    item.active = 0;
#pragma unroll
    for (int slot = 0; slot < kSlots; ++slot) {
      item.row[slot] = tile * kTileRows + slot * kSlotRows;
      for (int h = 0; h < kHeads; ++h) {
        if (item.head + h < p_.sections[section].heads) item.active |= 1 << (2 * slot + h);
      }
    }
  }

  // Active blocks of the unit from this rank on.
  __device__ void sparse_item(int unit, int rank, Item& item) const {
    const int groups = p_.sections[p_.num_sections - 1].groups;
    item.section = p_.num_sections - 1;
    item.batch = unit / groups;
    item.head = unit % groups * kHeads;
    item.active = 0;
#pragma unroll
    for (int slot = 0; slot < kSlots; ++slot) item.row[slot] = kNoRow;
    int block = 0;
    for (int w = p_.first_block / 64; 64 * w < p_.end_block && block < per_tile_; ++w) {
      uint64_t word = unit_word<kHeads>(p_, unit, w);
      const int count = __popcll(word);
      if (rank >= count) {
        rank -= count;
        continue;
      }
      for (; rank > 0; --rank) word &= word - 1;
      for (; word != 0 && block < per_tile_; word &= word - 1, ++block) {
        const int bit = __ffsll(static_cast<long long>(word)) - 1;
        int heads = 0;
        for (int h = 0; h < kHeads; ++h) {
          heads |= static_cast<int>(head_word(p_, item.batch, item.head + h, w) >> bit & 1) << h;
        }
        const int first = (64 * w + bit) * p_.block_rows - p_.token_offset;
        const int per_block = kSlots / per_tile_;
        for (int i = 0; i < per_block; ++i) {
          const int slot = block * per_block + i, row = first + i * kSlotRows;
          if (row >= p_.rows) continue;
          if (slot == 0) item.row[0] = row;
          if (slot == 1) item.row[1] = row;
          item.active |= heads << (2 * slot);
        }
      }
    }
  }

  const GemmQArgs& p_;
  int* const counts_;  // tiles
  int units_ = 0, dense_ = 0, per_tile_ = 1, levels_ = 0;
};

__device__ __forceinline__ void rotate(float& even, float& odd, float cos, float sin) {
  const float e = even, o = odd;
  even = e * cos - o * sin;
  odd = o * cos + e * sin;
}

// Bias is in the sums: RMSNorm over a head, rotation of adjacent channel pairs, and the store.
// `squares`: shared memory, a float a row and warp column.
template <class Tile, int kHeadDim>
__device__ __forceinline__ void finish(typename Tile::Sums& d, const GemmQArgs& p, const Item& item,
                                       float* squares) {
  using T = typename Tile::T;
  const GemmQSection& section = p.sections[item.section];
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  const int h = Tile::first_column() / kHeadDim;
  const int column = Tile::first_column() % kHeadDim + 8 * (lane % 4);  // of the head
  constexpr int kWarpsPerHead = (kHeadDim + Tile::kWarpColumns - 1) / Tile::kWarpColumns;

  if (section.rms_weight) {
    const auto square_at = [&](int m, int r) -> float* {
      return squares + Tile::first_row() + 16 * m + 8 * r + lane / 4;
    };
    float sum[Tile::kM][2];
#pragma unroll
    for (int m = 0; m < Tile::kM; ++m) {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        float part[4] = {};
#pragma unroll
        for (int g = 0; g < Tile::kGroups; ++g) {
#pragma unroll
          for (int i = 0; i < 8; ++i) {
            const float v = d[m][accumulator(g, r, i)];
            part[i % 4] += v * v;
          }
        }
        sum[m][r] = warp_reduce<4>((part[0] + part[1]) + (part[2] + part[3]), Add{});
        if (kWarpsPerHead > 1 && lane % 4 == 0) {
          square_at(m, r)[Tile::first_column() / Tile::kWarpColumns * kTileRows] = sum[m][r];
        }
      }
    }
    if constexpr (kWarpsPerHead > 1) __syncthreads();
    float weight[Tile::kGroups][8];
#pragma unroll
    for (int g = 0; g < Tile::kGroups; ++g) load8(section.rms_weight + column + 32 * g, weight[g]);
#pragma unroll
    for (int m = 0; m < Tile::kM; ++m) {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        // In the same order in all warps of a head.
        if constexpr (kWarpsPerHead > 1)
          sum[m][r] = square_at(m, r)[0] + square_at(m, r)[kTileRows];
        const float scale = rsqrtf(sum[m][r] * (1.f / kHeadDim) + section.rms_eps);
#pragma unroll
        for (int g = 0; g < Tile::kGroups; ++g) {
#pragma unroll
          for (int i = 0; i < 8; ++i) d[m][accumulator(g, r, i)] *= scale * weight[g][i];
        }
      }
    }
  }

#pragma unroll
  for (int m = 0; m < Tile::kM; ++m) {
    const int slot = (Tile::first_row() + 16 * m) / kSlotRows;
    const int start = slot == 0 ? item.row[0] : item.row[1];
    if (start == kNoRow || !(item.active >> (2 * slot + h) & 1)) continue;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int row = start + (Tile::first_row() + 16 * m) % kSlotRows + 8 * r + lane / 4;
      if (row < 0 || row >= p.rows) continue;
      T* out = static_cast<T*>(section.out) + item.batch * section.out_batch_stride +
               row * section.out_row_stride + (item.head + h) * section.out_head_stride + column;
#pragma unroll
      for (int g = 0; g < Tile::kGroups; ++g) {
        float v[8];
#pragma unroll
        for (int i = 0; i < 8; ++i) v[i] = d[m][accumulator(g, r, i)];
        if (section.cos) {
          const int pair = (column + 32 * g) / 2;
          const float4 cos =
              __ldg(reinterpret_cast<const float4*>(section.cos + row * section.cos_stride + pair));
          const float4 sin =
              __ldg(reinterpret_cast<const float4*>(section.sin + row * section.sin_stride + pair));
          rotate(v[0], v[1], cos.x, sin.x);
          rotate(v[2], v[3], cos.y, sin.y);
          rotate(v[4], v[5], cos.z, sin.z);
          rotate(v[6], v[7], cos.w, sin.w);
        }
        store8_streaming(out + 32 * g, v);
      }
    }
  }
}

template <class T, int kHeadDim>
__global__ void __launch_bounds__(Tile<T, kHeadDim>::kThreads, 2)
    gemm_q_kernel(const __grid_constant__ GemmQArgs p) {
  using Tile = Tile<T, kHeadDim>;
  extern __shared__ __align__(128) char memory[];
  __shared__ Item shared_item;
  __shared__ int shared_more;
  float* squares = reinterpret_cast<float*>(memory + Tile::kBytes);
  const Schedule<gemm_q_heads(kHeadDim)> schedule(
      p, reinterpret_cast<int*>(squares + Tile::kWarpsN * kTileRows));

  for (int index = static_cast<int>(blockIdx.x);; index += static_cast<int>(gridDim.x)) {
    if (threadIdx.x < kWarp) {
      Item item;
      const bool more = schedule.find(index, item);
      if (threadIdx.x == 0) {
        shared_item = item;
        shared_more = more;
      }
    }
    __syncthreads();
    if (!shared_more) return;
    const Item item = shared_item;
    const GemmQSection& section = p.sections[item.section];
    const int width = section.heads * kHeadDim;
    const int first_column = item.head * kHeadDim;
    const int lane = static_cast<int>(threadIdx.x % kWarp);

    // This thread's rows of x and of the weight; those that do not exist count as zero.
    int k = Tile::copy_column();
    const T* x[kSlots];
    uint32_t exists = 0;
#pragma unroll
    for (int i = 0; i < Tile::kCopiesA; ++i) {
      const int at = Tile::copy_row() + i * Tile::kCopyRows;
      const int start = at < kSlotRows ? item.row[0] : item.row[1];
      const int row = start + at % kSlotRows;
      exists |= (start != kNoRow && row >= 0 && row < p.rows ? 1u : 0u) << i;
    }
#pragma unroll
    for (int slot = 0; slot < kSlots; ++slot) {
      const int row = (item.row[slot] == kNoRow ? 0 : item.row[slot]) + Tile::copy_row();
      x[slot] = static_cast<const T*>(p.x.data) + item.batch * p.x.batch_stride +
                row * p.x.row_stride + k;
    }
    const T* weight = static_cast<const T*>(section.weight) +
                      int64_t{first_column + Tile::copy_row_b()} * p.depth + k;
    const int columns = width - first_column - Tile::copy_row_b();
    const auto load = [&](uint32_t a, uint32_t b) {
      const bool inside = k < p.depth;
#pragma unroll
      for (int i = 0; i < Tile::kCopiesA; ++i) {
        const int at = i * Tile::kCopyRows;
        async_copy_16(a + at * Tile::kRowBytes, x[at / kSlotRows] + at % kSlotRows * p.x.row_stride,
                      inside && (exists >> i & 1));
      }
#pragma unroll
      for (int i = 0; i < Tile::kCopiesB; ++i) {
        const int at = i * Tile::kCopyRows;
        async_copy_16(b + at * Tile::kRowBytes, weight + int64_t{at} * p.depth,
                      inside && at < columns);
      }
      k += kGemmBlockK;
      x[0] += kGemmBlockK;
      x[1] += kGemmBlockK;
      weight += kGemmBlockK;
    };
    typename Tile::Sums d;
    const auto begin = [&] {
      start_sums<Tile>(d, [&](int g, float(&v)[8]) {
        const int column = first_column + Tile::first_column() + 32 * g + 8 * (lane % 4);
        if (section.bias && column < width) {
          load8(section.bias + column, v);
        } else {
#pragma unroll
          for (int i = 0; i < 8; ++i) v[i] = 0;
        }
      });
    };
    const int steps = (p.depth + kGemmBlockK - 1) / kGemmBlockK;
    Tile::template multiply_all<true>(smem_address(memory), d, steps, load, begin,
                                      [] { return true; });
    finish<Tile, kHeadDim>(d, p, item, squares);
    __syncthreads();  // all have read the item and the squares
  }
}

template <class T, int kHeadDim>
cudaError_t launch(const GemmQArgs& args, int sms, cudaStream_t stream) {
  using Tile = Tile<T, kHeadDim>;
  int64_t tiles = 0;
  int units = 0;
  for (int s = 0; s < args.num_sections; ++s) {
    const int across = args.batch * args.sections[s].groups;
    const bool dense = s < args.num_dense;
    tiles += int64_t{1} * across *
             (dense ? (args.rows + kTileRows - 1) / kTileRows : args.end_block - args.first_block);
    if (!dense) units = across;
  }
  const int shared = Tile::kBytes + Tile::kWarpsN * kTileRows * static_cast<int>(sizeof(float)) +
                     units * static_cast<int>(sizeof(int));
  const auto kernel = gemm_q_kernel<T, kHeadDim>;
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared);
  if (error != cudaSuccess) return error;
  const int grid = static_cast<int>(std::min<int64_t>(2 * sms, std::max<int64_t>(1, tiles)));
  kernel<<<grid, Tile::kThreads, static_cast<size_t>(shared), stream>>>(args);
  return cudaGetLastError();
}

template <class T>
cudaError_t launch(const GemmQArgs& args, int head_dim, int sms, cudaStream_t stream) {
  switch (head_dim) {
    case 64:
      return launch<T, 64>(args, sms, stream);
    case 96:
      return launch<T, 96>(args, sms, stream);
    case 128:
      return launch<T, 128>(args, sms, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace

cudaError_t launch_gemm_q(const GemmQArgs& args, DType dtype, int head_dim, int sms,
                          cudaStream_t stream) {
  return dtype == DType::kBF16 ? launch<__nv_bfloat16>(args, head_dim, sms, stream)
                               : launch<__half>(args, head_dim, sms, stream);
}

}  // namespace flashomni::cuda::sm80
