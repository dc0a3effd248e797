// SPDX-License-Identifier: Apache-2.0
//
// Binding of flashomni/symbols.h and of the CPU's attention over NumPy arrays. Words are uint64
// arrays in the layout of SymbolsView; python/flashomni/symbols.py gives them their Python face.
#include "python/csrc/numpy_symbols.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <cstring>
#include <string>
#include <vector>

#include "flashomni/backend.h"
#include "flashomni/symbols.h"
#include "python/csrc/engine/backends.h"
#include "python/csrc/raise.h"

namespace py = pybind11;

namespace flashomni::python {
namespace {

template <class T>
using Array = py::array_t<T, py::array::c_style | py::array::forcecast>;
using Shape = std::vector<py::ssize_t>;

// (batch, heads, q_tokens, kv_tokens, block_q, block_kv)
using GeometryTuple = std::tuple<int, int, int, int, int, int>;

SymbolGeometry geometry_of(const GeometryTuple& t) {
  SymbolGeometry g;
  std::tie(g.batch, g.heads, g.q_tokens, g.kv_tokens, g.block_q, g.block_kv) = t;
  check(g.validate());
  return g;
}

GeometryTuple tuple_of(const SymbolGeometry& g) {
  return {g.batch, g.heads, g.q_tokens, g.kv_tokens, g.block_q, g.block_kv};
}

template <class T>
Array<T> copied(const std::vector<T>& values, Shape shape) {
  Array<T> out(std::move(shape));
  std::memcpy(out.mutable_data(), values.data(), values.size() * sizeof(T));
  return out;
}
template <class T>
Array<T> copied(const std::vector<T>& values) {
  return copied(values, {static_cast<py::ssize_t>(values.size())});
}

template <class T>
std::vector<T> values_of(const Array<T>& array) {
  return {array.data(), array.data() + array.size()};
}

void want_size(const char* what, py::ssize_t seen, int64_t wanted) {
  if (seen == wanted) return;
  raise(invalid_argument(std::string(what) + " has " + std::to_string(seen) + " values, wanted " +
                         std::to_string(wanted)));
}

void put_words(std::span<uint64_t> to, const Array<uint64_t>& from, const char* what) {
  want_size(what, from.size(), static_cast<int64_t>(to.size()));
  std::memcpy(to.data(), from.data(), to.size_bytes());
}

SparseSymbols from_words(const GeometryTuple& geometry, const Array<uint64_t>& c,
                         const Array<uint64_t>& s) {
  SparseSymbols symbols(geometry_of(geometry));
  put_words(symbols.c_words(), c, "c");
  put_words(symbols.s_words(), s, "s");
  return symbols;
}

SparseSymbols from_mask_arrays(const GeometryTuple& geometry, const Array<uint8_t>& c,
                               const Array<uint8_t>& s) {
  return take(from_masks(geometry_of(geometry), {values_of(c), values_of(s)}));
}

py::tuple to_mask_arrays(const SparseSymbols& a) {
  const SymbolGeometry& g = a.geometry();
  const MaskSymbols m = to_masks(a);
  return py::make_tuple(copied(m.c, {g.batch, g.heads, g.num_q_blocks()}),
                        copied(m.s, {g.batch, g.heads, g.num_q_blocks(), g.num_kv_blocks()}));
}

// What Python knows of a geometry does not say where ragged blocks start.
SparseSymbols load_blocks_of_one_size(const std::string& path) {
  SparseSymbols symbols = take(load_symbols(path));
  if (symbols.geometry().ragged()) {
    raise(unsupported(path + ": its " + std::to_string(symbols.geometry().ragged_blocks) +
                      " blocks are ragged, wanted blocks of one size"));
  }
  return symbols;
}

py::dict counts_dict(const SymbolCounts& n) {
  py::dict d;
  d["rows"] = n.rows;
  d["active_rows"] = n.active_rows;
  d["pairs"] = n.pairs;
  d["active_pairs"] = n.active_pairs;
  return d;
}

template <class T>
TensorView view4(const Array<T>& array, const char* what) {
  if (array.ndim() != 4) {
    raise(invalid_argument(std::string(what) + " has " + std::to_string(array.ndim()) +
                           " dimensions, wanted [batch, tokens, heads, head_dim]"));
  }
  return TensorView::contiguous(const_cast<T*>(array.data()), DType::kF32,
                                {array.shape(0), array.shape(1), array.shape(2), array.shape(3)});
}

// softmax(q k^T * scale) v under symbols, on the CPU, in f32. Rows with S_c = 0 are those of
// `cached`, or 0 without it.
Array<float> numpy_attention(const Array<float>& q, const Array<float>& k, const Array<float>& v,
                             std::optional<SparseSymbols> symbols, float scale,
                             const std::optional<Array<float>>& cached) {
  AttentionParams p{.q = view4(q, "q"), .k = view4(k, "k"), .v = view4(v, "v")};
  Array<float> out(Shape{q.shape(0), q.shape(1), q.shape(2), q.shape(3)});
  if (cached) {
    const TensorView c = view4(*cached, "cached");
    want_size("cached", cached->size(), q.size());
    std::memcpy(out.mutable_data(), c.data, c.bytes());
  } else {
    std::memset(out.mutable_data(), 0, static_cast<size_t>(out.nbytes()));
  }
  p.out = view4(out, "out");
  p.scale = scale;
  const auto shared = take(shared_backend("cpu", 0));
  const py::gil_scoped_release without_gil;
  const std::scoped_lock lock(shared->mutex);
  Backend& backend = *shared->backend;
  std::vector<uint64_t> plan;
  if (symbols) {
    p.symbols = symbols->view();
    const size_t bytes = backend.plan_bytes(p.symbols.geometry);
    plan.resize((bytes + 7) / 8 + 1);
    p.plan = {plan.data(), plan.size() * sizeof(uint64_t)};
  }
  auto run = [&]() -> Status {
    FO_RETURN_IF_ERROR(backend.supports(p));
    if (p.symbols) {
      FO_RETURN_IF_ERROR(symbols->validate());
      FO_RETURN_IF_ERROR(backend.plan({}, {p.symbols, p.plan}));
    }
    FO_ASSIGN_OR_RETURN(const auto workspace,
                        backend.allocate(std::max<size_t>(1, backend.workspace_bytes(p))));
    return backend.attention({nullptr, workspace->data(), workspace->bytes()}, p);
  };
  const Status status = run();
  const py::gil_scoped_acquire with_gil;
  check(status);
  return out;
}

}  // namespace

void bind_symbols(py::module_& m) {
  py::class_<SparseSymbols>(m, "SparseSymbols", "Symbols that own their host memory.")
      .def(py::init([](const GeometryTuple& g) { return SparseSymbols(geometry_of(g)); }))
      .def_static("from_words", from_words)
      .def_static("from_masks", from_mask_arrays)
      .def_static(
          "from_index_lists",
          [](const GeometryTuple& g, const Array<int32_t>& offsets, const Array<int32_t>& columns) {
            return take(from_index_lists(geometry_of(g), {values_of(offsets), values_of(columns)}));
          })
      .def_static("from_flat",
                  [](const GeometryTuple& g, const Array<uint8_t>& c, const Array<int64_t>& co,
                     const Array<uint8_t>& s, const Array<int64_t>& so) {
                    return take(from_flat(geometry_of(g), {values_of(c), values_of(co),
                                                           values_of(s), values_of(so)}));
                  })
      .def_static("load", load_blocks_of_one_size)
      .def("save", [](const SparseSymbols& a, const std::string& p) { check(save_symbols(a, p)); })
      .def_property_readonly("geometry",
                             [](const SparseSymbols& a) { return tuple_of(a.geometry()); })
      .def("words",
           [](const SparseSymbols& a) {
             const SymbolGeometry& g = a.geometry();
             const std::vector<uint64_t> c(a.c_words().begin(), a.c_words().end());
             const std::vector<uint64_t> s(a.s_words().begin(), a.s_words().end());
             return py::make_tuple(copied(c, {g.batch, g.heads, g.c_words()}),
                                   copied(s, {g.batch, g.heads, g.num_q_blocks(), g.s_words()}));
           })
      .def("to_masks", to_mask_arrays)
      .def("to_index_lists",
           [](const SparseSymbols& a) {
             const IndexListSymbols l = to_index_lists(a);
             return py::make_tuple(copied(l.row_offsets), copied(l.columns));
           })
      .def("to_flat",
           [](const SparseSymbols& a) {
             const FlatSymbols f = to_flat(a);
             return py::make_tuple(copied(f.c), copied(f.c_offsets), copied(f.s),
                                   copied(f.s_offsets));
           })
      .def("counts", [](const SparseSymbols& a) { return counts_dict(a.counts()); })
      .def("validate", [](const SparseSymbols& a) { check(a.validate()); })
      .def("repaired",
           [](SparseSymbols a) {
             a.repair();
             return a;
           })
      .def("expand",
           [](const SparseSymbols& a, int bq, int bkv) { return take(symbols_expand(a, bq, bkv)); })
      .def("dilate", symbols_dilate)
      .def("invert", symbols_not)
      .def("intersect",
           [](const SparseSymbols& a, const SparseSymbols& b) { return take(symbols_and(a, b)); })
      .def("unite",
           [](const SparseSymbols& a, const SparseSymbols& b) { return take(symbols_or(a, b)); })
      .def("ascii",
           [](const SparseSymbols& a, int b, int h) {
             const SymbolGeometry& g = a.geometry();
             if (b < 0 || b >= g.batch || h < 0 || h >= g.heads) {
               raise(invalid_argument("batch " + std::to_string(b) + ", head " + std::to_string(h) +
                                      ", wanted below " + std::to_string(g.batch) + ", " +
                                      std::to_string(g.heads)));
             }
             return symbols_ascii(a, b, h);
           })
      .def("__eq__", [](const SparseSymbols& a, const SparseSymbols& b) { return a == b; });
  m.def("attention", numpy_attention, py::arg("q"), py::arg("k"), py::arg("v"), py::arg("symbols"),
        py::arg("scale"), py::arg("cached"));
}

}  // namespace flashomni::python
