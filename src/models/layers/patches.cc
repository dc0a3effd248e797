// SPDX-License-Identifier: Apache-2.0
#include "models/layers/patches.h"

#include <string>

namespace flashomni {
namespace {

Status check(size_t values, const LatentShape& s, const PatchSize& p) {
  if (s.frames < 1 || s.height < 1 || s.width < 1 || s.frames % p.frames != 0 ||
      s.height % p.height != 0 || s.width % p.width != 0) {
    auto text = [](int f, int h, int w) {
      return std::to_string(f) + "x" + std::to_string(h) + "x" + std::to_string(w);
    };
    return invalid_argument("latents of " + text(s.frames, s.height, s.width) +
                            " (frames, height, width), wanted multiples of " +
                            text(p.frames, p.height, p.width));
  }
  if (values != static_cast<size_t>(s.values())) {
    return invalid_argument("latents hold " + std::to_string(values) + " values, wanted " +
                            std::to_string(s.values()));
  }
  return ok_status();
}

// Calls visit(index in latents, index in tokens) for every value.
template <class Visit>
void for_each_value(const LatentShape& s, const PatchSize& p, Visit visit) {
  const int rows = s.height / p.height, cols = s.width / p.width;
  const int64_t patch = int64_t{p.frames} * p.height * p.width;
  int64_t i = 0;
  for (int c = 0; c < s.channels; ++c) {
    for (int f = 0; f < s.frames; ++f) {
      for (int y = 0; y < s.height; ++y) {
        for (int x = 0; x < s.width; ++x, ++i) {
          const int64_t token = (int64_t{f / p.frames} * rows + y / p.height) * cols + x / p.width;
          const int64_t inside =
              (int64_t{f % p.frames} * p.height + y % p.height) * p.width + x % p.width;
          visit(size_t(i), size_t((token * s.channels + c) * patch + inside));
        }
      }
    }
  }
}

}  // namespace

Result<std::vector<float>> latents_to_tokens(std::span<const float> latents,
                                             const LatentShape& shape, const PatchSize& patch) {
  FO_RETURN_IF_ERROR(check(latents.size(), shape, patch));
  std::vector<float> out(latents.size());
  for_each_value(shape, patch, [&](size_t i, size_t j) { out[j] = latents[i]; });
  return out;
}

Result<std::vector<float>> tokens_to_latents(std::span<const float> tokens,
                                             const LatentShape& shape, const PatchSize& patch) {
  FO_RETURN_IF_ERROR(check(tokens.size(), shape, patch));
  std::vector<float> out(tokens.size());
  for_each_value(shape, patch, [&](size_t i, size_t j) { out[i] = tokens[j]; });
  return out;
}

}  // namespace flashomni
