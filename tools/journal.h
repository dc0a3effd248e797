// SPDX-License-Identifier: Apache-2.0
//
// Finished work that outlives the process: a file of JSON lines that grows by one whole line after
// every run, so that a crash, a kill or a full disk costs the run that was under way and no other.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "flashomni/status.h"

namespace flashomni::tools {

class Journal {
 public:
  // Opens or makes `path`. The first line is the header: what all entries have in common. A file
  // that is there already must have an equal one (kInvalidArgument names the first field that
  // differs); its entries are read. The rest of a line that a crash cut off is dropped; any other
  // malformed line is kCorruptFile.
  static Result<Journal> open(const std::string& path, const nlohmann::json& header);

  Journal(Journal&& other) noexcept;
  Journal& operator=(Journal&&) = delete;
  ~Journal();

  // Of earlier processes and of this one, oldest first.
  const std::vector<nlohmann::json>& entries() const { return entries_; }
  // On disk when this returns.
  Status append(nlohmann::json entry);

 private:
  Journal() = default;
  Status write_line(const nlohmann::json& value);

  std::string path_;
  int fd_ = -1;
  std::vector<nlohmann::json> entries_;
};

}  // namespace flashomni::tools
