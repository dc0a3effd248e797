// SPDX-License-Identifier: Apache-2.0
//
// The loading and the computing warps of the attention kernel meet only at barriers. An instance of
// the kernel whose warps sleep at pseudo-random places must give the bits of the product's.
#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "cuda/tensor_map.h"
#include "tests/cuda/cuda_backend.h"
#include "tests/cuda/jitter/attention.h"
#include "tests/testkit/generate.h"
#include "tests/testkit/guarded_symbols.h"

namespace flashomni::testkit {
namespace {

using cuda::AttentionPlanHeader;
using cuda::AttentionPlanLayout;

constexpr int kHeadDim = 128;

// Of contiguous [B, N, H, 128]; see head_map in src/cuda/attention.cc.
CUtensorMap head_map(cuda::TensorMapCache& maps, const TensorView& t, int rows, bool all_chunks) {
  cuda::TensorMapDesc desc;
  desc.data = t.data;
  desc.dtype = t.dtype;
  desc.rank = 5;
  const int64_t sizes[] = {64, t.size(1), kHeadDim / 64, t.size(2), t.size(0)};
  const int64_t strides[] = {0, t.stride[1] * 2, 128, t.stride[2] * 2, t.stride[0] * 2};
  std::copy_n(sizes, 5, desc.size);
  std::copy_n(strides, 5, desc.stride_bytes);
  desc.box[0] = 64;
  desc.box[1] = rows;
  desc.box[2] = all_chunks ? 2 : 1;
  const Result<CUtensorMap> map = maps.get(desc);
  EXPECT_TRUE(map.ok()) << map.status().to_string();
  return map.ok() ? *map : CUtensorMap{};
}

class CudaJitter : public CudaTest {};

TEST_F(CudaJitter, AttentionGivesTheSameBits) {
  int device = 0, major = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  if (major != 9) GTEST_SKIP() << "NOT RUN, the kernel is for compute capability 9.0";
  Backend& gpu = backend();
  cuda::TensorMapCache maps;
  for (uint64_t seed = 630000; seed < 630024; ++seed) {
    Rng rng(seed);
    SymbolGeometry g;
    g.batch = rng.range(1, 2);
    g.heads = pick<int>(rng, {1, 2, 5});
    g.block_q = pick<int>(rng, {64, 128});
    g.block_kv = pick<int>(rng, {64, 128});
    g.q_tokens = pick<int>(rng, {1, 129, 640});
    g.kv_tokens = pick<int>(rng, {1, 200, 1300, 3000});
    if (seed % 6 == 0) {  // several tiles a CTA
      g.batch = 1;
      g.heads = 150;
      g.q_tokens = g.kv_tokens = 193;
    }
    const Pattern pattern = kPatterns[rng.below(std::size(kPatterns))];
    SCOPED_TRACE("jitter seed=" + std::to_string(seed) + " " + pattern_name(pattern));
    GuardedSymbols symbols(gpu, make_symbols(g, pattern, rng));
    const auto tensor = [&](int tokens) {
      const int64_t n = int64_t{1} * g.batch * tokens * g.heads * kHeadDim;
      return GuardTensor(gpu, DType::kBF16, {g.batch, tokens, g.heads, kHeadDim},
                         normal_values(rng, n));
    };
    const GuardTensor q = tensor(g.q_tokens), k = tensor(g.kv_tokens), v = tensor(g.kv_tokens);
    const GuardTensor steady(gpu, DType::kBF16, {g.batch, g.q_tokens, g.heads, kHeadDim});
    AttentionParams params{.q = q.view(), .k = k.view(), .v = v.view(), .out = steady.view()};
    params.symbols = symbols.view();
    params.plan = symbols.make_plan();
    const GuardBuffer workspace(gpu, gpu.workspace_bytes(params));
    const Status done = gpu.attention({nullptr, workspace.data(), workspace.bytes()}, params);
    ASSERT_TRUE(done.ok()) << done.to_string();
    const Output expected = steady.read();

    AttentionPlanHeader header;
    ASSERT_TRUE(gpu.download({}, &header, params.plan.data, sizeof(header)).ok());
    const AttentionPlanLayout layout(g, header.grid);
    char* plan = static_cast<char*>(params.plan.data);
    for (int run = 0; run < 2; ++run) {
      const GuardTensor out(gpu, DType::kBF16, {g.batch, g.q_tokens, g.heads, kHeadDim});
      cuda::sm90::AttentionArgs args = {};
      args.q = head_map(maps, params.q, g.block_q, g.block_q == 128);
      args.k = head_map(maps, params.k, g.block_kv, g.block_kv == 128);
      args.v = head_map(maps, params.v, g.block_kv, g.block_kv == 128);
      args.out = head_map(maps, out.view(), 64, false);
      args.s = params.symbols.s;
      args.s_words = g.s_words();
      args.offsets = reinterpret_cast<const int32_t*>(plan + layout.offsets);
      args.work = reinterpret_cast<const cuda::AttentionWork*>(plan + layout.work);
      args.flags = reinterpret_cast<int32_t*>(plan + layout.flags);
      args.slots = static_cast<float*>(workspace.data());
      args.heads = g.heads;
      args.q_tokens = g.q_tokens;
      args.kv_tokens = g.kv_tokens;
      args.num_q_blocks = g.num_q_blocks();
      args.num_kv_blocks = g.num_kv_blocks();
      args.scale = 1.f / std::sqrt(static_cast<float>(kHeadDim));
      args.scale_log2 = static_cast<float>(args.scale * M_LOG2E);
      ASSERT_EQ(launch_jittered_attention(args, g.block_q, g.block_kv, header.grid, nullptr),
                cudaSuccess);
      EXPECT_TRUE(same_bits(out.read(), expected)) << "run " << run;
      EXPECT_EQ(out.damage() + symbols.damage() + workspace.damage(), "");
    }
  }
}

}  // namespace
}  // namespace flashomni::testkit
