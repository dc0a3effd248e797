# SPDX-License-Identifier: Apache-2.0
"""A tiny FLUX pipeline with random weights, dense and with FlashOmni; runs anywhere in seconds.

python python/examples/tiny_flux.py
"""

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
)

import flashomni

torch.manual_seed(0)
transformer = FluxTransformer2DModel(
    in_channels=16, num_layers=2, num_single_layers=2, attention_head_dim=64, num_attention_heads=2,
    joint_attention_dim=32, pooled_projection_dim=32, guidance_embeds=True, axes_dims_rope=[8, 28, 28],
)  # fmt: skip
vae = AutoencoderKL(block_out_channels=(4,) * 4, down_block_types=("DownEncoderBlock2D",) * 4,
                    up_block_types=("UpDecoderBlock2D",) * 4, norm_num_groups=1)  # fmt: skip
pipe = FluxPipeline(FlowMatchEulerDiscreteScheduler(), vae, None, None, None, None, transformer)
pipe.set_progress_bar_config(disable=True)
device = "cuda" if torch.cuda.is_available() and "cuda" in flashomni.backends() else "cpu"
pipe.to(device, torch.bfloat16 if device == "cuda" else torch.float32)


def draw():
    generator = torch.Generator().manual_seed(1)
    words = torch.randn(1, 64, 32, generator=generator).to(device, transformer.dtype)
    pooled = torch.randn(1, 32, generator=generator).to(device, transformer.dtype)
    return pipe(
        prompt_embeds=words, pooled_prompt_embeds=pooled, height=512, width=512, output_type="latent",
        num_inference_steps=10, generator=torch.Generator().manual_seed(2),
    ).images  # fmt: skip


dense = draw()
handle = flashomni.apply(pipe, "flashomni", preset="balanced", tau_q=0.5)
sparse = draw()
print(handle.report())
print("difference to dense:", float((sparse - dense).abs().max()))
handle.remove()
print("after remove() the bits are the dense run's:", torch.equal(draw(), dense))
