// SPDX-License-Identifier: Apache-2.0
//
// sum |x - y| and sum |y|: over blocks of tokens a head, or over whole tensors in two steps, the
// second of which adds up the parts. Both sides are read once, 8 neighbouring values at a time
// where addresses allow it.
#include <algorithm>

#include "cuda/error.h"
#include "cuda/kernels/common/block.cuh"
#include "cuda/kernels/common/chain.cuh"
#include "cuda/kernels/common/element.cuh"
#include "cuda/kernels/symbols/scores.h"

namespace flashomni::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kVector = 8;

struct Side {
  void* data;
  DType dtype;
  int64_t batch, row, head;
};

struct ChangeArgs {
  Side x, y;
  int64_t rows;
  int heads, blocks, width, block;
  bool relative;
  float* out;  // one number a block, or
  int64_t out_batch, out_head;
  double* parts;  // both sums
  int64_t parts_batch, parts_block;
};

// A CTA a (batch, block, head), heads innermost.
template <int kStep>
__global__ __launch_bounds__(kThreads) void change_kernel(ChangeArgs a) {
  __shared__ double scratch[kBlockScratch];
  chain_release();
  chain_wait();
  const int h = static_cast<int>(blockIdx.x % a.heads);
  const int i = static_cast<int>(blockIdx.x / a.heads % a.blocks);
  const int b = static_cast<int>(blockIdx.x / a.heads / a.blocks);
  const int64_t first = int64_t{i} * a.block;
  const int64_t x_at = b * a.x.batch + first * a.x.row + h * a.x.head;
  const int64_t y_at = b * a.y.batch + first * a.y.row + h * a.y.head;
  const int rows = static_cast<int>(min(static_cast<int64_t>(a.block), a.rows - first));
  const unsigned steps = a.width / kStep;  // of a row
  const unsigned all = static_cast<unsigned>(rows) * steps;
  double difference = 0, magnitude = 0;
#pragma unroll 4
  for (unsigned n = threadIdx.x; n < all; n += kThreads) {
    const int64_t row = n / steps, column = n % steps * kStep;
    float x[kStep], y[kStep];
    load_elements<kStep>(a.x.data, a.x.dtype, x_at + row * a.x.row + column, x);
    load_elements<kStep>(a.y.data, a.y.dtype, y_at + row * a.y.row + column, y);
    float differences = 0, magnitudes = 0;
#pragma unroll
    for (int e = 0; e < kStep; ++e) {
      differences += fabsf(x[e] - y[e]);
      magnitudes += fabsf(y[e]);
    }
    difference += differences;
    magnitude += magnitudes;
  }
  difference = block_reduce(difference, 0.0, Add{}, scratch);
  magnitude = block_reduce(magnitude, 0.0, Add{}, scratch);
  if (threadIdx.x != 0) return;
  if (a.parts) {
    double* const part = a.parts + b * a.parts_batch + i * a.parts_block;
    part[0] = difference;
    part[1] = magnitude;
  } else {
    const double change = !a.relative     ? difference
                          : magnitude > 0 ? difference / magnitude
                                          : (difference > 0 ? 1.0 : 0.0);
    a.out[b * a.out_batch + h * a.out_head + i] = static_cast<float>(change);
  }
}

// One CTA.
__global__ __launch_bounds__(kThreads) void add_parts_kernel(const double* parts, int64_t batch,
                                                             int64_t pieces, int64_t parts_batch,
                                                             int64_t parts_block, ChangeSums* out) {
  __shared__ double scratch[kBlockScratch];
  chain_release();
  chain_wait();
  double difference = 0, magnitude = 0;
  for (int64_t n = threadIdx.x; n < batch * pieces; n += kThreads) {
    const double* const part = parts + n / pieces * parts_batch + n % pieces * parts_block;
    difference += part[0];
    magnitude += part[1];
  }
  difference = block_reduce(difference, 0.0, Add{}, scratch);
  magnitude = block_reduce(magnitude, 0.0, Add{}, scratch);
  if (threadIdx.x == 0) {
    out->difference = difference;
    out->magnitude = magnitude;
  }
}

bool takes_vectors(const TensorView& v) {
  bool aligned = reinterpret_cast<uintptr_t>(v.data) % 16 == 0 && v.size(v.rank - 1) % kVector == 0;
  for (int i = 0; i + 1 < v.rank; ++i) {
    aligned = aligned && (v.size(i) == 1 || v.stride[i] % kVector == 0);
  }
  return aligned;
}

cudaError_t launch_change(cudaStream_t stream, const ChangeArgs& args, int64_t batch,
                          bool vectors) {
  const auto kernel = vectors ? change_kernel<kVector> : change_kernel<1>;
  return launch_chained(kernel, static_cast<unsigned>(batch * args.blocks * args.heads), kThreads,
                        0, stream, args);
}

}  // namespace

Status block_change(cudaStream_t stream, const BlockChangeParams& p) {
  if (p.out.numel() == 0) return ok_status();
  ChangeArgs args{};
  args.x = {p.x.data, p.x.dtype, p.x.stride[0], p.x.stride[1], p.x.stride[2]};
  args.y = {p.y.data, p.y.dtype, p.y.stride[0], p.y.stride[1], p.y.stride[2]};
  args.rows = p.x.size(1);
  args.heads = static_cast<int>(p.x.size(2));
  args.blocks = static_cast<int>(p.out.size(2));
  args.width = static_cast<int>(p.x.size(3));
  args.block = p.block;
  args.relative = p.relative;
  args.out = p.out.as<float>();
  args.out_batch = p.out.stride[0];
  args.out_head = p.out.stride[1];
  return cuda_status(
      launch_change(stream, args, p.x.size(0), takes_vectors(p.x) && takes_vectors(p.y)),
      "launching block_change");
}

Status measure_change(cudaStream_t stream, const MeasureChangeParams& p, ChangeSums* sums) {
  const TensorView& w = p.workspace;
  if (p.x.numel() > 0) {
    ChangeArgs args{};
    args.x = {p.x.data, p.x.dtype, p.x.stride[0], p.x.stride[1], 0};
    args.y = {p.y.data, p.y.dtype, p.y.stride[0], p.y.stride[1], 0};
    args.rows = p.x.size(1);
    args.heads = 1;
    args.blocks = static_cast<int>(w.size(1));
    args.width = static_cast<int>(p.x.size(2));
    args.block = MeasureChangeParams::kRows;
    args.parts = w.as<double>();
    args.parts_batch = w.stride[0];
    args.parts_block = w.stride[1];
    FO_CUDA(launch_change(stream, args, p.x.size(0), takes_vectors(p.x) && takes_vectors(p.y)),
            "launching measure_change");
  }
  const int64_t batch = p.x.numel() > 0 ? w.size(0) : 0;  // nothing adds up to 0
  return cuda_status(
      launch_chained(add_parts_kernel, 1, kThreads, 0, stream,
                     static_cast<const double*>(w.as<double>()), batch,
                     std::max<int64_t>(1, w.size(1)), w.stride[0], w.stride[1], sums),
      "launching measure_change");
}

}  // namespace flashomni::cuda
