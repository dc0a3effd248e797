// SPDX-License-Identifier: Apache-2.0
//
// Bring-up of GEMM-Q and GEMM-O on a GPU, through the launch functions of the library: right or
// wrong against a plain double-precision product on the same device, and times beside cuBLASLt's.
//
//   gemm_probe check     small odd shapes; says which element of which case is wrong
//   gemm_probe time      M = 4608, 16896, 33280 with K = N = 3072, 24 heads of 128
//   gemm_probe           both
//   gemm_probe all 128   both, but times for blocks of 128 only
#include <cublasLt.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "bench/cuda/gemm_probe_check.cuh"
#include "cuda/dense_plans.h"

namespace flashomni::probe {
namespace {

// ---- times

__global__ void fill_kernel(__nv_bfloat16* p, int64_t count, float scale, uint32_t seed) {
  for (int64_t i = blockIdx.x * int64_t{blockDim.x} + threadIdx.x; i < count;
       i += int64_t{gridDim.x} * blockDim.x) {
    uint64_t z = (static_cast<uint64_t>(i) + 1) * 0x9e3779b97f4a7c15ull + seed;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    z ^= z >> 31;
    const float u = (static_cast<uint32_t>(z >> 40) + 1) * 0x1p-24f;
    const float a = static_cast<uint32_t>(z & 0xffffff) * 0x1p-24f;
    p[i] = __float2bfloat16(sqrtf(-2 * logf(u)) * cospif(2 * a) * scale);
  }
}

Device random_bf16(int64_t count, float scale, uint32_t seed) {
  Device d(2 * static_cast<size_t>(count));
  fill_kernel<<<1024, 256>>>(d.as<__nv_bfloat16>(), count, scale, seed);
  finish();
  return d;
}

// Medians of runs that take turns, in milliseconds.
std::vector<double> medians(const std::vector<std::function<void()>>& runs, int repeats = 25) {
  cudaEvent_t start, stop;
  must(cudaEventCreate(&start));
  must(cudaEventCreate(&stop));
  std::vector<std::vector<double>> times(runs.size());
  for (int i = 0; i < repeats + 3; ++i) {
    for (size_t k = 0; k < runs.size(); ++k) {
      must(cudaEventRecord(start));
      runs[k]();
      must(cudaEventRecord(stop));
      finish();
      float ms = 0;
      must(cudaEventElapsedTime(&ms, start, stop));
      if (i >= 3) times[k].push_back(ms);
    }
  }
  std::vector<double> result;
  for (auto& t : times) {
    std::nth_element(t.begin(), t.begin() + static_cast<int64_t>(t.size()) / 2, t.end());
    result.push_back(t[t.size() / 2]);
  }
  cudaEventDestroy(start);
  cudaEventDestroy(stop);
  return result;
}

// y = x w^T by cuBLASLt, the first algorithm it names.
class Blas {
 public:
  Blas(int m, int n, int k) : workspace_(size_t{32} << 20) {
    blas(cublasLtCreate(&handle_));
    blas(cublasLtMatmulDescCreate(&op_, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    const cublasOperation_t t = CUBLAS_OP_T;
    blas(cublasLtMatmulDescSetAttribute(op_, CUBLASLT_MATMUL_DESC_TRANSA, &t, sizeof(t)));
    blas(cublasLtMatrixLayoutCreate(&w_, CUDA_R_16BF, k, n, k));
    blas(cublasLtMatrixLayoutCreate(&x_, CUDA_R_16BF, k, m, k));
    blas(cublasLtMatrixLayoutCreate(&y_, CUDA_R_16BF, n, m, n));
    cublasLtMatmulPreference_t preference;
    blas(cublasLtMatmulPreferenceCreate(&preference));
    const size_t bytes = size_t{32} << 20;
    blas(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                              &bytes, sizeof(bytes)));
    cublasLtMatmulHeuristicResult_t found;
    int count = 0;
    blas(cublasLtMatmulAlgoGetHeuristic(handle_, op_, w_, x_, y_, y_, preference, 1, &found,
                                        &count));
    if (count == 0) give_up("cuBLASLt has no algorithm");
    algo_ = found.algo;
    cublasLtMatmulPreferenceDestroy(preference);
  }
  void run(const void* x, const void* w, void* y) {
    const float one = 1, zero = 0;
    blas(cublasLtMatmul(handle_, op_, &one, w, w_, x, x_, &zero, y, y_, y, y_, &algo_,
                        workspace_.data(), size_t{32} << 20, nullptr));
  }

 private:
  static void blas(cublasStatus_t s) {
    if (s != CUBLAS_STATUS_SUCCESS) give_up(cublasLtGetStatusString(s));
  }
  Device workspace_;
  cublasLtHandle_t handle_;
  cublasLtMatmulDesc_t op_;
  cublasLtMatrixLayout_t w_, x_, y_;
  cublasLtMatmulAlgo_t algo_;
};

double active_share(const SparseSymbols& s) {
  return s.counts().row_density();
}

void time_all(const Launcher& launcher, int block) {
  constexpr int kHeads = 24, kDim = 128, kWidth = kHeads * kDim;
  for (const int m : {4608, 16896, 33280}) {
    current = "time m=" + std::to_string(m);
    const double flops = 2.0 * m * kWidth * kWidth;
    const Device x = random_bf16(int64_t{m} * kWidth, 1, 1);
    Device w = random_bf16(int64_t{kWidth} * kWidth, 0.018f, 2);
    const Device bias(std::vector<float>(kWidth, 0.5f));
    const Device rms(std::vector<float>(kDim, 1.f));
    const Device angle(std::vector<float>(static_cast<size_t>(m) * kDim / 2, 0.7f));
    const auto wq = pack(w, DType::kBF16, kWidth, kWidth, &bias, kDim);
    const auto wo = pack(w, DType::kBF16, kWidth, kWidth, &bias, 0);
    std::vector<Device> outs;
    for (int i = 0; i < 4; ++i) outs.push_back(random_bf16(int64_t{m} * kWidth, 1, 10 + i));
    Blas blas(m, kWidth, kWidth);

    const auto q = [&](const Device& out, bool full) {
      GemmQParams p;
      p.x = TensorView::contiguous(x.data(), DType::kBF16, {1, m, kWidth});
      p.weight = wq.get();
      if (full) {
        p.rms_weight = TensorView::contiguous(rms.data(), DType::kF32, {kDim});
        p.rope.cos = TensorView::contiguous(angle.data(), DType::kF32, {m, kDim / 2});
        p.rope.sin = p.rope.cos;
      }
      p.out = TensorView::contiguous(out.data(), DType::kBF16, {1, m, kHeads, kDim});
      return p;
    };
    GemmOParams o;
    o.attn = TensorView::contiguous(x.data(), DType::kBF16, {1, m, kHeads, kDim});
    o.weight = wo.get();
    o.rows = m;
    o.out = TensorView::contiguous(outs[0].data(), DType::kBF16, {1, m, kWidth});
    const TensorView plane = TensorView::contiguous(outs[1].data(), DType::kBF16, {1, m, kWidth});
    const TensorView plane2 = TensorView::contiguous(outs[2].data(), DType::kBF16, {1, m, kWidth});
    const TensorView stream = TensorView::contiguous(outs[3].data(), DType::kBF16, {1, m, kWidth});

    const auto dense = medians({
        [&] { blas.run(x.data(), w.data(), outs[0].data()); },
        [&] { must(gemm_q(nullptr, launcher, q(outs[0], false), nullptr)); },
        [&] { must(gemm_q(nullptr, launcher, q(outs[0], true), nullptr)); },
        [&] {
          must(gemm_qkv(nullptr, launcher, {q(outs[0], true), q(outs[1], true), q(outs[2], false)},
                        nullptr));
        },
        [&] { must(gemm_o(nullptr, launcher, o, nullptr)); },
    });
    const auto line = [&](const char* what, double ms, double work) {
      std::printf("%-34s %8.4f ms %7.1f TFLOP/s  %.3f of cuBLASLt\n", what, ms,
                  work * flops / ms * 1e-9, dense[0] * work / ms);
    };
    std::printf("\nM = %d, K = N = %d, 24 heads, block %d\n", m, kWidth, block);
    line("cuBLASLt", dense[0], 1);
    line("gemm_q dense, bias", dense[1], 1);
    line("gemm_q dense, bias+rms+rope", dense[2], 1);
    line("gemm_qkv dense", dense[3], 3);
    line("gemm_o dense, bias", dense[4], 1);

    for (const double s : {0.0, 0.25, 0.5, 0.75, 0.9, 0.95}) {
      Rng rng(7);
      const DeviceSymbols symbols = make_symbols(geometry_of(1, kHeads, m, block), Pattern::kRandom,
                                                 rng, 1 - s + (s == 0 ? 1 : 0));
      const double share = active_share(symbols.host);
      GemmQParams sq = q(outs[0], true);
      sq.symbols = symbols.view();
      GemmOParams so = o;
      so.symbols = symbols.view();
      so.num_planes = 1;
      so.planes[0] = plane;
      GemmOParams two = so;
      two.num_planes = 2;
      two.planes[1] = plane2;
      two.coefficients[1] = 0.5f;
      GemmOParams fused = so;
      fused.out = {};
      fused.residual = stream;
      GemmOUpdateParams up;
      up.base = so;
      up.factors[0] = o.attn;
      // In turn with the dense products that they are compared with: clocks change over time.
      const auto t = medians({
          [&] { must(gemm_q(nullptr, launcher, sq, symbols.plan.data())); },
          [&] {
            must(gemm_qkv(nullptr, launcher, {sq, q(outs[1], true), q(outs[2], false)},
                          symbols.plan.data()));
          },
          [&] { must(gemm_o(nullptr, launcher, so, symbols.plan.data())); },
          [&] { must(gemm_o(nullptr, launcher, two, symbols.plan.data())); },
          [&] { must(gemm_o(nullptr, launcher, fused, symbols.plan.data())); },
          [&] { must(gemm_o_update(nullptr, launcher, up, symbols.plan.data())); },
          [&] { must(build_gemm_plan(nullptr, symbols.view(), symbols.plan.data())); },
          [&] { blas.run(x.data(), w.data(), outs[0].data()); },
          [&] { must(gemm_q(nullptr, launcher, q(outs[0], true), nullptr)); },
          [&] {
            must(gemm_qkv(nullptr, launcher,
                          {q(outs[0], true), q(outs[1], true), q(outs[2], false)}, nullptr));
          },
          [&] { must(gemm_o(nullptr, launcher, o, nullptr)); },
          [&] {
            must(cudaMemcpyAsync(outs[0].data(), outs[1].data(), size_t{2} * m * kWidth,
                                 cudaMemcpyDeviceToDevice, nullptr));
          },
      });
      const double dense_blas = t[7], dense_q = t[8], dense_qkv = t[9], dense_o = t[10];
      // GEMM-O: features of active heads and the weight once, bias plane and out.
      const double out_bytes = 2.0 * m * kWidth;
      const double rate = 2 * out_bytes / t[11];  // bytes a millisecond of a copy
      const auto limit = [&](int planes) {
        const double memory =
            (share * out_bytes + 2.0 * kWidth * kWidth + (planes + 1) * out_bytes) / rate;
        return std::max(memory, dense_o * share);
      };
      std::printf(
          "s=%.3f  dense of cuBLASLt: q %.3f qkv %.3f o %.3f | q %.4f ms eff %.3f | qkv %.4f eff "
          "%.3f | o %.4f speedup %.2f of limit %.3f | o 2 planes %.4f of limit %.3f | o residual "
          "%.4f of limit %.3f | update %.4f = %.3f dense | plan %.4f | copy %.2f TB/s\n",
          1 - share, dense_blas / dense_q, 3 * dense_blas / dense_qkv, dense_blas / dense_o, t[0],
          dense_q / t[0] * share, t[1], dense_qkv / t[1] * (2 + share) / 3, t[2], dense_o / t[2],
          limit(1) / t[2], t[3], limit(2) / t[3], t[4], limit(2) / t[4], t[5], t[5] / dense_o, t[6],
          rate * 1e-9);
      std::fflush(stdout);
    }
  }
}

}  // namespace
}  // namespace flashomni::probe

int main(int argc, char** argv) {
  using namespace flashomni::probe;
  using namespace flashomni::cuda;
  const std::string mode = argc > 1 ? argv[1] : "all";
  int sms = 0;
  must(cudaDeviceGetAttribute(&sms, cudaDevAttrMultiProcessorCount, 0));
  TensorMapCache maps;
  DensePlans dense(sms);
  const Launcher launcher{sms, maps, dense};
  if (mode != "time") check_all(launcher);
  if (mode != "check" && failures == 0) {
    time_all(launcher, 128);
    if (argc <= 2 || std::string(argv[2]) != "128") time_all(launcher, 64);
  }
  return failures ? 1 : 0;
}
