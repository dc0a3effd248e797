// SPDX-License-Identifier: Apache-2.0
//
// Block-sparse attention for any GPU from sm_80 on: four warps of 32 query rows each, kv rows in
// chunks of 64 through a ring in shared memory that asynchronous copies fill, keys and values in
// turns. Two CTAs an SM: one multiplies while the other computes exponentials, and fills the gaps
// at the ends of query tiles.
#pragma once

#include "cuda/kernels/common/async_copy.cuh"
#include "cuda/kernels/common/packed.cuh"
#include "cuda/kernels/common/softmax.cuh"
#include "cuda/kernels/sm80/attention_entry.cuh"
#include "cuda/kernels/sm80/mma.cuh"

namespace flashomni::cuda::sm80 {

template <class T, int kHeadDim, bool kRagged>
class AttentionCta {
 public:
  __device__ __forceinline__ AttentionCta(const AttentionArgs& args, char* smem)
      : args_(args),
        smem_(smem_address(smem)),
        windows_(*reinterpret_cast<Windows*>(smem + attention_tile_bytes(kHeadDim))) {
    const int lane = static_cast<int>(threadIdx.x % 32);
    const int row = lane % 16, key = lane / 16 * 8 + lane % 8;
    lane_ = static_cast<uint32_t>(row * kRowBytes);
    unit_ = static_cast<uint32_t>((lane / 16 ^ mask(row)) << 4);
    key_lane_ = static_cast<uint32_t>(key * kRowBytes);
    key_unit_ = static_cast<uint32_t>((lane / 8 % 2 ^ mask(key)) << 4);
  }

  __device__ __forceinline__ void run() {
    if (WorkList(args_, static_cast<int>(blockIdx.x)).size() == 0) return;
    Window& first = windows_.window[0];
    decode(first, 0, 0);
    __syncthreads();
    load_query(first.rows);
    load_chunk(keys_, first.k, args_.k.row_stride, first.chunk[0]);
    async_copy_commit();
    load_chunk(values_, first.v, args_.v.row_stride, first.chunk[0]);
    async_copy_commit();
    while (query_tile()) {
    }
    async_copy_wait<0>();
  }

 private:
  using Sums = float[2][kHeadDim / 2];  // of two times 16 rows
  using Weights = uint32_t[2][kKvRows / 16][4];
  using Softmax = SoftmaxRows[2];
  static constexpr int kRowBytes = 2 * kHeadDim;
  static constexpr int kQueryBytes = kQueryRows * kRowBytes;
  static constexpr int kSlotBytes = kKvRows * kRowBytes;

  // Unit u of 16 bytes of a row lies at u ^ mask: neighbouring rows of a unit in different banks.
  static __device__ __forceinline__ int mask(int row) {
    return kHeadDim % 64 == 0 ? row & 7 : row >> 1 & 3;
  }

  // The third slot, for the next chunk's keys; its values take the place of these keys.
  __device__ __forceinline__ uint32_t spare() const {
    return 3 * (smem_ + kQueryBytes + kSlotBytes) - keys_ - values_;
  }

  // By one warp, for all of them after the next barrier.
  __device__ __forceinline__ void decode(Window& window, int entry, int start) const {
    if (threadIdx.x < 32) decode_window<kRagged>(args_, entry, start, window);
  }

  // Starts the copies of kRows rows to shared memory; those from `valid` on are zero.
  template <int kRows>
  __device__ __forceinline__ void load_rows(int thread, uint32_t to, const T* from, int64_t stride,
                                            int valid) const {
    constexpr int kUnits = kHeadDim / 8;
    constexpr int kLanes = kHeadDim % 64 == 0 ? kUnits : 4;  // side by side in a row
    constexpr int kStep = kAttentionThreads / kLanes;
    static_assert(kStep % 8 == 0, "the mask is the same in all steps");
    const int row = thread / kLanes, unit = thread % kLanes;
    from += row * stride + unit * 8;
    to += static_cast<uint32_t>(row * kRowBytes + ((unit ^ mask(row)) << 4));
#pragma unroll
    for (int i = 0; i < kRows / kStep; ++i) {
#pragma unroll
      for (int j = 0; j < kUnits / kLanes; ++j) {
        async_copy_16(to + i * kStep * kRowBytes + j * kLanes * 16, from + j * kLanes * 8,
                      row + i * kStep < valid);
      }
      from += kStep * stride;
    }
  }

  __device__ __forceinline__ void load_chunk(uint32_t to, const void* head, int64_t stride,
                                             uint16_t chunk) const {
    const auto [row, valid] = chunk_place<kRagged>(args_, chunk);
    load_rows<kKvRows>(thread_for_once(), to, static_cast<const T*>(head) + row * stride, stride,
                       valid);
  }

  __device__ __forceinline__ void load_query(const EntryRows& entry) const {
    const RowPlace at(args_, entry.row0);
    const T* rows = reinterpret_cast<const T*>(head_rows(args_.q, at));
    const int thread = thread_for_once();
    const int64_t stride = args_.q.row_stride;
    const auto [first, end] = query_place<kRagged>(args_, at.block);
    if (args_.block_q == kQueryRows) {
      load_rows<kQueryRows>(thread, smem_, rows + first * stride, stride, end - first);
      return;
    }
    load_rows<64>(thread, smem_, rows + first * stride, stride, end - first);
    if (entry.row1 < 0) return;
    // Of the same head.
    const QueryPlace second = query_place<kRagged>(args_, at.block + entry.row1 - entry.row0);
    load_rows<64>(thread, smem_ + kQueryBytes / 2, rows + second.begin * stride, stride,
                  second.end - second.begin);
  }

  // One entry of the list; true: there is another one. Its first chunk is on its way then.
  __device__ __forceinline__ bool query_tile() {
    Sums o;
    Softmax rows;
#pragma unroll
    for (int m = 0; m < 2; ++m) {
      rows[m] = {{-INFINITY, -INFINITY}, {0, 0}};
#pragma unroll
      for (int i = 0; i < kHeadDim / 2; ++i) o[m][i] = 0;
    }
    const int group = args_.block_q == kQueryRows ? 0 : static_cast<int>(threadIdx.x / 64);
    // Chunks of all windows in one loop: `j` of this window.
#pragma unroll 1
    for (int j = 0;;) {
      const Window& window = windows_.window[window_];
      Window& after = windows_.window[window_ ^ 1];
      const bool more = window.more;
      if (j == 0) {
        if (more) {
          decode(after, window.ends ? window.entry + 1 : window.entry,
                 window.ends ? 0 : window.start + kWindowBlocks);
        }
        // Queries come with the first values.
        async_copy_wait<0>();
      } else {
        async_copy_wait<1>();
      }
      __syncthreads();
      const bool last = j + 1 == window.chunks;
      const bool load = !last || more;
      const Window& from = last ? after : window;
      const uint16_t chunk = window.chunk[j];
      const uint16_t next = load ? from.chunk[last ? 0 : j + 1] : uint16_t{0};
      if (load) load_chunk(spare(), from.k, args_.k.row_stride, next);
      async_copy_commit();
      const bool wanted = chunk_wanted(chunk, group);
      Weights weights;
      if (wanted) {
        float s[2][kKvRows / 2];
        multiply_scores(s, keys_);
        const int valid = chunk_place<kRagged>(args_, chunk).valid;
#pragma unroll
        for (int m = 0; m < 2; ++m) {
          if (valid < kKvRows) mask_columns(s[m], 0, valid);
          float alpha[2];
          if (softmax_next(s[m], rows[m], args_.scale_log2, alpha)) scale_rows(o[m], alpha);
          pack_weights<T>(s[m], weights[m]);
        }
      }
      // After the barrier one warp may write over this window.
      const bool ends = last && window.ends;
      if (ends && threadIdx.x == 0) windows_.done = window.rows;
      async_copy_wait<1>();
      __syncthreads();
      if (load) {
        if (ends) load_query(after.rows);
        load_chunk(keys_, from.v, args_.v.row_stride, next);
      }
      async_copy_commit();
      if (wanted) multiply_values(o, weights, values_);
      const uint32_t next_keys = spare();
      values_ = keys_;
      keys_ = next_keys;
      ++j;
      if (!last) continue;
      j = 0;
      window_ ^= 1;
      if (!ends) continue;
      finish(windows_.done, group, o, rows);
      return more;
    }
  }

  // s = the warp's 32 queries times the keys of a slot.
  __device__ __forceinline__ void multiply_scores(float (&s)[2][kKvRows / 2], uint32_t slot) const {
    const uint32_t query = smem_ + (threadIdx.x / 32) * 32 * kRowBytes + lane_;
    const uint32_t key = slot + key_lane_;
#pragma unroll
    for (int k = 0; k < kHeadDim / 16; ++k) {
      uint32_t a[2][4];
#pragma unroll
      for (int m = 0; m < 2; ++m)
        load_matrices(a[m], query + m * 16 * kRowBytes + (unit_ ^ k << 5));
#pragma unroll
      for (int n = 0; n < kKvRows / 16; ++n) {
        uint32_t b[4];
        load_matrices(b, key + n * 16 * kRowBytes + (key_unit_ ^ k << 5));
#pragma unroll
        for (int m = 0; m < 2; ++m) {
          if (k == 0) {
            multiply_first<T>(&s[m][8 * n], a[m], b[0], b[1]);
            multiply_first<T>(&s[m][8 * n + 4], a[m], b[2], b[3]);
          } else {
            multiply<T>(&s[m][8 * n], a[m], b[0], b[1]);
            multiply<T>(&s[m][8 * n + 4], a[m], b[2], b[3]);
          }
        }
      }
    }
  }

  // o += weights times the values of a slot. NOTE: exponentials mixed into these products, those of
  // 16 rows beside the products of the 16 before, are 12 % slower: products then come in bursts.
  __device__ __forceinline__ void multiply_values(Sums& o, const Weights& weights,
                                                  uint32_t slot) const {
    const uint32_t value = slot + lane_;
#pragma unroll
    for (int k = 0; k < kKvRows / 16; ++k) {
#pragma unroll
      for (int n = 0; n < kHeadDim / 16; ++n) {
        uint32_t b[4];
        load_matrices_transposed(b, value + k * 16 * kRowBytes + (unit_ ^ n << 5));
#pragma unroll
        for (int m = 0; m < 2; ++m) {
          multiply<T>(&o[m][8 * n], weights[m][k], b[0], b[1]);
          multiply<T>(&o[m][8 * n + 4], weights[m][k], b[2], b[3]);
        }
      }
    }
  }

  // The end of one list entry.
  __device__ __forceinline__ void finish(const EntryRows& entry, int group, Sums& o,
                                         Softmax& rows) const {
#pragma unroll
    for (int m = 0; m < 2; ++m) rows[m].reduce();
    if (entry.merge == AttentionWork::kPartial) {
      leave_partial(o, rows);
      return;
    }
    for (int k = 1; k <= entry.merge; ++k) merge_partial(static_cast<int>(blockIdx.x) + k, o, rows);
    const int row = group == 0 ? entry.row0 : entry.row1;
    if (row >= 0) store(row, o, rows);
  }

  // A slot lies in register order, a thread's values 128 floats apart.
  __device__ __forceinline__ float* slot_of(int cta) const {
    return args_.slots + cta * attention_slot_floats(kHeadDim) + threadIdx.x;
  }

  __device__ __forceinline__ void leave_partial(const Sums& o, const Softmax& rows) const {
    float* slot = slot_of(static_cast<int>(blockIdx.x));
#pragma unroll
    for (int m = 0; m < 2; ++m) {
#pragma unroll
      for (int i = 0; i < kHeadDim / 2; ++i) {
        __stcg(slot, o[m][i]);
        slot += kAttentionThreads;
      }
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        __stcg(slot, rows[m].max[r]);
        __stcg(slot + kAttentionThreads, rows[m].sum[r]);
        slot += 2 * kAttentionThreads;
      }
    }
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) atomicExch(args_.flags + 2 * blockIdx.x, 1);
  }

  // Takes the slot of another CTA, once it is full.
  __device__ __forceinline__ void merge_partial(int cta, Sums& o, Softmax& rows) const {
    int32_t* flag = args_.flags + 2 * cta;
    if (threadIdx.x == 0) {
      while (atomicAdd(flag, 0) == 0) __nanosleep(64);
      __threadfence();
    }
    __syncthreads();
    const float* slot = slot_of(cta);
#pragma unroll
    for (int m = 0; m < 2; ++m) {
      const float* ends = slot + kHeadDim / 2 * kAttentionThreads;
      float own[2], other[2];
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const float max = __ldcg(ends + 2 * r * kAttentionThreads);
        const float sum = __ldcg(ends + (2 * r + 1) * kAttentionThreads);
        const float both = fmaxf(rows[m].max[r], max);
        // A piece may have had nothing for one of two query blocks: its maximum is -infinity.
        const float from = both == -INFINITY ? 0.f : both;
        own[r] = exp2_fast((rows[m].max[r] - from) * args_.scale_log2);
        other[r] = exp2_fast((max - from) * args_.scale_log2);
        rows[m].max[r] = both;
        rows[m].sum[r] = rows[m].sum[r] * own[r] + sum * other[r];
      }
#pragma unroll
      for (int i = 0; i < kHeadDim / 2; ++i) {
        const int r = i >> 1 & 1;
        o[m][i] = o[m][i] * own[r] + __ldcg(slot + i * kAttentionThreads) * other[r];
      }
      slot = ends + 4 * kAttentionThreads;
    }
    __syncthreads();  // all have read it
    if (threadIdx.x == 0) *flag = 0;
  }

  // Four neighbouring lanes hold a 4 x 4 matrix, a row each: gives each of them a column.
  static __device__ __forceinline__ void transpose(uint32_t (&w)[4]) {
    const auto exchange = [](uint32_t& a, uint32_t& b, int distance) {
      const bool upper = threadIdx.x & static_cast<unsigned>(distance);
      const uint32_t got = __shfl_xor_sync(0xffffffff, upper ? a : b, distance);
      (upper ? a : b) = got;
    };
    exchange(w[0], w[1], 1);
    exchange(w[2], w[3], 1);
    exchange(w[0], w[2], 2);
    exchange(w[1], w[3], 2);
  }

  // Output and logarithms of the warp's rows, in the query block of this row of S_c.
  __device__ __forceinline__ void store(int row, const Sums& o, const Softmax& rows) const {
    const RowPlace at(args_, row);
    const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
    const auto [begin, end] = query_place<kRagged>(args_, at.block);
    const int first = begin + warp * 32 % args_.block_q + lane / 4;
    T* out = static_cast<T*>(args_.out.data) + at.batch * args_.out.batch_stride +
             at.head * args_.out.head_stride + 8 * (lane % 4);
#pragma unroll
    for (int m = 0; m < 2; ++m) {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const int token = first + 16 * m + 8 * r;
        const float inverse = 1.f / rows[m].sum[r];
#pragma unroll
        for (int g = 0; g < kHeadDim / 32; ++g) {
          uint32_t w[4];
#pragma unroll
          for (int j = 0; j < 4; ++j) {
            const float* v = &o[m][16 * g + 4 * j + 2 * r];
            w[j] = pack_pair<T>(v[0] * inverse, v[1] * inverse);
          }
          transpose(w);
          if (token < end) {
            *reinterpret_cast<uint4*>(out + token * args_.out.row_stride + 32 * g) =
                make_uint4(w[0], w[1], w[2], w[3]);
          }
        }
        if (args_.lse && lane % 4 == 0 && token < end) {
          args_.lse[at.batch * args_.lse_batch_stride + at.head * args_.lse_head_stride + token] =
              rows[m].max[r] * args_.scale + logf(rows[m].sum[r]);
        }
      }
    }
  }

  const AttentionArgs& args_;
  const uint32_t smem_;  // the queries
  // Slots of a chunk's keys and values.
  uint32_t keys_ = smem_ + kQueryBytes, values_ = keys_ + kSlotBytes;
  Windows& windows_;
  int window_ = 0;
  // Where this lane's rows of 16 x 16 elements start, and which unit: of queries and values, keys.
  uint32_t lane_, unit_, key_lane_, key_unit_;
};

template <class T, int kHeadDim, bool kRagged>
__global__ void __launch_bounds__(kAttentionThreads, 2)
    attention_kernel(const __grid_constant__ AttentionArgs args) {
  extern __shared__ __align__(128) char smem[];
  AttentionCta<T, kHeadDim, kRagged>(args, smem).run();
}

// kRagged: for symbols of ragged blocks.
template <class T, int kHeadDim, bool kRagged>
cudaError_t launch_instance(const AttentionArgs& args, int grid, cudaStream_t stream) {
  constexpr int kShared = static_cast<int>(attention_shared_bytes(kHeadDim));
  const auto kernel = attention_kernel<T, kHeadDim, kRagged>;
  // For the current device, so every time: it costs the host less than the launch.
  const cudaError_t ready =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kShared);
  if (ready != cudaSuccess) return ready;
  kernel<<<grid, kAttentionThreads, kShared, stream>>>(args);
  return cudaGetLastError();
}

}  // namespace flashomni::cuda::sm80
