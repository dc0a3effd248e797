// SPDX-License-Identifier: Apache-2.0
//
// Right or wrong, in small odd shapes: every form of GEMM-Q and GEMM-O against a plain product, and
// bit for bit against each other where they must agree.
#pragma once

#include <functional>

#include "bench/cuda/gemm_probe_tools.cuh"
#include "cuda/gemm_o.h"
#include "cuda/gemm_q.h"

namespace flashomni::probe {

// ---- GEMM-Q

struct QCase {
  DType dtype = DType::kBF16;
  int batch = 1, tokens = 0, offset = 0, rows = 0, in = 0, heads = 0, head_dim = 128, block = 128;
  Pattern pattern = Pattern::kDense;
  bool bias = true, rms = true, rope = true;
  double density = 0.5;

  std::string text() const {
    char s[200];
    std::snprintf(
        s, sizeof(s), "gemm_q %s b=%d n=%d rows=%d+%d k=%d h=%d d=%d block=%d pattern=%d%s%s%s",
        dtype_name(dtype), batch, tokens, offset, rows, in, heads, head_dim, block,
        static_cast<int>(pattern), bias ? " bias" : "", rms ? " rms" : "", rope ? " rope" : "");
    return s;
  }
};

struct QData {
  Device x, w, bias, rms, cos, sin;
  std::vector<double> truth;  // [B, N, H, d] of the segment, NaN elsewhere; all tiles
  std::shared_ptr<const PackedWeight> weight;
  std::vector<float> host_bias, host_rms, host_cos, host_sin;
};

inline QData make_q(const QCase& c, Rng& rng) {
  QData d;
  const int width = c.heads * c.head_dim;
  d.x = Device(normal16(rng, int64_t{c.batch} * c.rows * c.in, c.dtype));
  d.w = Device(normal16(rng, int64_t{width} * c.in, c.dtype, 1 / std::sqrt(double(c.in))));
  d.host_bias = normal32(rng, width, c.dtype);
  d.host_rms = normal32(rng, c.head_dim, c.dtype);
  for (int i = 0; i < c.tokens * c.head_dim / 2; ++i) {
    const double angle = rng.normal() * 3;
    d.host_cos.push_back(static_cast<float>(std::cos(angle)));
    d.host_sin.push_back(static_cast<float>(std::sin(angle)));
  }
  d.bias = Device(d.host_bias);
  d.rms = Device(d.host_rms);
  d.cos = Device(d.host_cos);
  d.sin = Device(d.host_sin);
  d.weight = pack(d.w, c.dtype, width, c.in, c.bias ? &d.bias : nullptr, c.head_dim);

  const std::vector<double> y = plain(d.x.as<uint16_t>(), c.in, d.w.as<uint16_t>(), c.in,
                                      c.batch * c.rows, width, 0, c.in, c.dtype);
  d.truth.assign(static_cast<size_t>(c.batch) * c.tokens * width, std::nan(""));
  std::vector<double> v(static_cast<size_t>(c.head_dim));
  for (int b = 0; b < c.batch; ++b) {
    for (int r = 0; r < c.rows; ++r) {
      const int n = c.offset + r;
      for (int h = 0; h < c.heads; ++h) {
        double squares = 0;
        for (int e = 0; e < c.head_dim; ++e) {
          v[e] = y[(int64_t{b} * c.rows + r) * width + h * c.head_dim + e];
          if (c.bias) v[e] += d.host_bias[h * c.head_dim + e];
          squares += v[e] * v[e];
        }
        const double root = std::sqrt(squares / c.head_dim + 1e-6);
        for (int e = 0; c.rms && e < c.head_dim; ++e) v[e] = v[e] / root * d.host_rms[e];
        for (int e = 0; c.rope && e < c.head_dim; e += 2) {
          const double cos = d.host_cos[(int64_t{n} * c.head_dim + e) / 2];
          const double sin = d.host_sin[(int64_t{n} * c.head_dim + e) / 2];
          const double even = v[e], odd = v[e + 1];
          v[e] = even * cos - odd * sin;
          v[e + 1] = odd * cos + even * sin;
        }
        std::copy(v.begin(), v.end(),
                  d.truth.begin() + ((int64_t{b} * c.tokens + n) * c.heads + h) * c.head_dim);
      }
    }
  }
  return d;
}

inline GemmQParams q_params(const QCase& c, const QData& d, const Device& out) {
  GemmQParams p;
  p.x = TensorView::contiguous(d.x.data(), c.dtype, {c.batch, c.rows, c.in});
  p.weight = d.weight.get();
  if (c.rms) p.rms_weight = TensorView::contiguous(d.rms.data(), DType::kF32, {c.head_dim});
  if (c.rope) {
    p.rope.cos = TensorView::contiguous(d.cos.data(), DType::kF32, {c.tokens, c.head_dim / 2});
    p.rope.sin = TensorView::contiguous(d.sin.data(), DType::kF32, {c.tokens, c.head_dim / 2});
  }
  p.token_offset = c.offset;
  p.out = TensorView::contiguous(out.data(), c.dtype, {c.batch, c.tokens, c.heads, c.head_dim});
  return p;
}

// `tested` with the elements of inactive tiles turned to NaN.
inline std::vector<double> masked(const QCase& c, std::vector<double> truth,
                                  const SparseSymbols& symbols) {
  for (size_t i = 0; i < truth.size(); ++i) {
    const int64_t row = static_cast<int64_t>(i) / c.head_dim;
    const int h = static_cast<int>(row % c.heads);
    const int64_t token = row / c.heads;
    const int b = static_cast<int>(token / c.tokens), n = static_cast<int>(token % c.tokens);
    if (!symbols.c(b, h, n / c.block)) truth[i] = std::nan("");
  }
  return truth;
}

inline SymbolGeometry geometry_of(int batch, int heads, int tokens, int block) {
  SymbolGeometry g;
  g.batch = batch;
  g.heads = heads;
  g.q_tokens = g.kv_tokens = tokens;
  g.block_q = g.block_kv = block;
  return g;
}

inline void check_q(const Launcher& launcher, const QCase& c, uint64_t seed) {
  current = c.text();
  Rng rng(seed);
  const QData d = make_q(c, rng);
  const size_t out_bytes = 2 * d.truth.size();
  const std::vector<int64_t> shape = {c.batch, c.tokens, c.heads, c.head_dim};
  Device dense(out_bytes);
  GemmQParams p = q_params(c, d, dense);
  must(check_gemm_q(p));
  must(gemm_q(nullptr, launcher, p, nullptr));
  finish();
  const auto dense_bits = dense.read<uint16_t>();
  compare(c.dtype, "dense out", shape, dense_bits, d.truth);
  if (c.pattern == Pattern::kDense) return;

  const DeviceSymbols symbols =
      make_symbols(geometry_of(c.batch, c.heads, c.tokens, c.block), c.pattern, rng, c.density);
  check_plan(symbols);
  const std::vector<double> want = masked(c, d.truth, symbols.host);
  std::vector<uint16_t> want_bits = dense_bits;
  for (size_t i = 0; i < want.size(); ++i) {
    if (std::isnan(want[i])) want_bits[i] = kPoison;
  }
  Device sparse(out_bytes);
  p = q_params(c, d, sparse);
  p.symbols = symbols.view();
  must(check_gemm_q(p));
  must(gemm_q(nullptr, launcher, p, symbols.plan.data()));
  finish();
  compare(c.dtype, "sparse out", shape, sparse.read<uint16_t>(), want);
  same_bits("sparse out against dense", shape, sparse.read<uint16_t>(), want_bits);

  // With the dense projections k and v in the same launch.
  QCase kc = c;
  kc.rope = !c.rope;
  QData kd = make_q(kc, rng);
  Device k_out(out_bytes), v_out(out_bytes);
  GemmQParams k = q_params(kc, kd, k_out), v = q_params(c, d, v_out);
  k.x = v.x = p.x;
  v.rms_weight = {};
  sparse.poison();
  must(check_gemm_qkv({p, k, v}));
  must(gemm_qkv(nullptr, launcher, {p, k, v}, symbols.plan.data()));
  finish();
  same_bits("q of qkv", shape, sparse.read<uint16_t>(), want_bits);
  // k and v alone.
  const auto k_bits = k_out.read<uint16_t>(), v_bits = v_out.read<uint16_t>();
  k_out.poison();
  v_out.poison();
  must(gemm_q(nullptr, launcher, k, nullptr));
  must(gemm_q(nullptr, launcher, v, nullptr));
  finish();
  same_bits("k of qkv", shape, k_bits, k_out.read<uint16_t>());
  same_bits("v of qkv", shape, v_bits, v_out.read<uint16_t>());
}

// ---- GEMM-O

struct OCase {
  DType dtype = DType::kBF16;
  int batch = 1, tokens = 0, offset = 0, rows = 0, heads = 0, head_dim = 128, mlp = 0, width = 0;
  int block = 128, planes = 1;
  Pattern pattern = Pattern::kDense;
  bool bias = true, out = true, residual = false, gate = false;
  double density = 0.5;

  std::string text() const {
    char s[240];
    std::snprintf(s, sizeof(s),
                  "gemm_o %s b=%d n=%d rows=%d+%d h=%d d=%d mlp=%d width=%d block=%d planes=%d "
                  "pattern=%d%s%s%s%s",
                  dtype_name(dtype), batch, tokens, offset, rows, heads, head_dim, mlp, width,
                  block, planes, static_cast<int>(pattern), bias ? " bias" : "", out ? " out" : "",
                  residual ? " residual" : "", gate ? " gate" : "");
    return s;
  }
};

struct OTest {
  const Launcher& launcher;
  const OCase c;
  Rng rng;
  int in, attn_features;
  std::vector<std::vector<uint16_t>> factors, planes;
  std::vector<uint16_t> mlp, residual;
  std::vector<float> bias, gate;
  Device w;
  std::shared_ptr<const PackedWeight> weight;
  std::vector<std::vector<double>> heads;  // [m][h]: products of head h, [B * N, width], flattened
  std::vector<double> mlp_product;         // [B * M, width]
  std::vector<int64_t> out_shape, plane_shape;

  OTest(const Launcher& l, const OCase& oc, uint64_t seed) : launcher(l), c(oc), rng(seed) {
    attn_features = c.heads * c.head_dim;
    in = attn_features + c.mlp;
    const int64_t tokens = int64_t{c.batch} * c.tokens, rows = int64_t{c.batch} * c.rows;
    for (int m = 0; m < c.planes; ++m) {
      factors.push_back(normal16(rng, tokens * attn_features, c.dtype));
      planes.push_back(normal16(rng, tokens * c.width, c.dtype));
    }
    mlp = normal16(rng, rows * c.mlp, c.dtype);
    residual = normal16(rng, rows * c.width, c.dtype);
    bias = normal32(rng, c.width, c.dtype);
    gate = normal32(rng, int64_t{c.batch} * c.width, c.dtype);
    w = Device(normal16(rng, int64_t{c.width} * in, c.dtype, 1 / std::sqrt(double(in))));
    const Device bias_memory(bias);
    weight = pack(w, c.dtype, c.width, in, c.bias ? &bias_memory : nullptr, 0);
    out_shape = {c.batch, c.rows, c.width};
    plane_shape = {c.batch, c.tokens, c.width};
    for (int m = 0; m < c.planes; ++m) {
      const Device f(factors[m]);
      heads.emplace_back();
      for (int h = 0; h < c.heads; ++h) {
        const auto y =
            plain(f.as<uint16_t>(), attn_features, w.as<uint16_t>(), in, c.batch * c.tokens,
                  c.width, h * c.head_dim, (h + 1) * c.head_dim, c.dtype);
        heads[m].insert(heads[m].end(), y.begin(), y.end());
      }
    }
    if (c.mlp) {
      const Device a(mlp);
      mlp_product = plain(a.as<uint16_t>(), c.mlp, w.as<uint16_t>() + attn_features, in,
                          c.batch * c.rows, c.width, 0, c.mlp, c.dtype);
    }
  }

  double head(int m, int h, int64_t token, int o) const {
    return heads[m][(int64_t{h} * c.batch * c.tokens + token) * c.width + o];
  }

  // One output element and what it is made of.
  struct Element {
    double cached, active, mlp;
  };
  Element element(int m, int b, int r, int o, const SparseSymbols* s) const {
    Element e = {0, 0, 0};
    const int n = c.offset + r;
    for (int h = 0; h < c.heads; ++h) {
      const bool on = !s || s->c(b, h, n / c.block);
      (on ? e.active : e.cached) += head(m, h, int64_t{b} * c.tokens + n, o);
    }
    if (c.mlp) e.mlp = mlp_product[(int64_t{b} * c.rows + r) * c.width + o];
    return e;
  }

  // factors[m] with NaN where a call must not look: outside the segment, and in tiles of `state`.
  Device poisoned(int m, const SparseSymbols* s, bool hide_cached, bool hide_active) const {
    std::vector<uint16_t> f = factors[m];
    for (int b = 0; b < c.batch; ++b) {
      for (int n = 0; n < c.tokens; ++n) {
        for (int h = 0; h < c.heads; ++h) {
          const bool outside = n < c.offset || n >= c.offset + c.rows;
          const bool on = !s || s->c(b, h, n / c.block);
          if (outside || (on ? hide_active : hide_cached)) {
            std::fill_n(f.begin() + ((int64_t{b} * c.tokens + n) * c.heads + h) * c.head_dim,
                        c.head_dim, kPoison);
          }
        }
      }
    }
    return Device(f);
  }

  GemmOParams base(const Device& attn, const Device& mlp_memory, const Device& out,
                   const Device& res, const Device& gate_memory) const {
    GemmOParams p;
    p.attn = TensorView::contiguous(attn.data(), c.dtype, {c.batch, c.tokens, c.heads, c.head_dim});
    if (c.mlp) p.mlp = TensorView::contiguous(mlp_memory.data(), c.dtype, {c.batch, c.rows, c.mlp});
    p.weight = weight.get();
    p.token_offset = c.offset;
    p.rows = c.rows;
    if (c.out) p.out = TensorView::contiguous(out.data(), c.dtype, {c.batch, c.rows, c.width});
    if (c.residual) {
      p.residual = TensorView::contiguous(res.data(), c.dtype, {c.batch, c.rows, c.width});
    }
    if (c.gate)
      p.gate = TensorView::contiguous(gate_memory.data(), DType::kF32, {c.batch, c.width});
    return p;
  }

  void compare_result(const std::string& what, const Device& out, const Device& res,
                      const std::function<double(int, int, int)>& truth) const {
    std::vector<double> y, z;
    for (int b = 0; b < c.batch; ++b) {
      for (int r = 0; r < c.rows; ++r) {
        for (int o = 0; o < c.width; ++o) {
          const double v = truth(b, r, o);
          const double g = c.gate ? gate[int64_t{b} * c.width + o] : 1;
          y.push_back(v);
          z.push_back(to_double(residual[(int64_t{b} * c.rows + r) * c.width + o], c.dtype) +
                      g * v);
        }
      }
    }
    if (c.out) compare(c.dtype, what + " out", out_shape, out.read<uint16_t>(), y);
    if (c.residual) compare(c.dtype, what + " residual", out_shape, res.read<uint16_t>(), z);
  }

  void run() {
    current = c.text();
    const size_t out_count = static_cast<size_t>(c.batch) * c.rows * c.width;
    const Device mlp_memory(mlp), gate_memory(gate);
    const auto bias_at = [&](int o) { return c.bias ? double(bias[o]) : 0.0; };

    Device dense_out(2 * out_count), dense_res(residual);
    {
      const Device attn = poisoned(0, nullptr, false, false);
      const GemmOParams p = base(attn, mlp_memory, dense_out, dense_res, gate_memory);
      must(check_gemm_o(p));
      must(gemm_o(nullptr, launcher, p, nullptr));
      finish();
      compare_result("dense", dense_out, dense_res, [&](int b, int r, int o) {
        const Element e = element(0, b, r, o, nullptr);
        return e.active + e.mlp + bias_at(o);
      });
    }
    if (c.pattern == Pattern::kDense) return;

    const SymbolGeometry g = geometry_of(c.batch, c.heads, c.tokens, c.block);
    const DeviceSymbols symbols = make_symbols(g, c.pattern, rng, c.density);
    check_plan(symbols);
    dispatch(symbols, mlp_memory, gate_memory, out_count);
    update(symbols, mlp_memory, gate_memory, out_count, bias_at);
    if (c.pattern == Pattern::kOnes && c.out && c.bias) {
      zero_sparsity(symbols, mlp_memory, gate_memory, out_count, dense_out);
    }
  }

  std::vector<Device> plane_memory(bool skip_second) const {
    std::vector<Device> result;
    for (int m = 0; m < c.planes; ++m) {
      std::vector<uint16_t> v = planes[m];
      for (int64_t i = 0; i < static_cast<int64_t>(v.size()); ++i) {
        const int n = static_cast<int>(i / c.width % c.tokens);
        const bool outside = n < c.offset || n >= c.offset + c.rows;
        if (outside || (skip_second && m == 1)) v[i] = kPoison;
      }
      result.emplace_back(v);
    }
    return result;
  }

  void dispatch(const DeviceSymbols& symbols, const Device& mlp_memory, const Device& gate_memory,
                size_t out_count) const {
    const bool skip_second = c.planes > 2;
    const std::vector<Device> memory = plane_memory(skip_second);
    const float coefficients[] = {1.f, skip_second ? 0.f : 0.75f, -0.5f, 0.125f};
    const Device attn = poisoned(0, &symbols.host, true, false);
    Device out(2 * out_count), res(residual);
    GemmOParams p = base(attn, mlp_memory, out, res, gate_memory);
    p.symbols = symbols.view();
    p.num_planes = c.planes;
    for (int m = 0; m < c.planes; ++m) {
      p.planes[m] = TensorView::contiguous(memory[m].data(), c.dtype, {c.batch, c.tokens, c.width});
      p.coefficients[m] = coefficients[m];
    }
    must(check_gemm_o(p));
    must(gemm_o(nullptr, launcher, p, symbols.plan.data()));
    finish();
    compare_result("dispatch", out, res, [&](int b, int r, int o) {
      const Element e = element(0, b, r, o, &symbols.host);
      double y = e.active + e.mlp;
      for (int m = 0; m < c.planes; ++m) {
        const size_t at = (static_cast<size_t>(b) * c.tokens + c.offset + r) * c.width + o;
        if (p.coefficients[m] != 0) y += p.coefficients[m] * to_double(planes[m][at], c.dtype);
      }
      return y;
    });
    const auto first = out.read<uint16_t>();
    if (c.out) {
      out.poison();
      must(gemm_o(nullptr, launcher, p, symbols.plan.data()));
      finish();
      same_bits("dispatch again", out_shape, out.read<uint16_t>(), first);
    }
    if (c.out && c.pattern == Pattern::kNone && !c.mlp) {
      p.num_planes = 1;
      must(gemm_o(nullptr, launcher, p, symbols.plan.data()));
      finish();
      std::vector<uint16_t> want;
      for (int b = 0; b < c.batch; ++b) {
        const auto row = planes[0].begin() + (int64_t{b} * c.tokens + c.offset) * c.width;
        want.insert(want.end(), row, row + int64_t{c.rows} * c.width);
      }
      same_bits("all cached against plane", out_shape, out.read<uint16_t>(), want);
    }
  }

  void update(const DeviceSymbols& symbols, const Device& mlp_memory, const Device& gate_memory,
              size_t out_count, const std::function<double(int)>& bias_at) const {
    std::vector<Device> written, features;
    Device out(2 * out_count), res(residual);
    for (int m = 0; m < c.planes; ++m) {
      written.emplace_back(2 * planes[m].size());
      features.push_back(poisoned(m, &symbols.host, false, m > 0));
    }
    GemmOUpdateParams u;
    u.base = base(features[0], mlp_memory, out, res, gate_memory);
    u.base.attn = {};
    u.base.symbols = symbols.view();
    u.base.num_planes = c.planes;
    for (int m = 0; m < c.planes; ++m) {
      u.base.planes[m] =
          TensorView::contiguous(written[m].data(), c.dtype, {c.batch, c.tokens, c.width});
      u.factors[m] = TensorView::contiguous(features[m].data(), c.dtype,
                                            {c.batch, c.tokens, c.heads, c.head_dim});
    }
    must(check_gemm_o_update(u));
    must(gemm_o_update(nullptr, launcher, u, symbols.plan.data()));
    finish();
    compare_result("update", out, res, [&](int b, int r, int o) {
      const Element e = element(0, b, r, o, &symbols.host);
      return e.cached + e.active + e.mlp + bias_at(o);
    });
    for (int m = 0; m < c.planes; ++m) {
      std::vector<double> want(planes[m].size(), std::nan(""));
      for (int b = 0; b < c.batch; ++b) {
        for (int r = 0; r < c.rows; ++r) {
          for (int o = 0; o < c.width; ++o) {
            want[(static_cast<size_t>(b) * c.tokens + c.offset + r) * c.width + o] =
                element(m, b, r, o, &symbols.host).cached + (m == 0 ? bias_at(o) : 0);
          }
        }
      }
      compare(c.dtype, "update plane " + std::to_string(m), plane_shape,
              written[m].read<uint16_t>(), want);
    }
  }

  // Update, then dispatch from its planes: both the dense result bit for bit.
  void zero_sparsity(const DeviceSymbols& symbols, const Device& mlp_memory,
                     const Device& gate_memory, size_t out_count, const Device& dense_out) const {
    const Device attn(factors[0]);
    std::vector<Device> written;
    for (int m = 0; m < c.planes; ++m) written.emplace_back(2 * planes[m].size());
    Device out(2 * out_count), res(residual);
    GemmOUpdateParams u;
    u.base = base(attn, mlp_memory, out, res, gate_memory);
    u.base.symbols = symbols.view();
    u.base.num_planes = c.planes;
    for (int m = 0; m < c.planes; ++m) {
      u.base.planes[m] =
          TensorView::contiguous(written[m].data(), c.dtype, {c.batch, c.tokens, c.width});
      u.factors[m] = u.base.attn;
      u.base.coefficients[m] = m == 0 ? 1.f : 0.3f;
    }
    must(gemm_o_update(nullptr, launcher, u, symbols.plan.data()));
    finish();
    same_bits("update at zero sparsity", out_shape, out.read<uint16_t>(),
              dense_out.read<uint16_t>());
    out.poison();
    must(gemm_o(nullptr, launcher, u.base, symbols.plan.data()));
    finish();
    same_bits("dispatch at zero sparsity", out_shape, out.read<uint16_t>(),
              dense_out.read<uint16_t>());
  }
};

inline void check_all(const Launcher& launcher) {
  const DType hf = DType::kF16;
  int ran = 0;
  uint64_t seed = 1;
  // The plainest first: what fails there fails everywhere.
  const QCase q_cases[] = {
      {.tokens = 256,
       .rows = 256,
       .in = 64,
       .heads = 1,
       .bias = false,
       .rms = false,
       .rope = false},
      {.tokens = 256, .rows = 256, .in = 512, .heads = 2, .rms = false, .rope = false},
      {.tokens = 256, .rows = 256, .in = 512, .heads = 2},
      {.tokens = 300, .rows = 300, .in = 520, .heads = 3, .pattern = Pattern::kOnes},
      {.tokens = 1, .rows = 1, .in = 8, .heads = 1, .pattern = Pattern::kOnes},
      {.tokens = 1000,
       .offset = 77,
       .rows = 700,
       .in = 256,
       .heads = 5,
       .pattern = Pattern::kRandom},
      {.dtype = hf,
       .tokens = 1000,
       .offset = 300,
       .rows = 700,
       .in = 192,
       .heads = 5,
       .pattern = Pattern::kRandom},
      {.batch = 2,
       .tokens = 777,
       .offset = 130,
       .rows = 600,
       .in = 264,
       .heads = 4,
       .block = 64,
       .pattern = Pattern::kRandom},
      {.tokens = 640, .rows = 640, .in = 128, .heads = 3, .pattern = Pattern::kNone},
      {.batch = 2,
       .tokens = 2000,
       .rows = 2000,
       .in = 128,
       .heads = 24,
       .block = 64,
       .pattern = Pattern::kRare},
      {.tokens = 9000,
       .offset = 100,
       .rows = 8800,
       .in = 64,
       .heads = 24,
       .pattern = Pattern::kRandom},
      {.tokens = 9000,
       .offset = 60,
       .rows = 8800,
       .in = 64,
       .heads = 9,
       .block = 64,
       .pattern = Pattern::kRandom,
       .density = 0.8},
      {.batch = 2,
       .tokens = 500,
       .offset = 20,
       .rows = 450,
       .in = 320,
       .heads = 5,
       .head_dim = 64,
       .pattern = Pattern::kRandom},
      {.dtype = hf,
       .tokens = 500,
       .rows = 500,
       .in = 320,
       .heads = 6,
       .head_dim = 64,
       .block = 64,
       .pattern = Pattern::kRandom},
      {.tokens = 500,
       .offset = 20,
       .rows = 450,
       .in = 320,
       .heads = 5,
       .head_dim = 96,
       .pattern = Pattern::kRandom},
      {.dtype = hf,
       .batch = 2,
       .tokens = 500,
       .rows = 500,
       .in = 320,
       .heads = 4,
       .head_dim = 96,
       .block = 64,
       .pattern = Pattern::kRandom},
  };
  for (const QCase& c : q_cases) {
    const int before = failures;
    check_q(launcher, c, seed++);
    std::printf("%s %s\n", failures == before ? "ok  " : "BAD ", c.text().c_str());
    std::fflush(stdout);
    ++ran;
  }
  const OCase o_cases[] = {
      {.tokens = 128, .rows = 128, .heads = 1, .width = 256, .bias = false},
      {.tokens = 256, .rows = 256, .heads = 4, .width = 512},
      {.tokens = 300, .rows = 300, .heads = 3, .width = 264, .pattern = Pattern::kOnes},
      {.tokens = 1, .rows = 1, .heads = 1, .width = 8, .pattern = Pattern::kOnes},
      {.tokens = 640, .rows = 640, .heads = 5, .width = 384, .pattern = Pattern::kNone},
      {.tokens = 640, .rows = 640, .heads = 5, .width = 384, .pattern = Pattern::kRandom},
      {.tokens = 1000,
       .offset = 77,
       .rows = 700,
       .heads = 6,
       .width = 520,
       .planes = 2,
       .pattern = Pattern::kRandom,
       .residual = true,
       .gate = true},
      {.dtype = hf,
       .batch = 2,
       .tokens = 600,
       .offset = 300,
       .rows = 290,
       .heads = 6,
       .width = 256,
       .planes = 4,
       .pattern = Pattern::kRandom,
       .out = false,
       .residual = true,
       .gate = true},
      {.batch = 2,
       .tokens = 777,
       .offset = 130,
       .rows = 600,
       .heads = 4,
       .mlp = 200,
       .width = 320,
       .block = 64,
       .planes = 3,
       .pattern = Pattern::kRandom,
       .residual = true},
      {.tokens = 600,
       .rows = 600,
       .heads = 4,
       .mlp = 512,
       .width = 256,
       .planes = 2,
       .pattern = Pattern::kOnes,
       .residual = true,
       .gate = true},
      {.tokens = 640,
       .rows = 640,
       .heads = 8,
       .width = 256,
       .block = 64,
       .pattern = Pattern::kRare},
      {.tokens = 512,
       .rows = 512,
       .heads = 7,
       .head_dim = 64,
       .width = 512,
       .planes = 2,
       .pattern = Pattern::kRandom},
      {.dtype = hf,
       .tokens = 500,
       .offset = 3,
       .rows = 490,
       .heads = 7,
       .head_dim = 64,
       .mlp = 64,
       .width = 256,
       .block = 64,
       .pattern = Pattern::kRandom},
      {.tokens = 500,
       .offset = 10,
       .rows = 480,
       .heads = 5,
       .head_dim = 96,
       .mlp = 136,
       .width = 256,
       .planes = 2,
       .pattern = Pattern::kRandom},
      {.dtype = hf,
       .tokens = 500,
       .rows = 500,
       .heads = 5,
       .head_dim = 96,
       .width = 256,
       .block = 64,
       .pattern = Pattern::kOnes},
      {.tokens = 300,
       .rows = 300,
       .heads = 70,
       .head_dim = 64,
       .width = 256,
       .block = 64,
       .pattern = Pattern::kRandom},
      {.tokens = 4000,
       .offset = 500,
       .rows = 3300,
       .heads = 4,
       .width = 1024,
       .pattern = Pattern::kRandom},
  };
  for (const OCase& c : o_cases) {
    const int before = failures;
    current = c.text();
    OTest(launcher, c, seed++).run();
    std::printf("%s %s\n", failures == before ? "ok  " : "BAD ", c.text().c_str());
    std::fflush(stdout);
    ++ran;
  }
  std::printf("%d cases, %d failures\n", ran, failures);
}

}  // namespace flashomni::probe
