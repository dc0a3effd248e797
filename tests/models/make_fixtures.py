#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes tests/models/fixtures: tiny transformers of diffusers with closed-form weights, and what
they compute in float32 on the CPU.

    python3 tests/models/make_fixtures.py [NAME ...]        # needs torch and diffusers

Every folder is a checkpoint as diffusers saves it, with `inputs_and_outputs.safetensors` beside it:
inputs, the state after the embedders and after every block, and the output. All parameters and
inputs are closed-form numbers (no random generator of a library, no parameter left at 0 or 1, which
would hide mistakes), so that a second run gives the same files up to rounding.
"""

import contextlib
import json
import os
import shutil
import sys

import numpy as np
import torch
from safetensors.torch import save_file

import diffusers
from diffusers import (
    FluxTransformer2DModel,
    HunyuanVideoTransformer3DModel,
    WanTransformer3DModel,
)

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fixtures")


# ---- numbers


def uniform(name, count):
    """`count` numbers in [-1, 1): splitmix64 of FNV-1a(name) + index."""
    h = 0xCBF29CE484222325
    for byte in name.encode():
        h = ((h ^ byte) * 0x100000001B3) % 2**64
    with np.errstate(over="ignore"):
        z = np.uint64(h) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(11)).astype(np.float64) / 2**52 - 1


def values(name, *shape):
    """Inputs of standard deviation 1."""
    flat = uniform("input " + name, int(np.prod(shape))) * np.sqrt(3)
    return torch.from_numpy(flat.astype(np.float32)).reshape(shape)


def fill(model):
    """Linear and convolution weights like a usual initialisation, norms around 1."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            u = uniform(name, p.numel())
            if p.ndim == 1 and "norm" in name.split(".")[-2] and name.endswith("weight"):
                u = 1 + 0.1 * u
            elif p.ndim == 1:
                u = 0.1 * u
            else:
                u = u * np.sqrt(3 / (p.numel() / p.shape[0]))
            p.copy_(torch.from_numpy(u.astype(np.float32)).reshape(p.shape))
    return model.eval()


# ---- recording


class Recorder:
    """Outputs of named modules during one call."""

    def __init__(self):
        self.outputs = {}
        self.handles = []

    def watch(self, name, module, labels):
        def hook(_module, _args, output):
            parts = output if isinstance(output, tuple) else (output,)
            for label, part in zip(labels, parts):
                self.outputs[f"{name}.{label}"] = part.detach().clone()

        self.handles.append(module.register_forward_hook(hook))

    def watch_blocks(self, model, labels):
        for kind in ("transformer_blocks", "single_transformer_blocks", "blocks"):
            for i, block in enumerate(getattr(model, kind, [])):
                self.watch(f"{kind}.{i}", block, labels)


@contextlib.contextmanager
def correctly_rounded_exp():
    """torch's exp is off by an ulp in 3 of the 128 frequencies of timestep embeddings (which ones
    depends on the CPU). At guidance 6000 that alone turns an angle by 4e-4, so it is avoided."""
    exp = torch.exp
    torch.exp = lambda x: exp(x.double()).to(x.dtype)
    try:
        yield
    finally:
        torch.exp = exp


def run(model, recorder, inputs, extra=None):
    with torch.no_grad(), correctly_rounded_exp():
        out = model(**inputs, return_dict=False)[0]
    for handle in recorder.handles:
        handle.remove()
    record = {k: v for k, v in inputs.items() if isinstance(v, torch.Tensor)}
    record.update(extra or {})
    record.update(recorder.outputs)
    record["output"] = out
    return {k: v.contiguous().clone() for k, v in record.items()}


# ---- folders


def save(model, folder, record, **options):
    path = os.path.join(ROOT, folder)
    shutil.rmtree(path, ignore_errors=True)
    model.save_pretrained(path, **options)
    record = {k: v.to(torch.float32) if v.is_floating_point() else v for k, v in record.items()}
    save_file(record, os.path.join(path, "inputs_and_outputs.safetensors"))
    print(f"{folder}: {sum(p.numel() for p in model.parameters())} parameters")


def save_record(folder, file, record):
    save_file(record, os.path.join(ROOT, folder, file))


# ---- FLUX

FLUX = dict(
    patch_size=1,
    in_channels=4,
    num_layers=2,
    num_single_layers=2,
    attention_head_dim=16,
    num_attention_heads=2,
    joint_attention_dim=24,
    pooled_projection_dim=12,
    axes_dims_rope=[4, 4, 8],
)


def run_flux(model, text_ids, image_ids, batch):
    inputs = dict(
        hidden_states=values("latents", batch, len(image_ids), 4),
        encoder_hidden_states=values("text", batch, len(text_ids), 24),
        pooled_projections=values("pooled", batch, 12),
        timestep=torch.tensor([0.875, 0.25][:batch]),
        img_ids=image_ids,
        txt_ids=text_ids,
    )
    if model.config.guidance_embeds:
        inputs["guidance"] = torch.full([batch], 3.5)
    recorder = Recorder()
    recorder.watch("embed", model.x_embedder, ["latents"])
    recorder.watch("embed", model.context_embedder, ["text"])
    recorder.watch_blocks(model, ["text", "latents"])
    return run(model, recorder, inputs)


def grid(axis0, rows, cols):
    return torch.tensor([[axis0, y, x] for y in range(rows) for x in range(cols)]).float()


def make_flux():
    # Dev: guidance, odd token counts, real-valued ids on text and image, output channels unlike the
    # input's; a batch of two with its own timestep each.
    model = fill(FluxTransformer2DModel(**FLUX, guidance_embeds=True))
    record = run_flux(model, 2 * values("text ids", 7, 3), 5 * values("image ids", 15, 3), 2)
    save(model, "flux_dev", record)
    # Kontext: 3x5 noise tokens, then a 2x3 reference with its own ids; text ids are 0.
    kontext = torch.cat([grid(0, 3, 5), grid(1, 2, 3)])
    save_record("flux_dev", "kontext.safetensors", run_flux(model, torch.zeros(7, 3), kontext, 1))
    for name, dtype in (("bf16", torch.bfloat16), ("f16", torch.float16)):
        half = FluxTransformer2DModel(**FLUX, guidance_embeds=True)
        half.load_state_dict(model.state_dict())
        rounded = run_flux(half.to(dtype).float(), record["txt_ids"], record["img_ids"], 2)
        save(half.to(dtype), "flux_dev_" + name, rounded)

    # Schnell: no guidance, ids of a picture, in shards; more output than input channels.
    model = fill(FluxTransformer2DModel(**FLUX, guidance_embeds=False, out_channels=6))
    record = run_flux(model, torch.zeros(9, 3), grid(0, 4, 4), 1)
    save(model, "flux_schnell", record, max_shard_size="60KB")


# ---- HunyuanVideo

HUNYUAN = dict(
    in_channels=4,
    out_channels=4,
    num_attention_heads=2,
    attention_head_dim=10,
    num_layers=2,
    num_single_layers=2,
    num_refiner_layers=2,
    patch_size=1,
    patch_size_t=1,
    text_embed_dim=16,
    pooled_projection_dim=8,
    rope_axes_dim=(2, 4, 4),
)


def run_hunyuan_video(model, latents, lengths):
    batch, tokens = len(lengths), 12
    mask = torch.arange(tokens)[None, :] < torch.tensor(lengths)[:, None]
    inputs = dict(
        hidden_states=values("latents", batch, *latents),
        timestep=torch.tensor([875.0, 250.0][:batch]),
        encoder_hidden_states=values("text", batch, tokens, model.config.text_embed_dim),
        encoder_attention_mask=mask.to(torch.int64),
        pooled_projections=values("pooled", batch, model.config.pooled_projection_dim),
    )
    if model.config.guidance_embeds:
        inputs["guidance"] = torch.full([batch], 6000.0)
    recorder = Recorder()
    recorder.watch("embed", model.x_embedder, ["latents"])
    recorder.watch("embed", model.context_embedder, ["text"])
    recorder.watch_blocks(model, ["latents", "text"])
    return run(model, recorder, inputs)


def make_hunyuan_video():
    # The class's own test layout, with a text batch of two that is masked on one side.
    model = fill(HunyuanVideoTransformer3DModel(**HUNYUAN, guidance_embeds=True))
    record = run_hunyuan_video(model, (4, 3, 5, 3), [12, 7])
    save(model, "hunyuan_video", record)
    # Patches in space and time, another RoPE base and MLP ratio, no guidance, in shards.
    config = dict(HUNYUAN, patch_size=2, patch_size_t=2, mlp_ratio=3.0, rope_theta=64.0)
    config.update(out_channels=3, attention_head_dim=16, rope_axes_dim=(4, 4, 8))
    model = fill(HunyuanVideoTransformer3DModel(**config, guidance_embeds=False))
    record = run_hunyuan_video(model, (4, 4, 6, 10), [5])
    save(model, "hunyuan_video_patches", record, max_shard_size="60KB")


# ---- Wan

WAN = dict(
    patch_size=(1, 2, 2),
    num_attention_heads=2,
    attention_head_dim=12,
    in_channels=4,
    out_channels=4,
    text_dim=16,
    freq_dim=256,
    ffn_dim=32,
    num_layers=2,
    cross_attn_norm=True,
    rope_max_seq_len=32,
)


def run_wan(model, latents, lengths):
    batch, tokens = len(lengths), 12
    text = values("text", batch, tokens, model.config.text_dim)
    for row, length in zip(text, lengths):
        row[length:] = 0  # as the pipeline pads
    inputs = dict(
        hidden_states=values("latents", batch, *latents),
        timestep=torch.tensor([875, 250][:batch]),
        encoder_hidden_states=text,
    )
    recorder = Recorder()
    recorder.watch("embed", model.patch_embedding, ["latents"])
    recorder.watch_blocks(model, ["latents"])
    return run(model, recorder, inputs)


def make_wan():
    # The class's own test layout, over two prompts of different length.
    model = fill(WanTransformer3DModel(**WAN))
    save(model, "wan", run_wan(model, (4, 3, 6, 10), [12, 5]))
    # Patches in time, unequal RoPE axes (8, 4, 4), no norm before the cross-attention, another eps,
    # fewer output channels, in shards.
    config = dict(WAN, patch_size=(2, 1, 2), attention_head_dim=16, out_channels=3, eps=1e-5)
    model = fill(WanTransformer3DModel(**dict(config, cross_attn_norm=False)))
    save(model, "wan_patches", run_wan(model, (4, 4, 5, 6), [7]), max_shard_size="40KB")


MAKERS = {"flux": make_flux, "hunyuan_video": make_hunyuan_video, "wan": make_wan}

if __name__ == "__main__":
    torch.set_num_threads(1)
    os.makedirs(ROOT, exist_ok=True)
    for wanted in sys.argv[1:] or MAKERS:
        MAKERS[wanted]()
    with open(os.path.join(ROOT, "versions.json"), "w") as f:
        json.dump({"torch": torch.__version__, "diffusers": diffusers.__version__}, f, indent=2)
        f.write("\n")
