#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes src/cuda/kernels/sm90/wgmma_shapes.cuh: one struct for each m64nNk16 shape in use.

The instruction takes its accumulators as N/2 separate operands, so that every N needs a text of its
own; nobody should write or read those by hand.
"""
import pathlib

SHAPES = (64, 96, 128, 192, 256)
TYPES = (("__nv_bfloat16", "bf16"), ("__half", "f16"))
TARGET = pathlib.Path(__file__).parent.parent / "src/cuda/kernels/sm90/wgmma_shapes.cuh"


def operands(first, count):
    return ", ".join(f"%{first + i}" for i in range(count))


def wrapped(items, indent):
    lines, line = [], ""
    for item in items:
        piece = item if not line else line + ", " + item
        if len(piece) + len(indent) > 96 and line:
            lines.append(line + ",")
            line = item
        else:
            line = piece
    lines.append(line)
    return ("\n" + indent).join(lines)


def quoted(text, indent):
    """`text` as adjacent string literals of at most 90 characters."""
    out, line = [], ""
    for word in text.split(" "):
        if line and len(line) + len(word) + len(indent) + 4 > 98:
            out.append(f'"{line} "')
            line = word
        else:
            line = word if not line else line + " " + word
    out.append(f'"{line}"')
    return ("\n" + indent).join(out)


def body(n, ptx, a_in_registers):
    regs = n // 2
    inputs = 4 if a_in_registers else 1
    a = "{" + operands(regs, 4) + "}" if a_in_registers else f"%{regs}"
    desc_b = regs + inputs
    scale = desc_b + 1
    transpose = scale + 1
    # scale-d, imm-scale-a, imm-scale-b, (imm-trans-a,) imm-trans-b
    tail = f"p, 1, 1, %{transpose};" if a_in_registers else f"p, 1, 1, 0, %{transpose};"
    text = (
        "{ .reg .pred p; setp.ne.b32 p, %" + str(scale) + ", 0; "
        f"wgmma.mma_async.sync.aligned.m64n{n}k16.f32.{ptx}.{ptx} "
        "{" + operands(0, regs) + f"}}, {a}, %{desc_b}, {tail} }}"
    )
    indent = " " * 8
    outs = wrapped([f'"+f"(d[{i}])' for i in range(regs)], indent + "  ")
    if a_in_registers:
        sig = "const uint32_t (&a)[4]"
        ins = '"r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3])'
    else:
        sig = "uint64_t desc_a"
        ins = '"l"(desc_a)'
    return f"""  template <int kTransposeB>
  static __device__ __forceinline__ void {'rs' if a_in_registers else 'ss'}(float (&d)[{regs}], {sig},
                                                uint64_t desc_b, int scale_d) {{
    asm volatile(
        {quoted(text, indent)}
        : {outs}
        : {ins}, "l"(desc_b), "r"(scale_d), "n"(kTransposeB));
  }}
"""


def main():
    out = [
        "// SPDX-License-Identifier: Apache-2.0",
        "//",
        "// Made by scripts/generate_wgmma.py. Warpgroup products d = a b (+ d when scale_d != 0) of one",
        "// k16 step: ss() takes a from shared memory, rs() from registers. kTransposeB = 1: b lies MN-major.",
        "#pragma once",
        "",
        "#include <cuda_bf16.h>",
        "#include <cuda_fp16.h>",
        "",
        "#include <cstdint>",
        "",
        "namespace flashomni::cuda {",
        "",
        "template <class T, int kN>",
        "struct Wgmma;",
        "",
        "// clang-format off",
    ]
    for ctype, ptx in TYPES:
        for n in SHAPES:
            out.append(f"template <>\nstruct Wgmma<{ctype}, {n}> {{")
            out.append(body(n, ptx, False) + "\n" + body(n, ptx, True) + "};\n")
    out += ["// clang-format on", "}  // namespace flashomni::cuda", ""]
    TARGET.write_text("\n".join(out))


if __name__ == "__main__":
    main()
