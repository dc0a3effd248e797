// SPDX-License-Identifier: Apache-2.0
#include "cuda/gemm_portable.h"

#include "cuda/error.h"
#include "cuda/gemm_plan.h"
#include "cuda/gemm_q_symbols.h"
#include "cuda/kernels/sm80/gemm_args.h"
#include "cuda/packed_weight.h"

namespace flashomni::cuda {
namespace {

static_assert(GemmOParams::kMaxPlanes == sm80::kGemmPlanes);

sm80::RowsOf rows_of(const TensorView& v) {
  if (!v) return {};
  return {v.data, v.stride[0], v.stride[1]};
}

sm80::GemmQSection make_section(const GemmQParams& p) {
  const CudaPackedWeight& weight = *cuda_weight(p.weight);
  const int head_dim = static_cast<int>(p.out.size(3));
  sm80::GemmQSection s = {};
  s.weight = weight.data();
  s.bias = weight.bias();
  s.rms_weight = p.rms_weight.as<float>();
  s.rms_eps = p.rms_eps;
  if (p.rope) {
    s.cos = p.rope.cos.as<float>() + p.token_offset * p.rope.cos.stride[0];
    s.sin = p.rope.sin.as<float>() + p.token_offset * p.rope.sin.stride[0];
    s.cos_stride = p.rope.cos.stride[0];
    s.sin_stride = p.rope.sin.stride[0];
  }
  s.out = p.out.slice(1, p.token_offset, p.token_offset).data;
  s.out_batch_stride = p.out.stride[0];
  s.out_row_stride = p.out.stride[1];
  s.out_head_stride = p.out.stride[2];
  s.heads = static_cast<int32_t>(p.out.size(2));
  s.groups = static_cast<int32_t>(ceil_div(s.heads, sm80::gemm_q_heads(head_dim)));
  return s;
}

}  // namespace

Status gemm_q_portable(cudaStream_t stream, const Launcher& launcher,
                       std::span<const GemmQParams* const> sections) {
  const GemmQParams& last = *sections.back();
  sm80::GemmQArgs args = {};
  args.x = rows_of(last.x);
  args.depth = static_cast<int32_t>(last.x.size(2));
  for (size_t i = 0; i < sections.size(); ++i) args.sections[i] = make_section(*sections[i]);
  args.num_sections = static_cast<int32_t>(sections.size());
  args.num_dense = args.num_sections - (last.symbols ? 1 : 0);
  args.batch = static_cast<int32_t>(last.x.size(0));
  args.rows = static_cast<int32_t>(last.x.size(1));
  args.token_offset = last.token_offset;
  if (last.symbols) take_symbols(last, args);
  return cuda_status(sm80::launch_gemm_q(args, last.x.dtype, static_cast<int>(last.out.size(3)),
                                         launcher.sms, stream),
                     "launching GEMM-Q");
}

Status gemm_o_portable(cudaStream_t stream, const GemmOParams& p,
                       std::span<const TensorView> features, bool update, const void* gemm_plan) {
  const CudaPackedWeight& weight = *cuda_weight(p.weight);
  sm80::GemmOArgs args = {};
  for (size_t m = 0; m < features.size(); ++m) {
    const TensorView& f = features[m];
    args.features[m] = {f.data, f.stride[0], f.stride[1], f.stride[2]};
  }
  args.mlp = rows_of(p.mlp);
  args.mlp_features = p.mlp ? static_cast<int32_t>(p.mlp.size(2)) : 0;
  args.weight = weight.data();
  args.depth = static_cast<int32_t>(weight.in_features());
  args.width = static_cast<int32_t>(weight.out_features());
  args.bias = weight.bias();
  args.batch = static_cast<int32_t>(features[0].size(0));
  args.heads = static_cast<int32_t>(features[0].size(2));
  args.rows = p.rows;
  args.token_offset = p.token_offset;

  if (update) args.num_written = p.num_planes;
  for (int m = 0; (update || p.symbols) && m < p.num_planes; ++m) {
    if (update) {
      args.planes[m] = rows_of(p.planes[m]);
    } else if (p.coefficients[m] != 0) {  // else not read: it may hold anything
      args.coefficients[args.num_read] = p.coefficients[m];
      args.planes[args.num_read++] = rows_of(p.planes[m]);
    }
  }

  // With symbols tiles are those of the joint sequence, so that none holds rows of two query
  // blocks' tiles.
  const int origin = p.symbols ? 0 : p.token_offset;
  args.tile_origin = origin;
  args.first_tile = (p.token_offset - origin) / kGemmTileRows;
  args.num_tiles = static_cast<int32_t>(ceil_div(p.token_offset - origin + p.rows, kGemmTileRows)) -
                   args.first_tile;
  args.head_words = (args.heads + 63) / 64;
  if (p.symbols) {
    const GemmPlanLayout layout(p.symbols.geometry);
    const char* section = static_cast<const char*>(gemm_plan);
    args.head_sets = reinterpret_cast<const uint64_t*>(section + layout.heads);
    args.order_tiles = layout.tiles;
    // A part of the sequence is walked as it lies.
    if (args.num_tiles == layout.tiles) {
      args.order = reinterpret_cast<const uint32_t*>(section + layout.order);
    }
    args.num_q_blocks = p.symbols.geometry.num_q_blocks();
    args.block_rows = p.symbols.geometry.block_q;
  }
  args.out = rows_of(p.out);
  args.residual = rows_of(p.residual);
  args.gate = p.gate.as<float>();
  args.gate_batch_stride = p.gate.stride[0];
  const int head_dim = static_cast<int>(features[0].size(3));
  return cuda_status(sm80::launch_gemm_o(args, features[0].dtype, head_dim, stream),
                     "launching GEMM-O");
}

}  // namespace flashomni::cuda
