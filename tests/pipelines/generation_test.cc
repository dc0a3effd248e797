// SPDX-License-Identifier: Apache-2.0
//
// Whole generations with the bundled model: golden pictures, exactness, and that the report tells
// what ran.
#include <gtest/gtest.h>

#include <cmath>

#include "flashomni/strategies.h"
#include "io/safetensors.h"
#include "pipelines/metrics.h"
#include "pipelines/text_to_image.h"
#include "tests/testkit/sanitized.h"

namespace flashomni {
namespace {

const std::string kModel = std::string(FO_SOURCE_DIR) + "/models/emoji-flux";
const std::string kData = std::string(FO_SOURCE_DIR) + "/tests/models/data/";

struct World {
  std::unique_ptr<Backend> backend;
  std::unique_ptr<TextToImagePipeline> pipeline;
};

World make_world(int threads = 0) {
  World w;
  w.backend = std::move(*make_backend("cpu", {.threads = threads}));
  auto p = TextToImagePipeline::load(*w.backend, kModel);
  EXPECT_TRUE(p.ok()) << p.status().message();
  w.pipeline = std::move(*p);
  return w;
}

World& shared_world() {
  static World w = make_world();
  return w;
}

// A run small enough to repeat: 64x64 pixels (64 image + 64 text tokens), 8 steps.
TextToImageRequest small_request() {
  TextToImageRequest r;
  r.prompt = "3d red apple";
  r.seed = 5;
  r.steps = 8;
  r.width = r.height = 64;
  return r;
}

TextToImageResult run(World& w, TextToImageRequest r, std::unique_ptr<Strategy> strategy,
                      const EngineOptions& options = {}) {
  auto result = w.pipeline->generate(std::move(r), std::move(strategy), options);
  EXPECT_TRUE(result.ok()) << result.status().message();
  return result.ok() ? std::move(*result) : TextToImageResult{};
}

ScheduleOptions short_schedule(int warmup = 2, int interval = 3) {
  return {warmup, interval, 0, true};
}

FlashOmniOptions flashomni_options() {
  FlashOmniOptions o;
  o.tau_q = 0.9;
  o.tau_kv = 0.5;
  o.ramp = 0;
  o.S_q = 0;
  o.block_q = o.block_kv = 32;
  o.schedule = short_schedule();
  return o;
}

// Whole pictures take minutes under a sanitizer and show it nothing that the small runs below do
// not, which go through the same code.
using testkit::kSanitized;

void expect_golden_picture(TextToImageRequest r, const std::string& file) {
  SKIP_WHERE_SANITIZED("whole pictures");
  const TextToImageResult result = run(shared_world(), std::move(r), nullptr);
  const Image want = *load_image(kData + file);
  EXPECT_GE(*psnr_db(result.image, want), 50.0);
}

TEST(GoldenPictures, A) {
  expect_golden_picture({.prompt = "smiling face with sunglasses, 3d", .seed = 1}, "a.png");
}

TEST(GoldenPictures, B) {
  expect_golden_picture({.prompt = "flat ambulance", .seed = 2}, "b.png");
}

TEST(GoldenPictures, Edit) {
  const SafetensorsFile edit = *SafetensorsFile::open(kData + "edit.safetensors");
  TextToImageRequest r{.prompt = "make it blue", .seed = 3, .steps = 12};
  // The golden run's reference picture, recovered from its tokens.
  const std::vector<float> tokens = *to_f32(*edit.find("reference_tokens"));
  r.reference = {256, 256, std::vector<uint8_t>(256 * 256 * 3)};
  for (int y = 0; y < 256; ++y) {
    for (int x = 0; x < 256; ++x) {
      for (int c = 0; c < 3; ++c) {
        const size_t token = size_t(y / 8) * 32 + size_t(x / 8);
        const float v = tokens[token * 192 + size_t(c * 64 + (y % 8) * 8 + x % 8)];
        r.reference.rgb[size_t((y * 256 + x) * 3 + c)] =
            static_cast<uint8_t>(std::lround(v * 127.5f + 127.5f));
      }
    }
  }
  expect_golden_picture(std::move(r), "edit.png");
}

TEST(Exactness, ZeroSparsityIsDenseBitForBit) {
  SKIP_WHERE_THREAD_SANITIZED("several pictures");
  World& w = shared_world();
  TextToImageRequest r = small_request();
  r.width = 72;  // 9 x 8 patches: ragged blocks
  const std::vector<float> dense = run(w, r, nullptr).latents;
  EXPECT_EQ(run(w, r, make_dense()).latents, dense);
  // Thresholds so small that nothing is dropped, yet every sparse path runs: Updates, bias planes,
  // Dispatch with all-ones symbols.
  for (const int block : {32, 64, 128}) {
    FlashOmniOptions o = flashomni_options();
    o.block_q = o.block_kv = block;
    o.tau_q = o.tau_kv = 1e-30;
    const TextToImageResult sparse = run(w, r, std::move(*make_flashomni(o)));
    EXPECT_EQ(sparse.latents, dense) << "block " << block;
    EXPECT_EQ(sparse.report.attention_sparsity, 0.0);
    EXPECT_EQ(sparse.report.steps[3].kind, StepKind::kDispatch);
    EXPECT_EQ(sparse.report.steps[3].layers[0].kind, LayerKind::kSparse);
  }
}

TEST(Exactness, SameBitsForAnyThreadCount) {
  TextToImageRequest r = small_request();
  if (kSanitized) r.steps = 4;
  std::vector<float> first;
  for (const int threads : kSanitized ? std::vector{4, 1} : std::vector{1, 2, 4}) {
    World w = make_world(threads);
    const auto latents = run(w, r, std::move(*make_flashomni(flashomni_options()))).latents;
    if (first.empty()) first = latents;
    EXPECT_EQ(latents, first) << threads << " threads";
  }
}

TEST(Exactness, SameSeedSameBits) {
  SKIP_WHERE_SANITIZED("several pictures");
  World& w = shared_world();
  const auto a = run(w, small_request(), std::move(*make_flashomni(flashomni_options())));
  const auto b = run(w, small_request(), std::move(*make_flashomni(flashomni_options())));
  EXPECT_EQ(a.latents, b.latents);
  TextToImageRequest other = small_request();
  other.seed = 6;
  EXPECT_NE(run(w, other, nullptr).latents, a.latents);
}

// GEMM-Q and GEMM-O only save work: switching them off changes rounding, not the result.
TEST(Exactness, AblationsAgree) {
  SKIP_WHERE_SANITIZED("several pictures");
  World& w = shared_world();
  const auto all = run(w, small_request(), std::move(*make_flashomni(flashomni_options())));
  ASSERT_GT(all.report.attention_sparsity, 0.1);
  const auto q_off = run(w, small_request(), std::move(*make_flashomni(flashomni_options())),
                         {.sparse_gemm_q = false});
  EXPECT_EQ(q_off.latents, all.latents);
  EXPECT_EQ(q_off.report.gemm_q_sparsity, 0.0);
  const auto o_off = run(w, small_request(), std::move(*make_flashomni(flashomni_options())),
                         {.sparse_gemm_o = false});
  double worst = 0;
  for (size_t i = 0; i < all.latents.size(); ++i) {
    worst = std::max(worst, std::abs(double(all.latents[i]) - o_off.latents[i]));
  }
  EXPECT_LT(worst, 1e-3);
  EXPECT_EQ(o_off.report.ledger.bias_planes, 0u);
}

TEST(Report, CountsWhatRan) {
  SKIP_WHERE_THREAD_SANITIZED("several pictures");
  World& w = shared_world();
  EngineOptions keep;
  keep.keep_symbols = true;
  const TextToImageResult r =
      run(w, small_request(), std::move(*make_flashomni(flashomni_options())), keep);
  // Steps: Full, Update, D, D, Update, D, D, Full.
  const StepKind want[] = {StepKind::kFull,     StepKind::kUpdate, StepKind::kDispatch,
                           StepKind::kDispatch, StepKind::kUpdate, StepKind::kDispatch,
                           StepKind::kDispatch, StepKind::kFull};
  ASSERT_EQ(r.report.steps.size(), 8u);
  for (size_t i = 0; i < 8; ++i) EXPECT_EQ(r.report.steps[i].kind, want[i]) << i;
  // Two Updates x 7 layers x 2 streams, each valid and each in force for two of eight steps.
  ASSERT_EQ(r.snapshots.size(), 28u);
  double zeros = 0, cached = 0;
  for (const SymbolSnapshot& s : r.snapshots) {
    EXPECT_TRUE(s.symbols.validate().ok());
    zeros += 1 - s.symbols.counts().pair_density();
    cached += 1 - s.symbols.counts().row_density();
  }
  EXPECT_NEAR(r.report.attention_sparsity, zeros / 28 * 0.5, 1e-12);
  EXPECT_NEAR(r.report.dispatch_sparsity, zeros / 28, 1e-12);
  EXPECT_NEAR(r.report.cached_sparsity, cached / 28, 1e-12);
  EXPECT_NEAR(r.report.gemm_q_sparsity, cached / 28 * 0.5, 1e-12);
  EXPECT_GT(r.report.flops_skipped, 0);
  EXPECT_LT(r.report.flops_skipped, r.report.flops_dense);
  // The ledger by hand: 14 states of 128 tokens, width 384, order 1.
  const size_t plane = 128 * 384 * sizeof(float);
  // The highest factor is shared by all of them.
  EXPECT_EQ(r.report.ledger.features, (14 + 1) * plane);
  EXPECT_EQ(r.report.ledger.bias_planes, 14 * 2 * plane);
  EXPECT_EQ(r.report.ledger.modules, 0u);
}

TEST(Report, RandomSymbolsHaveTheStatedDensity) {
  SKIP_WHERE_THREAD_SANITIZED("several pictures");
  RandomOptions o;
  o.cached = 0.25;
  o.skipped = 0.5;
  o.block_q = o.block_kv = 32;
  o.protect_text = false;
  o.schedule = short_schedule();
  const TextToImageResult r = run(shared_world(), small_request(), std::move(*make_random(o)));
  // 6 heads x 4 rows: 6 cached; of the other 18 x 4 pairs half are skipped, unless that empties a
  // row, which repair then refills.
  EXPECT_NEAR(r.report.cached_sparsity, 0.25, 1e-12);
  EXPECT_NEAR(r.report.dispatch_sparsity, 0.25 + 0.75 * 0.5, 0.03);
}

TEST(Degrading, LayersWithFewComputedRowsReuseTheirModules) {
  SKIP_WHERE_THREAD_SANITIZED("several pictures");
  World& w = shared_world();
  FlashOmniOptions o = flashomni_options();
  o.S_q = 1.0;  // every layer degrades at the first Update
  o.degrade_order = 1;
  const TextToImageResult r = run(w, small_request(), std::move(*make_flashomni(o)));
  for (const StepRecord& s : r.report.steps) {
    for (const LayerRecord& l : s.layers) {
      EXPECT_EQ(l.kind == LayerKind::kDegraded, s.kind == StepKind::kDispatch);
    }
  }
  EXPECT_NEAR(r.report.degraded_share, 0.5, 1e-12);
  EXPECT_GT(r.report.ledger.modules, 0u);
  // A degraded layer keeps nothing for the attention site.
  EXPECT_EQ(r.report.ledger.features, 0u);
  EXPECT_EQ(r.report.ledger.bias_planes, 0u);
  EXPECT_GT(r.report.peak_cache_bytes, r.report.ledger.cache_total());
  const TextToImageResult dense = run(w, small_request(), nullptr);
  EXPECT_GT(*psnr_db(r.image, dense.image), 15.0);
}

// An interval's worth of extra Updates is a warm-up that is longer by an interval, to rounding: an
// Update sums its output projection in two parts, a Full step at once. A part of a step is more
// than nothing and less than the step, degraded layers or not.
TEST(ExtraUpdates, LieBetweenWarmUps) {
  SKIP_WHERE_SANITIZED("several pictures");
  World& w = shared_world();
  for (const double S_q : {0.0, 1.0}) {
    FlashOmniOptions o = flashomni_options();
    o.S_q = S_q;
    o.tau_q = 1;
    o.tau_kv = 0;
    o.prime = false;  // which would give the one more dense step before its first Update
    o.order = o.degrade_order = 0;
    o.schedule = {2, 3, 0, true};
    FlashOmniOptions longer = o;
    longer.schedule.warmup = 5;
    const auto picture = [&](const FlashOmniOptions& options) {
      return run(w, small_request(), std::move(*make_flashomni(options)));
    };
    const TextToImageResult none = picture(o);
    o.extra_updates = 2;
    const TextToImageResult two = picture(o);
    const auto distance = [](const TextToImageResult& a, const TextToImageResult& b) {
      double most = 0;
      for (size_t i = 0; i < a.latents.size(); ++i) {
        most = std::max(most, double(std::abs(a.latents[i] - b.latents[i])));
      }
      return most;
    };
    const TextToImageResult want = picture(longer);
    EXPECT_GT(distance(none, want), 0.01);
    EXPECT_LT(distance(two, want), 0.01 * distance(none, want));
    o.extra_updates = 3. / 7;
    const TextToImageResult part = picture(o);
    EXPECT_NE(part.latents, none.latents);
    EXPECT_LT(part.report.flops_skipped, none.report.flops_skipped);
    EXPECT_GT(part.report.flops_skipped, two.report.flops_skipped);
    // Step 2 is the first Dispatch step; seven layers and two streams.
    const StepRecord& step = part.report.steps[2];
    EXPECT_EQ(step.kind, StepKind::kDispatch);
    ASSERT_EQ(step.layers.size(), 14u);
    for (size_t i = 0; i < 14; ++i) {
      const LayerKind reused = S_q > 0 ? LayerKind::kDegraded : LayerKind::kSparse;
      // A degraded layer has no symbols to refresh.
      const LayerKind refreshed = S_q > 0 ? LayerKind::kDense : LayerKind::kUpdate;
      EXPECT_EQ(step.layers[i].kind, i % 7 < 4 ? reused : refreshed) << "layer " << i;
    }
    // Scaled with the run as the schedule is: 4 of 16 steps are 2 of 8.
    FlashOmniOptions scaled = o;
    scaled.schedule = {4, 6, 16, true};
    scaled.extra_updates = 4;
    EXPECT_EQ(picture(scaled).latents, two.latents);
  }
}

TEST(Fallbacks, AreNamed) {
  SKIP_WHERE_THREAD_SANITIZED("several pictures");
  World& w = shared_world();
  auto reasons = [&](FlashOmniOptions o, int steps) {
    TextToImageRequest r = small_request();
    r.steps = steps;
    std::string all;
    for (const Fallback& f : run(w, r, std::move(*make_flashomni(o))).report.fallbacks) {
      all += f.where + ": " + f.reason + "\n";
    }
    return all;
  };
  EXPECT_EQ(reasons(flashomni_options(), 8), "");
  FlashOmniOptions off = flashomni_options();
  off.tau_q = off.tau_kv = 0;
  EXPECT_NE(reasons(off, 3).find("tau_q and tau_kv are both 0"), std::string::npos);
  EXPECT_NE(reasons(flashomni_options(), 2).find("no Dispatch step"), std::string::npos);
  FlashOmniOptions timid = flashomni_options();
  timid.tau_q = timid.tau_kv = 1e-30;
  EXPECT_NE(reasons(timid, 4).find("found nothing to cache or skip"), std::string::npos);
}

TEST(Requests, AreRefusedByName) {
  World& w = shared_world();
  auto message = [&](auto change) {
    TextToImageRequest r = small_request();
    change(r);
    const auto result = w.pipeline->generate(r, nullptr);
    return result.ok() ? std::string("ok") : result.status().message();
  };
  using R = TextToImageRequest;
  EXPECT_EQ(message([](R& r) { r.prompt = " "; }), "the prompt is empty");
  EXPECT_NE(message([](R& r) { r.width = 60; }).find("width is 60"), std::string::npos);
  EXPECT_NE(message([](R& r) { r.height = -8; }).find("height is -8"), std::string::npos);
  EXPECT_NE(message([](R& r) { r.steps = -1; }).find("steps is -1"), std::string::npos);
  EXPECT_NE(message([](R& r) { r.guidance = NAN; }).find("guidance"), std::string::npos);
  EXPECT_NE(message([](R& r) { r.noise.resize(3); }).find("noise of 3"), std::string::npos);
  EXPECT_NE(message([](R& r) {
              r.prompt.clear();
              for (int i = 0; i < 200; ++i) r.prompt += "apple ";
            }).find("at most 63"),
            std::string::npos);
}

TEST(Requests, CanBeCancelled) {
  World& w = shared_world();
  int steps = 0;
  const auto result = w.pipeline->generate(small_request(), nullptr, {},
                                           [&](const StepProgress&) { return ++steps < 3; });
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.status().code(), StatusCode::kCancelled);
  EXPECT_EQ(steps, 3);
}

TEST(Requests, WithoutGuidanceThereIsOneStream) {
  TextToImageRequest r = small_request();
  r.guidance = 1.0;
  EXPECT_EQ(run(shared_world(), r, nullptr).report.steps[0].layers.size(), 7u);
}

}  // namespace
}  // namespace flashomni
