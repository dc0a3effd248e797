// SPDX-License-Identifier: Apache-2.0
#include "cuda/attention.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "cuda/attention_plan.h"
#include "cuda/error.h"
#include "cuda/kernels/sm80/attention_params.h"
#include "cuda/kernels/sm90/attention_params.h"

namespace flashomni::cuda {
namespace {

constexpr int kDenseBlock = 128;
constexpr int kMaxSymbolWords = 32;  // of a row: one a lane of the loading warp

Status check_operand(const char* name, const TensorView& t, const TensorView& like) {
  const std::string seen = std::string(name) + " is " + t.to_string();
  if (!t || t.rank != 4) return invalid_argument(seen + ", wanted [B, N, H, d]");
  if (t.dtype != DType::kBF16 && t.dtype != DType::kF16) {
    return unsupported(seen + ", attention on the GPU wants bf16 or f16");
  }
  if (t.dtype != like.dtype) {
    return invalid_argument(seen + ", wanted " + dtype_name(like.dtype) + " as q");
  }
  if (t.size(0) != like.size(0) || t.size(2) != like.size(2) || t.size(3) != like.size(3)) {
    return invalid_argument(seen + ", wanted the batch, heads and head_dim of q " +
                            like.to_string());
  }
  if (t.stride[3] != 1) return unsupported(seen + " with strided channels, wanted them contiguous");
  bool aligned = reinterpret_cast<uintptr_t>(t.data) % 16 == 0;
  for (int i = 0; i < 3; ++i) aligned = aligned && (t.size(i) == 1 || t.stride[i] % 8 == 0);
  if (!aligned) {
    return unsupported(seen + ", wanted an address and row strides that are multiples of 16 bytes");
  }
  return ok_status();
}

Status check_geometry(const SymbolGeometry& g, const AttentionParams& p) {
  FO_RETURN_IF_ERROR(g.validate());
  if (g.batch != p.q.size(0) || g.heads != p.q.size(2) || g.q_tokens != p.q.size(1) ||
      g.kv_tokens != p.k.size(1)) {
    return invalid_argument("symbols are for batch " + std::to_string(g.batch) + ", heads " +
                            std::to_string(g.heads) + ", tokens " + std::to_string(g.q_tokens) +
                            "x" + std::to_string(g.kv_tokens) + "; q is " + p.q.to_string() +
                            ", k is " + p.k.to_string());
  }
  for (const int block : {g.block_q, g.block_kv}) {
    if (block != 64 && block != 128) {
      return unsupported("symbol blocks of " + std::to_string(g.block_q) + "x" +
                         std::to_string(g.block_kv) + ", the GPU kernels take 64 and 128");
    }
  }
  if (g.s_words() > kMaxSymbolWords) {
    return unsupported(std::to_string(g.num_kv_blocks()) +
                       " key/value blocks, the GPU kernel takes " +
                       std::to_string(64 * kMaxSymbolWords) + " at most");
  }
  return ok_status();
}

Status check_lse(const AttentionParams& p) {
  if (!p.lse) return ok_status();
  if (p.lse.dtype != DType::kF32 || p.lse.rank != 3 || p.lse.size(0) != p.q.size(0) ||
      p.lse.size(1) != p.q.size(2) || p.lse.size(2) != p.q.size(1) || p.lse.stride[2] != 1) {
    return invalid_argument("lse is " + p.lse.to_string() + ", wanted f32 [B, H, N] of q " +
                            p.q.to_string());
  }
  return ok_status();
}

// [columns of a chunk, tokens, chunks, heads, batch]; see AttentionLayout.
Result<CUtensorMap> head_map(const Launcher& launcher, const TensorView& t, int rows,
                             bool all_chunks) {
  const int head_dim = static_cast<int>(t.size(3));
  const int chunk = head_dim % 64 == 0 ? 64 : 32;
  const auto stride = [&](int dim) {
    return t.size(dim) == 1 ? int64_t{16} : t.stride[dim] * int64_t{2};
  };
  TensorMapDesc desc;
  desc.data = t.data;
  desc.dtype = t.dtype;
  desc.rank = 5;
  const int64_t sizes[] = {chunk, t.size(1), head_dim / chunk, t.size(2), t.size(0)};
  const int64_t strides[] = {0, stride(1), int64_t{2} * chunk, stride(2), stride(0)};
  std::copy_n(sizes, 5, desc.size);
  std::copy_n(strides, 5, desc.stride_bytes);
  desc.box[0] = chunk;
  desc.box[1] = rows;
  desc.box[2] = all_chunks ? head_dim / chunk : 1;
  desc.swizzle = chunk == 64 ? TensorMapSwizzle::k128B : TensorMapSwizzle::k64B;
  return launcher.maps.get(desc);
}

sm80::HeadRows head_rows(const TensorView& t) {
  return {t.data, t.stride[0], t.stride[1], t.stride[2]};
}

// Tokens in the blocks that a call is planned in.
struct Blocks {
  int q, kv;
  explicit Blocks(const AttentionParams& p)
      : q(p.symbols ? p.symbols.geometry.block_q : kDenseBlock),
        kv(p.symbols ? p.symbols.geometry.block_kv : kDenseBlock) {}
};

// What both paths are launched with.
Status make_call(const Launcher& launcher, void* workspace, const AttentionParams& p,
                 AttentionCall& call) {
  call = {};
  call.heads = static_cast<int32_t>(p.q.size(2));
  call.q_tokens = static_cast<int32_t>(p.q.size(1));
  call.kv_tokens = static_cast<int32_t>(p.k.size(1));
  const SymbolGeometry planned = p.symbols ? p.symbols.geometry : DensePlans::geometry_of(p);
  call.num_q_blocks = planned.num_q_blocks();
  call.num_kv_blocks = planned.num_kv_blocks();
  call.scale = p.scale == 0 ? 1.f / std::sqrt(static_cast<float>(p.q.size(3))) : p.scale;
  call.scale_log2 = static_cast<float>(call.scale * M_LOG2E);
  call.slots = static_cast<float*>(workspace);
  if (p.lse) {
    call.lse = p.lse.as<float>();
    call.lse_batch_stride = p.lse.stride[0];
    call.lse_head_stride = p.lse.stride[1];
  }
  char* plan = static_cast<char*>(p.plan.data);
  if (p.symbols) {
    call.s = p.symbols.s;
    call.s_words = planned.s_words();
  } else {
    FO_ASSIGN_OR_RETURN(void* lists, launcher.dense.get(p));
    plan = static_cast<char*>(lists);
  }
  const AttentionPlanLayout layout(planned, launcher.dense.grid());
  call.offsets = reinterpret_cast<const int32_t*>(plan + layout.offsets);
  call.work = reinterpret_cast<const AttentionWork*>(plan + layout.work);
  call.flags = reinterpret_cast<int32_t*>(plan + layout.flags);
  return ok_status();
}

}  // namespace

Status check_attention(const AttentionParams& p) {
  FO_RETURN_IF_ERROR(check_operand("q", p.q, p.q));
  FO_RETURN_IF_ERROR(check_operand("k", p.k, p.q));
  FO_RETURN_IF_ERROR(check_operand("v", p.v, p.q));
  FO_RETURN_IF_ERROR(check_operand("out", p.out, p.q));
  if (p.v.size(1) != p.k.size(1)) {
    return invalid_argument("v is " + p.v.to_string() + ", wanted the tokens of k " +
                            p.k.to_string());
  }
  if (p.out.size(1) != p.q.size(1)) {
    return invalid_argument("out is " + p.out.to_string() + ", wanted the tokens of q " +
                            p.q.to_string());
  }
  for (int i = 0; i < 3; ++i) {
    if (p.q.size(i) < 1 || p.k.size(i) < 1) {
      return invalid_argument("q is " + p.q.to_string() + ", k is " + p.k.to_string() +
                              ", wanted no empty dimension");
    }
  }
  const int64_t head_dim = p.q.size(3);
  if (head_dim != 64 && head_dim != 96 && head_dim != 128) {
    return unsupported("head_dim is " + std::to_string(head_dim) +
                       ", the GPU attention kernel takes 64, 96 or 128");
  }
  if (!(p.scale >= 0) || !std::isfinite(p.scale)) {
    return unsupported("attention scale is " + std::to_string(p.scale) +
                       ", the GPU kernel takes positive ones (0: 1/sqrt(head_dim))");
  }
  FO_RETURN_IF_ERROR(check_lse(p));
  if (p.softmax_skip != 0) {
    return unsupported("softmax_skip is " + std::to_string(p.softmax_skip) +
                       ", the GPU attention kernel has no threshold on the softmax (0: off); the "
                       "CPU has one");
  }
  if (!p.symbols) return check_geometry(DensePlans::geometry_of(p), p);
  FO_RETURN_IF_ERROR(check_geometry(p.symbols.geometry, p));
  if (p.symbols.geometry.ragged() && !p.symbols.starts) {
    return invalid_argument("symbols of ragged blocks came without their starts");
  }
  if (!p.plan) return invalid_argument("symbols came without the plan that was made of them");
  return ok_status();
}

size_t attention_workspace_bytes(const AttentionParams& p, int plan_grid) {
  return static_cast<size_t>(plan_grid) *
         static_cast<size_t>(attention_slot_floats(static_cast<int>(p.q.size(3)))) * sizeof(float);
}

Status attention(cudaStream_t stream, const Launcher& launcher, void* workspace,
                 const AttentionParams& p) {
  AttentionCall call;
  FO_RETURN_IF_ERROR(make_call(launcher, workspace, p, call));
  const Blocks blocks(p);
  const int head_dim = static_cast<int>(p.q.size(3));
  cudaError_t error = cudaSuccess;
  bool found = false;
  // The Hopper kernel stores tiles of 64 rows as they are, over whatever follows a shorter block.
  const bool ragged = p.symbols && p.symbols.geometry.ragged();
  if (launcher.path == KernelPath::kHopper && !ragged) {
    sm90::AttentionArgs args = {};
    static_cast<AttentionCall&>(args) = call;
    FO_ASSIGN_OR_RETURN(args.q, head_map(launcher, p.q, blocks.q, blocks.q == kTileRows));
    FO_ASSIGN_OR_RETURN(args.k, head_map(launcher, p.k, blocks.kv, blocks.kv == kDenseBlock));
    FO_ASSIGN_OR_RETURN(args.v, head_map(launcher, p.v, blocks.kv, blocks.kv == kDenseBlock));
    // Each warpgroup stores its own 64 rows.
    FO_ASSIGN_OR_RETURN(args.out, head_map(launcher, p.out, 64, false));
    found = sm90::launch_attention(args, p.q.dtype, head_dim, blocks.q, blocks.kv,
                                   launcher.dense.grid(), stream, error);
  } else {
    sm80::AttentionArgs args = {};
    static_cast<AttentionCall&>(args) = call;
    args.q = head_rows(p.q);
    args.k = head_rows(p.k);
    args.v = head_rows(p.v);
    args.out = head_rows(p.out);
    args.block_q = blocks.q;
    args.block_kv = blocks.kv;
    args.starts = ragged ? p.symbols.starts : nullptr;
    found = sm80::launch_attention(args, p.q.dtype, head_dim, launcher.dense.grid(), stream, error);
  }
  if (!found) return internal_error("no attention kernel for a call that passed its check");
  return cuda_status(error, "launching attention");
}

}  // namespace flashomni::cuda
