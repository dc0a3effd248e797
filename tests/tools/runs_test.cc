// SPDX-License-Identifier: Apache-2.0
//
// What the subcommands write when all goes well.
#include <algorithm>

#include "io/image.h"
#include "io/image_resize.h"
#include "tests/tools/cli.h"

namespace flashomni::tools {
namespace {

std::vector<std::string> joined(std::vector<std::string> a, const std::vector<std::string>& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

TEST_F(CliTest, HelpAndVersion) {
  const Finished help = run({"--help"});
  EXPECT_EQ(help.exit_code, 0);
  EXPECT_EQ(help.err, "");
  for (const std::string name :
       {"generate", "compare", "inspect", "bench", "sweep", "tune", "info"}) {
    EXPECT_NE(help.out.find("\n  " + name), std::string::npos);
    const Finished sub = run({name, "--help"});
    EXPECT_EQ(sub.exit_code, 0);
    EXPECT_NE(sub.out.find("--json"), std::string::npos);
    EXPECT_EQ(sub.err, "");
  }
  EXPECT_NE(help.out.find("130"), std::string::npos) << "exit codes are documented";
  EXPECT_EQ(run({"--version"}).out.rfind("flashomni ", 0), 0u);
}

TEST_F(CliTest, InfoTellsMachineModelAndStrategies) {
  const Finished text = run({"info", "--json", "info.json"});
  EXPECT_EQ(text.exit_code, 0) << text.err;
  EXPECT_NE(text.out.find("FluxTransformer2DModel"), std::string::npos);
  const nlohmann::json doc = json("info.json");
  EXPECT_EQ(doc["model"]["heads"], 6);
  EXPECT_EQ(doc["model"]["head_dim"], 64);
  EXPECT_EQ(doc["model"]["defaults"]["steps"], 20);
  EXPECT_EQ(doc["model"]["unused_tensors"], nlohmann::json::array());
  EXPECT_EQ(doc["cpu"]["backend"], "cpu");
  EXPECT_FALSE(doc["instruction_sets"].empty());
  EXPECT_GE(doc["strategies"].size(), 5u);

  const Finished list = run({"info", "--strategies"});
  EXPECT_NE(list.out.find("tau_q"), std::string::npos);
  EXPECT_NE(list.out.find("presets: "), std::string::npos);
}

// A folder with config.json alone, one with weights, and one whose weights do not fit.
TEST_F(CliTest, InfoSummarisesATransformerFolder) {
  fs::create_directories(path("dev"));
  std::ofstream(path("dev/config.json"))
      << R"({"_class_name": "FluxTransformer2DModel", "guidance_embeds": true})";
  const Finished dev = run({"info", "dev", "--json", "info.json"});
  EXPECT_EQ(dev.exit_code, 0) << dev.err;
  EXPECT_NE(dev.out.find("11,901,408,320 in 1160 tensors"), std::string::npos) << dev.out;
  const nlohmann::json doc = json("info.json")["components"][0];
  EXPECT_EQ(doc["parameters"], 11'901'408'320);
  EXPECT_EQ(doc["tensors"].size(), 1160u);
  EXPECT_TRUE(doc["weights"].is_null());

  const fs::path fixtures = fs::path(FO_SOURCE_DIR) / "tests/models/fixtures";
  const Finished wan = run({"info", (fixtures / "wan_patches").string()});
  EXPECT_EQ(wan.exit_code, 0) << wan.err;
  EXPECT_NE(wan.out.find("5 files"), std::string::npos) << wan.out;
  EXPECT_NE(wan.out.find("GEMM-Q dense: queries are normalised"), std::string::npos);

  const std::string weights = "diffusion_pytorch_model.safetensors";
  fs::copy_file(fixtures / "flux_dev" / weights, path("dev") / weights);
  const Finished wrong = run({"info", "dev", "--json", "info.json"});
  EXPECT_EQ(wrong.exit_code, 1);
  EXPECT_NE(wrong.err.find("x_embedder.weight [32,4], wanted [3072,64]"), std::string::npos)
      << wrong.err;
  EXPECT_NE(wrong.err.find("missing (transformer_blocks.2."), std::string::npos);
  EXPECT_FALSE(json("info.json")["components"][0]["weights"]["loads"].get<bool>());
}

// The command finds the model of its checkout, and the one it was installed with.
TEST_F(CliTest, TheBundledModelIsFoundFromTheProgram) {
  const fs::path model = fs::path(models_) / "emoji-flux";
  models_.clear();
  const std::pair<const char*, const char*> places[] = {
      {"checkout/build/release/bin", "checkout/models"},
      {"prefix/bin", "prefix/share/flashomni/models"},
  };
  for (const auto& [bin, models] : places) {
    fs::create_directories(path(bin));
    fs::create_directories(path(models));
    fs::copy_file(FO_CLI, path(bin) / "flashomni");
    fs::create_directory_symlink(model, path(models) / "emoji-flux");
    program_ = (path(bin) / "flashomni").string();
    const Finished f = run({"info", "--json", "info.json"});
    ASSERT_EQ(f.exit_code, 0) << f.err;
    EXPECT_EQ(json("info.json")["model"].value("folder", ""), path(models) / "emoji-flux");
  }
}

TEST_F(CliTest, InfoWorksWithoutAModel) {
  models_ = path("nothing").string();
  const Finished f = run({"info"});
  EXPECT_EQ(f.exit_code, 0) << f.err;
  EXPECT_NE(f.out.find("none: the bundled model was not found"), std::string::npos);
}

TEST_F(CliTest, AFullDiskBehindStdoutIsAFailure) {
  start({"info"}, false, "/dev/full");
  const Finished f = finish();
  EXPECT_EQ(f.exit_code, 1);
  EXPECT_NE(f.err.find("standard output"), std::string::npos) << f.err;
}

TEST_F(CliTest, GenerateReportsWhatRan) {
  const Finished f = run(joined(small({"generate", "red apple", "-o", "a.png", "--json", "a.json"},
                                      {"--seed", "7", "--steps", "4"}),
                                {"--strategy", "dense"}));
  ASSERT_EQ(f.exit_code, 0) << f.err;
  const auto image = load_image(path("a.png").string());
  ASSERT_TRUE(image.ok()) << image.status().to_string();
  EXPECT_EQ(image->width, 64);
  EXPECT_EQ(image->height, 64);
  const nlohmann::json doc = json("a.json");
  EXPECT_EQ(doc["prompt"], "red apple");
  EXPECT_EQ(doc["settings"]["seed"], 7);
  EXPECT_EQ(doc["settings"]["steps"], 4);
  EXPECT_EQ(doc["strategy"]["strategy"], "dense");
  EXPECT_EQ(doc["attention_sparsity"], 0.0);
  EXPECT_EQ(doc["flops_skipped"], 0.0);
  EXPECT_GT(doc["flops_dense"], 0.0);
  EXPECT_GT(doc["seconds"], 0.0);
  EXPECT_EQ(doc["fallbacks"], nlohmann::json::array());
  ASSERT_EQ(doc["per_step"].size(), 4u);
  EXPECT_EQ(doc["per_step"][3]["layers"], (nlohmann::json{{"dense", 14}}));
  EXPECT_NE(doc["command"].get<std::string>().find("'red apple'"), std::string::npos);
  for (const char* key : {"version", "machine", "model", "memory", "peak_cache_bytes"}) {
    EXPECT_TRUE(doc.contains(key)) << key;
  }
}

TEST_F(CliTest, GenerateCountsSkippedWork) {
  const Finished f = run(small({"generate", "x", "--json", "a.json"}, sparse()));
  ASSERT_EQ(f.exit_code, 0) << f.err;
  const nlohmann::json doc = json("a.json");
  EXPECT_EQ(doc["per_step"][0]["kind"], "update");
  EXPECT_EQ(doc["per_step"][1]["kind"], "dispatch");
  EXPECT_EQ(doc["per_step"][2]["layers"], (nlohmann::json{{"sparse", 14}}));
  EXPECT_EQ(doc["per_step"][3]["kind"], "full");
  EXPECT_GT(doc["dispatch_sparsity"], 0.0);
  // Two of four steps dispatch.
  EXPECT_NEAR(doc["attention_sparsity"].get<double>(), doc["dispatch_sparsity"].get<double>() / 2,
              1e-12);
  EXPECT_GT(doc["gemm_q_sparsity"], 0.0);
  EXPECT_GT(doc["memory"]["bias_planes"], 0);
  // Whole numbers and truth values keep their types; untouched options are there too.
  const nlohmann::json& options = doc["strategy"]["options"];
  EXPECT_TRUE(options["warmup"].is_number_integer());
  EXPECT_TRUE(options["cached"].is_number_float());
  EXPECT_EQ(options["protect_text"], true);
}

// The picture to edit may have any size; the run's size, guidance and layers are the model's.
TEST_F(CliTest, EditTakesAPicture) {
  Image red{40, 20, {}};
  for (int i = 0; i < 40 * 20; ++i) red.rgb.insert(red.rgb.end(), {255, 0, 0});
  ASSERT_TRUE(save_png(path("in.png").string(), red).ok());
  const auto edit = [&](const std::string& name, const std::vector<std::string>& more) {
    return run(joined(small({"edit", "--image", "in.png", "--prompt", "make it blue", "-o",
                             name + ".png", "--json", name + ".json"}),
                      more));
  };
  const Finished f = edit("a", {"--strategy", "dense"});
  ASSERT_EQ(f.exit_code, 0) << f.err;
  EXPECT_NE(f.err.find("in.png: 40x20, scaled to fit 64x64 on white"), std::string::npos) << f.err;
  const nlohmann::json doc = json("a.json");
  EXPECT_EQ(doc["image"], "in.png");
  EXPECT_EQ(doc["prompt"], "make it blue");
  EXPECT_EQ(doc["settings"]["guidance"], 2.0) << "the model's guidance for edits";
  const auto image = load_image(path("a.png").string());
  ASSERT_TRUE(image.ok()) << image.status().to_string();
  EXPECT_EQ(image->width, 64);

  // The picture matters, and it is the same as one already in the run's size.
  const auto source = load_image(path("in.png").string());
  ASSERT_TRUE(save_png(path("in.png").string(), fit_image(*source, 64, 64)).ok());
  const Finished fitted = edit("b", {"--strategy", "dense"});
  EXPECT_EQ(fitted.err, "");
  EXPECT_EQ(file("a.png"), file("b.png"));
  ASSERT_TRUE(
      save_png(path("in.png").string(), Image{64, 64, std::vector<uint8_t>(64 * 64 * 3)}).ok());
  ASSERT_EQ(edit("c", {"--strategy", "dense"}).exit_code, 0);
  EXPECT_NE(file("a.png"), file("c.png"));
}

// 64 text, 64 noisy and 64 reference tokens in blocks of 32: six rows of symbols.
TEST_F(CliTest, EditRunsSparse) {
  ASSERT_TRUE(
      save_png(path("in.png").string(), Image{64, 64, std::vector<uint8_t>(64 * 64 * 3)}).ok());
  const Finished f =
      run(joined(small({"edit", "x", "--image", "in.png"}, sparse()), {"--json", "a.json"}));
  ASSERT_EQ(f.exit_code, 0) << f.err;
  const nlohmann::json doc = json("a.json");
  EXPECT_EQ(doc["per_step"][2]["layers"], (nlohmann::json{{"sparse", 14}}));
  EXPECT_GT(doc["dispatch_sparsity"], 0.3);
  EXPECT_EQ(doc["fallbacks"], nlohmann::json::array());
}

TEST_F(CliTest, TheRecordOfARunIsItsConfigFile) {
  SKIP_WHERE_SANITIZED("runs of several pictures");
  ASSERT_EQ(run(small({"generate", "x", "-o", "a.png", "--json", "a.json"}, sparse())).exit_code,
            0);
  write("config.json", json("a.json")["strategy"].dump());
  const Finished again = run(small({"generate", "x", "-o", "b.png", "--json", "b.json"},
                                   {"--steps", "4", "--config", "config.json"}));
  ASSERT_EQ(again.exit_code, 0) << again.err;
  EXPECT_EQ(json("a.json")["strategy"], json("b.json")["strategy"]);
  EXPECT_FALSE(file("a.png").empty());
  EXPECT_EQ(file("a.png"), file("b.png"));

  // Single options go on top of a config file.
  const Finished other =
      run(small({"generate", "x", "--json", "c.json"},
                {"--steps", "4", "--config", "config.json", "--set", "seed=99"}));
  ASSERT_EQ(other.exit_code, 0) << other.err;
  EXPECT_EQ(json("c.json")["strategy"]["options"]["seed"], 99);
  EXPECT_EQ(json("c.json")["strategy"]["options"]["cached"], 0.5);
}

TEST_F(CliTest, ThePresetIsBalancedUnlessOptionsAreGiven) {
  ASSERT_EQ(run(small({"generate", "x", "--json", "a.json"})).exit_code, 0);
  EXPECT_EQ(json("a.json")["strategy"]["preset"], "balanced");
  ASSERT_EQ(run(small({"generate", "x", "--json", "b.json", "--set", "tau_q=0.25"})).exit_code, 0);
  EXPECT_FALSE(json("b.json")["strategy"].contains("preset"));
  EXPECT_EQ(json("b.json")["strategy"]["options"]["tau_q"], 0.25);
}

TEST_F(CliTest, WhatRanDenseIsSaid) {
  const Finished f = run(small({"generate", "x"}));
  EXPECT_EQ(f.exit_code, 0);
  EXPECT_NE(f.err.find("ran dense: run: no Dispatch step"), std::string::npos) << f.err;
}

TEST_F(CliTest, GenerateProfilesEveryOperation) {
  const Finished done = run({"generate", "x", "--width", "64", "--height", "64", "--steps", "2",
                             "--profile", "--json", "run.json"});
  ASSERT_EQ(done.exit_code, 0) << done.err;
  EXPECT_NE(done.out.find("everything else"), std::string::npos);
  double seconds = 0;
  int64_t linears = 0;
  const nlohmann::json doc = json("run.json");
  for (const nlohmann::json& row : doc["profile"]) {
    seconds += row["seconds"].get<double>();
    if (row["op"] == "linear" && row["scope"] == "output") linears = row["calls"];
  }
  EXPECT_EQ(linears, 4) << "one projection per step and guidance stream";
  EXPECT_GT(seconds, 0);
  EXPECT_GT(doc["memory"]["process_peak"], doc["memory"]["weights"]);
}

TEST_F(CliTest, BenchWritesEveryColumn) {
  const std::vector<std::string> small = {"--n", "160",       "--heads", "2",      "--head-dim",
                                          "16",  "--repeats", "2",       "--json", "b.json"};
  for (const std::string op : {"attention", "gemm-q", "gemm-qkv", "gemm-o", "linear", "symbols"}) {
    const Finished done = run(joined({"bench", op, "--plot", "b.png"}, small));
    ASSERT_EQ(done.exit_code, 0) << op << done.err;
    EXPECT_NE(done.out.find("dense"), std::string::npos);
    EXPECT_TRUE(load_image(path("b.png")).ok());
    const nlohmann::json doc = json("b.json");
    for (const char* key : {"command", "version", "commit", "date", "machine", "peak_tflops"}) {
      EXPECT_TRUE(doc.contains(key)) << op << " " << key;
    }
    ASSERT_FALSE(doc["rows"].empty());
    EXPECT_EQ(doc["rows"][0]["pattern"], "dense");
    for (const nlohmann::json& row : doc["rows"]) {
      EXPECT_GT(row["ms_median"], 0);
      EXPECT_LE(row["ms_p10"], row["ms_median"]);
      EXPECT_LE(row["ms_median"], row["ms_p90"]);
      EXPECT_EQ(row["repeats"], 2);
    }
  }
  // The symbols that were timed have the sparsity that was asked for: 2 heads of 3 blocks.
  const Finished done = run(joined({"bench", "gemm-q", "--sparsity", "0.5"}, small));
  ASSERT_EQ(done.exit_code, 0) << done.err;
  EXPECT_EQ(json("b.json")["rows"][1]["sparsity"], 0.5);
}

TEST_F(CliTest, CompareHasEveryFigure) {
  SKIP_WHERE_SANITIZED("runs of several pictures");
  write("prompts.txt", "flat blue fish\r\n\n  \n");
  const Finished f =
      run(joined(small({"compare", "3d red apple", "--prompts", "prompts.txt"}, sparse()),
                 {"--json", "out.json", "--noise-floor", "--out-dir", "new/out"}));
  ASSERT_EQ(f.exit_code, 0) << f.err;
  EXPECT_NE(f.out.find("3d red apple"), std::string::npos);
  EXPECT_NE(f.out.find("\nmean "), std::string::npos);
  EXPECT_NE(f.out.find("bit-identical"), std::string::npos);

  const nlohmann::json doc = json("out.json");
  ASSERT_EQ(doc["prompts"].size(), 2u);
  EXPECT_EQ(doc["prompts"][1]["prompt"], "flat blue fish");
  for (const nlohmann::json& figures : {doc, doc["prompts"][0], doc["prompts"][1]}) {
    EXPECT_GT(figures["dense"]["seconds"], 0.0);
    EXPECT_GT(figures["sparse"]["seconds"], 0.0);
    EXPECT_NEAR(
        figures["speedup"].get<double>(),
        figures["dense"]["seconds"].get<double>() / figures["sparse"]["seconds"].get<double>(),
        1e-9);
    EXPECT_TRUE(figures["psnr_db"].is_number());
    EXPECT_EQ(figures["identical"], false);
    EXPECT_LT(figures["ssim"], 1.0);
    EXPECT_GT(figures["attention_sparsity"], 0.0);
    EXPECT_GT(figures["dispatch_sparsity"], figures["attention_sparsity"]);
    EXPECT_GT(figures["gemm_q_sparsity"], 0.0);
    EXPECT_GT(figures["gemm_o_sparsity"], 0.0);
    EXPECT_EQ(figures["degraded_share"], 0.0);
    EXPECT_GT(figures["peak_cache_bytes"], 0);
    EXPECT_TRUE(figures["fallbacks"].is_array());
    EXPECT_EQ(figures["noise_floor"]["identical"], true);
    EXPECT_TRUE(figures["noise_floor"]["psnr_db"].is_null());
  }
  EXPECT_NEAR(
      doc["psnr_db"].get<double>(),
      (doc["prompts"][0]["psnr_db"].get<double>() + doc["prompts"][1]["psnr_db"].get<double>()) / 2,
      1e-9);
  EXPECT_EQ(doc["steps"], 4);
  for (const char* key : {"version", "command", "machine", "settings", "strategy"}) {
    EXPECT_TRUE(doc.contains(key)) << key;
  }

  for (const char* name :
       {"1-dense", "1-random", "1-difference", "2-dense", "2-random", "2-difference"}) {
    EXPECT_TRUE(fs::exists(path(std::string("new/out/") + name + ".png"))) << name;
  }
  const auto sheet = load_image(path("new/out/compare.png").string());
  ASSERT_TRUE(sheet.ok());
  EXPECT_EQ(sheet->width, 3 * 64 + 4 * 8);
  EXPECT_EQ(sheet->height, 2 * 64 + 3 * 8);
}

// A strategy that may skip nothing gives the dense picture, and infinity is no number in JSON.
TEST_F(CliTest, CompareOfEqualPictures) {
  const Finished f = run(joined(small({"compare", "x", "--json", "out.json"}, {"--steps", "3"}),
                                {"--set", "tau_q=0", "--set", "tau_kv=0"}));
  ASSERT_EQ(f.exit_code, 0) << f.err;
  const nlohmann::json doc = json("out.json");
  EXPECT_TRUE(doc["psnr_db"].is_null());
  EXPECT_EQ(doc["identical"], true);
  EXPECT_EQ(doc["ssim"], 1.0);
  EXPECT_EQ(doc["attention_sparsity"], 0.0);
  EXPECT_FALSE(doc["fallbacks"].empty());
  EXPECT_NE(f.err.find("ran dense: run: tau_q and tau_kv are both 0"), std::string::npos) << f.err;
  EXPECT_NE(f.out.find(" inf "), std::string::npos) << f.out;
}

TEST_F(CliTest, AblationAddsOnePartAtATime) {
  SKIP_WHERE_SANITIZED("runs of several pictures");
  const Finished f =
      run(joined(small({"compare", "x", "--json", "out.json"}, sparse()), {"--ablation"}));
  ASSERT_EQ(f.exit_code, 0) << f.err;
  const nlohmann::json doc = json("out.json");
  const nlohmann::json& stages = doc["ablation"];
  ASSERT_EQ(stages.size(), 3u);
  EXPECT_EQ(stages[0]["stage"], "attention");
  EXPECT_EQ(stages[0]["gemm_q_sparsity"], 0.0);
  EXPECT_EQ(stages[0]["gemm_o_sparsity"], 0.0);
  EXPECT_EQ(stages[1]["stage"], "gemm_q");
  EXPECT_GT(stages[1]["gemm_q_sparsity"], 0.0);
  EXPECT_EQ(stages[1]["gemm_o_sparsity"], 0.0);
  EXPECT_EQ(stages[2]["stage"], "gemm_o");
  EXPECT_EQ(stages[2]["psnr_db"], doc["psnr_db"]);
  for (const nlohmann::json& s : stages) {
    EXPECT_EQ(s["attention_sparsity"], doc["attention_sparsity"]);
    EXPECT_GT(s["sparse"]["seconds"], 0.0);
  }
  EXPECT_EQ(doc["prompts"][0]["ablation"].size(), 3u);
  // A CPU needs no more than that before it is timed.
  EXPECT_EQ(doc["warm_up"], nlohmann::json::parse(R"({"dense_steps": 2, "sparse_steps": 0})"));
}

TEST_F(CliTest, InspectDrawsAndSavesSymbols) {
  const Finished f =
      run(joined(small({"inspect", "x", "--json", "i.json", "--ascii"}, sparse()),
                 {"--layers", "0,5-6", "--streams", "1", "--save-symbols", "saved"}));
  ASSERT_EQ(f.exit_code, 0) << f.err;
  EXPECT_NE(f.out.find("step 0, layer 0, stream 1, head 0"), std::string::npos) << f.out;
  for (const std::string name :
       {"step00-layer00-stream1", "step00-layer05-stream1", "step00-layer06-stream1"}) {
    EXPECT_TRUE(fs::exists(path("out/" + name + ".png"))) << name;
    EXPECT_TRUE(fs::exists(path("saved/" + name + ".fosy"))) << name;
  }
  EXPECT_EQ(std::distance(fs::directory_iterator(path("saved")), fs::directory_iterator()), 3);
  // 14 rows (layers of two streams) by 4 steps.
  const auto map = load_image(path("out/sparsity.png").string());
  ASSERT_TRUE(map.ok());
  EXPECT_EQ(map->height, map->width / 4 * 14);

  const nlohmann::json doc = json("i.json");
  EXPECT_EQ(doc["maps"].size(), 3u);
  EXPECT_EQ(doc["layers"].size(), 4u);        // steps
  EXPECT_EQ(doc["layers"][1].size(), 2u);     // streams
  EXPECT_EQ(doc["layers"][1][1].size(), 7u);  // layers
  EXPECT_EQ(doc["layers"][1][1][5]["kind"], "sparse");
  EXPECT_EQ(doc["layers"][1][1][5]["attention_sparsity"], doc["maps"][1]["attention_sparsity"]);

  const Finished saved =
      run({"inspect", "saved/step00-layer05-stream1.fosy", "--json", "f.json", "--head", "3"});
  ASSERT_EQ(saved.exit_code, 0) << saved.err;
  EXPECT_NE(saved.out.find("head 3"), std::string::npos);
  const nlohmann::json of_file = json("f.json");
  EXPECT_EQ(of_file["geometry"]["heads"], 6);
  EXPECT_EQ(of_file["geometry"]["q_tokens"], 128);
  EXPECT_EQ(of_file["geometry"]["block_q"], 32);
  EXPECT_EQ(of_file["heads"].size(), 6u);
  EXPECT_EQ(of_file["counts"]["attention_sparsity"], doc["maps"][1]["attention_sparsity"]);
  // The printed map has as many cached cells as the counts say (4 x 4 blocks).
  const nlohmann::json& head = of_file["heads"][3];
  const std::string printed = saved.out.substr(saved.out.rfind("cached):\n") + 9);
  EXPECT_EQ(std::count(printed.begin(), printed.end(), '-'),
            4 * (head["rows"].get<int>() - head["active_rows"].get<int>()));
  EXPECT_EQ(std::count(printed.begin(), printed.end(), '#'), head["active_pairs"].get<int>());
}

TEST_F(CliTest, InspectNamesTheUpdatesThereAre) {
  const Finished f = run(joined(small({"inspect", "x"}, sparse()), {"--updates", "1"}));
  expect_refusal(f, 2, "Updates that built symbols were at 0");
  EXPECT_TRUE(fs::is_empty(path("out")));
}

}  // namespace
}  // namespace flashomni::tools
