#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks that every #include points down the layers of docs/architecture.md.

    base <- core <- {strategies, reference, cpu, cuda};  base <- io;
    {core, io} <- models <- pipelines <- reports <- tools

The link lines in CMake say the same, but static libraries share one include path, so a wrong
include would still compile. Headers of other projects are confined in the same table: intrinsics to
the CPU backend, CUDA to the CUDA backend, torch to python/, and so on; one that is listed nowhere is
refused, so that a new dependency is a decision and not an accident.

`--self-test` proves that each rule can fail.
"""

import pathlib
import re
import sys
from dataclasses import dataclass

import repo_files

SOURCE_SUFFIXES = {".h", ".cc", ".cpp", ".cu", ".cuh", ".inc"}
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"\n]+)[>"]', re.MULTILINE)

# Our own layers, by the first part of the include path. "flashomni" is include/flashomni.
OWN = {
    "flashomni", "base", "core", "strategies", "reference", "cpu", "cuda", "io", "models",
    "pipelines", "reports", "tools", "tests", "bench", "python",
}  # fmt: skip

# Other people's headers, by the name that the rules below use for them.
GROUPS = {
    "simd": r"hwy/.*|immintrin\.h|[a-z]+mmintrin\.h|x86intrin\.h|cpuid\.h|arm_neon\.h|arm_sve\.h",
    "cuda": r"cuda\.h|cuda[_A-Z].*|cu(blas|dnn|rand|solver)\w*\.h|cub/.*|nv\w*\.h|nvtx3/.*|nccl\.h"
    r"|mma\.h|vector_types\.h|driver_types\.h|cute/.*|cutlass/.*",
    "torch": r"torch/.*|ATen/.*|c10/.*|pybind11/.*|Python\.h",
    "json": r"nlohmann/.*",
    "pictures": r"png\.h|zlib\.h|webp/.*|jpeglib\.h|jerror\.h",
    "tokenizer": r"sentencepiece.*\.h",
    "flags": r"CLI/.*",
    "gtest": r"gtest/.*|gmock/.*",
    "posix": r"sys/[a-z]+\.h|(unistd|fcntl|sched|signal|pthread|dirent|termios|spawn|poll|dlfcn)\.h",
    "std": r"[a-z_]+|(std(io|lib|int|def|bool|arg)|string|math|errno|time|limits|float|assert)\.h",
}
GROUPS = {name: re.compile(pattern) for name, pattern in GROUPS.items()}


@dataclass(frozen=True)
class Rule:
    """What the files below one path may include."""

    path: str
    own: frozenset
    others: frozenset


def rule(path, own, others=""):
    return Rule(path, frozenset(own.split()), frozenset(others.split()) | {"std"})


# The first rule whose path is a prefix of the file's path holds.
RULES = [
    rule("include/flashomni/", "flashomni"),
    # The one place that knows which backends this build has.
    rule("src/backends.cc", "flashomni cpu/backend.h cuda/backend.h"),
    rule("src/base/", "base flashomni", "posix"),
    rule("src/core/", "core base flashomni", "posix"),
    rule("src/strategies/", "strategies core base flashomni"),
    # The oracle shares no code with what it judges.
    rule("src/reference/", "reference flashomni"),
    rule("src/cpu/", "cpu core base flashomni", "simd posix"),
    rule("src/cuda/", "cuda core base flashomni", "cuda posix"),
    rule("src/io/", "io base flashomni", "json pictures tokenizer posix"),
    # Models reach compute only through the public backend table and the engine.
    rule("src/models/", "models io base flashomni", "json"),
    rule("src/pipelines/", "pipelines models io base flashomni", "json"),
    rule("src/reports/", "reports pipelines io base flashomni", "json"),
    rule("tools/", "tools reports pipelines models io core base flashomni reference", "flags json posix"),
    rule("bench/cuda/", "bench cuda core base flashomni reference", "cuda posix"),
    rule("bench/", "bench pipelines models io base flashomni reference", "flags json posix cuda"),
    rule("tests/cpu/", " ".join(OWN - {"tools", "bench", "cuda"}), "gtest simd posix"),
    rule("tests/cuda/", " ".join(OWN - {"tools", "bench", "cpu"}), "gtest cuda posix"),
    rule("tests/cuda_host/", " ".join(OWN - {"tools", "bench", "cpu"}), "gtest cuda posix"),
    rule("tests/io/", "io base flashomni tests", "gtest json pictures posix"),
    rule("tests/", " ".join(OWN - {"bench", "cuda"}), "gtest json posix"),
    rule("examples/", "flashomni"),
    # The one place that knows torch, and only its seam does.
    rule("python/csrc/torch/", "python flashomni base cuda/device_memory.h", "torch cuda"),
    rule("python/", "python reports pipelines io core base flashomni", "torch json"),
]


def group_of(name):
    return next((g for g, pattern in GROUPS.items() if pattern.fullmatch(name)), None)


def violations(path, text):
    """Every wrong include of one file, as "path:line: what and why"."""
    found = next((r for r in RULES if path.startswith(r.path)), None)
    problems = []
    for match in INCLUDE.finditer(text):
        quote, name = match.groups()
        why = refusal(found, path, quote, name)
        if why:
            line = text.count("\n", 0, match.start(2)) + 1
            problems.append(f"{path}:{line}: includes {name}: {why}")
    return problems


def refusal(found, path, quote, name):
    """Why `path`, under rule `found`, may not include `name`; empty if it may."""
    if found is None:
        return "no layering rule covers this folder; add one to scripts/check_layering.py"
    where = found.path
    if ".." in name.split("/"):
        return "wanted a path from the root of the include folder, not one with .."
    first = name.split("/")[0]
    if "/" in name and first in OWN:
        if quote == "<" and where != "examples/":
            return "wanted quotes around a header of this project"
        if first in found.own or name in found.own:
            return ""
        allowed = ", ".join(sorted(found.own))
        return f"{where} may include {allowed} and nothing else of this project"
    group = group_of(name)
    if group is None:
        if quote == '"':
            return "wanted the full path of a header of this project, such as base/bits.h"
        return "a header that no rule knows; add it to a group in scripts/check_layering.py"
    if group in found.others:
        return ""
    return f"headers of the group '{group}' are not for {where}"


# (file, include line, allowed?). Every rule has at least one of both kinds; main() checks that too.
SELF_TEST = [
    ("include/flashomni/a.h", "<vector>", True),
    ("include/flashomni/a.h", '"flashomni/status.h"', True),
    ("include/flashomni/a.h", '"base/bits.h"', False),
    ("include/flashomni/a.h", "<unistd.h>", False),
    ("include/flashomni/a.h", "<cuda_runtime.h>", False),
    ("src/backends.cc", '"cpu/backend.h"', True),
    ("src/backends.cc", '"cpu/kernel_table.h"', False),
    ("src/base/a.cc", '"base/bits.h"', True),
    ("src/base/a.cc", "<sched.h>", True),
    ("src/base/a.cc", '"core/plan.h"', False),
    ("src/core/a.cc", '"base/bits.h"', True),
    ("src/core/a.cc", '"io/json.h"', False),
    ("src/core/a.cc", '"cpu/backend.h"', False),
    ("src/core/a.cc", '"tests/testkit/compare.h"', False),
    ("src/strategies/a.cc", '"core/plan.h"', True),
    ("src/strategies/a.cc", '"reference/taylor.h"', False),
    ("src/strategies/a.cc", "<immintrin.h>", False),
    ("src/reference/a.cc", '"reference/taylor.h"', True),
    ("src/reference/a.cc", '"core/plan.h"', False),
    ("src/reference/a.cc", '"base/bits.h"', False),
    ("src/reference/a.cc", '"cpu/backend.h"', False),
    ("src/cpu/a.cc", '"hwy/highway.h"', True),
    ("src/cpu/a.cc", "<immintrin.h>", True),
    ("src/cpu/a.cc", '"core/plan.h"', True),
    ("src/cpu/a.cc", '"cuda/backend.h"', False),
    ("src/cpu/a.cc", '"reference/taylor.h"', False),
    ("src/cpu/a.cc", '"strategies/options.h"', False),
    ("src/cuda/a.cc", "<cuda_runtime.h>", True),
    ("src/cuda/kernels/sm90/a.cuh", "<cute/tensor.hpp>", True),
    ("src/cuda/a.cc", '"cpu/backend.h"', False),
    ("src/cuda/a.cc", "<torch/extension.h>", False),
    ("src/io/a.cc", "<nlohmann/json.hpp>", True),
    ("src/io/a.cc", "<png.h>", True),
    ("src/io/a.cc", '"core/plan.h"', False),
    ("src/io/a.cc", "<CLI/CLI.hpp>", False),
    ("src/models/a.cc", '"io/json.h"', True),
    ("src/models/a.cc", '"flashomni/engine.h"', True),
    ("src/models/a.cc", '"cpu/backend.h"', False),
    ("src/models/a.cc", '"core/plan.h"', False),
    ("src/models/a.cc", "<cuda_runtime.h>", False),
    ("src/models/a.cc", '"pipelines/noise.h"', False),
    ("src/pipelines/a.cc", '"models/tensor.h"', True),
    ("src/pipelines/a.cc", '"tools/table.h"', False),
    ("src/pipelines/a.cc", "<png.h>", False),
    ("src/pipelines/a.cc", '"reports/html.h"', False),
    ("src/reports/a.cc", '"pipelines/run_json.h"', True),
    ("src/reports/a.cc", '"tools/table.h"', False),
    ("tools/a.cc", "<CLI/CLI.hpp>", True),
    ("tools/a.cc", '"pipelines/noise.h"', True),
    ("tools/a.cc", '"cpu/backend.h"', False),
    ("tools/a.cc", '"tests/testkit/compare.h"', False),
    ("bench/a.cc", '"flashomni/backend.h"', True),
    ("bench/a.cc", '"cpu/kernel_table.h"', False),
    ("tests/cpu/a_test.cc", '"cpu/kernel_table.h"', True),
    ("tests/cpu/a_test.cc", "<gtest/gtest.h>", True),
    ("tests/cpu/a_test.cc", '"cuda/backend.h"', False),
    ("tests/cuda/a_test.cc", '"cuda/backend.h"', True),
    ("tests/cuda/a_test.cc", '"cpu/backend.h"', False),
    ("tests/cuda_host/a_test.cc", '"cuda/config.h"', True),
    ("bench/cuda/a.cu", '"cuda/gemm_q.h"', True),
    ("bench/cuda/a.cu", '"cpu/backend.h"', False),
    ("bench/a.cc", '"cuda/gemm_q.h"', False),
    ("tests/cuda_host/a_test.cc", '"cpu/backend.h"', False),
    ("tests/io/a_test.cc", '"io/json.h"', True),
    ("tests/io/a_test.cc", "<jpeglib.h>", True),
    ("tests/io/a_test.cc", "<cuda_runtime.h>", False),
    ("tests/core/a_test.cc", '"core/plan.h"', True),
    ("tests/core/a_test.cc", "<immintrin.h>", False),
    ("tests/core/a_test.cc", "<png.h>", False),
    ("examples/a.cc", "<flashomni/backend.h>", True),
    ("examples/a.cc", '"core/plan.h"', False),
    ("python/csrc/torch/a.cc", "<torch/library.h>", True),
    ("python/csrc/torch/a.cc", '"python/csrc/engine/session.h"', True),
    ("python/csrc/torch/a.cc", '"pipelines/run_json.h"', False),
    ("python/csrc/torch/a.cc", '"cuda/device_memory.h"', True),
    ("python/csrc/torch/a.cc", '"cuda/backend.h"', False),
    ("python/a.cc", "<pybind11/pybind11.h>", True),
    ("python/a.cc", '"pipelines/run_json.h"', True),
    ("python/a.cc", '"cpu/backend.h"', False),
    ("src/io/a.cc", "<torch/torch.h>", False),
    # Rules that hold everywhere.
    ("src/core/a.cc", '"plan.h"', False),
    ("src/core/a.cc", '"../base/bits.h"', False),
    ("src/core/a.cc", "<base/bits.h>", False),
    ("src/core/a.cc", "<boost/any.hpp>", False),
    ("src/newlayer/a.cc", "<vector>", False),
]


def self_test():
    problems = []
    for path, include, allowed in SELF_TEST:
        text = f"// first line\n#include {include}\n"
        seen = violations(path, text)
        if bool(seen) == allowed:
            wanted = "accepted" if allowed else "refused"
            problems.append(f"self-test: {path} including {include}: wanted it {wanted}; {seen}")
        elif seen and not seen[0].startswith(f"{path}:2: "):
            problems.append(f"self-test: wanted line 2 to be named, saw {seen[0]}")
    for r in RULES:
        verdicts = {
            allowed
            for path, _, allowed in SELF_TEST
            if next((x for x in RULES if path.startswith(x.path)), None) is r
        }
        if verdicts != {True, False}:
            problems.append(f"self-test: {r.path}: wanted a case that passes and one that fails")
    return repo_files.report("layering self-test", problems, f"{len(SELF_TEST)} cases")


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    if sys.argv[1:]:
        sys.exit("usage: check_layering.py [--self-test]")
    problems = []
    sources = [p for p in repo_files.tracked_files() if p.suffix in SOURCE_SUFFIXES]
    for path in sources:
        text = (repo_files.ROOT / path).read_text(encoding="utf-8")
        problems += violations(str(pathlib.PurePosixPath(path)), text)
    return repo_files.report("layering", problems, f"{len(sources)} files")


if __name__ == "__main__":
    sys.exit(main())
