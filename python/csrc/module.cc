// SPDX-License-Identifier: Apache-2.0
//
// The module flashomni._core: strategies, sessions, and (numpy_symbols.cc) symbols and attention on
// NumPy arrays. pybind11 rather than ctypes, because it checks types, carries arrays and turns
// errors into exceptions, and is needed at build time only. Torch is not known here.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "flashomni/version.h"
#include "io/json.h"
#include "pipelines/run_json.h"
#include "pipelines/strategy_config.h"
#include "python/csrc/engine/session.h"
#include "python/csrc/numpy_symbols.h"
#include "python/csrc/raise.h"
#include "reports/html.h"

namespace py = pybind11;

namespace flashomni::python {
namespace {

py::list strategies() {
  py::list out;
  for (const StrategyInfo& info : list_strategies()) {
    py::list options;
    for (const OptionInfo& o : info.options) {
      py::dict option;
      option["name"] = o.name;
      option["help"] = o.help;
      option["default"] = o.default_value;
      options.append(option);
    }
    py::dict d;
    d["name"] = info.name;
    d["summary"] = info.summary;
    d["options"] = options;
    d["presets"] = info.presets;
    out.append(d);
  }
  return out;
}

StrategyChoice choice_of(const std::string& text) {
  const nlohmann::json json = take(parse_json(text, "strategy"));
  return take(parse_strategy_choice(json, "strategy"));
}

std::string backend_info(const std::string& device) {
  return json_text(machine_json(take(shared_backend(device, 0))->backend->info()));
}

Segment segment_of(const std::string& name) {
  if (name == "all") return Segment::kAll;
  if (name == "text") return Segment::kText;
  if (name == "vision") return Segment::kVision;
  raise(invalid_argument("segment '" + name + "', wanted all, text or vision"));
}

using SiteTuple = std::pair<std::string, std::string>;
using LayerTuple = std::tuple<std::string, int, double, std::vector<SiteTuple>>;

// The session with its number, which operations of torch name it by.
struct SessionHandle {
  std::shared_ptr<Session> session;
  int64_t id = 0;
  SessionHandle(const std::string& device, int index, const std::string& strategy,
                const std::vector<LayerTuple>& layers) {
    SessionOptions options;
    options.strategy = choice_of(strategy);
    for (const auto& [name, width, other, sites] : layers) {
      LayerSpec spec{name, width, other, {}};
      for (const auto& [site, segment] : sites) spec.sites.push_back({site, segment_of(segment)});
      options.layers.push_back(std::move(spec));
    }
    session = std::make_shared<Session>(take(shared_backend(device, index)), std::move(options));
    id = register_session(session);
  }
  SessionHandle(const SessionHandle&) = delete;
  SessionHandle& operator=(const SessionHandle&) = delete;
  ~SessionHandle() { close(); }
  void close() {
    unregister_session(id);
    id = 0;
  }
};

py::list snapshots(const SessionHandle& h) {
  py::list out;
  for (const SymbolSnapshot& s : h.session->snapshots()) {
    py::dict d;
    d["step"] = s.step;
    d["layer"] = s.layer;
    d["symbols"] = s.symbols;
    out.append(d);
  }
  return out;
}

}  // namespace
}  // namespace flashomni::python

PYBIND11_MODULE(_core, m) {
  using namespace flashomni;          // NOLINT
  using namespace flashomni::python;  // NOLINT
  m.doc() = "FlashOmni's engine without torch.";
  m.attr("version") = FLASHOMNI_VERSION;
  bind_symbols(m);

  m.def("backends", backend_names);
  m.def("backend_info", backend_info);
  m.def("strategies", strategies);
  m.def("resolve_strategy", [](const std::string& choice, const std::string& family) {
    return json_text(to_json(take(resolve_strategy(choice_of(choice), family))));
  });
  m.def("read_strategy", [](const std::string& path) {
    return json_text(to_json(take(read_strategy_choice(path))));
  });

  py::class_<SessionHandle>(m, "Session")
      .def(py::init<const std::string&, int, const std::string&, const std::vector<LayerTuple>&>(),
           py::arg("device"), py::arg("index"), py::arg("strategy"), py::arg("layers"))
      .def_readonly("id", &SessionHandle::id)
      .def("close", &SessionHandle::close)
      .def("begin_run", [](SessionHandle& h, int steps) { check(h.session->begin_run(steps)); })
      .def("end_step", [](SessionHandle& h) { check(h.session->end_step()); })
      .def("end_run", [](SessionHandle& h) { check(h.session->end_run()); })
      .def_property_readonly("running", [](SessionHandle& h) { return h.session->running(); })
      .def(
          "set_run_options",
          [](SessionHandle& h, std::string q, std::string o, std::string degrade, bool keep) {
            check(
                h.session->set_run_options({std::move(q), std::move(o), std::move(degrade), keep}));
          },
          py::kw_only(), py::arg("dense_gemm_q"), py::arg("dense_gemm_o"), py::arg("no_degrade"),
          py::arg("keep_symbols"))
      .def("snapshots", snapshots)
      .def("report_json", [](SessionHandle& h) { return h.session->report_json(); })
      .def("report_html", [](SessionHandle& h) { return take(h.session->report_html()); });
  m.def("html_page", html::page, py::arg("title"), py::arg("body"));
  m.def("html_section", html::section, py::arg("title"), py::arg("body"));
  m.def("html_facts", html::facts, py::arg("rows"));
}
