# SPDX-License-Identifier: Apache-2.0
"""The bundled FLUX-layout model in plain PyTorch: what a PyTorch user would run on a CPU. Module names are
those of diffusers' FluxTransformer2DModel, so the checkpoint loads as it is; arithmetic is fp32."""
import json
import math
import os

import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.torch import load_file


def modulated(x, shift, scale):
    return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale[:, None]) + shift[:, None]


def rotate(x, cos, sin):
    """Adjacent pairs; x [B, H, N, d], tables [N, d/2]."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, odd * cos + even * sin), -1).flatten(-2)


class Embedder(nn.Module):
    def __init__(self, features, width):
        super().__init__()
        self.linear_1 = nn.Linear(features, width)
        self.linear_2 = nn.Linear(width, width)

    def forward(self, x):
        return self.linear_2(F.silu(self.linear_1(x)))


class Conditioning(nn.Module):
    def __init__(self, width, pooled):
        super().__init__()
        self.timestep_embedder = Embedder(256, width)
        self.text_embedder = Embedder(pooled, width)

    def forward(self, sigma, pooled):
        frequencies = torch.exp(-math.log(10000) * torch.arange(128) / 128)
        angles = 1000 * sigma[:, None] * frequencies
        embedded = self.timestep_embedder(torch.cat((angles.cos(), angles.sin()), -1))
        return F.silu(embedded + self.text_embedder(pooled))


class Modulation(nn.Module):
    def __init__(self, width, chunks):
        super().__init__()
        self.chunks = chunks
        self.linear = nn.Linear(width, chunks * width)

    def forward(self, condition):
        return self.linear(condition).chunk(self.chunks, -1)


class FeedForward(nn.Module):
    def __init__(self, width):
        super().__init__()
        proj = nn.Module()
        proj.proj = nn.Linear(width, 4 * width)
        self.net = nn.ModuleList((proj, nn.Identity(), nn.Linear(4 * width, width)))

    def forward(self, x):
        return self.net[2](F.gelu(self.net[0].proj(x), approximate="tanh"))


class Attention(nn.Module):
    """Projections of one or two streams; the second is the text of a double block."""

    def __init__(self, heads, head_dim, joint):
        super().__init__()
        self.heads = heads
        width = heads * head_dim
        self.norm_q, self.norm_k = (nn.RMSNorm(head_dim, eps=1e-6) for _ in range(2))
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))
        if joint:
            self.norm_added_q, self.norm_added_k = (nn.RMSNorm(head_dim, eps=1e-6) for _ in range(2))
            self.add_q_proj, self.add_k_proj, self.add_v_proj = (nn.Linear(width, width) for _ in range(3))
            self.to_out = nn.ModuleList((nn.Linear(width, width),))
            self.to_add_out = nn.Linear(width, width)

    def split(self, x):
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def project(self, x):
        return (self.norm_q(self.split(self.to_q(x))), self.norm_k(self.split(self.to_k(x))),
                self.split(self.to_v(x)))

    def project_text(self, x):
        return (self.norm_added_q(self.split(self.add_q_proj(x))),
                self.norm_added_k(self.split(self.add_k_proj(x))), self.split(self.add_v_proj(x)))

    @staticmethod
    def attend(q, k, v, rope):
        out = F.scaled_dot_product_attention(rotate(q, *rope), rotate(k, *rope), v)
        return out.transpose(1, 2).flatten(2)


class DoubleBlock(nn.Module):
    def __init__(self, heads, head_dim):
        super().__init__()
        width = heads * head_dim
        self.norm1, self.norm1_context = (Modulation(width, 6) for _ in range(2))
        self.attn = Attention(heads, head_dim, True)
        self.ff, self.ff_context = (FeedForward(width) for _ in range(2))

    def forward(self, image, text, condition, rope):
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = self.norm1(condition)
        t_shift, t_scale, t_gate, t_mlp_shift, t_mlp_scale, t_mlp_gate = self.norm1_context(condition)
        of_image = self.attn.project(modulated(image, shift, scale))
        of_text = self.attn.project_text(modulated(text, t_shift, t_scale))
        out = self.attn.attend(*(torch.cat(pair, 2) for pair in zip(of_text, of_image)), rope)
        text_out, image_out = out.split((text.shape[1], image.shape[1]), 1)
        image = image + gate[:, None] * self.attn.to_out[0](image_out)
        text = text + t_gate[:, None] * self.attn.to_add_out(text_out)
        image = image + mlp_gate[:, None] * self.ff(modulated(image, mlp_shift, mlp_scale))
        text = text + t_mlp_gate[:, None] * self.ff_context(modulated(text, t_mlp_shift, t_mlp_scale))
        return image, text


class SingleBlock(nn.Module):
    def __init__(self, heads, head_dim):
        super().__init__()
        width = heads * head_dim
        self.norm = Modulation(width, 3)
        self.attn = Attention(heads, head_dim, False)
        self.proj_mlp = nn.Linear(width, 4 * width)
        self.proj_out = nn.Linear(5 * width, width)

    def forward(self, x, condition, rope):
        shift, scale, gate = self.norm(condition)
        normed = modulated(x, shift, scale)
        out = self.attn.attend(*self.attn.project(normed), rope)
        mlp = F.gelu(self.proj_mlp(normed), approximate="tanh")
        return x + gate[:, None] * self.proj_out(torch.cat((out, mlp), -1))


class Flux(nn.Module):
    def __init__(self, config):
        super().__init__()
        heads, head_dim = config["num_attention_heads"], config["attention_head_dim"]
        width = heads * head_dim
        self.axes = config["axes_dims_rope"]
        self.x_embedder = nn.Linear(config["in_channels"], width)
        self.context_embedder = nn.Linear(config["joint_attention_dim"], width)
        self.time_text_embed = Conditioning(width, config["pooled_projection_dim"])
        self.transformer_blocks = nn.ModuleList(
            DoubleBlock(heads, head_dim) for _ in range(config["num_layers"]))
        self.single_transformer_blocks = nn.ModuleList(
            SingleBlock(heads, head_dim) for _ in range(config["num_single_layers"]))
        self.norm_out = Modulation(width, 2)
        self.proj_out = nn.Linear(width, config["in_channels"])

    def rope(self, text_tokens, rows, cols):
        """cos and sin [N, d/2] of text (all at the origin) and a grid of image tokens."""
        grid = torch.cartesian_prod(torch.zeros(1), torch.arange(rows).float(), torch.arange(cols).float())
        ids = torch.cat((torch.zeros(text_tokens, 3), grid)).double()
        angles = torch.cat([ids[:, axis, None] * 10000.0**(-torch.arange(0, dim, 2).double() / dim)
                            for axis, dim in enumerate(self.axes)], -1)
        return angles.cos().float(), angles.sin().float()

    def forward(self, latents, text, pooled, sigma, rope):
        """latents [B, tokens, channels], text [B, text tokens, features], pooled [B, features], sigma [B]."""
        condition = self.time_text_embed(sigma, pooled)
        image, context = self.x_embedder(latents), self.context_embedder(text)
        for block in self.transformer_blocks:
            image, context = block(image, context, condition, rope)
        x = torch.cat((context, image), 1)
        for block in self.single_transformer_blocks:
            x = block(x, condition, rope)
        scale, shift = self.norm_out(condition)  # in this order, unlike the blocks
        return self.proj_out(modulated(x[:, context.shape[1]:], shift, scale))


def load(folder):
    """The transformer of a checkpoint folder, in fp32."""
    with open(os.path.join(folder, "transformer", "config.json")) as file:
        model = Flux(json.load(file))
    weights = load_file(os.path.join(folder, "transformer", "diffusion_pytorch_model.safetensors"))
    model.load_state_dict({name: w.float() for name, w in weights.items()})
    return model.eval()
