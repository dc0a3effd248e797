#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Times one denoising step of FLUX.1-dev or HunyuanVideo in PyTorch, random bf16 weights, on a GPU.

The same architecture and sizes as `flashomni bench e2e --random-weights`: joint attention blocks as
diffusers writes them (modulations per block from the timestep embedding, QK-norm, rotary positions,
[attention | MLP] single blocks), attention through scaled_dot_product_attention with cuDNN, eager
and under torch.compile. Needs torch only.

    bench/peers_transformer.py --model flux.1-dev --width 2048 --height 2048 --json out.json

With --flashomni PROGRAM also, in turns with those: the parts of a step one by one (attention by cuDNN,
every linear layer by cuBLAS), whose sum no step can beat that uses them, and a dense step of PROGRAM.
"""
import argparse
import json
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

HEADS, HEAD_DIM = 24, 128
WIDTH = HEADS * HEAD_DIM
MODELS = {
    # double blocks, single blocks, text tokens, text first
    "flux.1-dev": (19, 38, 512, True),
    "hunyuan-video": (20, 40, 256, False),
}


def rotate(x, cos, sin):
    """Adjacent channel pairs of x [B, H, N, d] turned by the angles of cos, sin [N, d]."""
    real, imaginary = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack([-imaginary, real], dim=-1).flatten(-2)
    return (x.float() * cos + turned * sin).to(x.dtype)


class Modulation(nn.Module):
    def __init__(self, chunks):
        super().__init__()
        self.linear = nn.Linear(WIDTH, chunks * WIDTH)
        self.chunks = chunks

    def forward(self, temb):
        return self.linear(F.silu(temb))[:, None].chunk(self.chunks, dim=-1)


def modulate(x, shift, scale):
    return F.layer_norm(x, (WIDTH,), eps=1e-6) * (1 + scale) + shift


class Projections(nn.Module):
    """Q, K, V of one stream with their norms over a head."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.norm_q, self.norm_k = nn.RMSNorm(HEAD_DIM, 1e-6), nn.RMSNorm(HEAD_DIM, 1e-6)

    def forward(self, x):
        q, k, v = (w(x).unflatten(-1, (HEADS, HEAD_DIM)).transpose(1, 2)
                   for w in (self.q, self.k, self.v))
        return self.norm_q(q), self.norm_k(k), v


def attend(q, k, v, rope):
    return F.scaled_dot_product_attention(rotate(q, *rope), rotate(k, *rope), v).transpose(
        1, 2).flatten(2)


class Stream(nn.Module):
    def __init__(self):
        super().__init__()
        self.modulation = Modulation(6)
        self.projections = Projections()
        self.out = nn.Linear(WIDTH, WIDTH)
        self.ff_in, self.ff_out = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)


class DoubleBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.latents, self.text = Stream(), Stream()

    def forward(self, latents, text, temb, rope, text_first):
        streams = [(self.text, text), (self.latents, latents)]
        if not text_first:
            streams.reverse()
        chunks = [s.modulation(temb) for s, _ in streams]
        qkv = [s.projections(modulate(x, m[0], m[1])) for (s, x), m in zip(streams, chunks)]
        joined = attend(*(torch.cat(parts, dim=2) for parts in zip(*qkv)), rope)
        results = []
        for (s, x), m, a in zip(streams, chunks,
                                joined.split([x.shape[1] for _, x in streams], dim=1)):
            x = x + m[2] * s.out(a)
            h = s.ff_out(F.gelu(s.ff_in(modulate(x, m[3], m[4])), approximate="tanh"))
            results.append(x + m[5] * h)
        return results[::-1] if text_first else results


class SingleBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.modulation = Modulation(3)
        self.projections = Projections()
        self.mlp = nn.Linear(WIDTH, 4 * WIDTH)
        self.out = nn.Linear(5 * WIDTH, WIDTH)

    def forward(self, x, temb, rope):
        shift, scale, gate = self.modulation(temb)
        h = modulate(x, shift, scale)
        a = attend(*self.projections(h), rope)
        m = F.gelu(self.mlp(h), approximate="tanh")
        return x + gate * self.out(torch.cat([a, m], dim=2))


class Transformer(nn.Module):
    def __init__(self, doubles, singles):
        super().__init__()
        self.doubles = nn.ModuleList(DoubleBlock() for _ in range(doubles))
        self.singles = nn.ModuleList(SingleBlock() for _ in range(singles))

    def forward(self, latents, text, temb, rope, text_first):
        for block in self.doubles:
            latents, text = block(latents, text, temb, rope, text_first)
        x = torch.cat([text, latents] if text_first else [latents, text], dim=1)
        for block in self.singles:
            x = block(x, temb, rope)
        return x


def tokens_of(args):
    frames = (args.frames - 1) // 4 + 1
    return frames * (args.height // 16) * (args.width // 16)


@torch.no_grad()
def build(args):
    doubles, singles, text_tokens, text_first = MODELS[args.model]
    with torch.device("meta"):
        model = Transformer(args.layers or doubles, args.layers or singles)
    model = model.to(torch.bfloat16).to_empty(device="cuda").eval()
    generator = torch.Generator("cuda").manual_seed(0)
    for name, p in model.named_parameters():
        if p.dim() == 2:
            gain = 0.3 if "modulation" in name else 1.0
            p.normal_(0, gain * p.shape[1]**-0.5, generator=generator)
        elif "norm" in name:
            p.normal_(1, 0.1, generator=generator)
        else:
            p.normal_(0, 0.02, generator=generator)

    def normal(*shape):
        return torch.randn(*shape, device="cuda", dtype=torch.bfloat16, generator=generator)

    latents, text = normal(1, tokens_of(args), WIDTH), normal(1, text_tokens, WIDTH)
    angles = torch.rand(latents.shape[1] + text_tokens, HEAD_DIM // 2, device="cuda",
                        generator=generator) * 6.28
    angles = angles.repeat_interleave(2, dim=1)
    inputs = (latents, text, normal(1, WIDTH), (angles.cos(), angles.sin()), text_first)
    return model, inputs


@torch.no_grad()
def time_steps(model, inputs, steps):
    for _ in range(2):
        out = model(*inputs)
    if not torch.isfinite(out).all():
        sys.exit("the result holds NaN or infinity")
    milliseconds = []
    for _ in range(steps):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        model(*inputs)
        end.record()
        torch.cuda.synchronize()
        milliseconds.append(begin.elapsed_time(end))
    return milliseconds


@torch.no_grad()
def time_parts(model, inputs, repeats):
    """Milliseconds and calls a step of each part of different shape: {name: (ms of one call, calls)}."""
    doubles, singles = len(model.doubles), len(model.singles)
    latents, text = inputs[0].shape[1], inputs[1].shape[1]
    tokens = latents + text
    q, k, v = (torch.randn(1, HEADS, tokens, HEAD_DIM, device="cuda", dtype=torch.bfloat16) for _ in range(3))
    found = {"attention": (lambda: F.scaled_dot_product_attention(q, k, v), doubles + singles)}
    for rows in (latents, text):
        for features, outputs, calls in ((1, 3, doubles), (1, 1, doubles), (1, 4, doubles), (4, 1, doubles)):
            found |= linear_part(rows, features, outputs, calls)
    for features, outputs, calls in ((1, 7, singles), (5, 1, singles)):
        found |= linear_part(tokens, features, outputs, calls)
    out = {}
    for name, (call, calls) in found.items():
        for _ in range(2):
            call()
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(repeats):
            call()
        end.record()
        torch.cuda.synchronize()
        out[name] = (begin.elapsed_time(end) / repeats, calls)
    return out


def linear_part(rows, features, outputs, calls):
    """One linear layer with bias; features and outputs are multiples of the width."""
    make = {"device": "cuda", "dtype": torch.bfloat16}
    x, bias = torch.randn(rows, features * WIDTH, **make), torch.randn(outputs * WIDTH, **make)
    weight = torch.randn(outputs * WIDTH, features * WIDTH, **make) * (features * WIDTH)**-0.5
    return {f"linear {rows} x {features * WIDTH} x {outputs * WIDTH}": (lambda: F.linear(x, weight, bias), calls)}


def flashomni_step(args):
    """Milliseconds of dense steps of the program, as its own bench takes them."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "bench.json"
        command = [args.flashomni, "bench", "e2e", "--random-weights", "--device", "cuda", "--model", args.model,
                   "--width", args.width, "--height", args.height, "--frames", args.frames, "--steps", 4,
                   "--repeats", 1, "--warmup", 1, "--interval", 2, "--pattern", "s_s", "--trajectory-sparsity", 0.1,
                   "--profiled-steps", 0, "--quiet", "--json", path]
        if args.layers:
            command += ["--layers", args.layers]
        subprocess.run([str(c) for c in command], check=True)
        document = json.loads(path.read_text())
    [step] = [r for r in document["rows"] if r["op"] == "full step" and r["pattern"] == "dense"]
    return document, step["ms_median"]


def ours_beside_parts(args, model, inputs):
    """The program's dense step and the sum of a step's parts, in turns."""
    torch.cuda.empty_cache()
    parts, steps = [], []
    for _ in range(args.rounds):
        parts.append(time_parts(model, inputs, 5))
        torch.cuda.empty_cache()
        document, ms = flashomni_step(args)
        steps.append(ms)
    sums = [sum(ms * calls for ms, calls in p.values()) for p in parts]
    step, ceiling = statistics.median(steps), statistics.median(sums)
    print(f"parts alone: {ceiling:.1f} ms a step ({min(sums):.1f} to {max(sums):.1f}); flashomni {document['commit']}: "
          f"{step:.1f} ms ({min(steps):.1f} to {max(steps):.1f}), {100 * ceiling / step:.1f} % of that rate", flush=True)
    return {"parts": parts, "parts_ms": sums, "flashomni_commit": document["commit"], "flashomni_ms": steps,
            "share_of_ceiling": ceiling / step}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=MODELS, default="flux.1-dev")
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--height", type=int, default=1024)
    parser.add_argument("--frames", type=int, default=1)
    parser.add_argument("--layers", type=int, default=0, help="blocks of each kind; 0: all")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--flashomni", help="the program; also times the parts of a step")
    parser.add_argument("--rounds", type=int, default=2, help="of parts and program")
    parser.add_argument("--json")
    args = parser.parse_args()
    model, inputs = build(args)
    rows = []
    with sdpa_kernel([SDPBackend.CUDNN_ATTENTION]):
        for way in ("eager", "compile"):
            if way == "compile":
                for blocks in (model.doubles, model.singles):
                    for block in blocks:
                        block.compile(fullgraph=True)
            ms = time_steps(model, inputs, args.steps)
            rows.append({"way": way, "ms_median": statistics.median(ms), "ms_samples": ms,
                         "peak_gb": torch.cuda.max_memory_allocated() / 1e9})
            print(f"{args.model} {inputs[0].shape[1] + inputs[1].shape[1]} tokens, {way}: "
                  f"{statistics.median(ms):.1f} ms a step "
                  f"({min(ms):.1f} to {max(ms):.1f})", flush=True)
        beside = ours_beside_parts(args, model, inputs) if args.flashomni else {}
    if args.json:
        with open(args.json, "w", encoding="utf-8") as f:
            # Folders of the machine that it ran on say nothing to others.
            words = [re.sub(r"^/.*/", "", word) for word in sys.argv[1:]]
            json.dump({"command": " ".join(["bench/peers_transformer.py", *words]),
                       "torch": torch.__version__, "cudnn": torch.backends.cudnn.version(),
                       "device": torch.cuda.get_device_name(),
                       "tokens": inputs[0].shape[1] + inputs[1].shape[1], "rows": rows} | beside, f, indent=1)


if __name__ == "__main__":
    main()
