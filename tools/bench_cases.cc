// SPDX-License-Identifier: Apache-2.0
#include "tools/bench_cases.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/half.h"
#include "base/rng.h"
#include "flashomni/strategies.h"
#include "models/tensor.h"

namespace flashomni::tools {
namespace {

// Everything the cases of one operation share.
struct World {
  Backend& backend;
  BenchShape shape;
  Rng rng;
  std::vector<Tensor> tensors;
  std::vector<std::shared_ptr<const PackedWeight>> weights;
  std::unique_ptr<Buffer> workspace;
  Exec exec;

  World(Backend& b, const BenchShape& s) : backend(b), shape(s), rng(s.seed) {}

  // Random normal values: zeros would flatter every denormal, power and prediction path. Large
  // tensors repeat a few million of them.
  Result<TensorView> random(std::initializer_list<int64_t> dims, double scale = 1.0) {
    return random(dims, scale, shape.dtype);
  }
  Result<TensorView> random(std::initializer_list<int64_t> dims, double scale, DType dtype) {
    constexpr size_t kFresh = 4'000'037;  // a prime, so that rows do not line up
    size_t n = 1;
    for (int64_t d : dims) n *= static_cast<size_t>(d);
    std::vector<float> values(n);
    for (size_t i = 0; i < n; ++i) {
      values[i] = i < kFresh ? static_cast<float>(scale * rng.normal()) : values[i - kFresh];
    }
    FO_ASSIGN_OR_RETURN(Tensor t, upload(values, dims, dtype));
    tensors.push_back(std::move(t));
    return tensors.back().view();
  }
  Result<Tensor> upload(const std::vector<float>& values, std::initializer_list<int64_t> dims,
                        DType dtype) {
    if (dtype == DType::kF32) return Tensor::upload(backend, values, dims);
    std::vector<uint16_t> rounded(values.size());
    for (size_t i = 0; i < values.size(); ++i) {
      rounded[i] = dtype == DType::kBF16 ? f32_to_bf16(values[i]) : f32_to_f16(values[i]);
    }
    FO_ASSIGN_OR_RETURN(Tensor t, Tensor::allocate(backend, dtype, dims));
    FO_RETURN_IF_ERROR(backend.upload({}, t.view().data, rounded.data(), 2 * rounded.size()));
    return t;
  }
  Result<const PackedWeight*> weight(int64_t out, int64_t in, int head_dim) {
    const double scale = 1 / std::sqrt(double(in));
    FO_ASSIGN_OR_RETURN(const TensorView w, random({out, in}, scale));
    FO_ASSIGN_OR_RETURN(const TensorView b, random({out}));
    FO_ASSIGN_OR_RETURN(auto packed,
                        backend.pack_weight({.weight = w, .bias = b, .out_head_dim = head_dim}));
    tensors.pop_back();
    tensors.pop_back();
    weights.push_back(packed);
    return weights.back().get();
  }
  Status reserve(size_t bytes) {
    if (workspace && workspace->bytes() >= bytes) return ok_status();
    FO_ASSIGN_OR_RETURN(workspace, backend.allocate(std::max<size_t>(bytes, 64)));
    exec = {nullptr, workspace->data(), workspace->bytes()};
    return ok_status();
  }
};

// Symbols in backend memory with their plan.
struct DeviceSymbols {
  std::unique_ptr<Buffer> memory;
  std::unique_ptr<Buffer> plan_memory;
  SymbolsView view;
  PlanView plan;
  SymbolCounts counts;
};

SymbolGeometry geometry_of(const BenchShape& s) {
  SymbolGeometry g;
  g.heads = s.heads;
  g.q_tokens = g.kv_tokens = static_cast<int>(s.n);
  g.block_q = s.block_q;
  g.block_kv = s.block_kv;
  return g;
}

Result<std::shared_ptr<DeviceSymbols>> place(World& w, const SparseSymbols& symbols) {
  auto out = std::make_shared<DeviceSymbols>();
  const SymbolGeometry& g = symbols.geometry();
  FO_ASSIGN_OR_RETURN(out->memory, w.backend.allocate(symbols.c_words().size_bytes() +
                                                      symbols.s_words().size_bytes() +
                                                      symbols.starts().size_bytes()));
  out->view.geometry = g;
  out->view.c = static_cast<uint64_t*>(out->memory->data());
  out->view.s = out->view.c + g.total_c_words();
  FO_RETURN_IF_ERROR(w.backend.upload(w.exec, out->view.c, symbols.c_words().data(),
                                      symbols.c_words().size_bytes()));
  FO_RETURN_IF_ERROR(w.backend.upload(w.exec, out->view.s, symbols.s_words().data(),
                                      symbols.s_words().size_bytes()));
  if (g.ragged()) {
    auto* starts = reinterpret_cast<int32_t*>(out->view.s + g.total_s_words());
    FO_RETURN_IF_ERROR(
        w.backend.upload(w.exec, starts, symbols.starts().data(), symbols.starts().size_bytes()));
    out->view.starts = starts;
  }
  FO_ASSIGN_OR_RETURN(out->plan_memory, w.backend.allocate(w.backend.plan_bytes(g)));
  out->plan = {out->plan_memory->data(), out->plan_memory->bytes()};
  FO_RETURN_IF_ERROR(w.backend.plan(w.exec, {out->view, out->plan}));
  out->counts = symbols.counts();
  return out;
}

// Symbols of a stated pattern whose share of left-out pairs comes close to `sparsity`.
Result<SparseSymbols> make_symbols(World& w, const std::string& pattern, double sparsity) {
  const SymbolGeometry g = geometry_of(w.shape);
  SparseSymbols out(g);
  if (pattern == "window") {
    // A band of `width` blocks around the diagonal has about width * n - (width/2)^2 blocks.
    for (int i = 0; i < g.num_q_blocks(); ++i) {
      const double center = (i + 0.5) * g.num_kv_blocks() / g.num_q_blocks();
      const double half = 0.5 * g.num_kv_blocks() * (1 - std::sqrt(sparsity)) * 2;
      for (int j = 0; j < g.num_kv_blocks(); ++j) {
        if (std::abs(j + 0.5 - center) <= std::max(0.5, half)) continue;
        for (int h = 0; h < g.heads; ++h) out.set_s(0, h, i, j, false);
      }
    }
    out.repair();
    return out;
  }
  double cached = 0, skipped = 0;
  if (pattern == "s_c") {
    cached = sparsity;
  } else if (pattern == "s_s") {
    skipped = sparsity;
  } else if (pattern == "both") {
    cached = skipped = 1 - std::sqrt(1 - sparsity);
  } else {
    return invalid_argument("pattern is '" + pattern + "', wanted s_s, s_c, both or window");
  }
  std::vector<int> rows(size_t(g.heads) * size_t(g.num_q_blocks()));
  std::iota(rows.begin(), rows.end(), 0);
  auto pick = [&](std::vector<int>& items, size_t count) {
    for (size_t i = 0; i < count; ++i) {
      std::swap(items[i], items[i + w.rng.below(items.size() - i)]);
    }
  };
  const auto num_cached = static_cast<size_t>(std::lround(cached * double(rows.size())));
  pick(rows, num_cached);
  for (size_t r = 0; r < num_cached; ++r) {
    out.set_c(0, rows[r] / g.num_q_blocks(), rows[r] % g.num_q_blocks(), false);
  }
  std::vector<int> pairs((rows.size() - num_cached) * size_t(g.num_kv_blocks()));
  std::iota(pairs.begin(), pairs.end(), 0);
  const auto num_skipped = static_cast<size_t>(std::lround(skipped * double(pairs.size())));
  pick(pairs, num_skipped);
  for (size_t p = 0; p < num_skipped; ++p) {
    const int row = rows[num_cached + size_t(pairs[p] / g.num_kv_blocks())];
    out.set_s(0, row / g.num_q_blocks(), row % g.num_q_blocks(), pairs[p] % g.num_kv_blocks(),
              false);
  }
  out.repair();
  return out;
}

// What the cases of one operation run with: the shape's own symbols, or all patterns at all
// sparsities.
Result<std::vector<BenchSymbols>> symbols_to_time(World& w,
                                                  const std::vector<std::string>& patterns,
                                                  const std::vector<double>& sparsities) {
  if (!w.shape.replay.empty()) return w.shape.replay;
  std::vector<BenchSymbols> out;
  for (const std::string& pattern : patterns) {
    for (const double sparsity : sparsities) {
      FO_ASSIGN_OR_RETURN(SparseSymbols symbols, make_symbols(w, pattern, sparsity));
      out.push_back({pattern, std::move(symbols)});
    }
  }
  return out;
}

BenchRow base_row(const char* op, const BenchShape& s) {
  BenchRow r;
  r.op = op;
  r.n = s.n;
  r.heads = s.heads;
  r.head_dim = s.head_dim;
  r.block_q = s.block_q;
  r.block_kv = s.block_kv;
  r.dtype = dtype_name(s.dtype);
  return r;
}

Result<BenchCase> linear_case(const std::shared_ptr<World>& w, int64_t in, int64_t out) {
  const BenchShape& shape = w->shape;
  LinearParams p;
  FO_ASSIGN_OR_RETURN(p.x, w->random({1, shape.n, in}));
  FO_ASSIGN_OR_RETURN(p.weight, w->weight(out, in, 0));
  FO_ASSIGN_OR_RETURN(p.out, w->random({1, shape.n, out}));
  FO_RETURN_IF_ERROR(w->backend.supports(p));
  FO_RETURN_IF_ERROR(w->reserve(w->backend.workspace_bytes(p)));
  BenchRow row;
  row.op = "linear";
  row.n = shape.n;
  row.dtype = dtype_name(shape.dtype);
  row.in_features = in;
  row.out_features = out;
  row.flops = 2.0 * double(shape.n) * double(in) * double(out);
  return BenchCase{row, [w, p] { return w->backend.linear(w->exec, p); }};
}

// What a projection is held against: the plain layer of the vendor's library.
Status add_vendor_linear(const std::shared_ptr<World>& w, int64_t in, int64_t out,
                         std::vector<BenchCase>& cases) {
  if (w->backend.info().name == "cpu") return ok_status();  // the same kernels
  FO_ASSIGN_OR_RETURN(BenchCase linear, linear_case(w, in, out));
  cases.push_back(std::move(linear));
  return ok_status();
}

}  // namespace

Status check_shape(const BenchShape& shape) {
  if (shape.n > std::numeric_limits<int>::max()) {
    return invalid_argument("--n is " + std::to_string(shape.n) + ", wanted at most " +
                            std::to_string(std::numeric_limits<int>::max()));
  }
  return geometry_of(shape).validate();
}

Result<std::vector<BenchCase>> attention_cases(Backend& backend, const BenchShape& shape,
                                               const std::vector<std::string>& patterns,
                                               const std::vector<double>& sparsities) {
  auto w = std::make_shared<World>(backend, shape);
  AttentionParams p;
  FO_ASSIGN_OR_RETURN(p.q, w->random({1, shape.n, shape.heads, shape.head_dim}));
  FO_ASSIGN_OR_RETURN(p.k, w->random({1, shape.n, shape.heads, shape.head_dim}));
  FO_ASSIGN_OR_RETURN(p.v, w->random({1, shape.n, shape.heads, shape.head_dim}));
  FO_ASSIGN_OR_RETURN(p.out, w->random({1, shape.n, shape.heads, shape.head_dim}));
  FO_RETURN_IF_ERROR(backend.supports(p));
  const double dense_flops = 4.0 * double(shape.n) * double(shape.n) * shape.heads * shape.head_dim;

  std::vector<BenchCase> cases;
  BenchRow row = base_row("attention", shape);
  row.flops = dense_flops;
  FO_RETURN_IF_ERROR(w->reserve(backend.workspace_bytes(p)));
  cases.push_back({row, [w, p] { return w->backend.attention(w->exec, p); }});
  FO_ASSIGN_OR_RETURN(const auto to_time, symbols_to_time(*w, patterns, sparsities));
  for (const auto& [pattern, symbols] : to_time) {
    FO_ASSIGN_OR_RETURN(auto device, place(*w, symbols));
    AttentionParams sparse = p;
    sparse.symbols = device->view;
    sparse.plan = device->plan;
    FO_RETURN_IF_ERROR(w->reserve(backend.workspace_bytes(sparse)));
    row.pattern = pattern;
    row.sparsity = 1 - device->counts.pair_density();
    row.flops = dense_flops * device->counts.pair_density();
    cases.push_back({row, [w, sparse, device] { return w->backend.attention(w->exec, sparse); }});
  }
  return cases;
}

Result<std::vector<BenchCase>> gemm_q_cases(Backend& backend, const BenchShape& shape,
                                            const std::vector<double>& sparsities) {
  auto w = std::make_shared<World>(backend, shape);
  const int64_t width = int64_t{shape.heads} * shape.head_dim;
  const int64_t in = shape.in_features ? shape.in_features : width;
  GemmQParams p;
  FO_ASSIGN_OR_RETURN(p.x, w->random({1, shape.n, in}));
  FO_ASSIGN_OR_RETURN(p.weight, w->weight(width, in, shape.head_dim));
  FO_ASSIGN_OR_RETURN(p.rms_weight, w->random({shape.head_dim}, 1.0, DType::kF32));
  FO_ASSIGN_OR_RETURN(p.rope.cos, w->random({shape.n, shape.head_dim / 2}, 1.0, DType::kF32));
  FO_ASSIGN_OR_RETURN(p.rope.sin, w->random({shape.n, shape.head_dim / 2}, 1.0, DType::kF32));
  FO_ASSIGN_OR_RETURN(p.out, w->random({1, shape.n, shape.heads, shape.head_dim}));
  FO_RETURN_IF_ERROR(backend.supports(p));
  FO_RETURN_IF_ERROR(w->reserve(backend.workspace_bytes(p)));

  std::vector<BenchCase> cases;
  BenchRow row = base_row("gemm-q", shape);
  row.in_features = in;
  row.out_features = width;
  const double dense_flops = row.flops = 2.0 * double(shape.n) * double(in) * double(width);
  cases.push_back({row, [w, p] { return w->backend.gemm_q(w->exec, p); }});
  FO_ASSIGN_OR_RETURN(const auto to_time, symbols_to_time(*w, {"s_c"}, sparsities));
  for (const auto& [pattern, symbols] : to_time) {
    FO_ASSIGN_OR_RETURN(auto device, place(*w, symbols));
    GemmQParams sparse = p;
    sparse.symbols = device->view;
    sparse.plan = device->plan;
    row.pattern = pattern;
    row.sparsity = 1 - device->counts.row_density();
    row.flops = dense_flops * device->counts.row_density();
    cases.push_back({row, [w, sparse, device] { return w->backend.gemm_q(w->exec, sparse); }});
  }
  FO_RETURN_IF_ERROR(add_vendor_linear(w, in, width, cases));
  return cases;
}

Result<std::vector<BenchCase>> gemm_qkv_cases(Backend& backend, const BenchShape& shape,
                                              const std::vector<double>& sparsities) {
  auto w = std::make_shared<World>(backend, shape);
  const int64_t width = int64_t{shape.heads} * shape.head_dim;
  const int64_t in = shape.in_features ? shape.in_features : width;
  GemmQkvParams p;
  FO_ASSIGN_OR_RETURN(p.q.x, w->random({1, shape.n, in}));
  FO_ASSIGN_OR_RETURN(p.q.rms_weight, w->random({shape.head_dim}, 1.0, DType::kF32));
  FO_ASSIGN_OR_RETURN(p.q.rope.cos, w->random({shape.n, shape.head_dim / 2}, 1.0, DType::kF32));
  FO_ASSIGN_OR_RETURN(p.q.rope.sin, w->random({shape.n, shape.head_dim / 2}, 1.0, DType::kF32));
  p.k = p.q;
  p.v.x = p.q.x;
  for (GemmQParams* part : {&p.q, &p.k, &p.v}) {
    FO_ASSIGN_OR_RETURN(part->weight, w->weight(width, in, shape.head_dim));
    FO_ASSIGN_OR_RETURN(part->out, w->random({1, shape.n, shape.heads, shape.head_dim}));
  }
  FO_RETURN_IF_ERROR(backend.supports(p));
  FO_RETURN_IF_ERROR(w->reserve(backend.workspace_bytes(p)));

  std::vector<BenchCase> cases;
  BenchRow row = base_row("gemm-qkv", shape);
  row.in_features = in;
  row.out_features = 3 * width;
  const double of_q = 2.0 * double(shape.n) * double(in) * double(width);
  row.flops = 3 * of_q;
  cases.push_back({row, [w, p] { return w->backend.gemm_qkv(w->exec, p); }});
  FO_ASSIGN_OR_RETURN(const auto to_time, symbols_to_time(*w, {"s_c"}, sparsities));
  for (const auto& [pattern, symbols] : to_time) {
    FO_ASSIGN_OR_RETURN(auto device, place(*w, symbols));
    GemmQkvParams sparse = p;
    sparse.q.symbols = device->view;
    sparse.q.plan = device->plan;
    row.pattern = pattern;
    row.flops = of_q * (2 + device->counts.row_density());
    row.sparsity = 1 - row.flops / (3 * of_q);  // of all three
    cases.push_back({row, [w, sparse, device] { return w->backend.gemm_qkv(w->exec, sparse); }});
  }
  FO_RETURN_IF_ERROR(add_vendor_linear(w, in, 3 * width, cases));
  return cases;
}

Result<std::vector<BenchCase>> gemm_o_cases(Backend& backend, const BenchShape& shape,
                                            const std::vector<double>& sparsities) {
  auto w = std::make_shared<World>(backend, shape);
  const int64_t width = int64_t{shape.heads} * shape.head_dim;
  const int64_t out = shape.out_features ? shape.out_features : width;
  GemmOParams p;
  p.rows = static_cast<int>(shape.n);
  FO_ASSIGN_OR_RETURN(p.attn, w->random({1, shape.n, shape.heads, shape.head_dim}));
  FO_ASSIGN_OR_RETURN(p.weight, w->weight(out, width, 0));
  FO_ASSIGN_OR_RETURN(p.out, w->random({1, shape.n, out}));
  FO_RETURN_IF_ERROR(backend.supports(p));
  FO_RETURN_IF_ERROR(w->reserve(backend.workspace_bytes(p)));

  std::vector<BenchCase> cases;
  BenchRow row = base_row("gemm-o", shape);
  row.in_features = width;
  row.out_features = out;
  const double dense_flops = row.flops = 2.0 * double(shape.n) * double(width) * double(out);
  cases.push_back({row, [w, p] { return w->backend.gemm_o(w->exec, p); }});

  GemmOParams planes = p;
  planes.num_planes = shape.planes;
  for (int m = 0; m < shape.planes; ++m) {
    planes.coefficients[m] = float(1 << m);
    FO_ASSIGN_OR_RETURN(planes.planes[m], w->random({1, shape.n, out}));
  }
  FO_ASSIGN_OR_RETURN(const auto to_time, symbols_to_time(*w, {"s_c"}, sparsities));
  for (const auto& [pattern, symbols] : to_time) {
    FO_ASSIGN_OR_RETURN(auto device, place(*w, symbols));
    GemmOParams sparse = planes;
    sparse.symbols = device->view;
    sparse.plan = device->plan;
    row.pattern = pattern;
    row.sparsity = 1 - device->counts.row_density();
    row.flops = dense_flops * device->counts.row_density();
    // The planes are read, the result is written, the computed heads' rows are read.
    row.bytes = double(dtype_bytes(shape.dtype)) * double(shape.n) *
                ((shape.planes + 1) * double(out) + double(width) * device->counts.row_density());
    cases.push_back({row, [w, sparse, device] { return w->backend.gemm_o(w->exec, sparse); }});
  }

  // The Update pass beside them: bias planes and full output at half of the rows cached.
  FO_ASSIGN_OR_RETURN(const SparseSymbols half, make_symbols(*w, "s_c", 0.5));
  FO_ASSIGN_OR_RETURN(auto device, place(*w, half));
  GemmOUpdateParams update{.base = planes};
  update.base.symbols = device->view;
  update.base.plan = device->plan;
  update.factors[0] = p.attn;
  for (int num_planes = 1; num_planes <= shape.planes; ++num_planes) {
    if (num_planes > 1) {
      FO_ASSIGN_OR_RETURN(update.factors[num_planes - 1],
                          w->random({1, shape.n, shape.heads, shape.head_dim}));
    }
    update.base.num_planes = num_planes;
    row.op = "gemm-o-update-" + std::to_string(num_planes);
    row.pattern = "s_c";
    row.sparsity = 0;  // everything is computed, plus the slopes of the cached half
    row.flops = dense_flops * (1 + 0.5 * (num_planes - 1));
    row.bytes = 0;
    cases.push_back(
        {row, [w, update, device] { return w->backend.gemm_o_update(w->exec, update); }});
  }
  FO_RETURN_IF_ERROR(add_vendor_linear(w, width, out, cases));
  return cases;
}

Result<std::vector<BenchCase>> linear_cases(Backend& backend, const BenchShape& shape) {
  auto w = std::make_shared<World>(backend, shape);
  const int64_t width = int64_t{shape.heads} * shape.head_dim;
  FO_ASSIGN_OR_RETURN(BenchCase only, linear_case(w, shape.in_features ? shape.in_features : width,
                                                  shape.out_features ? shape.out_features : width));
  return std::vector<BenchCase>{std::move(only)};
}

namespace {

// A strategy whose build is timed; `name` tells its row from others.
struct Builder {
  const char* name;
  const char* strategy;
  OptionMap options;
};

// Text in front and a grid of `frames` frames for the rest.
SequenceInfo sequence_of(const BenchShape& shape) {
  constexpr int kMostFrames = 32;
  SequenceInfo s;
  s.heads = shape.heads;
  s.head_dim = shape.head_dim;
  s.tokens = static_cast<int>(shape.n);
  s.text_end = static_cast<int>(std::min<int64_t>(512, shape.n / 4));
  const int vision = s.tokens - s.text_end;
  int frames = std::min(kMostFrames, vision);
  while (vision % frames != 0) --frames;
  s.grid = {frames, 1, vision / frames};
  return s;
}

Result<BenchCase> build_case(const std::shared_ptr<World>& w, const Builder& builder,
                             const BuildContext& inputs) {
  OptionMap options = builder.options;
  options["block_q"] = int64_t{w->shape.block_q};
  options["block_kv"] = int64_t{w->shape.block_kv};
  FO_ASSIGN_OR_RETURN(auto made, make_strategy(builder.strategy, options));
  std::shared_ptr<Strategy> strategy = std::move(made);
  BuildContext c = inputs;
  FO_RETURN_IF_ERROR(
      strategy->begin_run({.steps = 50, .streams = 1, .layers = 1, .sequence = c.sequence}));
  FO_RETURN_IF_ERROR(strategy->prepare(w->backend, w->exec));
  FO_ASSIGN_OR_RETURN(auto memory, w->backend.allocate(strategy->scratch_bytes(c.sequence)));
  std::shared_ptr<Buffer> scratch = std::move(memory);
  c.scratch = scratch->data();
  c.backend = &w->backend;
  FO_ASSIGN_OR_RETURN(auto device, place(*w, SparseSymbols(geometry_of(w->shape))));
  BenchRow row = base_row("symbols", w->shape);
  row.pattern = std::string("build+plan") + (*builder.name ? ": " : "") + builder.name;
  return BenchCase{row, [w, c, strategy, scratch, device] {
                     FO_RETURN_IF_ERROR(strategy->build(c, device->view));
                     FO_RETURN_IF_ERROR(w->backend.plan(w->exec, {device->view, device->plan}));
                     return w->backend.count_symbols(w->exec, {device->view, &device->counts});
                   }};
}

}  // namespace

Result<std::vector<BenchCase>> symbols_cases(Backend& backend, const BenchShape& shape) {
  using namespace std::string_literals;
  FO_ASSIGN_OR_RETURN(std::vector<BenchCase> cases, attention_cases(backend, shape, {}, {}));
  auto w = std::make_shared<World>(backend, shape);
  BuildContext c;
  c.sequence = sequence_of(shape);
  FO_ASSIGN_OR_RETURN(c.q, w->random({1, shape.n, shape.heads, shape.head_dim}));
  FO_ASSIGN_OR_RETURN(c.k, w->random({1, shape.n, shape.heads, shape.head_dim}));
  FO_ASSIGN_OR_RETURN(c.attention, w->random({1, shape.n, shape.heads, shape.head_dim}));
  c.previous = c.forecast = c.q;
  c.step = {30, 50, 30};
  const int64_t stride = std::min({8, shape.block_q, shape.block_kv});
  const Builder builders[] = {
      {"", "flashomni", {}},  // the policy that strategies are compared with
      {"column_mass", "flashomni", {{"row_score", "column_mass"s}}},
      {"change", "flashomni", {{"row_score", "change"s}}},
      {"sparge", "sparge", {}},
      {"draft", "draft", {{"patch_rows", int64_t{0}}, {"patch_cols", int64_t{0}}}},
      {"svg1", "svg1", {}},
      {"xattention", "xattention", {{"stride", stride}}},
  };
  for (const Builder& builder : builders) {
    FO_ASSIGN_OR_RETURN(BenchCase one, build_case(w, builder, c));
    cases.push_back(std::move(one));
  }
  return cases;
}

}  // namespace flashomni::tools
