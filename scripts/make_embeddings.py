#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes prompt embeddings for `flashomni generate|video --embeddings` with diffusers' own pipelines.

    scripts/make_embeddings.py --model black-forest-labs/FLUX.1-dev --out e.safetensors "a red fox in snow"
    scripts/make_embeddings.py --model hunyuanvideo-community/HunyuanVideo --out e.safetensors "waves at night"

Needs torch, diffusers, transformers and safetensors. Only the text encoders are loaded. The names of the tensors are those
of the pipelines' encode_prompt(); docs/checkpoints.md describes the file.
"""

import argparse
import json
import pathlib
import sys


def pipeline_class(model):
    """The class that model_index.json names, of a local folder or of the hub."""
    import diffusers

    index = pathlib.Path(model) / "model_index.json"
    if not index.is_file():
        from huggingface_hub import hf_hub_download

        index = pathlib.Path(hf_hub_download(model, "model_index.json"))
    name = json.loads(index.read_text(encoding="utf-8"))["_class_name"]
    if name not in ("FluxPipeline", "FluxKontextPipeline", "HunyuanVideoPipeline"):
        sys.exit(f"make_embeddings.py: {model} is a {name}, wanted FluxPipeline, FluxKontextPipeline or HunyuanVideoPipeline")
    return getattr(diffusers, name)


def encode(pipe, prompt, args):
    """{name: tensor} of one prompt, without the prefix of the negative one."""
    name = type(pipe).__name__
    options = {"max_sequence_length": args.tokens} if args.tokens else {}
    if name.startswith("Flux"):
        states, pooled, _ = pipe.encode_prompt(prompt=prompt, prompt_2=None, device=args.device, **options)
        return {"prompt_embeds": states, "pooled_prompt_embeds": pooled}
    states, pooled, mask = pipe.encode_prompt(prompt=prompt, prompt_2=None, device=args.device, **options)
    return {"prompt_embeds": states, "pooled_prompt_embeds": pooled, "prompt_attention_mask": mask}


def main():
    parser = argparse.ArgumentParser(description="Prompt embeddings as a safetensors file.")
    parser.add_argument("prompt")
    parser.add_argument("--negative-prompt", help="also embed this one, for guidance with two streams")
    parser.add_argument("--model", required=True, help="folder or hub name of the diffusers pipeline")
    parser.add_argument("--out", required=True, help="file to write")
    parser.add_argument("--tokens", type=int, default=0, help="text tokens (default: the pipeline's)")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float16", "float32"])
    args = parser.parse_args()

    import torch
    from safetensors.torch import save_file

    pipe = pipeline_class(args.model).from_pretrained(
        args.model, transformer=None, vae=None, torch_dtype=getattr(torch, args.dtype)
    ).to(args.device)
    tensors = {}
    with torch.no_grad():
        tensors.update(encode(pipe, args.prompt, args))
        if args.negative_prompt is not None:
            negative = encode(pipe, args.negative_prompt, args)
            tensors.update({f"negative_{name}": tensor for name, tensor in negative.items()})
    for name, tensor in tensors.items():
        if tensor.shape[0] != 1:
            sys.exit(f"make_embeddings.py: {name} has a batch of {tensor.shape[0]}, wanted 1")
    metadata = {"prompt": args.prompt, "negative_prompt": args.negative_prompt or "", "model": args.model}
    save_file({name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()}, args.out, metadata)


if __name__ == "__main__":
    main()
