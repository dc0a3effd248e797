// SPDX-License-Identifier: Apache-2.0
//
// One strategy on one prompt and seed, compared with the dense run of the same: the unit that
// `sweep` tabulates and `tune` searches over. Finished trials are kept in a journal, so that no
// trial is run twice, in this process or a later one.
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "reports/run_detail.h"
#include "tools/comparison.h"
#include "tools/journal.h"
#include "tools/progress.h"
#include "tools/runtime.h"

namespace flashomni::tools {

// What is drawn.
struct TrialPoint {
  std::string prompt;
  uint64_t seed = 0;
};

// One finished trial. Dense ones have the name "dense", equal pictures and no sparsity.
struct Trial {
  std::string key;  // of the choice: equal for equal strategies and options
  StrategyChoice choice;
  TrialPoint point;
  std::string picture;  // file in the folder; empty: not kept
  // Of trials that kept their picture: steps and layers, and a trace (symbols_trace.h) of the last
  // symbols of every layer and stream, a file in the folder; empty where the run built none.
  RunDetail detail;
  std::string symbols;
  Figures figures;
};

// Equal for choices that run the same, whatever preset or file they came from. REQUIRES a choice
// from resolve_strategy.
std::string trial_key(const StrategyChoice& choice);
inline constexpr char kDenseKey[] = "dense";
// Dense once more, on another number of threads where the device has them: what it differs by is
// the noise floor.
inline constexpr char kNoiseKey[] = "dense again";

nlohmann::json to_json(const Trial& trial);
// kCorruptFile with `source` in front for anything else than to_json() writes.
Result<Trial> parse_trial(const nlohmann::json& json, const std::string& source);

class Trials {
 public:
  static constexpr double kSharedSteps = 0.5;  // at most, of all

  // Trials in `folder` (made where it is not there) with the settings of `base`: all but prompt and
  // seed. Finished trials found there must have the same model and settings. `runtime` and
  // `progress` must outlive the object.
  static Result<Trials> open(Runtime& runtime, Progress& progress, const std::string& folder,
                             const TextToImageRequest& base);

  // The finished trial, or nullptr.
  const Trial* find(const std::string& key, const TrialPoint& point) const;
  // Ends a run that is not worth finishing.
  using Hopeless = std::function<bool(const StepProgress&)>;
  // Runs the trial, and its dense partner before it, unless they are finished. nullptr when
  // `hopeless` ended it. kCancelled when the user stopped it. With `keep_picture`, picture and
  // symbols stay in the folder. Pointers stay valid.
  Result<const Trial*> run(const StrategyChoice& choice, const TrialPoint& point,
                           const std::string& label, bool keep_picture = false,
                           const Hopeless& hopeless = {});
  Result<const Trial*> run_dense(const TrialPoint& point, const std::string& label);
  // From now on the steps before the first that a strategy touches, at most half of all, come from
  // the dense run of the same prompt where that was drawn in this process; the pictures are the
  // same bit for bit, and the seconds are those of the dense run. Costs memory: half of dense's
  // latents.
  void share_dense_steps() { share_dense_steps_ = true; }
  // Dense again with `other`, a runtime of the same model on another number of threads.
  Result<const Trial*> run_noise_floor(Runtime& other, const TrialPoint& point);

  // In the order in which they were finished.
  const std::deque<Trial>& all() const { return trials_; }
  const std::string& folder() const { return folder_; }
  // Model evaluations of this process's runs, all guidance streams of one step counting as one.
  int64_t steps_run() const { return steps_run_; }

 private:
  Trials(Runtime& runtime, Progress& progress, TextToImageRequest base, std::string folder,
         Journal journal)
      : runtime_(&runtime),
        progress_(&progress),
        base_(std::move(base)),
        folder_(std::move(folder)),
        journal_(std::move(journal)) {}

  struct Run {
    Measured measured;
    bool ended = false;  // as hopeless
  };
  Result<Run> draw(Runtime& runtime, const StrategyChoice* choice, const TrialPoint& point,
                   const std::string& label, const Hopeless& hopeless, bool keep_symbols = false);
  Result<const Trial*> keep(Trial trial, const Measured* kept);
  Result<Measured> dense_of(const TrialPoint& point) const;
  void index(Trial trial);

  Runtime* runtime_;
  Progress* progress_;
  TextToImageRequest base_;
  std::string folder_;
  Journal journal_;
  std::deque<Trial> trials_;
  std::map<std::string, const Trial*> index_;
  int64_t steps_run_ = 0;
  bool share_dense_steps_ = false;
  std::map<std::string, std::shared_ptr<const DenseSteps>> dense_steps_;  // by point_key
};

// A runtime like `flags` on another number of CPU threads; a GPU's differ in nothing.
Result<Runtime> open_noise_runtime(const ModelFlags& flags, const Runtime& main);

}  // namespace flashomni::tools
