// SPDX-License-Identifier: Apache-2.0
//
// GEMM-O for any GPU from sm_80 on, dispatch and update form: a CTA a tile of 128 x 128, those with
// most active heads first. Only the columns of k that belong to heads wanted in a tile are loaded.
#include "cuda/kernels/sm80/gemm_tile.cuh"

namespace flashomni::cuda::sm80 {
namespace {

constexpr int kTileRows = 128;
constexpr int kHalfRows = 64;

template <class T>
using Tile = GemmTile<T, kTileRows, 128, 64, 64>;

// The heads of one pass over k. kCached comes first: with the update form the sums hold the bias
// plane when it ends, and go on to the full result from there.
enum Pass : int { kCached = 0, kActive = 1 };

struct Place {
  int plane, batch, tile, row, column;
  int first_pass, last_pass;
};

__device__ __forceinline__ Place locate(const GemmOArgs& p, int columns) {
  const int row_tiles = p.batch * p.num_tiles;
  const int position = static_cast<int>(blockIdx.x);
  Place at;
  int rank = position / p.column_tiles;
  at.plane = rank / row_tiles;
  rank %= row_tiles;
  // Higher planes take the cached heads only: turned round, most of those come first.
  if (at.plane > 0) rank = row_tiles - 1 - rank;
  if (p.order) {
    const int entry = static_cast<int>(p.order[rank]);
    at.batch = entry / p.order_tiles;
    at.tile = entry % p.order_tiles;
  } else {
    at.batch = rank / p.num_tiles;
    at.tile = p.first_tile + rank % p.num_tiles;
  }
  at.row = p.tile_origin + at.tile * kTileRows;
  at.column = position % p.column_tiles * columns;
  at.first_pass = p.num_written > 0 ? kCached : kActive;
  at.last_pass = at.plane == 0 && (p.out.data || p.residual.data) ? kActive : kCached;
  return at;
}

// Word w of the heads that a pass multiplies in one half of a tile.
__device__ __forceinline__ uint64_t pass_heads(const GemmOArgs& p, const Place& at, int pass,
                                               int half, int w) {
  const int first_row = at.row + half * kHalfRows - p.token_offset;
  if (first_row + kHalfRows <= 0 || first_row >= p.rows) return 0;
  const int count = p.heads - 64 * w;
  const uint64_t all = count >= 64 ? ~uint64_t{0} : (uint64_t{1} << count) - 1;
  uint64_t active = all;
  if (p.head_sets) {
    const int block = p.block_rows == kTileRows ? at.tile : 2 * at.tile + half;
    active = p.head_sets[(int64_t{at.batch} * p.num_q_blocks + block) * p.head_words + w];
  }
  return pass == kActive ? active : all & ~active;
}

// Heads of each half in each pass, in shared memory.
using HeadSets = uint64_t[2][2][kGemmHeadWords];

// Walks the heads of either half of a pass, kSteps steps of k each.
template <int kSteps>
class HeadWalk {
 public:
  __device__ __forceinline__ HeadWalk(const uint64_t (&sets)[2][kGemmHeadWords]) : sets_(sets) {}

  // Of the next step. REQUIRES: there is one.
  __device__ __forceinline__ int head() {
    if (step_ == 0) {
      while (left_ == 0) {
        ++word_;
        left_ = sets_[0][word_] | sets_[1][word_];
      }
      head_ = 64 * word_ + __ffsll(static_cast<long long>(left_)) - 1;
      left_ &= left_ - 1;
    }
    return head_;
  }
  // Which one of the head's steps this is; goes on to the next.
  __device__ __forceinline__ int step() {
    const int step = step_;
    step_ = step + 1 == kSteps ? 0 : step + 1;
    return step;
  }
  __device__ __forceinline__ bool wanted(int half) const {
    return sets_[half][word_] >> (head_ % 64) & 1;
  }

 private:
  const uint64_t (&sets_)[2][kGemmHeadWords];
  uint64_t left_ = 0;
  int word_ = -1, head_ = 0, step_ = 0;
};

template <class T>
__device__ __forceinline__ T* at_row(const RowsOf& rows, int batch, int row, int column) {
  return static_cast<T*>(rows.data) + batch * rows.batch_stride + row * rows.row_stride + column;
}

// The rows and columns of this thread, and what lies there, 8 columns at a time.
template <class Tile>
class Part {
 public:
  using T = typename Tile::T;
  using Sums = typename Tile::Sums;
  // Of two rows, 8 columns in each group of 32.
  using Vectors = uint4[2][Tile::kGroups];

  __device__ __forceinline__ Part(const GemmOArgs& p, const Place& at)
      : p_(p),
        batch_(at.batch),
        row_(at.row + Tile::first_row() + static_cast<int>(threadIdx.x % 32) / 4),
        column_(at.column + Tile::first_column() + 8 * static_cast<int>(threadIdx.x % 4)) {}

  // The sums begin with the bias, or with the first plane.
  __device__ __forceinline__ void start(Sums& d, const Place& at) const {
    // In the dispatch form plane 0 holds the bias, rounded to T: it is rounded here too, so that a
    // layer without cached heads gives the dense result bit for bit.
    const bool with_bias = p_.bias && at.plane == 0 && (!p_.head_sets || p_.num_written > 0);
    if (at.last_pass != kActive || p_.num_read == 0) {
      start_sums<Tile>(d, [&](int g, float(&v)[8]) {
#pragma unroll
        for (int i = 0; i < 8; ++i) v[i] = 0;
        if (!with_bias || !has_columns(g)) return;
        load8(p_.bias + column_ + 32 * g, v);
#pragma unroll
        for (int i = 0; i < 8; ++i) v[i] = Packed<T>::round(v[i]);
      });
      return;
    }
    Vectors plane[Tile::kM];  // all on their way before the first is used
#pragma unroll
    for (int m = 0; m < Tile::kM; ++m) read(p_.planes[0], m, 0, plane[m]);
#pragma unroll
    for (int m = 0; m < Tile::kM; ++m) {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
#pragma unroll
        for (int g = 0; g < Tile::kGroups; ++g) {
          float v[8];
          unpack8<T>(plane[m][r][g], v);
#pragma unroll
          for (int i = 0; i < 8; ++i) d[m][accumulator(g, r, i)] = v[i] * p_.coefficients[0];
        }
      }
    }
  }

  __device__ __forceinline__ void store_plane(const Sums& d, int plane) const {
#pragma unroll
    for (int m = 0; m < Tile::kM; ++m) {
      for_each(m, [&](int r, int g) {
        float v[8];
        sums_of(d, m, r, g, v);
        store8(at_row<T>(p_.planes[plane], batch_, row(m, r), column_ + 32 * g), v);
      });
    }
  }

  // y = the sums and all planes but the first; out = y, residual += gate * y.
  __device__ __forceinline__ void store_result(Sums& d) const {
    float gate[Tile::kGroups][8];
#pragma unroll
    for (int g = 0; g < Tile::kGroups; ++g) {
#pragma unroll
      for (int i = 0; i < 8; ++i) gate[g][i] = 1;
      if (p_.gate && has_columns(g)) {
        load8(p_.gate + batch_ * p_.gate_batch_stride + column_ + 32 * g, gate[g]);
      }
    }
#pragma unroll
    for (int m = 0; m < Tile::kM; ++m) {
      Vectors vectors;
      float v[8], y[8];
      for (int n = 1; n < p_.num_read; ++n) {
        read(p_.planes[n], m, 0, vectors);
        for_each(m, [&](int r, int g) {
          unpack8<T>(vectors[r][g], v);
#pragma unroll
          for (int i = 0; i < 8; ++i) {
            float& sum = d[m][accumulator(g, r, i)];
            sum = fmaf(p_.coefficients[n], v[i], sum);
          }
        });
      }
      if (p_.residual.data) read(p_.residual, m, p_.token_offset, vectors);
      for_each(m, [&](int r, int g) {
        sums_of(d, m, r, g, y);
        const int segment_row = row(m, r) - p_.token_offset, column = column_ + 32 * g;
        if (p_.out.data) store8_streaming(at_row<T>(p_.out, batch_, segment_row, column), y);
        if (!p_.residual.data) return;
        unpack8<T>(vectors[r][g], v);
#pragma unroll
        for (int i = 0; i < 8; ++i) v[i] = fmaf(gate[g][i], y[i], v[i]);
        store8(at_row<T>(p_.residual, batch_, segment_row, column), v);
      });
    }
  }

 private:
  // Of the joint sequence.
  __device__ __forceinline__ int row(int m, int r) const {
    return row_ + 16 * m + 8 * r;
  }
  __device__ __forceinline__ bool has_row(int m, int r) const {
    return row(m, r) >= p_.token_offset && row(m, r) < p_.token_offset + p_.rows;
  }
  __device__ __forceinline__ bool has_columns(int g) const {
    return column_ + 32 * g < p_.width;
  }

  // f(r, g) for all that exist.
  template <class F>
  __device__ __forceinline__ void for_each(int m, F&& f) const {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
#pragma unroll
      for (int g = 0; g < Tile::kGroups; ++g) {
        if (has_row(m, r) && has_columns(g)) f(r, g);
      }
    }
  }

  static __device__ __forceinline__ void sums_of(const Sums& d, int m, int r, int g,
                                                 float (&v)[8]) {
#pragma unroll
    for (int i = 0; i < 8; ++i) v[i] = d[m][accumulator(g, r, i)];
  }

  // Zero where there is nothing. Row 0 of `rows` is row `first` of the joint sequence.
  __device__ __forceinline__ void read(const RowsOf& rows, int m, int first,
                                       Vectors& vectors) const {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
#pragma unroll
      for (int g = 0; g < Tile::kGroups; ++g) {
        vectors[r][g] = make_uint4(0, 0, 0, 0);
        if (has_row(m, r) && has_columns(g)) {
          vectors[r][g] = *reinterpret_cast<const uint4*>(
              at_row<T>(rows, batch_, row(m, r) - first, column_ + 32 * g));
        }
      }
    }
  }

  const GemmOArgs& p_;
  const int batch_;
  const int row_, column_;  // the first ones
};

// One pass over k.
template <class Tile, int kHeadDim, class Begin>
__device__ __forceinline__ void multiply_pass(typename Tile::Sums& d, const GemmOArgs& p,
                                              const Place& at, int pass,
                                              const uint64_t (&sets)[2][kGemmHeadWords],
                                              uint32_t smem, Begin&& begin) {
  using T = typename Tile::T;
  constexpr int kSteps = kHeadDim / kGemmBlockK;
  int heads = 0;
  bool alike = true;
  for (int w = 0; w < p.head_words; ++w) {
    heads += __popcll(sets[0][w] | sets[1][w]);
    alike = alike && sets[0][w] == sets[1][w];
  }
  const int head_steps = heads * kSteps;
  const int mlp_steps = pass == kActive ? (p.mlp_features + kGemmBlockK - 1) / kGemmBlockK : 0;

  // This thread's rows; those outside the segment count as zero.
  const int row = at.row + Tile::copy_row();
  uint32_t exists = 0;
#pragma unroll
  for (int i = 0; i < Tile::kCopiesA; ++i) {
    const int n = row + i * Tile::kCopyRows - p.token_offset;
    exists |= (n >= 0 && n < p.rows ? 1u : 0u) << i;
  }
  const HeadRows& view = p.features[at.plane];
  const int64_t stride = view.row_stride, head_stride = view.head_stride;
  const T* const features = static_cast<const T*>(view.data) + at.batch * view.batch_stride +
                            row * stride + Tile::copy_column();
  const T* const mlp = static_cast<const T*>(p.mlp.data) + at.batch * p.mlp.batch_stride +
                       (row - p.token_offset) * p.mlp.row_stride + Tile::copy_column();
  const int first_column = at.column + Tile::copy_row_b();
  const T* const weight =
      static_cast<const T*>(p.weight) + int64_t{first_column} * p.depth + Tile::copy_column();

  HeadWalk<kSteps> walk(sets);
  int loaded = 0;
  const auto load = [&](uint32_t a, uint32_t b) {
    const T* from;
    int64_t row_stride;
    int k;
    bool inside = true;
    if (loaded < head_steps) {
      const int head = walk.head(), part = walk.step() * kGemmBlockK;
      from = features + head * head_stride + part;
      row_stride = stride;
      k = head * kHeadDim + part;
    } else {
      const int column = (loaded - head_steps) * kGemmBlockK;
      from = mlp + column;
      row_stride = p.mlp.row_stride;
      k = p.heads * kHeadDim + column;
      inside = column + Tile::copy_column() < p.mlp_features;
    }
    ++loaded;
#pragma unroll
    for (int i = 0; i < Tile::kCopiesA; ++i) {
      async_copy_16(a + i * Tile::kCopyRows * Tile::kRowBytes,
                    from + i * Tile::kCopyRows * row_stride, inside && (exists >> i & 1));
    }
#pragma unroll
    for (int i = 0; i < Tile::kCopiesB; ++i) {
      async_copy_16(b + i * Tile::kCopyRows * Tile::kRowBytes,
                    weight + int64_t{i} * Tile::kCopyRows * p.depth + k,
                    inside && first_column + i * Tile::kCopyRows < p.width);
    }
  };

  if (alike) {
    Tile::template multiply_all<false>(smem, d, head_steps + mlp_steps, load, begin,
                                       [] { return true; });
    return;
  }
  HeadWalk<kSteps> taken(sets);
  int step = 0;
  const int half = Tile::first_row() / kHalfRows;
  Tile::template multiply_all<false>(smem, d, head_steps + mlp_steps, load, begin, [&] {
    if (step++ >= head_steps) return true;
    taken.head();
    taken.step();
    return taken.wanted(half);
  });
}

template <class T, int kHeadDim>
__global__ void __launch_bounds__(Tile<T>::kThreads, 2)
    gemm_o_kernel(const __grid_constant__ GemmOArgs p) {
  using Tile = Tile<T>;
  extern __shared__ __align__(128) char memory[];
  __shared__ HeadSets sets;
  const Place at = locate(p, Tile::kColumns);
  if (static_cast<int>(threadIdx.x) < p.head_words) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      sets[i / 2][i % 2][threadIdx.x] =
          pass_heads(p, at, i / 2, i % 2, static_cast<int>(threadIdx.x));
    }
  }
  __syncthreads();
  const Part<Tile> part(p, at);
  typename Tile::Sums d;
  for (int pass = at.first_pass; pass <= at.last_pass; ++pass) {
    multiply_pass<Tile, kHeadDim>(d, p, at, pass, sets[pass], smem_address(memory), [&] {
      if (pass == at.first_pass) part.start(d, at);
    });
    if (pass == kCached) {
      part.store_plane(d, at.plane);
    } else {
      part.store_result(d);
    }
  }
}

template <class T, int kHeadDim>
cudaError_t launch(const GemmOArgs& args, cudaStream_t stream) {
  const auto kernel = gemm_o_kernel<T, kHeadDim>;
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, Tile<T>::kBytes);
  if (error != cudaSuccess) return error;
  GemmOArgs p = args;
  p.column_tiles = (p.width + Tile<T>::kColumns - 1) / Tile<T>::kColumns;
  const int planes = p.num_written > 0 ? p.num_written : 1;
  const unsigned grid = static_cast<unsigned>(p.batch * p.num_tiles * p.column_tiles * planes);
  kernel<<<grid, Tile<T>::kThreads, Tile<T>::kBytes, stream>>>(p);
  return cudaGetLastError();
}

template <class T>
cudaError_t launch(const GemmOArgs& args, int head_dim, cudaStream_t stream) {
  switch (head_dim) {
    case 64:
      return launch<T, 64>(args, stream);
    case 96:
      return launch<T, 96>(args, stream);
    case 128:
      return launch<T, 128>(args, stream);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace

cudaError_t launch_gemm_o(const GemmOArgs& args, DType dtype, int head_dim, cudaStream_t stream) {
  return dtype == DType::kBF16 ? launch<__nv_bfloat16>(args, head_dim, stream)
                               : launch<__half>(args, head_dim, stream);
}

}  // namespace flashomni::cuda::sm80
