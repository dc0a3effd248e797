// SPDX-License-Identifier: Apache-2.0
//
// Symbols, their codecs and attention on NumPy arrays, for the module _core.
#pragma once

#include <pybind11/pybind11.h>

namespace flashomni::python {

void bind_symbols(pybind11::module_& module);

}  // namespace flashomni::python
