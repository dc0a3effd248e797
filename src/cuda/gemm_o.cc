// SPDX-License-Identifier: Apache-2.0
#include "cuda/gemm_o.h"

#include <algorithm>
#include <climits>
#include <span>
#include <string>

#include "base/ceil_div.h"
#include "cuda/checks.h"
#include "cuda/error.h"
#include "cuda/gemm_config.h"
#include "cuda/gemm_plan.h"
#include "cuda/gemm_portable.h"
#include "cuda/kernels/sm90/gemm_args.h"

namespace flashomni::cuda {
namespace {

static_assert(GemmOParams::kMaxPlanes == sm90::kGemmOMaxPlanes);
static_assert(kGemmTileRows == sm90::kGemmORows);

// The row tiles of a call: tile t starts at token origin + t * 128. With symbols tiles are those of
// the joint sequence, so that none holds rows of two query blocks' tiles.
struct RowTiles {
  int64_t origin, first, count;
  int64_t in_order;  // tiles of a batch item in the plan

  explicit RowTiles(const GemmOParams& p) {
    origin = p.symbols ? 0 : p.token_offset;
    first = (p.token_offset - origin) / kGemmTileRows;
    count = ceil_div(p.token_offset - origin + p.rows, kGemmTileRows) - first;
    in_order = p.symbols ? GemmPlanLayout(p.symbols.geometry).tiles : count;
  }
};

Status check_common(const char* operation, const GemmOParams& p, const char* name,
                    const TensorView& features) {
  if (!features || features.rank != 4) {
    return wanted(name, features ? features.to_string() : "missing", "rank 4");
  }
  const int64_t batch = features.size(0), tokens = features.size(1), heads = features.size(2);
  const int64_t d = features.size(3);
  const DType dtype = features.dtype;
  FO_RETURN_IF_ERROR(check_gemm_kernel(operation, dtype, d));
  FO_RETURN_IF_ERROR(check_operand(name, features, dtype, {batch, tokens, heads, d}));
  if (heads > 64 * sm90::kGemmOHeadWords) {
    return unsupported("number of heads is " + std::to_string(heads) + ", wanted at most " +
                       std::to_string(64 * sm90::kGemmOHeadWords) + " on a GPU");
  }
  FO_RETURN_IF_ERROR(check_gemm_segment(p.token_offset, p.rows, tokens));
  int64_t in = heads * d;
  if (p.mlp) {
    if (p.mlp.rank != 3) return wanted("mlp", p.mlp.to_string(), "rank 3");
    FO_RETURN_IF_ERROR(check_operand("mlp", p.mlp, dtype, {batch, p.rows, p.mlp.size(2)}));
    in += p.mlp.size(2);
  }
  FO_RETURN_IF_ERROR(check_gemm_weight(p.weight, dtype, in, 0, 0));
  const int64_t width = p.weight->out_features();
  FO_RETURN_IF_ERROR(check_optional_operand("out", p.out, dtype, {batch, p.rows, width}));
  FO_RETURN_IF_ERROR(check_optional_operand("residual", p.residual, dtype, {batch, p.rows, width}));
  FO_RETURN_IF_ERROR(check_optional_operand("gate", p.gate, DType::kF32, {batch, width}));
  FO_RETURN_IF_ERROR(check_gemm_symbols(p.symbols, batch, heads, tokens));

  const RowTiles tiles(p);
  if (tiles.count != tiles.in_order && batch * tiles.in_order > sm90::kGemmOMaxPicked) {
    return unsupported("batch x tokens is " + std::to_string(batch) + " x " +
                       std::to_string(tokens) + ", wanted at most " +
                       std::to_string(sm90::kGemmOMaxPicked) +
                       " tiles of 128 tokens for a part of the sequence on a GPU");
  }
  const int64_t all = batch * tiles.count * ceil_div(width, sm90::kGemmOColumns);
  if (all <= INT_MAX / 2 / sm90::kGemmOMaxPlanes) return ok_status();
  return unsupported(std::string(name) + " is " + features.to_string() +
                     ", wanted fewer rows on a GPU");
}

Status check_planes(const GemmOParams& p, const TensorView& features) {
  if (p.num_planes < 1 || p.num_planes > GemmOParams::kMaxPlanes) {
    return wanted("num_planes", std::to_string(p.num_planes),
                  "1.." + std::to_string(GemmOParams::kMaxPlanes));
  }
  const int64_t width = p.weight->out_features();
  for (int m = 0; m < p.num_planes; ++m) {
    const std::string name = "planes[" + std::to_string(m) + "]";
    FO_RETURN_IF_ERROR(check_operand(name.c_str(), p.planes[m], features.dtype,
                                     {features.size(0), features.size(1), width}));
  }
  return ok_status();
}

sm90::GemmOPlane make_plane(const TensorView& plane, float coefficient) {
  return {plane.data, plane.stride[0], plane.stride[1], coefficient};
}

// Everything but features and planes.
Status make_args(const Launcher& launcher, const GemmOParams& p, const TensorView& features,
                 const void* gemm_plan, sm90::GemmOArgs& args) {
  const CudaPackedWeight& weight = *cuda_weight(p.weight);
  FO_ASSIGN_OR_RETURN(args.weight, launcher.maps.get(weight_map(weight, sm90::kGemmOColumns)));
  FO_ASSIGN_OR_RETURN(args.half_weight,
                      launcher.maps.get(weight_map(weight, sm90::kGemmOColumns / 2)));
  args.batch = static_cast<int32_t>(features.size(0));
  args.tokens = static_cast<int32_t>(features.size(1));
  args.heads = static_cast<int32_t>(features.size(2));
  args.rows = p.rows;
  args.token_offset = p.token_offset;
  args.width = static_cast<int32_t>(weight.out_features());
  args.bias = weight.bias();
  if (p.mlp && p.mlp.size(2) > 0) {
    FO_ASSIGN_OR_RETURN(args.mlp, launcher.maps.get(rows_map(p.mlp, sm90::kGemmORows)));
    args.mlp_steps = static_cast<int32_t>(ceil_div(p.mlp.size(2), sm90::kGemmBlockK));
    args.mlp_column = static_cast<int32_t>(features.size(2) * features.size(3));
  }

  const RowTiles tiles(p);
  args.tile_origin = static_cast<int32_t>(tiles.origin);
  args.first_tile = static_cast<int32_t>(tiles.first);
  args.num_tiles = static_cast<int32_t>(tiles.count);
  args.order_tiles = static_cast<int32_t>(tiles.in_order);
  args.column_tiles = static_cast<int32_t>(ceil_div(args.width, sm90::kGemmOColumns));
  args.panel = gemm_o_panel(args.column_tiles, weight.in_features(), bool(p.symbols));
  args.head_words = (args.heads + 63) / 64;
  if (p.symbols) {
    const GemmPlanLayout layout(p.symbols.geometry);
    const char* section = static_cast<const char*>(gemm_plan);
    args.has_symbols = 1;
    args.head_sets = reinterpret_cast<const uint64_t*>(section + layout.heads);
    args.order = reinterpret_cast<const uint32_t*>(section + layout.order);
    args.num_q_blocks = p.symbols.geometry.num_q_blocks();
    args.block_rows = p.symbols.geometry.block_q;
  }

  args.out = p.out.data;
  args.out_batch_stride = p.out.stride[0];
  args.out_row_stride = p.out.stride[1];
  if (p.residual) {
    FO_ASSIGN_OR_RETURN(args.residual_rows,
                        launcher.maps.get(rows_map(p.residual, sm90::kGemmORows)));
  }
  args.residual = p.residual.data;
  args.residual_batch_stride = p.residual.stride[0];
  args.residual_row_stride = p.residual.stride[1];
  args.gate = p.gate.as<float>();
  args.gate_batch_stride = p.gate.stride[0];
  return ok_status();
}

Status launch(cudaStream_t stream, const Launcher& launcher, const TensorView& features,
              const sm90::GemmOArgs& args) {
  const int64_t tiles =
      int64_t{1} * args.batch * args.num_tiles * args.column_tiles * std::max(1, args.num_written);
  const int grid = static_cast<int>(std::min<int64_t>(launcher.sms, 2 * tiles));  // halves
  return cuda_status(
      sm90::launch_gemm_o(args, features.dtype, static_cast<int>(features.size(3)), grid, stream),
      "launching GEMM-O");
}

}  // namespace

Status check_gemm_o(const GemmOParams& p) {
  FO_RETURN_IF_ERROR(check_common("gemm_o", p, "attn", p.attn));
  if (!p.out && !p.residual) return wanted("result", "neither out nor residual", "at least one");
  return p.symbols ? check_planes(p, p.attn) : ok_status();
}

Status check_gemm_o_update(const GemmOUpdateParams& p) {
  const TensorView& fresh = p.factors[0];
  FO_RETURN_IF_ERROR(check_common("gemm_o_update", p.base, "factors[0]", fresh));
  FO_RETURN_IF_ERROR(check_planes(p.base, fresh));
  for (int m = 1; m < p.base.num_planes; ++m) {
    const std::string name = "factors[" + std::to_string(m) + "]";
    FO_RETURN_IF_ERROR(check_operand(name.c_str(), p.factors[m], fresh.dtype,
                                     {fresh.size(0), fresh.size(1), fresh.size(2), fresh.size(3)}));
  }
  return ok_status();
}

Status gemm_o(cudaStream_t stream, const Launcher& launcher, const GemmOParams& p,
              const void* gemm_plan) {
  if (p.attn.size(0) == 0 || p.rows == 0) return ok_status();
  if (launcher.path == KernelPath::kPortable) {
    return gemm_o_portable(stream, p, {&p.attn, 1}, false, gemm_plan);
  }
  sm90::GemmOArgs args = {};
  FO_RETURN_IF_ERROR(make_args(launcher, p, p.attn, gemm_plan, args));
  FO_ASSIGN_OR_RETURN(args.features[0], launcher.maps.get(heads_map(p.attn)));
  for (int m = 0; p.symbols && m < p.num_planes; ++m) {
    if (p.coefficients[m] == 0) continue;  // not read: it may hold anything
    FO_ASSIGN_OR_RETURN(args.plane_rows[args.num_read],
                        launcher.maps.get(rows_map(p.planes[m], sm90::kGemmORows)));
    args.planes[args.num_read++] = make_plane(p.planes[m], p.coefficients[m]);
  }
  return launch(stream, launcher, p.attn, args);
}

Status gemm_o_update(cudaStream_t stream, const Launcher& launcher, const GemmOUpdateParams& p,
                     const void* gemm_plan) {
  const GemmOParams& base = p.base;
  const TensorView& fresh = p.factors[0];
  if (fresh.size(0) == 0 || base.rows == 0) return ok_status();
  if (launcher.path == KernelPath::kPortable) {
    const std::span factors(p.factors, static_cast<size_t>(base.num_planes));
    return gemm_o_portable(stream, base, factors, true, gemm_plan);
  }
  sm90::GemmOArgs args = {};
  FO_RETURN_IF_ERROR(make_args(launcher, base, fresh, gemm_plan, args));
  args.num_written = base.num_planes;
  for (int m = 0; m < base.num_planes; ++m) {
    FO_ASSIGN_OR_RETURN(args.features[m], launcher.maps.get(heads_map(p.factors[m])));
    args.planes[m] = make_plane(base.planes[m], 1.f);
  }
  return launch(stream, launcher, fresh, args);
}

}  // namespace flashomni::cuda
