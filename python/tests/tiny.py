# SPDX-License-Identifier: Apache-2.0
"""Tiny diffusers pipelines with random weights: nothing is downloaded, prompts are random embeddings."""

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLHunyuanVideo,
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    FluxKontextPipeline,
    FluxPipeline,
    FluxTransformer2DModel,
    HunyuanVideoPipeline,
    HunyuanVideoTransformer3DModel,
    WanPipeline,
    WanTransformer3DModel,
)


def _filled(module, seed):
    """Random weights everywhere: zero-initialised gates and ones in norms hide mistakes."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in module.named_parameters():
            noise = torch.randn(p.shape, generator=g)
            if p.dim() > 1:
                p.copy_(noise / p[0].numel() ** 0.5)
            elif "norm" in name and name.endswith("weight"):
                p.copy_(1 + 0.1 * noise)
            else:
                p.copy_(0.1 * noise)
    return module.eval()


def _image_vae():
    return AutoencoderKL(
        in_channels=3, out_channels=3, block_out_channels=(4, 4, 4, 4), latent_channels=4,
        norm_num_groups=1, shift_factor=0.06, scaling_factor=1.5, use_quant_conv=False,
        use_post_quant_conv=False, down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    )  # fmt: skip


def flux_transformer(guidance=True, head_dim=16, layers=(2, 2), seed=0):
    model = FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=layers[0], num_single_layers=layers[1],
        attention_head_dim=head_dim, num_attention_heads=2, joint_attention_dim=32,
        pooled_projection_dim=24, guidance_embeds=guidance,
        axes_dims_rope=[4, (head_dim - 4) // 2, (head_dim - 4) // 2],
    )  # fmt: skip
    return _filled(model, seed)


def flux(kind="dev", **kwargs):
    """dev has guidance embeddings, schnell has none, kontext takes a picture too."""
    cls = FluxKontextPipeline if kind == "kontext" else FluxPipeline
    pipe = cls(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=_image_vae(), text_encoder=None, tokenizer=None, text_encoder_2=None, tokenizer_2=None,
        transformer=flux_transformer(guidance=kind != "schnell", **kwargs),
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    return pipe


def flux_inputs(steps=8, size=128, batch=1, text=20, cfg=False, seed=0, **more):
    g = torch.Generator().manual_seed(seed)
    inputs = {
        "prompt_embeds": torch.randn(batch, text, 32, generator=g),
        "pooled_prompt_embeds": torch.randn(batch, 24, generator=g),
        "num_inference_steps": steps,
        "height": size,
        "width": size,
        "output_type": "latent",
        "generator": torch.Generator().manual_seed(seed + 1),
        **more,
    }
    if cfg:
        inputs["true_cfg_scale"] = 3.0
        inputs["negative_prompt_embeds"] = torch.randn(batch, text, 32, generator=g)
        inputs["negative_pooled_prompt_embeds"] = torch.randn(batch, 24, generator=g)
    return inputs


def hunyuan_transformer(head_dim=16, seed=0):
    model = HunyuanVideoTransformer3DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=head_dim, num_layers=2,
        num_single_layers=2, num_refiner_layers=1, patch_size=1, patch_size_t=1, guidance_embeds=True,
        text_embed_dim=16, pooled_projection_dim=8, rope_axes_dim=(4, (head_dim - 4) // 2, (head_dim - 4) // 2), image_condition_type=None,
    )  # fmt: skip
    return _filled(model, seed)


def hunyuan(**kwargs):
    vae = AutoencoderKLHunyuanVideo(
        in_channels=3, out_channels=3, latent_channels=4,
        down_block_types=("HunyuanVideoDownBlock3D",) * 4, up_block_types=("HunyuanVideoUpBlock3D",) * 4,
        block_out_channels=(8, 8, 8, 8), layers_per_block=1, act_fn="silu", norm_num_groups=4,
        scaling_factor=0.476986, spatial_compression_ratio=8, temporal_compression_ratio=4,
        mid_block_add_attention=True,
    )  # fmt: skip
    pipe = HunyuanVideoPipeline(
        text_encoder=None, tokenizer=None, transformer=hunyuan_transformer(**kwargs), vae=vae,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0), text_encoder_2=None, tokenizer_2=None,
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    return pipe


def hunyuan_inputs(steps=8, frames=9, size=64, lengths=(7,), cfg=False, seed=0):
    """`lengths` are the valid text tokens of each sample, of 12."""
    g = torch.Generator().manual_seed(seed)
    mask = (torch.arange(12)[None] < torch.tensor(lengths)[:, None]).long()
    inputs = {
        "prompt_embeds": torch.randn(len(lengths), 12, 16, generator=g),
        "pooled_prompt_embeds": torch.randn(len(lengths), 8, generator=g),
        "prompt_attention_mask": mask,
        "num_inference_steps": steps,
        "height": size,
        "width": size,
        "num_frames": frames,
        "output_type": "latent",
        "generator": torch.Generator().manual_seed(seed + 1),
    }
    if cfg:
        inputs["true_cfg_scale"] = 3.0
        inputs["negative_prompt_embeds"] = torch.randn(len(lengths), 12, 16, generator=g)
        inputs["negative_pooled_prompt_embeds"] = torch.randn(len(lengths), 8, generator=g)
        inputs["negative_prompt_attention_mask"] = mask.flip(0)
    return inputs


def wan_transformer(head_dim=16, seed=0):
    model = WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=head_dim, in_channels=16,
        out_channels=16, text_dim=16, freq_dim=256, ffn_dim=32, num_layers=2, cross_attn_norm=True,
        qk_norm="rms_norm_across_heads", rope_max_seq_len=64,
    )  # fmt: skip
    return _filled(model, seed)


def wan(two=False, **kwargs):
    vae = AutoencoderKLWan(base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1,
                           temperal_downsample=[False, True, True])  # fmt: skip
    pipe = WanPipeline(
        tokenizer=None, text_encoder=None, vae=vae, scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        transformer=wan_transformer(**kwargs), transformer_2=wan_transformer(seed=1) if two else None,
        boundary_ratio=0.875 if two else None,
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    return pipe


def wan_inputs(steps=8, frames=9, size=128, batch=1, cfg=True, seed=0):
    g = torch.Generator().manual_seed(seed)
    return {
        "prompt_embeds": torch.randn(batch, 12, 16, generator=g),
        "negative_prompt_embeds": torch.randn(batch, 12, 16, generator=g),
        "guidance_scale": 4.0 if cfg else 1.0,
        "num_inference_steps": steps,
        "height": size,
        "width": size,
        "num_frames": frames,
        "output_type": "latent",
        "generator": torch.Generator().manual_seed(seed + 1),
    }


def run(pipe, inputs):
    """The final latents."""
    inputs = dict(inputs)
    seed = inputs["generator"].initial_seed()
    inputs["generator"] = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        result = pipe(**inputs)
    return result.images if hasattr(result, "images") else result.frames
