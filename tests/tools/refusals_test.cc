// SPDX-License-Identifier: Apache-2.0
//
// Everything a user can get wrong ends in one line that names it, the right exit code and no file.
#include <algorithm>
#include <list>

#include "io/safetensors.h"
#include "tests/tools/cli.h"

namespace flashomni::tools {
namespace {

constexpr int kFailure = 1, kUsage = 2;

struct Wrong {
  std::string name;
  std::vector<std::string> args;
  int code;
  std::string message;  // part of it
};

void PrintTo(const Wrong& wrong, std::ostream* out) {
  *out << wrong.name;
}

std::string many_words() {
  std::string text;
  for (int i = 0; i < 100; ++i) text += "apple ";
  return text;
}

class WrongArguments : public CliTest, public ::testing::WithParamInterface<Wrong> {};

TEST_P(WrongArguments, AreRefused) {
  write("a_file", "not a folder");
  expect_refusal(run(GetParam().args), GetParam().code, GetParam().message);
  EXPECT_EQ(files(), std::vector<std::string>{"a_file"});
}

const Wrong kWrong[] = {
    {"NoSubcommand",
     {},
     kUsage,
     "generate, edit, video, compare, inspect, bench, sweep, tune, symbols, info"},
    {"UnknownBench", {"bench", "softmax"}, kUsage, "softmax"},
    {"BenchOfNoTokens", {"bench", "attention", "--n", "0"}, kUsage, "--n is '0'"},
    {"BenchBlock", {"bench", "attention", "--n", "64", "--block", "48"}, kUsage, "48"},
    {"BenchPattern", {"bench", "attention", "--n", "64", "--pattern", "x"}, kUsage, "'x'"},
    {"BenchSparsity", {"bench", "gemm-q", "--n", "64", "--sparsity", "1"}, kUsage, "--sparsity"},
    {"UnknownSubcommand", {"draw", "x"}, kUsage, "no subcommand 'draw'"},
    {"NewlineInMessage", {"a\nb"}, kUsage, "'a b'"},
    {"UnknownFlag", {"generate", "x", "--fast"}, kUsage, "--fast"},
    {"SecondPrompt", {"generate", "x", "y"}, kUsage, "y"},
    {"NoPrompt", {"generate"}, kUsage, "prompt"},
    {"EmptyPrompt", {"generate", ""}, kUsage, "the prompt is empty"},
    {"BlankPrompt", {"generate", " \t"}, kUsage, "the prompt is empty"},
    {"LongPrompt", {"generate", many_words()}, kUsage, "100 tokens, the model takes at most 63"},
    {"LongNegativePrompt",
     {"generate", "x", "--negative-prompt", many_words()},
     kUsage,
     "100 tokens"},
    {"ZeroWidth", {"generate", "x", "--width", "0"}, kUsage, "--width is '0'"},
    {"NegativeHeight", {"generate", "x", "--height", "-8"}, kUsage, "--height is '-8'"},
    {"WidthNotOfPatches", {"generate", "x", "--width", "63"}, kUsage, "multiple of 8"},
    {"HugeWidth", {"generate", "x", "--width", "1000000"}, kUsage, "width is 1000000"},
    {"OverflowingWidth", {"generate", "x", "--width", "99999999999999"}, kUsage, "--width"},
    {"ZeroSteps", {"generate", "x", "--steps", "0"}, kUsage, "--steps is '0'"},
    {"NegativeSteps", {"generate", "x", "--steps", "-3"}, kUsage, "--steps is '-3'"},
    {"WordForSteps", {"generate", "x", "--steps", "many"}, kUsage, "--steps is 'many'"},
    {"FractionOfSteps", {"generate", "x", "--steps", "2.5"}, kUsage, "--steps is '2.5'"},
    {"NegativeSeed", {"generate", "x", "--seed", "-1"}, kUsage, "--seed is '-1'"},
    {"OverflowingSeed", {"generate", "x", "--seed", "18446744073709551616"}, kUsage, "--seed"},
    {"NegativeGuidance", {"generate", "x", "--guidance", "-1"}, kUsage, "--guidance is '-1'"},
    {"GuidanceNotANumber", {"generate", "x", "--guidance", "nan"}, kUsage, "--guidance is 'nan'"},
    {"InfiniteGuidance", {"generate", "x", "--guidance", "inf"}, kUsage, "guidance"},
    {"ZeroThreads", {"generate", "x", "--threads", "0"}, kUsage, "--threads is '0'"},
    {"UnknownStrategy", {"generate", "x", "--strategy", "foo"}, kUsage, "no strategy 'foo'"},
    {"UnknownPreset", {"generate", "x", "--preset", "foo"}, kUsage, "no preset 'foo'"},
    {"PresetOfAnother",
     {"generate", "x", "--strategy", "window", "--preset", "balanced"},
     kUsage,
     "window has no preset 'balanced'"},
    {"UnknownOption", {"generate", "x", "--set", "speed=9"}, kUsage, "no option 'speed'"},
    {"OptionOutOfRange", {"generate", "x", "--set", "tau_q=7"}, kUsage, "tau_q is '7'"},
    {"OptionWithoutValue", {"generate", "x", "--set", "tau_q"}, kUsage, "'tau_q'"},
    {"OptionNotANumber", {"generate", "x", "--set", "tau_q=nan"}, kUsage, "tau_q is 'nan'"},
    {"BlockSize", {"generate", "x", "--set", "block_q=48"}, kUsage, "48"},
    {"ConfigAndStrategy",
     {"generate", "x", "--config", "a_file", "--strategy", "dense"},
     kUsage,
     "--strategy"},
    {"MissingConfig", {"generate", "x", "--config", "none.json"}, kFailure, "none.json"},
    {"ConfigIsNoJson", {"generate", "x", "--config", "a_file"}, kFailure, "a_file"},
    {"CacheBudgetOfNoSize",
     {"generate", "x", "--cache-budget", "much"},
     kUsage,
     "--cache-budget is 'much', wanted"},
    {"CacheBudgetUnit", {"compare", "x", "--cache-budget", "4G"}, kUsage, "--cache-budget is '4G'"},
    {"CacheBudgetBelowZero",
     {"edit", "x", "--cache-budget", "-1GiB"},
     kUsage,
     "--cache-budget is '-1GiB'"},
    {"UnknownDevice", {"generate", "x", "--device", "tpu"}, kUsage, "tpu"},
    {"UnknownInstructionSet", {"generate", "x", "--isa", "MMX"}, kFailure, "MMX"},
    {"MissingModel", {"generate", "x", "--model", "nowhere"}, kFailure, "nowhere"},
    {"ModelIsAFile", {"generate", "x", "--model", "a_file"}, kFailure, "a_file"},
    {"OutInMissingFolder", {"generate", "x", "-o", "none/x.png"}, kFailure, "none/x.png"},
    {"OutBelowAFile", {"generate", "x", "-o", "a_file/x.png"}, kFailure, "a_file/x.png"},
    {"OutWhereNothingCanBe", {"generate", "x", "-o", "/proc/x.png"}, kFailure, "/proc/x.png"},
    {"OutIsAFolder", {"generate", "x", "-o", "."}, kUsage, "folder"},
    {"EmptyOut", {"generate", "x", "-o", ""}, kUsage, ""},
    {"OutIsNoPng", {"generate", "x", "-o", "x.jpg"}, kUsage, "x.jpg"},
    {"JsonInMissingFolder", {"generate", "x", "--json", "none/x"}, kFailure, "none/x"},
    {"OutIsJson", {"generate", "x", "-o", "same", "--json", "same"}, kUsage, "same"},
    {"EditWithoutImage", {"edit", "make it blue"}, kUsage, "--image is required"},
    {"EditWithoutPrompt", {"edit", "--image", "a_file"}, kUsage, "prompt is required"},
    {"EditMissingImage", {"edit", "x", "--image", "none.png"}, kFailure, "none.png"},
    {"EditOfNoPicture", {"edit", "x", "--image", "a_file"}, kFailure, "not a PNG or JPEG"},
    {"EditOfAFolder", {"edit", "x", "--image", "."}, kUsage, "is a folder"},
    {"CompareNothing", {"compare"}, kUsage, "no prompt"},
    {"CompareEmptyPrompt", {"compare", "x", ""}, kUsage, "the prompt is empty"},
    {"CompareDense", {"compare", "x", "--strategy", "dense"}, kUsage, "dense"},
    {"CompareTooSmall", {"compare", "x", "--width", "8"}, kUsage, "8x256"},
    {"CompareTooWide", {"compare", "x", "--width", "8000"}, kUsage, "8000x256"},
    {"CompareMissingPrompts", {"compare", "--prompts", "none.txt"}, kFailure, "none.txt"},
    {"CompareOutDir", {"compare", "x", "--out-dir", "a_file/out"}, kFailure, "a_file/out"},
    {"CompareOutDirReadOnly", {"compare", "x", "--out-dir", "/proc"}, kFailure, "/proc"},
    {"InspectDense", {"inspect", "x", "--strategy", "dense"}, kUsage, "dense"},
    {"InspectLayerList", {"inspect", "x", "--layers", "1,,2"}, kUsage, "'1,,2'"},
    {"InspectReversedList", {"inspect", "x", "--layers", "3-1"}, kUsage, "'3-1'"},
    {"InspectMissingLayer", {"inspect", "x", "--layers", "0-7"}, kUsage, "0 to 6"},
    {"InspectMissingHead", {"inspect", "x", "--head", "6"}, kUsage, "0 to 5"},
    {"InspectMissingStream", {"inspect", "x", "--streams", "2"}, kUsage, "0 to 1"},
    {"InspectNoSymbols", {"inspect", "a_file"}, kFailure, "a_file"},
    {"InspectFileWithSteps", {"inspect", "a_file", "--steps", "3"}, kUsage, "--steps"},
    {"InfoModel", {"info", "--model", "nowhere"}, kFailure, "nowhere"},
    {"InfoMissingFolder", {"info", "nowhere"}, kFailure, "nowhere does not exist"},
    {"InfoFolderWithoutConfig", {"info", "."}, kFailure, "config.json"},
};

INSTANTIATE_TEST_SUITE_P(All, WrongArguments, ::testing::ValuesIn(kWrong),
                         [](const auto& test) { return test.param.name; });

TEST_F(CliTest, ADeviceThatIsNotThereIsNamed) {
  ASSERT_EQ(run({"info", "--json", "info.json"}).exit_code, 0);
  if (!json("info.json")["gpu"].contains("unavailable")) GTEST_SKIP() << "there is a GPU";
  expect_refusal(run({"generate", "x", "--device", "cuda"}), kFailure, "cuda");
}

TEST_F(CliTest, NoModelListsWhatWasTried) {
  models_ = path("nothing").string();
  expect_refusal(run({"generate", "x"}), kFailure, models_ + "/emoji-flux");
}

struct WrongConfig {
  std::string name;
  std::string text;
  int code;
  std::string message;
};

void PrintTo(const WrongConfig& wrong, std::ostream* out) {
  *out << wrong.name;
}

class WrongConfigs : public CliTest, public ::testing::WithParamInterface<WrongConfig> {};

TEST_P(WrongConfigs, AreRefused) {
  write("config.json", GetParam().text);
  const Finished f = run({"generate", "x", "--config", "config.json"});
  expect_refusal(f, GetParam().code, GetParam().message);
  EXPECT_EQ(files(), std::vector<std::string>{"config.json"});
}

const WrongConfig kWrongConfigs[] = {
    {"Syntax", R"({"strategy": )", kFailure, "config.json"},
    {"NotAnObject", R"([1])", kUsage, "wanted an object"},
    {"UnknownField", R"({"tau_q": 0.5})", kUsage, "'tau_q'"},
    {"UnknownStrategy", R"({"strategy": "none"})", kUsage, "no strategy 'none'"},
    {"UnknownPreset", R"({"preset": "none"})", kUsage, "no preset 'none'"},
    {"UnknownOption", R"({"options": {"speed": 1}})", kUsage, "no option 'speed'"},
    {"StrategyType", R"({"strategy": 1})", kUsage, "'strategy'"},
    {"OptionsType", R"({"options": [1]})", kUsage, "'options'"},
    {"OptionType", R"({"options": {"tau_q": [1]}})", kUsage, "'tau_q'"},
    {"TruthForNumber", R"({"options": {"tau_q": true}})", kUsage, "tau_q is 'true'"},
    {"NumberForTruth", R"({"options": {"prime": 0.5}})", kUsage, "prime is '0.5'"},
    {"FractionForWhole", R"({"options": {"order": 1.5}})", kUsage, "order is '1.5'"},
    {"OutOfRange", R"({"options": {"S_q": -0.1}})", kUsage, "S_q is '-0.1'"},
};

INSTANTIATE_TEST_SUITE_P(All, WrongConfigs, ::testing::ValuesIn(kWrongConfigs),
                         [](const auto& test) { return test.param.name; });

// The bundled model with one file replaced.
class BrokenModel : public CliTest {
 protected:
  void SetUp() override {
    CliTest::SetUp();
    const fs::path model = fs::path(models_) / "emoji-flux";
    for (const auto& entry : fs::recursive_directory_iterator(model)) {
      const fs::path to = path("model") / fs::relative(entry.path(), model);
      fs::create_directories(to.parent_path());
      if (entry.is_regular_file()) fs::create_symlink(entry.path(), to);
    }
  }
  std::string content(const std::string& name) const { return file("model/" + name); }
  void replace(const std::string& name, const std::string& text) const {
    fs::remove(path("model/" + name));
    write("model/" + name, text);
  }
  void expect_broken(const std::string& message) {
    expect_refusal(run({"generate", "x", "--model", "model"}), kFailure, message);
    EXPECT_EQ(files(), std::vector<std::string>{"model"});
  }

  const std::string weights_ = "transformer/diffusion_pytorch_model.safetensors";
};

TEST_F(BrokenModel, TruncatedWeights) {
  replace(weights_, content(weights_).substr(0, 100000));
  expect_broken("diffusion_pytorch_model.safetensors");
}

TEST_F(BrokenModel, EmptyWeights) {
  replace(weights_, "");
  expect_broken("diffusion_pytorch_model.safetensors");
}

TEST_F(BrokenModel, NoWeights) {
  fs::remove(path("model/" + weights_));
  expect_broken("diffusion_pytorch_model.safetensors");
}

TEST_F(BrokenModel, ShapesOfAnotherConfig) {
  nlohmann::json config = nlohmann::json::parse(content("transformer/config.json"));
  config["num_attention_heads"] = 7;
  replace("transformer/config.json", config.dump());
  expect_broken("of another shape (");
}

TEST_F(BrokenModel, ImpossibleConfig) {
  nlohmann::json config = nlohmann::json::parse(content("transformer/config.json"));
  config["attention_head_dim"] = 65;
  replace("transformer/config.json", config.dump());
  expect_broken("attention_head_dim is 65");
}

TEST_F(BrokenModel, AnotherPipeline) {
  replace("model_index.json", R"({"_class_name": "WanPipeline"})");
  expect_broken("WanPipeline");
}

TEST_F(BrokenModel, BrokenIndex) {
  replace("model_index.json", "{");
  expect_broken("model_index.json");
}

TEST_F(BrokenModel, BrokenTokenizer) {
  replace("tokenizer/spiece.model", "nonsense");
  expect_broken("spiece.model");
}

// All of the weights, with a NaN in one of them.
TEST_F(BrokenModel, WeightThatIsNoNumber) {
  const auto original = SafetensorsFile::open(path("model/" + weights_).string());
  ASSERT_TRUE(original.ok()) << original.status().to_string();
  const std::string victim = "single_transformer_blocks.2.attn.to_k.weight";
  std::list<std::vector<uint8_t>> values;
  std::vector<TensorToWrite> tensors;
  for (const TensorEntry& t : original->tensors()) {
    values.push_back(*read_tensor(t));
    if (t.name == victim) values.back()[2 * 5 + 1] = 0x7e;  // element 5 of f16 becomes a NaN
    tensors.push_back({t.name, t.dtype, t.shape, values.back()});
  }
  ASSERT_NE(original->find(victim), nullptr);
  const fs::path target = path("model/" + weights_);
  fs::remove(target);
  const Status written = write_safetensors(target.string(), tensors);
  ASSERT_TRUE(written.ok()) << written.to_string();
  expect_broken(victim + " holds a NaN or infinity at element 5");
}

}  // namespace
}  // namespace flashomni::tools
