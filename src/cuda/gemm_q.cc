// SPDX-License-Identifier: Apache-2.0
#include "cuda/gemm_q.h"

#include <algorithm>
#include <climits>
#include <span>
#include <string>

#include "base/ceil_div.h"
#include "core/gemm_qkv_check.h"
#include "cuda/checks.h"
#include "cuda/error.h"
#include "cuda/gemm_config.h"
#include "cuda/gemm_portable.h"
#include "cuda/gemm_q_symbols.h"
#include "cuda/kernels/sm90/gemm_args.h"

namespace flashomni::cuda {
namespace {

int64_t column_groups(const TensorView& out) {
  return ceil_div(out.size(2), sm90::gemm_q_heads(static_cast<int>(out.size(3))));
}

// Column groups times blocks of 64 rows: more than there are tiles.
int64_t most_tiles(const GemmQParams& p) {
  return p.x.size(0) * (p.x.size(1) / 64 + 2) * column_groups(p.out);
}

Status make_section(const Launcher& launcher, const GemmQParams& p, sm90::GemmQSection& s) {
  const CudaPackedWeight& weight = *cuda_weight(p.weight);
  const int head_dim = static_cast<int>(p.out.size(3));
  FO_ASSIGN_OR_RETURN(s.weight,
                      launcher.maps.get(weight_map(weight, sm90::gemm_q_columns(head_dim))));
  s.bias = weight.bias();
  s.rms_weight = p.rms_weight.as<float>();
  s.rms_eps = p.rms_eps;
  if (p.rope) {
    s.rope = 1;
    FO_ASSIGN_OR_RETURN(s.cos, launcher.maps.get(rope_map(p.rope.cos)));
    FO_ASSIGN_OR_RETURN(s.sin, launcher.maps.get(rope_map(p.rope.sin)));
  }
  s.out = p.out.slice(1, p.token_offset, p.token_offset).data;
  s.out_batch_stride = p.out.stride[0];
  s.out_row_stride = p.out.stride[1];
  s.out_head_stride = p.out.stride[2];
  s.heads = static_cast<int32_t>(p.out.size(2));
  s.groups = static_cast<int32_t>(column_groups(p.out));
  return ok_status();
}

// Sections in the order of the kernel: at most the last one has symbols.
Status launch(cudaStream_t stream, const Launcher& launcher,
              std::span<const GemmQParams* const> sections) {
  const GemmQParams& last = *sections.back();
  const TensorView& x = last.x;
  if (x.size(0) == 0 || x.size(1) == 0) return ok_status();
  if (launcher.path == KernelPath::kPortable) return gemm_q_portable(stream, launcher, sections);
  sm90::GemmQArgs args = {};
  FO_ASSIGN_OR_RETURN(args.x128, launcher.maps.get(rows_map(x, 128)));
  FO_ASSIGN_OR_RETURN(args.x64, launcher.maps.get(rows_map(x, 64)));
  int64_t tiles = 0;
  for (size_t i = 0; i < sections.size(); ++i) {
    FO_RETURN_IF_ERROR(make_section(launcher, *sections[i], args.sections[i]));
    tiles += most_tiles(*sections[i]);
  }
  args.num_sections = static_cast<int32_t>(sections.size());
  args.num_dense = args.num_sections - (last.symbols ? 1 : 0);
  args.batch = static_cast<int32_t>(x.size(0));
  args.rows = static_cast<int32_t>(x.size(1));
  args.k_steps = static_cast<int32_t>(ceil_div(x.size(2), sm90::kGemmBlockK));
  args.token_offset = last.token_offset;
  if (last.symbols) {
    take_symbols(last, args);
    const int blocks = args.end_block - args.first_block;
    const int units = args.batch * args.sections[args.num_sections - 1].groups;
    args.window_blocks = gemm_q_window(units, blocks, args.block_rows);
    args.windows = static_cast<int32_t>(ceil_div(blocks, args.window_blocks));
  }
  const int grid = static_cast<int>(std::min<int64_t>(launcher.sms, tiles));
  return cuda_status(
      sm90::launch_gemm_q(args, x.dtype, static_cast<int>(last.out.size(3)), grid, stream),
      "launching GEMM-Q");
}

}  // namespace

Status check_gemm_q(const GemmQParams& p) {
  if (!p.x || p.x.rank != 3) return wanted("x", p.x ? p.x.to_string() : "missing", "rank 3");
  if (!p.out || p.out.rank != 4) {
    return wanted("out", p.out ? p.out.to_string() : "missing", "rank 4");
  }
  const int64_t batch = p.x.size(0), rows = p.x.size(1), in = p.x.size(2);
  const int64_t tokens = p.out.size(1), heads = p.out.size(2), d = p.out.size(3);
  FO_RETURN_IF_ERROR(check_gemm_kernel("gemm_q", p.x.dtype, d));
  FO_RETURN_IF_ERROR(check_operand("x", p.x, p.x.dtype, {batch, rows, in}));
  FO_RETURN_IF_ERROR(check_operand("out", p.out, p.x.dtype, {batch, tokens, heads, d}));
  FO_RETURN_IF_ERROR(check_gemm_weight(p.weight, p.x.dtype, in, heads * d, d));
  FO_RETURN_IF_ERROR(check_gemm_segment(p.token_offset, rows, tokens));
  FO_RETURN_IF_ERROR(check_optional_operand("rms_weight", p.rms_weight, DType::kF32, {d}));
  if (bool(p.rope.cos) != bool(p.rope.sin)) {
    return wanted("rope", p.rope.cos ? "cos without sin" : "sin without cos", "both or neither");
  }
  FO_RETURN_IF_ERROR(check_optional_operand("rope.cos", p.rope.cos, DType::kF32, {tokens, d / 2}));
  FO_RETURN_IF_ERROR(check_optional_operand("rope.sin", p.rope.sin, DType::kF32, {tokens, d / 2}));
  FO_RETURN_IF_ERROR(check_gemm_symbols(p.symbols, batch, heads, tokens));
  if (p.symbols && batch * column_groups(p.out) > sm90::kGemmQMaxUnits) {
    return unsupported("batch * heads is " + std::to_string(batch * heads) + ", wanted at most " +
                       std::to_string(sm90::kGemmQMaxUnits) + " in sparse GEMM-Q on a GPU");
  }
  if (most_tiles(p) <= INT_MAX / sm90::kGemmQSections) return ok_status();
  return unsupported("x is " + p.x.to_string() + ", wanted fewer rows on a GPU");
}

Status check_gemm_qkv(const GemmQkvParams& p) {
  for (const GemmQParams* one : {&p.q, &p.k, &p.v}) FO_RETURN_IF_ERROR(check_gemm_q(*one));
  return check_gemm_qkv_agreement(p);
}

Status gemm_q(cudaStream_t stream, const Launcher& launcher, const GemmQParams& params,
              const void* /*gemm_plan*/) {
  const GemmQParams* const sections[] = {&params};
  return launch(stream, launcher, sections);
}

Status gemm_qkv(cudaStream_t stream, const Launcher& launcher, const GemmQkvParams& params,
                const void* /*gemm_plan*/) {
  const GemmQParams* const sections[] = {&params.k, &params.v, &params.q};
  return launch(stream, launcher, sections);
}

}  // namespace flashomni::cuda
