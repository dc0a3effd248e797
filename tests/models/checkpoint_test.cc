// SPDX-License-Identifier: Apache-2.0
//
// Everything that is wrong with the tensors of a checkpoint is told in one message, whatever model
// loads it, before any of them is loaded.
#include "models/checkpoint.h"

#include <gtest/gtest.h>

#include "models/flux/transformer.h"
#include "models/hunyuan_video/transformer.h"
#include "models/wan/transformer.h"
#include "tests/models/changed_checkpoint.h"
#include "tests/models/fixture.h"
#include "tests/testkit/temp_dir.h"

namespace flashomni {
namespace {

StoredTensor& named(Tensors& tensors, const std::string& name) {
  const auto it = std::find_if(tensors.begin(), tensors.end(),
                               [&](const StoredTensor& t) { return t.name == name; });
  EXPECT_NE(it, tensors.end()) << name;
  return *it;
}
void remove(Tensors& tensors, const std::string& name) {
  std::erase_if(tensors, [&](const StoredTensor& t) { return t.name == name; });
}
void add(Tensors& tensors, const std::string& name) {
  tensors.push_back({name, StoredDType::kF32, {2}, std::vector<uint8_t>(8)});
}

// The message of loading the changed checkpoint, without the folder in front; empty if it loads.
std::string load_message(const std::string& fixture, const Change& change,
                         std::vector<std::string>* unused = nullptr) {
  const testkit::TempDir dir;
  put_changed(fixture, dir.path(), change);
  const auto backend = std::move(*make_backend("cpu", {.threads = 1}));
  const auto load = [&](auto&& model) {
    if (!model.ok()) return model.status();
    if (unused) *unused = (*model)->unused_tensors();
    return ok_status();
  };
  Status s;
  if (fixture.starts_with("flux")) {
    s = load(flux::FluxTransformer::load(*backend, dir.path()));
  } else if (fixture.starts_with("wan")) {
    s = load(wan::WanTransformer::load(*backend, dir.path()));
  } else {
    s = load(hunyuan_video::HunyuanVideoTransformer::load(*backend, dir.path()));
  }
  if (s.ok()) return "";
  EXPECT_EQ(s.code(), StatusCode::kCorruptFile);
  const std::string front = dir.path() + ": the weights cannot be loaded, tensors are wrong: ";
  EXPECT_TRUE(s.message().starts_with(front)) << s.message();
  return s.message().substr(std::min(front.size(), s.message().size()));
}

struct Case {
  const char* what;
  const char* fixture;
  Change change;
  const char* message;
};

TEST(CheckpointProblems, AreToldAllAtOnce) {
  const Case cases[] = {
      {"one is missing", "flux_dev", [](Tensors& t) { remove(t, "proj_out.bias"); },
       "1 missing (proj_out.bias)"},
      {"one of every kind", "wan",
       [](Tensors& t) {
         remove(t, "blocks.1.attn2.norm_k.weight");
         StoredTensor& table = named(t, "blocks.0.scale_shift_table");
         table.shape = {6, table.shape[2]};
         StoredTensor& bias = named(t, "proj_out.bias");
         bias.dtype = StoredDType::kI32;
         add(t, "blocks.1.attn2.norm_added_q.weight");
       },
       "1 missing (blocks.1.attn2.norm_k.weight), 1 of another shape (blocks.0.scale_shift_table "
       "[6,24], wanted [1,6,24]), 1 of a type that cannot be loaded (proj_out.bias I32), 1 that "
       "the "
       "model does not have (blocks.1.attn2.norm_added_q.weight)"},
      {"renamed: missing and unexpected", "hunyuan_video",
       [](Tensors& t) {
         for (const char* part : {"weight", "bias"}) {
           named(t, std::string("x_embedder.proj.") + part).name = std::string("img_in.") + part;
         }
       },
       "2 missing (x_embedder.proj.weight, x_embedder.proj.bias), 2 that the model does not have "
       "(img_in.bias, img_in.weight)"},
      {"the transposed one of two", "flux_dev",
       [](Tensors& t) {
         std::swap(named(t, "x_embedder.weight").shape[0], named(t, "x_embedder.weight").shape[1]);
         named(t, "norm_out.linear.bias").shape = {2, 32};
       },
       "2 of another shape (x_embedder.weight [4,32], wanted [32,4], norm_out.linear.bias [2,32], "
       "wanted [64])"},
      {"a name that would disturb a terminal", "wan",
       [](Tensors& t) {
         remove(t, "proj_out.bias");
         add(t, "\x1b[2Jx");
       },
       "1 missing (proj_out.bias), 1 that the model does not have (\\x1b[2Jx)"},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(load_message(c.fixture, c.change), c.message) << c.what;
  }
}

// No message grows with the checkpoint: ten names of a kind, and how many there are besides.
TEST(CheckpointProblems, ListsAreCut) {
  const std::string message = load_message("flux_dev", [](Tensors& t) {
    std::erase_if(t, [](const StoredTensor& one) {
      return one.name.starts_with("transformer_blocks.") || one.name == "proj_out.bias";
    });
  });
  EXPECT_TRUE(message.starts_with("65 missing (transformer_blocks.0.norm1.linear.weight, "))
      << message;
  EXPECT_TRUE(message.ends_with(" and 55 more)")) << message;
  EXPECT_EQ(std::count(message.begin(), message.end(), ','), 9);
}

// Tensors that nothing asks for are no obstacle; they are listed.
TEST(CheckpointProblems, UnexpectedTensorsAreLeftOut) {
  for (const char* fixture : {"flux_dev", "wan", "hunyuan_video"}) {
    std::vector<std::string> unused;
    EXPECT_EQ(load_message(
                  fixture, [](Tensors& t) { add(t, "teacher.weight"); }, &unused),
              "");
    EXPECT_EQ(unused, std::vector<std::string>{"teacher.weight"}) << fixture;
  }
}

}  // namespace
}  // namespace flashomni
