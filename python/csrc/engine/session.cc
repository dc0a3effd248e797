// SPDX-License-Identifier: Apache-2.0
#include "python/csrc/engine/session.h"

#include <algorithm>
#include <map>

#include "core/report.h"
#include "io/json.h"
#include "pipelines/run_json.h"
#include "python/csrc/engine/merged_report.h"
#include "reports/html.h"
#include "reports/html_sections.h"

namespace flashomni::python {
namespace {

constexpr int kParts = 2;
constexpr int kRoles = 4;

size_t slot(int layer, Role role, int part) {
  return (size_t(layer) * kRoles + size_t(role)) * kParts + size_t(part);
}

Status outside_of_a_run() {
  return invalid_argument(
      "the model was called outside of a run: call the pipeline (its scheduler starts runs), or "
      "use "
      "`with handle.run(steps)` around a loop of your own");
}

int clamp_rows(int64_t rows, int offset, int tokens) {
  return std::clamp(tokens - offset, 0, static_cast<int>(rows));
}

}  // namespace

// Samples [begin, end) of the batch, which share a length and an engine.
struct Session::Lane {
  int begin = 0, end = 0;
  Sequence sequence;  // with this lane's tokens and text range
  std::unique_ptr<Engine> engine;
  SymbolGeometry geometry{};  // of the strategy's symbols; no tokens: it makes none

  TensorView batch(const TensorView& v) const { return v ? v.slice(0, begin, end) : v; }
  // [B, N, ...] as this lane's samples and tokens.
  TensorView joint(const TensorView& v) const {
    return v ? batch(v).slice(1, 0, sequence.tokens) : v;
  }
};

struct Session::Stream {
  Sequence sequence;  // of the caller
  int first_step = 0;
  int last_step = -1;  // the session's step in which it ran last
  std::vector<Lane> lanes;
};

Session::Session(std::shared_ptr<SharedBackend> backend, SessionOptions options)
    : backend_(std::move(backend)), options_(std::move(options)) {
  weights_.resize(options_.layers.size() * kRoles * kParts);
}

Session::~Session() {
  const std::scoped_lock lock(backend_->mutex);
  streams_.clear();
}

Status Session::begin_run(int steps) {
  if (steps < 1)
    return invalid_argument("a run of " + std::to_string(steps) + " steps, wanted 1 or more");
  FO_RETURN_IF_ERROR(end_run());
  steps_ = steps;
  step_ = next_stream_ = 0;
  layer_ = -1;
  layer_open_ = false;
  return ok_status();
}

Status Session::end_step() {
  if (!running()) return ok_status();
  const std::scoped_lock lock(backend_->mutex);
  for (const auto& stream : streams_) {
    if (stream->last_step != step_) continue;
    for (Lane& lane : stream->lanes) FO_RETURN_IF_ERROR(lane.engine->end_step());
  }
  ++step_;
  next_stream_ = 0;
  layer_ = -1;
  layer_open_ = false;
  if (step_ < steps_) return ok_status();
  collect();
  return ok_status();
}

Status Session::end_run() {
  if (!running()) return ok_status();
  const std::scoped_lock lock(backend_->mutex);
  collect();
  return ok_status();
}

// Keeps the reports of the run and frees everything else of it.
void Session::collect() {
  std::vector<LaneReport> reports;
  finished_snapshots_.clear();
  for (const auto& stream : streams_) {
    for (Lane& lane : stream->lanes) {
      // A run that was broken off has its shares too.
      (void)lane.engine->end_run();
      reports.push_back({stream->first_step, lane.engine->report()});
      const auto& kept = lane.engine->snapshots();
      finished_snapshots_.insert(finished_snapshots_.end(), kept.begin(), kept.end());
    }
  }
  finished_ = merge_reports(reports);
  add_notes(finished_);
  streams_.clear();
  steps_ = 0;
}

Status Session::set_run_options(RunOptions options) {
  if (running()) return invalid_argument("run options changed while a run is under way");
  run_options_ = std::move(options);
  return ok_status();
}

// What the engine cannot know: it is told to go without, and here is why.
void Session::add_notes(RunReport& report) const {
  const auto sparse = [](const StepRecord& s) { return s.kind != StepKind::kFull; };
  if (std::none_of(report.steps.begin(), report.steps.end(), sparse)) return;
  if (!run_options_.dense_gemm_o.empty()) {
    add_fallback(report.fallbacks, "GEMM-O", run_options_.dense_gemm_o);
  }
  if (!run_options_.no_degrade.empty()) {
    add_fallback(report.fallbacks, "degrading", run_options_.no_degrade);
  }
}

Status Session::check_layer(int layer) const {
  if (layer >= 0 && layer < static_cast<int>(options_.layers.size())) return ok_status();
  return invalid_argument("layer " + std::to_string(layer) + ", wanted 0 to " +
                          std::to_string(options_.layers.size() - 1));
}

Status Session::set_weight(int layer, Role role, int part, SessionWeight weight) {
  FO_RETURN_IF_ERROR(check_layer(layer));
  if (part < 0 || part >= kParts) {
    return invalid_argument("part " + std::to_string(part) + ", wanted 0 or 1");
  }
  weights_[slot(layer, role, part)] = std::move(weight);
  return ok_status();
}

bool Session::starts_stream(int layer) const {
  if (!running() || (layer_open_ && layer == layer_)) return false;
  return layer <= layer_ || layer_ < 0 ? next_stream_ >= static_cast<int>(streams_.size()) : false;
}

std::vector<LayerDesc> Session::describe_layers(const Sequence& s) const {
  const double n = double(s.batch) * s.tokens, width = double(s.heads) * s.head_dim;
  const int text = s.text_end - s.text_begin;
  std::vector<LayerDesc> out;
  for (const LayerSpec& spec : options_.layers) {
    LayerDesc d;
    d.name = spec.name;
    d.model_width = spec.model_width;
    d.dense_gemm_q = run_options_.dense_gemm_q;
    d.flops_q = d.flops_out = 2 * n * width * spec.model_width;
    d.flops_attn = 4 * n * s.tokens * width;
    d.flops_other = n * spec.other_flops_per_token;
    for (const SiteSpec& site : spec.sites) {
      const int rows = site.segment == Segment::kText     ? text
                       : site.segment == Segment::kVision ? s.tokens - text
                                                          : s.tokens;
      d.sites.push_back({site.name, rows, spec.model_width});
    }
    out.push_back(std::move(d));
  }
  return out;
}

Status Session::start_stream(Stream& stream, const Sequence& sequence, std::span<const int> lengths,
                             const Exec& exec) {
  if (!lengths.empty() && static_cast<int>(lengths.size()) != sequence.batch) {
    return invalid_argument(std::to_string(lengths.size()) + " lengths for a batch of " +
                            std::to_string(sequence.batch));
  }
  stream.sequence = sequence;
  stream.first_step = step_;
  auto length = [&](int b) { return lengths.empty() ? sequence.tokens : lengths[size_t(b)]; };
  for (int b = 0; b < sequence.batch;) {
    int end = b + 1;
    while (end < sequence.batch && length(end) == length(b)) ++end;
    Lane lane{.begin = b, .end = end, .sequence = sequence, .engine = nullptr};
    lane.sequence.batch = end - b;
    lane.sequence.tokens = length(b);
    lane.sequence.text_end = std::min(sequence.text_end, length(b));
    lane.sequence.text_begin = std::min(sequence.text_begin, lane.sequence.text_end);
    if (lane.sequence.tokens < 1 || lane.sequence.tokens > sequence.tokens) {
      return invalid_argument("sample " + std::to_string(b) + " has " +
                              std::to_string(lane.sequence.tokens) + " valid tokens of " +
                              std::to_string(sequence.tokens));
    }
    stream.lanes.push_back(std::move(lane));
    b = end;
  }
  EngineOptions engine;
  engine.sparse_gemm_o = run_options_.dense_gemm_o.empty();
  engine.degrade = run_options_.no_degrade.empty();
  engine.keep_symbols = run_options_.keep_symbols;
  // Lanes decide for themselves; a block can be left out for all of them only.
  if (stream.lanes.size() > 1) engine.degrade = false;
  for (const LayerSpec& spec : options_.layers)
    engine.degrade = engine.degrade && !spec.sites.empty();
  for (Lane& lane : stream.lanes) {
    FO_ASSIGN_OR_RETURN(std::unique_ptr<Strategy> strategy, make_strategy(options_.strategy));
    if (options_.strategy.name != "dense") {
      lane.geometry = {lane.sequence.batch,  lane.sequence.heads, lane.sequence.tokens,
                       lane.sequence.tokens, strategy->block_q(), strategy->block_kv()};
    }
    lane.engine = std::make_unique<Engine>(backend(), std::move(strategy), engine);
    RunInfo run;
    run.steps = steps_ - step_;
    run.layers = static_cast<int>(options_.layers.size());
    run.sequence = {.batch = lane.sequence.batch,
                    .heads = lane.sequence.heads,
                    .head_dim = lane.sequence.head_dim,
                    .tokens = lane.sequence.tokens,
                    .text_begin = lane.sequence.text_begin,
                    .text_end = lane.sequence.text_end};
    FO_RETURN_IF_ERROR(lane.engine->begin_run(run, describe_layers(lane.sequence), exec));
  }
  return ok_status();
}

Result<LayerKind> Session::begin_layer(int layer, const Sequence& sequence,
                                       std::span<const int> lengths, const ExecProvider& exec) {
  FO_RETURN_IF_ERROR(check_layer(layer));
  if (!running()) {
    return outside_of_a_run();
  }
  const std::scoped_lock lock(backend_->mutex);
  const Exec now = exec(0);
  if (!(layer_open_ && layer == layer_)) {
    if (layer_ < 0 || layer <= layer_) {  // a new pass over the layers
      if (next_stream_ == static_cast<int>(streams_.size())) {
        auto stream = std::make_unique<Stream>();
        FO_RETURN_IF_ERROR(start_stream(*stream, sequence, lengths, now));
        streams_.push_back(std::move(stream));
      }
      Stream& stream = *streams_[size_t(next_stream_)];
      for (Lane& lane : stream.lanes) {
        lane.engine->set_exec(now);
        // A stream that sat out some steps goes on with its own count.
        const int own = static_cast<int>(lane.engine->report().steps.size());
        FO_RETURN_IF_ERROR(lane.engine->begin_step(own).status());
      }
      stream.last_step = step_;
      ++next_stream_;
    }
    layer_ = layer;
    layer_open_ = true;
    Stream& stream = *streams_[size_t(next_stream_ - 1)];
    const Sequence& s = stream.sequence;
    if (s.batch != sequence.batch || s.heads != sequence.heads || s.head_dim != sequence.head_dim ||
        s.tokens != sequence.tokens) {
      return invalid_argument(
          "batch, tokens, heads, head_dim of layer " + options_.layers[size_t(layer)].name +
          " are " + std::to_string(sequence.batch) + ", " + std::to_string(sequence.tokens) + ", " +
          std::to_string(sequence.heads) + ", " + std::to_string(sequence.head_dim) +
          ", in a run that began with " + std::to_string(s.batch) + ", " +
          std::to_string(s.tokens) + ", " + std::to_string(s.heads) + ", " +
          std::to_string(s.head_dim));
    }
    for (Lane& lane : stream.lanes) (void)lane.engine->begin_layer(layer);
  }
  const Stream& stream = *streams_[size_t(next_stream_ - 1)];
  return stream.lanes[0].engine->report().steps.back().layers[size_t(layer)].kind;
}

Result<Session::Stream*> Session::current(int layer) {
  FO_RETURN_IF_ERROR(check_layer(layer));
  if (!running() || next_stream_ == 0 || layer != layer_) {
    return internal_error("layer " + options_.layers[size_t(layer)].name + " was not begun");
  }
  return streams_[size_t(next_stream_ - 1)].get();
}

Status Session::project_qkv(int layer, std::span<const Part> parts, const RopeTable& rope,
                            const TensorView& q, const TensorView& k, const TensorView& v,
                            const ExecProvider& exec) {
  FO_ASSIGN_OR_RETURN(Stream * stream, current(layer));
  const std::scoped_lock lock(backend_->mutex);
  for (Lane& lane : stream->lanes) {
    const int tokens = lane.sequence.tokens;
    for (size_t i = 0; i < parts.size(); ++i) {
      const int rows = clamp_rows(parts[i].x.size(1), parts[i].offset, tokens);
      if (rows == 0) continue;
      auto params = [&](Role role, const TensorView& out) {
        const SessionWeight& w = weights_[slot(layer, role, int(i))];
        GemmQParams p{.x = lane.batch(parts[i].x).slice(1, 0, rows), .weight = w.weight.get()};
        p.rms_weight = w.rms_weight;
        p.rms_eps = w.rms_eps;
        if (role != Role::kV && rope) {
          p.rope = {rope.cos.slice(0, 0, tokens), rope.sin.slice(0, 0, tokens)};
        }
        p.token_offset = parts[i].offset;
        p.out = lane.joint(out);
        return p;
      };
      const GemmQkvParams qkv{params(Role::kQ, q), params(Role::kK, k), params(Role::kV, v)};
      lane.engine->set_exec(exec(backend().workspace_bytes(qkv)));
      FO_RETURN_IF_ERROR(lane.engine->project_qkv(layer, qkv));
    }
  }
  return ok_status();
}

// Workspace that attention needs with and without symbols; refuses what either cannot do, so that a
// run fails in its first layer and not at its first Dispatch step.
Result<size_t> Session::attention_workspace(const AttentionParams& dense,
                                            const SymbolGeometry& geometry) {
  FO_RETURN_IF_ERROR(backend().supports(dense));
  const size_t bytes = backend().workspace_bytes(dense);
  if (geometry.q_tokens == 0) return bytes;
  AttentionParams sparse = dense;
  // Only asked about: neither words nor plan are read.
  uint64_t word = 0;
  sparse.symbols = {geometry, &word, &word};
  alignas(64) char plan[64];
  sparse.plan = {plan, backend().plan_bytes(geometry)};
  FO_RETURN_IF_ERROR(backend().supports(sparse));
  return std::max(bytes, backend().workspace_bytes(sparse));
}

Status Session::attention(int layer, const AttentionParams& params, const ExecProvider& exec) {
  FO_ASSIGN_OR_RETURN(Stream * stream, current(layer));
  const std::scoped_lock lock(backend_->mutex);
  for (Lane& lane : stream->lanes) {
    AttentionParams p = params;
    p.q = lane.joint(params.q);
    p.k = lane.joint(params.k);
    p.v = lane.joint(params.v);
    p.out = lane.joint(params.out);
    FO_ASSIGN_OR_RETURN(const size_t bytes, attention_workspace(p, lane.geometry));
    lane.engine->set_exec(exec(bytes));
    FO_RETURN_IF_ERROR(lane.engine->attention(layer, p));
  }
  return ok_status();
}

Status Session::project_out(int layer, int part, const TensorView& attn, const TensorView& mlp,
                            int offset, int rows, const TensorView& out, const ExecProvider& exec) {
  FO_ASSIGN_OR_RETURN(Stream * stream, current(layer));
  const std::scoped_lock lock(backend_->mutex);
  for (Lane& lane : stream->lanes) {
    const int valid = clamp_rows(rows, offset, lane.sequence.tokens);
    if (valid == 0) continue;
    GemmOParams p{.attn = lane.joint(attn),
                  .weight = weights_[slot(layer, Role::kOut, part)].weight.get()};
    if (mlp) p.mlp = lane.batch(mlp).slice(1, 0, valid);
    p.token_offset = offset;
    p.rows = valid;
    p.out = lane.batch(out).slice(1, 0, valid);
    lane.engine->set_exec(exec(backend().workspace_bytes(p)));
    FO_RETURN_IF_ERROR(lane.engine->project_out(layer, p));
  }
  return ok_status();
}

bool Session::wants_modules(int layer) const {
  if (!running() || next_stream_ == 0) return false;
  const auto& lanes = streams_[size_t(next_stream_ - 1)]->lanes;
  return std::any_of(lanes.begin(), lanes.end(),
                     [&](const Lane& lane) { return lane.engine->wants_modules(layer); });
}

Status Session::store_module(int layer, int site, const TensorView& value,
                             const ExecProvider& exec) {
  FO_ASSIGN_OR_RETURN(Stream * stream, current(layer));
  const std::scoped_lock lock(backend_->mutex);
  for (Lane& lane : stream->lanes) {
    if (!lane.engine->wants_modules(layer)) continue;
    lane.engine->set_exec(exec(0));
    const std::vector<LayerDesc> layers = describe_layers(lane.sequence);
    const int rows = layers[size_t(layer)].sites[size_t(site)].rows;
    FO_RETURN_IF_ERROR(lane.engine->store_module(layer, site, lane.batch(value).slice(1, 0, rows)));
  }
  return ok_status();
}

Status Session::reuse_module(int layer, int site, const TensorView& gate,
                             const TensorView& residual, const ExecProvider& exec) {
  FO_ASSIGN_OR_RETURN(Stream * stream, current(layer));
  const std::scoped_lock lock(backend_->mutex);
  for (Lane& lane : stream->lanes) {
    lane.engine->set_exec(exec(0));
    const std::vector<LayerDesc> layers = describe_layers(lane.sequence);
    const int rows = layers[size_t(layer)].sites[size_t(site)].rows;
    FO_RETURN_IF_ERROR(lane.engine->reuse_module(layer, site, lane.batch(gate),
                                                 lane.batch(residual).slice(1, 0, rows)));
  }
  return ok_status();
}

RunReport Session::report() const {
  if (streams_.empty()) return finished_;
  std::vector<LaneReport> reports;
  for (const auto& stream : streams_) {
    for (const Lane& lane : stream->lanes) {
      reports.push_back({stream->first_step, lane.engine->report()});
    }
  }
  RunReport report = merge_reports(reports);
  add_notes(report);
  return report;
}

std::vector<SymbolSnapshot> Session::snapshots() const {
  if (streams_.empty()) return finished_snapshots_;
  std::vector<SymbolSnapshot> all;
  for (const auto& stream : streams_) {
    for (const Lane& lane : stream->lanes) {
      const auto& kept = lane.engine->snapshots();
      all.insert(all.end(), kept.begin(), kept.end());
    }
  }
  return all;
}

std::string Session::report_json() const {
  const RunReport r = report();
  nlohmann::json json = summary_json(r);
  json["strategy"] = to_json(options_.strategy);
  json["machine"] = machine_json(backend_->backend->info());
  json["memory"] = ledger_json(r.ledger);
  json["layer_names"] = r.layer_names;
  json["steps"] = steps_json(r);
  json["layers"] = layers_json(r);
  return json_text(json);
}

Result<std::string> Session::report_html() const {
  const RunReport r = report();
  std::string out = html::section("What ran dense", html::fallbacks(r.fallbacks));
  const RunDetail detail = detail_of(r);
  out += html::section("Steps and layers", html::run_charts(detail));
  if (const std::vector<SymbolSnapshot> kept = snapshots(); !kept.empty()) {
    FO_ASSIGN_OR_RETURN(const std::string maps, html::symbol_maps(kept, r.layer_names));
    out += html::section("Symbols", maps);
  }
  out += html::section("Memory", html::memory_table(detail));
  return out + html::section("Strategy", html::config(options_.strategy));
}

namespace {

struct Registry {
  std::mutex mutex;
  std::map<int64_t, std::shared_ptr<Session>> sessions;
  int64_t next = 1;
};

Registry& registry() {
  static auto& made = *new Registry;
  return made;
}

}  // namespace

int64_t register_session(std::shared_ptr<Session> session) {
  Registry& r = registry();
  const std::scoped_lock lock(r.mutex);
  r.sessions[r.next] = std::move(session);
  return r.next++;
}

void unregister_session(int64_t id) {
  Registry& r = registry();
  std::shared_ptr<Session> gone;  // destroyed after the lock
  const std::scoped_lock lock(r.mutex);
  const auto it = r.sessions.find(id);
  if (it == r.sessions.end()) return;
  gone = std::move(it->second);
  r.sessions.erase(it);
}

Result<std::shared_ptr<Session>> find_session(int64_t id) {
  if (id == 0) return outside_of_a_run();  // no session is made before the first run
  Registry& r = registry();
  const std::scoped_lock lock(r.mutex);
  const auto it = r.sessions.find(id);
  if (it != r.sessions.end()) return it->second;
  return not_found("no session " + std::to_string(id) +
                   ": its handle was removed, or it belongs to another process");
}

}  // namespace flashomni::python
