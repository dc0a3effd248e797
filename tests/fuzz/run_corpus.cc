// SPDX-License-Identifier: Apache-2.0
//
// main() of a fuzz target in builds without libFuzzer: runs it over every file of the folders that
// are given, once as it is and once cut at every eighth of its length.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

#include "tests/fuzz/fuzz_target.h"

int main(int argc, char** argv) {
  namespace fs = std::filesystem;
  std::vector<fs::path> files;
  for (int i = 1; i < argc; ++i) {
    for (const auto& entry : fs::directory_iterator(argv[i])) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  for (const fs::path& file : files) {
    std::ifstream in(file, std::ios::binary);
    const std::vector<char> bytes(std::istreambuf_iterator<char>(in), {});
    for (size_t part = 0; part <= 8; ++part) {
      // An exact copy, so that a sanitizer sees a read behind its end.
      const std::vector<uint8_t> input(bytes.begin(),
                                       bytes.begin() + ptrdiff_t(bytes.size() * part / 8));
      LLVMFuzzerTestOneInput(input.data(), input.size());
    }
  }
  std::printf("%zu files\n", files.size());
  return files.empty() ? 1 : 0;  // an empty corpus tests nothing
}
