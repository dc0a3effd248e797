// SPDX-License-Identifier: Apache-2.0
//
// Parts of gemm_probe: device memory, errors and hangs with the name of the case, a plain product
// in double precision, comparison, symbols.
#pragma once

#include <cuda_runtime.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/half.h"
#include "base/rng.h"
#include "cuda/gemm_plan.h"
#include "cuda/kernels/plan/gemm_plan.h"
#include "cuda/packed_weight.h"
#include "flashomni/symbols.h"

namespace flashomni::probe {

using namespace flashomni::cuda;

inline int failures = 0;
inline std::string current = "start";

[[noreturn]] inline void give_up(const std::string& why) {
  std::printf("STOP in [%s]: %s\n", current.c_str(), why.c_str());
  std::fflush(stdout);
  _exit(3);
}
inline void must(cudaError_t e) {
  if (e != cudaSuccess) give_up(std::string(cudaGetErrorName(e)) + ": " + cudaGetErrorString(e));
}
inline void must(const Status& s) {
  if (!s.ok()) give_up(s.to_string());
}
// Waits, but not for ever: a kernel that hangs has to be named.
inline void finish() {
  must(cudaGetLastError());
  const auto start = std::chrono::steady_clock::now();
  for (;;) {
    const cudaError_t e = cudaStreamQuery(nullptr);
    if (e == cudaSuccess) return;
    if (e != cudaErrorNotReady) must(e);
    if (std::chrono::steady_clock::now() - start > std::chrono::seconds(10)) {
      give_up("still running after 10 s: the kernel hangs");
    }
  }
}
inline void fail(const std::string& what) {
  ++failures;
  std::printf("FAIL [%s]: %s\n", current.c_str(), what.c_str());
}

class Device {
 public:
  Device() = default;
  explicit Device(size_t bytes) : bytes_(bytes) {
    must(cudaMalloc(&data_, std::max<size_t>(bytes, 16)));
    must(cudaMemset(data_, 0xff, bytes));  // NaN in every float type
  }
  template <class T>
  explicit Device(const std::vector<T>& v) : Device(v.size() * sizeof(T)) {
    must(cudaMemcpy(data_, v.data(), bytes_, cudaMemcpyHostToDevice));
  }
  Device(Device&& o) noexcept : data_(std::exchange(o.data_, nullptr)), bytes_(o.bytes_) {}
  Device& operator=(Device&& o) noexcept {
    std::swap(data_, o.data_);
    std::swap(bytes_, o.bytes_);
    return *this;
  }
  ~Device() { cudaFree(data_); }
  void* data() const { return data_; }
  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  template <class T>
  std::vector<T> read() const {
    std::vector<T> v(bytes_ / sizeof(T));
    must(cudaMemcpy(v.data(), data_, bytes_, cudaMemcpyDeviceToHost));
    return v;
  }
  void poison() { must(cudaMemset(data_, 0xff, bytes_)); }

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

constexpr uint16_t kPoison = 0xffff;

inline double to_double(uint16_t bits, DType dtype) {
  return dtype == DType::kBF16 ? bf16_to_f32(bits) : f16_to_f32(bits);
}
inline uint16_t from_double(double v, DType dtype) {
  const float f = static_cast<float>(v);
  return dtype == DType::kBF16 ? f32_to_bf16(f) : f32_to_f16(f);
}
inline std::vector<uint16_t> normal16(Rng& rng, int64_t count, DType dtype, double scale = 1) {
  std::vector<uint16_t> v(static_cast<size_t>(count));
  for (auto& x : v) x = from_double(rng.normal() * scale, dtype);
  return v;
}
// Values that the 16-bit type holds, so that rounding a bias changes nothing.
inline std::vector<float> normal32(Rng& rng, int64_t count, DType dtype) {
  std::vector<float> v(static_cast<size_t>(count));
  for (auto& x : v) x = static_cast<float>(to_double(from_double(rng.normal(), dtype), dtype));
  return v;
}

// ---- plain products in double precision

__device__ double load(const uint16_t* p, bool bf16) {
  return bf16 ? double(__uint_as_float(uint32_t(*p) << 16))
              : double(__half2float(__ushort_as_half(*p)));
}

// y [rows, n] = a [rows, k] w [n, k]^T over the columns of k in [k0, k1).
__global__ void plain_kernel(const uint16_t* a, int64_t a_stride, const uint16_t* w,
                             int64_t w_stride, double* y, int rows, int n, int k0, int k1,
                             bool bf16) {
  const int col = blockIdx.x * blockDim.x + threadIdx.x, row = blockIdx.y;
  if (col >= n || row >= rows) return;
  double sum = 0;
  for (int k = k0; k < k1; ++k) {
    sum += load(a + row * a_stride + k, bf16) * load(w + col * w_stride + k, bf16);
  }
  y[int64_t{row} * n + col] = sum;
}

inline std::vector<double> plain(const uint16_t* a, int64_t a_stride, const uint16_t* w,
                                 int64_t w_stride, int rows, int n, int k0, int k1, DType dtype) {
  Device y(sizeof(double) * static_cast<size_t>(rows) * n);
  plain_kernel<<<dim3((n + 127) / 128, rows), 128>>>(a, a_stride, w, w_stride, y.as<double>(), rows,
                                                     n, k0, k1, dtype == DType::kBF16);
  finish();
  return y.read<double>();
}

// ---- comparison

struct Checker {
  DType dtype;
  std::string what;
  std::vector<int64_t> shape;
  int bad = 0;
  double worst = 0;

  std::string at(int64_t index) const {
    std::string s;
    for (size_t i = shape.size(); i-- > 0;) {
      s = std::to_string(index % shape[i]) + (s.empty() ? "" : ",") + s;
      index /= shape[i];
    }
    return "[" + s + "]";
  }
  // NaN: must not have been touched.
  void element(int64_t index, uint16_t got, double want) {
    if (std::isnan(want)) {
      if (got != kPoison) complain(index, got, "untouched");
      return;
    }
    const double unit = dtype == DType::kBF16 ? 0x1p-8 : 0x1p-11;
    const double error = std::abs(to_double(got, dtype) - want);
    const double allowed = unit * std::abs(want) + 2e-4;
    worst = std::max(worst, error / allowed);
    if (!(error <= allowed)) complain(index, got, std::to_string(want));
  }
  void complain(int64_t index, uint16_t got, const std::string& want) {
    if (++bad <= 4) {
      std::printf("  %s%s = %.6g (0x%04x), wanted %s\n", what.c_str(), at(index).c_str(),
                  to_double(got, dtype), got, want.c_str());
    }
  }
  void done(int64_t count) {
    if (bad) fail(what + ": " + std::to_string(bad) + " of " + std::to_string(count) + " wrong");
  }
};

inline void compare(DType dtype, const std::string& what, const std::vector<int64_t>& shape,
                    const std::vector<uint16_t>& got, const std::vector<double>& want) {
  Checker c{dtype, what, shape};
  for (size_t i = 0; i < got.size(); ++i) c.element(static_cast<int64_t>(i), got[i], want[i]);
  c.done(static_cast<int64_t>(got.size()));
}

inline void same_bits(const std::string& what, const std::vector<int64_t>& shape,
                      const std::vector<uint16_t>& a, const std::vector<uint16_t>& b) {
  Checker c{DType::kBF16, what, shape};
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i] == b[i]) continue;
    char want[16];
    std::snprintf(want, sizeof(want), "0x%04x", b[i]);
    c.complain(static_cast<int64_t>(i), a[i], want);
  }
  c.done(static_cast<int64_t>(a.size()));
}

// ---- symbols

enum class Pattern { kDense, kOnes, kNone, kRandom, kRare };

struct DeviceSymbols {
  SparseSymbols host;
  Device c, s, plan;

  SymbolsView view() const { return {host.geometry(), c.as<uint64_t>(), s.as<uint64_t>()}; }
};

inline DeviceSymbols make_symbols(const SymbolGeometry& g, Pattern pattern, Rng& rng,
                                  double density = 0.5) {
  DeviceSymbols d;
  d.host = SparseSymbols(g);
  if (pattern == Pattern::kRare) density = 0.1;
  for (int b = 0; b < g.batch; ++b) {
    for (int h = 0; h < g.heads; ++h) {
      for (int i = 0; i < g.num_q_blocks(); ++i) {
        if (pattern == Pattern::kNone) d.host.set_c(b, h, i, false);
        if (pattern == Pattern::kRandom || pattern == Pattern::kRare) {
          d.host.set_c(b, h, i, rng.coin(density));
        }
      }
    }
  }
  const auto c = d.host.c_words(), s = d.host.s_words();
  d.c = Device(std::vector<uint64_t>(c.begin(), c.end()));
  d.s = Device(std::vector<uint64_t>(s.begin(), s.end()));
  d.plan = Device(GemmPlanLayout(g).bytes);
  must(build_gemm_plan(nullptr, d.view(), d.plan.data()));
  finish();
  return d;
}

// The plan against one made here.
inline void check_plan(const DeviceSymbols& d) {
  const SymbolGeometry& g = d.host.geometry();
  const GemmPlanLayout layout(g);
  const auto words = d.plan.read<uint64_t>();
  const auto* order = reinterpret_cast<const uint32_t*>(words.data()) + layout.order / 4;
  const int nq = g.num_q_blocks(), per = 128 / g.block_q;
  const auto active = [&](int b, int i) {
    std::vector<bool> heads(static_cast<size_t>(g.heads));
    for (int h = 0; h < g.heads; ++h) heads[h] = i < nq && d.host.c(b, h, i);
    return heads;
  };
  std::vector<std::pair<int, uint32_t>> want;
  for (int b = 0; b < g.batch; ++b) {
    for (int i = 0; i < nq; ++i) {
      for (int h = 0; h < g.heads; ++h) {
        const uint64_t word = words[(int64_t{b} * nq + i) * layout.head_words + h / 64];
        if ((word >> (h % 64) & 1) != (d.host.c(b, h, i) ? 1u : 0u)) {
          return fail("head words of plan at b=" + std::to_string(b) + " i=" + std::to_string(i) +
                      " h=" + std::to_string(h));
        }
      }
    }
    for (int t = 0; t < layout.tiles; ++t) {
      const auto first = active(b, t * per), last = active(b, t * per + per - 1);
      int count = 0;
      for (int h = 0; h < g.heads; ++h) count += first[h] || last[h];
      want.emplace_back(-count, static_cast<uint32_t>(b * layout.tiles + t));
    }
  }
  std::stable_sort(want.begin(), want.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  for (size_t k = 0; k < want.size(); ++k) {
    if (order[k] != want[k].second) {
      return fail("order of plan at " + std::to_string(k) + " is " + std::to_string(order[k]) +
                  ", wanted " + std::to_string(want[k].second));
    }
  }
}

inline std::shared_ptr<const PackedWeight> pack(const Device& w, DType dtype, int64_t out,
                                                int64_t in, const Device* bias, int head_dim) {
  WeightDesc desc;
  desc.weight = TensorView::contiguous(w.data(), dtype, {out, in});
  if (bias) desc.bias = TensorView::contiguous(bias->data(), DType::kF32, {out});
  desc.out_head_dim = head_dim;
  auto packed = CudaPackedWeight::pack(desc);
  if (!packed.ok()) give_up(packed.status().to_string());
  return *packed;
}

}  // namespace flashomni::probe
