// SPDX-License-Identifier: Apache-2.0
//
// A session runs the engine underneath somebody else's model: a diffusers pipeline calls its blocks
// in its own order and knows nothing of runs, steps and guidance streams. The session finds them:
//   - begin_run and end_step come from the scheduler (set_timesteps, step);
//   - every pass over the layers between two scheduler steps is one guidance stream;
//   - samples of one batch whose text differs in length become lanes of their own.
// Each lane of a stream has an Engine, made when its first layer starts, because only then the
// token counts are known. This file knows no torch.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "flashomni/engine.h"
#include "pipelines/strategy_config.h"
#include "python/csrc/engine/backends.h"

namespace flashomni::python {

// The tokens that a module output covers.
enum class Segment : uint8_t { kAll, kText, kVision };

struct SiteSpec {
  std::string name;  // "img_attn"
  Segment segment = Segment::kAll;
};

// One attention layer as its model describes it; sizes that depend on the run come later.
struct LayerSpec {
  std::string name;
  int model_width = 0;
  double other_flops_per_token = 0;  // dense FLOPs of the layer beside attention, Q and output
  std::vector<SiteSpec> sites;       // module outputs; none: the layer cannot degrade
};

struct SessionOptions {
  StrategyChoice strategy;  // resolved
  std::vector<LayerSpec> layers;
};

// What of the sparse machinery a run goes without and why; empty strings go with it.
struct RunOptions {
  std::string dense_gemm_q;
  std::string dense_gemm_o;
  std::string no_degrade;
  bool keep_symbols = false;
};

enum class Role : uint8_t { kQ, kK, kV, kOut };

// A projection that the session runs itself.
struct SessionWeight {
  std::shared_ptr<const PackedWeight> weight;
  TensorView rms_weight;  // [d] f32 or empty
  float rms_eps = 1e-6f;
  std::shared_ptr<void> owner;  // of rms_weight's memory
};

// What a layer's caller knows about its sequence. Lengths are read once a run and stream.
struct Sequence {
  int batch = 1;
  int heads = 1;
  int head_dim = 64;
  int tokens = 0;
  int text_begin = 0;
  int text_end = 0;
};

// Gives workspace of at least `bytes` on the stream that is current now.
using ExecProvider = std::function<Exec(size_t bytes)>;

class Session {
 public:
  Session(std::shared_ptr<SharedBackend> backend, SessionOptions options);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  Backend& backend() { return *backend_->backend; }
  const std::vector<LayerSpec>& layers() const { return options_.layers; }

  // ---- from the scheduler
  // Starts a run of `steps` steps; whatever ran before is closed and its memory freed.
  Status begin_run(int steps);
  // Ends a step. After the last one the run is closed: its memory goes, its report stays.
  Status end_step();
  Status end_run();
  bool running() const { return steps_ > 0; }
  // For the next run. Refused while one is under way.
  Status set_run_options(RunOptions options);
  Status set_weight(int layer, Role role, int part, SessionWeight weight);

  // ---- from the layers, in the order of the model
  // Whether begin_layer(layer) would start a stream that needs its token counts.
  bool starts_stream(int layer) const;
  // The kind of this layer in this step; the same answer until the layer has run. `lengths` counts
  // the valid leading tokens of every sample; empty: all of them. REQUIRES no more tokens than
  // `sequence` has.
  Result<LayerKind> begin_layer(int layer, const Sequence& sequence, std::span<const int> lengths,
                                const ExecProvider& exec);

  struct Part {
    TensorView x;    // [B, M, K]
    int offset = 0;  // of its first row in the joint sequence
  };
  // Q by GEMM-Q under the symbols, K and V dense; all three [B, N, H, d].
  Status project_qkv(int layer, std::span<const Part> parts, const RopeTable& rope,
                     const TensorView& q, const TensorView& k, const TensorView& v,
                     const ExecProvider& exec);
  // out rows past a sample's length are left as they are.
  Status attention(int layer, const AttentionParams& params, const ExecProvider& exec);
  Status project_out(int layer, int part, const TensorView& attn, const TensorView& mlp, int offset,
                     int rows, const TensorView& out, const ExecProvider& exec);

  // Keeps a module output where a lane wants it this step. value [B, rows of the site, D].
  Status store_module(int layer, int site, const TensorView& value, const ExecProvider& exec);
  bool wants_modules(int layer) const;
  // residual [B, rows, D] += gate [B, D] * forecast of the module output.
  Status reuse_module(int layer, int site, const TensorView& gate, const TensorView& residual,
                      const ExecProvider& exec);

  // ---- what ran
  // The report of the run under way or the last one, over all streams.
  RunReport report() const;
  // The symbols of the last Updates, where EngineOptions::keep_symbols asked for them.
  std::vector<SymbolSnapshot> snapshots() const;
  std::string report_json() const;
  // The same as sections of a page (reports/html_sections.h), with symbol maps where they were
  // kept.
  Result<std::string> report_html() const;

 private:
  struct Lane;
  struct Stream;

  Status check_layer(int layer) const;
  Status start_stream(Stream& stream, const Sequence& sequence, std::span<const int> lengths,
                      const Exec& exec);
  std::vector<LayerDesc> describe_layers(const Sequence& sequence) const;
  Result<Stream*> current(int layer);
  Result<size_t> attention_workspace(const AttentionParams& dense, const SymbolGeometry& geometry);
  void collect();
  void add_notes(RunReport& report) const;

  std::shared_ptr<SharedBackend> backend_;
  SessionOptions options_;
  RunOptions run_options_;
  std::vector<SessionWeight> weights_;  // [layer][role][part]

  int steps_ = 0;  // of the run under way; 0: none
  int step_ = 0;
  int next_stream_ = 0;  // streams begun in this step
  int layer_ = -1;       // begun last in this stream
  bool layer_open_ = false;
  std::vector<std::unique_ptr<Stream>> streams_;

  RunReport finished_;
  std::vector<SymbolSnapshot> finished_snapshots_;
};

// Sessions by number, so that an operation of a compiled graph can name one.
int64_t register_session(std::shared_ptr<Session> session);
void unregister_session(int64_t id);
// Fails for numbers that are not, or no longer, those of a session.
Result<std::shared_ptr<Session>> find_session(int64_t id);

}  // namespace flashomni::python
