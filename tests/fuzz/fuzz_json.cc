// SPDX-License-Identifier: Apache-2.0
//
// JSON as every config reader sees it: the parser with its limits, and typed fields with defaults.
#include "io/json.h"
#include "tests/fuzz/fuzz_target.h"

namespace {

int depth(const nlohmann::json& value) {
  int deepest = 0;
  if (value.is_structured()) {
    for (const nlohmann::json& child : value) deepest = std::max(deepest, depth(child));
    return deepest + 1;
  }
  return 0;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using namespace flashomni;
  const std::string_view text(reinterpret_cast<const char*>(bytes), size);
  const JsonLimits limits{.max_depth = 16, .max_bytes = 4096, .unique_keys = true};
  const auto json = parse_json(text, "fuzz", limits);
  if (!json.ok()) {
    FUZZ_CHECK(!json.status().message().empty());
    return 0;
  }
  FUZZ_CHECK(size <= limits.max_bytes && depth(*json) <= limits.max_depth);
  // What was read can be written and read again.
  const auto again = parse_json(json_text(*json), "again", {});
  FUZZ_CHECK(again.ok() && *again == *json);

  JsonFields fields(*json, "fuzz");
  const int64_t layers = fields.integer("num_layers", 19, 0, 1000);
  const double scale = fields.number("guidance_scale", 3.5, 0, 1000);
  FUZZ_CHECK(layers >= 0 && layers <= 1000 && scale >= 0 && scale <= 1000);
  (void)fields.boolean("guidance_embeds", false);
  (void)fields.text("_class_name", "");
  (void)fields.integers("axes_dims_rope", {16, 56, 56});
  (void)fields.numbers("latents_mean", {});
  (void)fields.texts("names", {});
  fields.require("_class_name");
  fields.forbid_unread();
  FUZZ_CHECK(fields.status().ok() || !fields.status().message().empty());
  return 0;
}
