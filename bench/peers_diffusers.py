#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Whole diffusers transformers with random weights, eager: the pipeline's own dense run on every attention
backend that this machine has, flashomni.apply at zero sparsity and at a wanted trajectory sparsity, and
other accelerators where they can be imported. Seconds, sparsity and PSNR of the final latents against dense.

    bench/peers_diffusers.py --model flux --tokens 16.9k --out bench/results/DATE-h100-diffusers-flux.json
    bench/peers_diffusers.py --model hunyuan_video --tokens 33k --order 0 --out ...
    bench/peers_diffusers.py --tiny                                  (CPU, to see that it runs)

Symbols are random with exact counts (strategy `random`): weights are random too, so that only time says
anything here; PSNR shows that the runs belong together. Every contestant does the same Euler steps from the
same noise; rounds are interleaved, the median counts.
"""

import argparse
import contextlib
import datetime
import json
import math
import pathlib
import platform
import statistics
import sys
import time

import diffusers
import torch

import flashomni

BACKENDS = ["native", "_native_cudnn", "_native_flash", "_native_efficient", "flash", "_flash_3", "flex", "sage"]
WARM_STEPS = 2
# (height, width) of FLUX pictures and (frames, height, width) of videos, by tokens.
SIZES = {
    ("flux", "4.6k"): (1024, 1024),
    ("flux", "16.9k"): (2048, 2048),
    ("hunyuan_video", "33k"): (81, 480, 832),
    ("hunyuan_video", "16.9k"): (81, 352, 576),
}


def empty_model(cls, config, device, dtype):
    """Random weights made on the device: a 13 billion parameter model never lies in host memory."""
    with torch.device(device):
        before = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            model = cls(**config)
        finally:
            torch.set_default_dtype(before)
    return model.to(dtype).eval()


class Flux:
    def __init__(self, size, device, dtype, tiny):
        config = {"guidance_embeds": True}
        if tiny:
            config |= {"num_layers": 1, "num_single_layers": 2, "num_attention_heads": 2, "attention_head_dim": 64,
                       "axes_dims_rope": [8, 28, 28]}  # fmt: skip
        self.model = empty_model(diffusers.FluxTransformer2DModel, config, device, dtype)
        height, width = (n // 16 for n in size)
        text = 512 if not tiny else 64
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        ids = torch.stack([torch.zeros_like(rows), rows, columns], -1).reshape(-1, 3)
        make = {"device": device, "dtype": dtype}
        self.tokens = height * width + text
        self.noise = torch.randn(1, height * width, 64, **make)
        self.inputs = {
            "encoder_hidden_states": torch.randn(1, text, 4096, **make),
            "pooled_projections": torch.randn(1, 768, **make),
            "guidance": torch.full((1,), 3.5, **make),
            "img_ids": ids.to(**make),
            "txt_ids": torch.zeros(text, 3, **make),
        }

    def __call__(self, x, sigma):
        t = torch.full((1,), sigma, device=x.device, dtype=x.dtype)
        return self.model(hidden_states=x, timestep=t, return_dict=False, **self.inputs)[0]


class HunyuanVideo:
    def __init__(self, size, device, dtype, tiny):
        config = {}
        if tiny:
            config = {"num_layers": 1, "num_single_layers": 2, "num_attention_heads": 2, "attention_head_dim": 64,
                      "rope_axes_dim": (8, 28, 28)}  # fmt: skip
        self.model = empty_model(diffusers.HunyuanVideoTransformer3DModel, config, device, dtype)
        frames, height, width = (size[0] - 1) // 4 + 1, size[1] // 8, size[2] // 8
        make = {"device": device, "dtype": dtype}
        text = 256
        self.tokens = frames * (height // 2) * (width // 2) + text
        self.noise = torch.randn(1, 16, frames, height, width, **make)
        self.inputs = {
            "encoder_hidden_states": torch.randn(1, text, 4096, **make),
            "encoder_attention_mask": torch.ones(1, text, device=device, dtype=torch.long),
            "pooled_projections": torch.randn(1, 768, **make),
            "guidance": torch.full((1,), 6000.0, **make),
        }

    def __call__(self, x, sigma):
        t = torch.full((1,), 1000 * sigma, device=x.device, dtype=x.dtype)
        return self.model(hidden_states=x, timestep=t, return_dict=False, **self.inputs)[0]


def denoise(case, steps, device, end_step=lambda: None):
    """(final latents, seconds) of Euler steps over sigmas 1, 1 - 1/T, ..."""
    x = case.noise.clone()
    synchronize = torch.cuda.synchronize if device == "cuda" else lambda: None
    synchronize()
    start = time.perf_counter()
    with torch.no_grad():
        for i in range(steps):
            x = x - case(x, 1 - i / steps) / steps
            end_step()
    synchronize()
    return x.float().cpu(), time.perf_counter() - start


@contextlib.contextmanager
def in_place_of_sdpa(attention):
    """attention(wanted, query, key, value, **rest) runs where torch's does; `wanted` is torch's."""
    functional, wanted = torch.nn.functional, torch.nn.functional.scaled_dot_product_attention

    def call(query, key, value, **rest):
        return attention(wanted, query, key, value, **rest)

    functional.scaled_dot_product_attention = call
    try:
        yield
    finally:
        functional.scaled_dot_product_attention = wanted


class Flex:
    """FlexAttention, compiled: dense, or with the same number of random blocks of 128 left out of every row."""

    def __init__(self, skipped):
        from torch.nn.attention.flex_attention import BlockMask, flex_attention

        self.BlockMask, self.skipped, self.masks = BlockMask, skipped, {}
        self.call = torch.compile(flex_attention, dynamic=False)

    def mask(self, query):
        heads, tokens = query.shape[1:3]
        if (heads, tokens) not in self.masks:
            blocks = -(-tokens // 128)
            kept = round((1 - self.skipped) * blocks)
            order = torch.rand(1, heads, blocks, blocks, device=query.device).argsort(-1).to(torch.int32)
            count = torch.full(order.shape[:-1], kept, dtype=torch.int32, device=query.device)
            self.masks[heads, tokens] = self.BlockMask.from_kv_blocks(
                torch.zeros_like(count), order, count, order, BLOCK_SIZE=128, seq_lengths=(tokens, tokens))
        return self.masks[heads, tokens]

    def __call__(self, query, key, value, sparse):
        return self.call(query, key, value, block_mask=self.mask(query) if sparse else None)


def psnr(x, wanted):
    error = (x - wanted).pow(2).mean().item()
    return math.inf if error == 0 else 10 * math.log10((wanted.max() - wanted.min()).item() ** 2 / error)


def split(dispatch_sparsity, degraded):
    """Shares of degraded layers and, in the other layers, equally of cached rows and skipped pairs, that
    leave out this much together."""
    rest = max(0.0, (dispatch_sparsity - degraded) / (1 - degraded))
    share = 1 - math.sqrt(1 - rest)
    return {"degraded": degraded, "cached": share, "skipped": share}


class Contestants:
    """Named functions that give (latents, seconds, sparsity or None); set up and undone around each call."""

    def __init__(self, case, args):
        self.case, self.args = case, args
        self.skipped = {}
        self.found = {}
        self.flexes = {}
        for backend in args.backends if args.device == "cuda" else BACKENDS[:1]:
            self.offer(f"diffusers {backend}", lambda b=backend: self.dense(b))
        schedule = {"schedule_steps": 0, "warmup": 1, "interval": args.interval}
        dispatches = sum(1 for i in range(1, args.steps - 1) if i % args.interval) / args.steps
        if dispatches <= args.sparsity:
            sys.exit(f"{args.steps} steps have {dispatches:.2f} Dispatch steps, too few for {args.sparsity}")
        self.offer("flashomni zero sparsity", lambda: self.ours("dense", {}))
        options = {**schedule, **split(args.sparsity / dispatches, args.degraded), "order": args.order}
        self.offer(f"flashomni {args.sparsity:.2f}", lambda: self.ours("random", options))
        self.offer("diffusers TaylorSeer", self.taylorseer)
        self.offer("cache-dit TaylorSeer", self.cache_dit)
        self.offer("SageAttention (PyPI)", self.sage)
        self.offer("FlexAttention compiled", lambda: self.flex(0))
        self.offer(f"FlexAttention compiled {args.sparsity:.2f}", lambda: self.flex(args.sparsity / dispatches))
        try:
            __import__("sparsevideo")
            self.skipped["sparsevideo"] = "installed; this script has no recipe for it"
        except ImportError as error:
            self.skipped["sparsevideo"] = str(error)
        self.steps = args.steps

    def offer(self, name, run):
        """Tries it with few steps: that warms it up and shows what this machine does not have."""
        self.steps = WARM_STEPS
        try:
            run()
        except Exception as error:  # whatever a peer's import or kernel throws is its reason
            if name.startswith("flashomni"):
                raise
            self.skipped[name] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:300]
        else:
            self.found[name] = run

    def denoise(self, end_step=lambda: None):
        return denoise(self.case, self.steps, self.args.device, end_step)

    def dense(self, backend):
        self.case.model.set_attention_backend(backend)
        try:
            return *self.denoise(), None
        finally:
            self.case.model.reset_attention_backend()

    def ours(self, strategy, options):
        parts = {"gemm_q": self.args.gemm_q, "gemm_o": self.args.gemm_o}
        handle = flashomni.apply(self.case.model, strategy, **parts, **options)
        try:
            with handle.run(self.steps):
                x, seconds = self.denoise(handle.end_step)
            self.report = handle.report()
            return x, seconds, self.report.to_dict()["models"][0]
        finally:
            handle.remove()

    def computed(self, step):
        """Whether `random` with our schedule computes this step whole."""
        return step < 2 or (step - 1) % self.args.interval == 0 or step == self.steps - 1

    def taylorseer(self):
        config = diffusers.TaylorSeerCacheConfig(cache_interval=self.args.interval, disable_cache_before_step=2)
        self.case.model.enable_cache(config)
        try:
            with self.case.model.cache_context("cond"):
                return *self.denoise(), None
        finally:
            self.case.model.disable_cache()

    def cache_dit(self):
        """Its TaylorSeer on our schedule: the same steps computed whole, the first block in every step."""
        import cache_dit

        computed = [int(self.computed(i)) for i in range(self.steps)]
        cache = cache_dit.DBCacheConfig(
            Fn_compute_blocks=1, max_warmup_steps=2, num_inference_steps=self.steps,
            steps_computation_mask=computed, steps_computation_policy="static",
        )  # fmt: skip
        cache_dit.enable_cache(
            self.case.model, cache_config=cache,
            calibrator_config=cache_dit.TaylorSeerCalibratorConfig(taylorseer_order=1),
        )  # fmt: skip
        try:
            return *self.denoise(), None
        finally:
            cache_dit.disable_cache(self.case.model)

    def sage(self):
        """sageattention of PyPI in torch's place, as its README has it."""
        from sageattention import sageattn

        if self.args.device != "cuda":
            raise RuntimeError("needs a GPU")
        taken = 0

        def attention(wanted, query, key, value, attn_mask=None, **rest):
            if attn_mask is not None or query.shape[-1] not in (64, 96, 128):
                return wanted(query, key, value, attn_mask=attn_mask, **rest)
            nonlocal taken
            taken += 1
            return sageattn(query, key, value, is_causal=rest.get("is_causal", False))

        with in_place_of_sdpa(attention):
            x, seconds = self.denoise()
        if not taken:
            raise RuntimeError("takes no masks, and every attention of this model has one")
        return x, seconds, None

    def flex(self, skipped):
        """FlexAttention in torch's place, as `flex_attention` under torch.compile; Dispatch steps leave out
        this share of the pairs, and nothing else is saved."""
        if self.args.device != "cuda":
            raise RuntimeError("needs a GPU")
        flex = self.flexes.setdefault(skipped, Flex(skipped))
        step = 0

        def attention(wanted, query, key, value, attn_mask=None, **rest):
            sparse = skipped > 0 and not self.computed(step)
            if self.steps == WARM_STEPS:
                if attn_mask is not None and not bool(attn_mask.all()):
                    raise RuntimeError("a mask that leaves tokens out")
                sparse = skipped > 0 and step == 0  # both forms are compiled before time counts
            return flex(query, key, value, sparse)

        def next_step():
            nonlocal step
            step += 1

        with in_place_of_sdpa(attention):
            return *self.denoise(next_step), None


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", choices=("flux", "hunyuan_video"), default="flux")
    parser.add_argument("--tokens", default="16.9k", help="4.6k, 16.9k or 33k")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--interval", type=int, default=6, help="steps from one Update to the next")
    parser.add_argument("--sparsity", type=float, default=0.46, help="of attention over the whole trajectory")
    parser.add_argument("--degraded", type=float, default=0.0, help="share of layers that degrade")
    parser.add_argument("--order", type=int, default=0, help="of the feature forecast: memory grows with it")
    parser.add_argument("--no-gemm-q", dest="gemm_q", action="store_const", const=False, default="auto")
    parser.add_argument("--no-gemm-o", dest="gemm_o", action="store_const", const=False, default="auto",
                        help="saves the memory of bias planes")  # fmt: skip
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--backends", type=lambda text: text.split(","), default=BACKENDS,
                        help="of diffusers, with commas: " + ",".join(BACKENDS))  # fmt: skip
    parser.add_argument("--tiny", action="store_true", help="a model of three layers, wherever torch runs")
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args()
    args.device = "cuda" if torch.cuda.is_available() else "cpu"
    if args.device == "cpu" and not args.tiny:
        sys.exit("no GPU: full-size models need one (--tiny runs anywhere)")
    if args.tiny:
        size = {"flux": (256, 256), "hunyuan_video": (9, 64, 96)}[args.model]
    else:
        size = SIZES.get((args.model, args.tokens))
        if size is None:
            sys.exit(f"no size for {args.model} {args.tokens}; there are {sorted(SIZES)}")

    torch.manual_seed(0)
    dtype = torch.bfloat16 if args.device == "cuda" else torch.float32
    case = {"flux": Flux, "hunyuan_video": HunyuanVideo}[args.model](size, args.device, dtype, args.tiny)
    contestants = Contestants(case, args)
    seconds = {name: [] for name in contestants.found}
    last = {}
    for r in range(args.rounds):
        names = list(contestants.found)
        for name in names[r % len(names):] + names[: r % len(names)]:
            last[name] = contestants.found[name]()
            seconds[name].append(last[name][1])

    dense = {n: statistics.median(s) for n, s in seconds.items() if n.startswith("diffusers ") and "Taylor" not in n}
    fastest = min(dense, key=dense.get)
    rows = []
    for name, samples in seconds.items():
        median = statistics.median(samples)
        report = last[name][2]
        rows.append({
            "name": name, "seconds": median, "samples": samples, "speedup_vs_fastest_dense": dense[fastest] / median,
            "psnr_db": psnr(last[name][0], last[fastest][0]),
            "attention_sparsity": report["attention_sparsity"] if report else None, "report": report,
        })  # fmt: skip
    record = {
        "command": " ".join(sys.argv), "date": datetime.date.today().isoformat(), "model": args.model,
        "tokens": case.tokens, "steps": args.steps, "tiny": args.tiny, "fastest_dense": fastest,
        "machine": torch.cuda.get_device_name() if args.device == "cuda" else platform.processor(),
        "torch": torch.__version__, "diffusers": diffusers.__version__, "rows": rows, "not_run": contestants.skipped,
    }  # fmt: skip
    print(f"{args.model}, {case.tokens} tokens, {args.steps} steps, against {fastest}")
    for row in rows:
        sparsity = "" if row["attention_sparsity"] is None else f"{100 * row['attention_sparsity']:6.1f} %"
        print(f"  {row['name']:28} {row['seconds']:9.3f} s  {row['speedup_vs_fastest_dense']:5.2f}x  "
              f"{row['psnr_db']:6.1f} dB  {sparsity}")  # fmt: skip
    for name, why in contestants.skipped.items():
        print(f"  not run: {name}: {why}")
    print(contestants.report)
    if args.out:
        text = json.dumps(record, indent=2, default=str).replace("Infinity", "null")
        args.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
