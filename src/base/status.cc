// SPDX-License-Identifier: Apache-2.0
#include "flashomni/status.h"

namespace flashomni {

const char* status_code_name(StatusCode code) {
  switch (code) {
    case StatusCode::kOk:
      return "ok";
    case StatusCode::kInvalidArgument:
      return "invalid_argument";
    case StatusCode::kUnsupported:
      return "unsupported";
    case StatusCode::kNotFound:
      return "not_found";
    case StatusCode::kCorruptFile:
      return "corrupt_file";
    case StatusCode::kOutOfMemory:
      return "out_of_memory";
    case StatusCode::kIoError:
      return "io_error";
    case StatusCode::kDeviceError:
      return "device_error";
    case StatusCode::kCancelled:
      return "cancelled";
    case StatusCode::kInternal:
      return "internal";
  }
  return "unknown";
}

std::string Status::to_string() const {
  if (ok()) return "ok";
  return std::string(status_code_name(code_)) + ": " + message_;
}

}  // namespace flashomni
