# SPDX-License-Identifier: Apache-2.0
"""A dense generation of the bundled model in PyTorch, against `flashomni`: first that both compute the same
(golden values, and the picture of this very run), then how long each takes."""
import json
import os
import tempfile
import time

import numpy
import torch
from PIL import Image
from safetensors.torch import load_file

from peers import flux

GUIDANCE = 3.0
STEPS = 2


def sigmas(steps, shift):
    """FlowMatchEuler with a static shift: levels 1 to 1/steps, then 0."""
    levels = torch.linspace(1, 1 / steps, steps, dtype=torch.float64)
    return torch.cat((shift * levels / (1 + (shift - 1) * levels), torch.zeros(1))).float()


def read_goldens(root):
    """Inputs and outputs that the model's training code recorded."""
    return load_file(os.path.join(root, "tests", "models", "data", "a.safetensors"))


class Generation:
    """The prompt and noise of the golden values; both guidance streams, one after the other (as diffusers
    and flashomni do) or as a batch of two."""

    def __init__(self, root):
        self.model = flux.load(os.path.join(root, "models", "emoji-flux"))
        self.goldens = read_goldens(root)
        with open(os.path.join(root, "models", "emoji-flux", "scheduler", "scheduler_config.json")) as file:
            self.sigmas = sigmas(STEPS, json.load(file)["shift"])
        encoder = load_file(os.path.join(root, "models", "emoji-flux", "text_encoder", "model.safetensors"))
        encoder = {name: value.float() for name, value in encoder.items()}
        ids = self.goldens["null_token_ids"]
        null = encoder["token_embedding.weight"][ids] + encoder["position_embedding.weight"]
        self.text = torch.stack((self.goldens["encoder_hidden_states"], null))
        self.pooled = torch.stack((self.goldens["pooled"], self.goldens["null_pooled"]))
        self.rope = self.model.rope(self.text.shape[1], 32, 32)

    def evaluate(self, latents, sigma, streams, model=None):
        count = len(streams)
        model = self.model if model is None else model
        return model(latents.expand(count, -1, -1), self.text[streams], self.pooled[streams], sigma.expand(count),
                     self.rope)

    def worst_error(self):
        """Largest difference to the goldens over their standard deviation."""
        g = self.goldens
        errors = []
        for name, stream, step, source in (("cond.step0", 0, 0, "noise"), ("uncond.step0", 1, 0, "noise"),
                                           ("cond.step10", 0, 10, "latents_in.step10")):
            wanted = g["transformer_out." + name]
            seen = self.evaluate(g[source][None], g["sigmas"][step:step + 1], [stream])[0]
            errors.append(((seen - wanted).abs().max() / wanted.std()).item())
        return max(errors)

    def run(self, model=None, batched=False):
        """Final latents, and the seconds of the denoising loop."""
        x = self.goldens["noise"][None].clone()
        start = time.perf_counter()
        for step in range(STEPS):
            sigma, following = self.sigmas[step:step + 1], self.sigmas[step + 1]
            if batched:
                velocity, empty = self.evaluate(x, sigma, [0, 1], model).split(1)
            else:
                velocity = self.evaluate(x, sigma, [0], model)
                empty = self.evaluate(x, sigma, [1], model)
            x = x + (following - sigma) * (empty + GUIDANCE * (velocity - empty))
        return x[0], time.perf_counter() - start

    @staticmethod
    def picture(latents):
        """[256, 256, 3] of uint8 from 8x8 patches of (channel, row, column)."""
        grid = latents.view(32, 32, 3, 8, 8).permute(0, 3, 1, 4, 2).reshape(256, 256, 3)
        return (grid.clamp(-1, 1) * 127.5 + 127.5).round().to(torch.uint8).numpy()


PROMPT = "smiling face with sunglasses, 3d"  # of the goldens, whose noise is that of seed 1
SAME_REQUEST = [PROMPT, "--seed", 1, "--steps", STEPS, "--guidance", GUIDANCE, "--strategy", "dense"]


def largest_pixel_difference(flashomni, generation):
    with tempfile.TemporaryDirectory() as folder:
        flashomni("generate", *SAME_REQUEST, "--out", "ours.png", folder=folder)
        ours = numpy.asarray(Image.open(os.path.join(folder, "ours.png")).convert("RGB")).astype(int)
    theirs = generation.picture(generation.run()[0]).astype(int)
    return int(abs(ours - theirs).max())
