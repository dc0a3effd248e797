// SPDX-License-Identifier: Apache-2.0
//
// Errors as values. Every function of the public API that can fail for a reason the user can cause
// returns a Status, or a Result<T> when it also returns something; the message names what was seen
// and what was wanted. Nothing in the library throws across this boundary.
#pragma once

#include <optional>
#include <string>
#include <utility>

namespace flashomni {

// What kind of failure it is. The numbers are stable: they appear in machine-readable output.
enum class StatusCode : int {
  kOk = 0,
  kInvalidArgument = 1,  // the caller asked for something that is wrong in itself
  kUnsupported = 2,      // well-formed, but this build, backend or model cannot do it
  kNotFound = 3,         // a file, tensor, strategy or option that does not exist
  kCorruptFile = 4,      // a file was read and is not what it claims to be
  kOutOfMemory = 5,
  kIoError = 6,  // the operating system refused a read or a write
  kDeviceError = 7,
  kCancelled = 8,  // the user asked to stop (Ctrl-C)
  kInternal = 9,   // a bug in this library
};

// Lower-case name of a code, for messages and JSON ("invalid_argument").
const char* status_code_name(StatusCode code);

class [[nodiscard]] Status {
 public:
  Status() = default;  // success
  Status(StatusCode code, std::string message) : code_(code), message_(std::move(message)) {}

  bool ok() const { return code_ == StatusCode::kOk; }
  StatusCode code() const { return code_; }
  const std::string& message() const { return message_; }
  // "invalid_argument: steps is 0, wanted 1..1000", or "ok".
  std::string to_string() const;

 private:
  StatusCode code_ = StatusCode::kOk;
  std::string message_;
};

inline Status ok_status() {
  return {};
}
inline Status invalid_argument(std::string m) {
  return {StatusCode::kInvalidArgument, std::move(m)};
}
inline Status unsupported(std::string m) {
  return {StatusCode::kUnsupported, std::move(m)};
}
inline Status not_found(std::string m) {
  return {StatusCode::kNotFound, std::move(m)};
}
inline Status corrupt_file(std::string m) {
  return {StatusCode::kCorruptFile, std::move(m)};
}
inline Status out_of_memory(std::string m) {
  return {StatusCode::kOutOfMemory, std::move(m)};
}
inline Status io_error(std::string m) {
  return {StatusCode::kIoError, std::move(m)};
}
inline Status cancelled(std::string m) {
  return {StatusCode::kCancelled, std::move(m)};
}
inline Status internal_error(std::string m) {
  return {StatusCode::kInternal, std::move(m)};
}

// A value or the Status that says why there is none. REQUIRES: ok() before value access.
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}         // NOLINT: implicit by design
  Result(Status status) : status_(std::move(status)) {  // NOLINT: implicit by design
    if (status_.ok()) status_ = internal_error("Result built from an ok Status without a value");
  }

  bool ok() const { return value_.has_value(); }
  const Status& status() const { return status_; }
  T& value() & { return *value_; }
  const T& value() const& { return *value_; }
  T&& value() && { return std::move(*value_); }
  T& operator*() & { return *value_; }
  const T& operator*() const& { return *value_; }
  T&& operator*() && { return std::move(*value_); }
  T* operator->() { return &*value_; }
  const T* operator->() const { return &*value_; }

 private:
  std::optional<T> value_;
  Status status_;
};

// Leaves the enclosing function with the Status of `expr` when it is not ok.
#define FO_RETURN_IF_ERROR(expr)             \
  do {                                       \
    ::flashomni::Status fo_status_ = (expr); \
    if (!fo_status_.ok()) return fo_status_; \
  } while (0)

#define FO_CONCAT_INNER(a, b) a##b
#define FO_CONCAT(a, b) FO_CONCAT_INNER(a, b)

// FO_ASSIGN_OR_RETURN(auto x, make_x()): x on success, leaves with the Status otherwise.
#define FO_ASSIGN_OR_RETURN(lhs, expr)                                                        \
  auto FO_CONCAT(fo_result_, __LINE__) = (expr);                                              \
  if (!FO_CONCAT(fo_result_, __LINE__).ok()) return FO_CONCAT(fo_result_, __LINE__).status(); \
  lhs = std::move(FO_CONCAT(fo_result_, __LINE__)).value()

}  // namespace flashomni
