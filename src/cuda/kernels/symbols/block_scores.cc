// SPDX-License-Identifier: Apache-2.0
#include <cmath>

#include "cuda/kernels/linear/plain_matmul.h"
#include "cuda/kernels/symbols/pooling.h"

namespace flashomni::cuda {

Status block_scores(cudaStream_t stream, const BlockScoresParams& p) {
  PlainMatmul m;
  m.batch = p.q.size(0);
  m.heads = p.q.size(1);
  m.rows = p.q.size(2);
  m.columns = p.k.size(2);
  m.depth = p.q.size(3);
  m.x = p.q;
  m.x_batch = p.q.stride[0];
  m.x_head = p.q.stride[1];
  m.x_row = p.q.stride[2];
  m.w = p.k;
  m.w_batch = p.k.stride[0];
  m.w_head = p.k.stride[1];
  m.w_row = p.k.stride[2];
  m.out = p.out;
  m.out_batch = p.out.stride[0];
  m.out_head = p.out.stride[1];
  m.out_row = p.out.stride[2];
  m.scale = p.scale != 0.f ? p.scale : 1.f / std::sqrt(static_cast<float>(m.depth));
  return plain_matmul(stream, m);
}

}  // namespace flashomni::cuda
