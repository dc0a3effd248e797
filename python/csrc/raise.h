// SPDX-License-Identifier: Apache-2.0
//
// Where a Status becomes a Python exception: ValueError for a wrong argument, NotImplementedError
// for what this build, device or model cannot do, FileNotFoundError and so on for files,
// RuntimeError for the rest. The message is the library's.
#pragma once

#include <pybind11/pybind11.h>

#include <utility>

#include "flashomni/status.h"

namespace flashomni::python {

[[noreturn]] inline void raise(const Status& status) {
  PyObject* type = PyExc_RuntimeError;
  switch (status.code()) {
    case StatusCode::kInvalidArgument:
    case StatusCode::kCorruptFile:
      type = PyExc_ValueError;
      break;
    case StatusCode::kUnsupported:
      type = PyExc_NotImplementedError;
      break;
    case StatusCode::kNotFound:
      type = PyExc_LookupError;
      break;
    case StatusCode::kOutOfMemory:
      type = PyExc_MemoryError;
      break;
    case StatusCode::kIoError:
      type = PyExc_OSError;
      break;
    default:
      break;
  }
  PyErr_SetString(type, status.message().c_str());
  throw pybind11::error_already_set();
}

inline void check(const Status& status) {
  if (!status.ok()) raise(status);
}

template <class T>
T take(Result<T> result) {
  if (!result.ok()) raise(result.status());
  return std::move(result).value();
}

}  // namespace flashomni::python
