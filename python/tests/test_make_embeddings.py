# SPDX-License-Identifier: Apache-2.0
"""scripts/make_embeddings.py with real (tiny, random) text encoders, and what `flashomni generate`
makes of its files.

The command of a build is used where there is one: $FLASHOMNI_CLI, or bin/flashomni of a folder in
build/, or of the PATH.
"""

import json
import os
import pathlib
import shutil
import string
import subprocess
import sys

import pytest
import torch

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")
safetensors = pytest.importorskip("safetensors.torch")

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "make_embeddings.py"
FIXTURES = ROOT / "tests" / "models" / "fixtures"
TOKENS = 12
PROMPT = "a red fox in snow"


def command_line():
    named = os.environ.get("FLASHOMNI_CLI")
    built = sorted(ROOT.glob("build/*/bin/flashomni"), key=lambda p: p.stat().st_mtime)
    return named or (str(built[-1]) if built else shutil.which("flashomni"))


def clip(folder, width):
    """A CLIP text encoder with one block, and a tokenizer that knows single letters."""
    vocabulary = {"<|startoftext|>": 0, "<|endoftext|>": 1}
    for letter in string.ascii_lowercase:
        vocabulary[letter] = len(vocabulary)
    for letter in string.ascii_lowercase:
        vocabulary[letter + "</w>"] = len(vocabulary)
    source = folder / "source"
    source.mkdir(parents=True)
    (source / "vocab.json").write_text(json.dumps(vocabulary))
    (source / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = transformers.CLIPTokenizer(
        str(source / "vocab.json"), str(source / "merges.txt"), model_max_length=16, pad_token="<|endoftext|>"
    )
    shutil.rmtree(source)
    tokenizer.save_pretrained(folder / "tokenizer")
    config = transformers.CLIPTextConfig(
        vocab_size=len(vocabulary),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=16,
        projection_dim=width,
        bos_token_id=0,
        eos_token_id=1,
    )
    transformers.CLIPTextModel(config).eval().save_pretrained(folder / "text_encoder")


def t5(folder, width):
    """A T5 encoder with one block, and a tokenizer that knows single letters."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0)]
    pieces += [(letter, -3.0) for letter in string.ascii_lowercase]
    model = tokenizers.Tokenizer(tokenizers.models.Unigram(pieces, unk_id=2))
    model.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    tokenizer = transformers.T5TokenizerFast(tokenizer_object=model, extra_ids=0, model_max_length=32)
    tokenizer.save_pretrained(folder / "tokenizer_2")
    config = transformers.T5Config(
        vocab_size=len(pieces),
        d_model=width,
        d_kv=8,
        d_ff=2 * width,
        num_layers=1,
        num_heads=2,
        feed_forward_proj="gated-gelu",
    )
    transformers.T5EncoderModel(config).eval().save_pretrained(folder / "text_encoder_2")


@pytest.fixture(scope="module")
def flux_folder(tmp_path_factory):
    """A FLUX.1 folder as diffusers saves it, around the tiny transformer of the C++ tests."""
    folder = tmp_path_factory.mktemp("flux")
    config = json.loads((FIXTURES / "flux_dev" / "config.json").read_text())
    torch.manual_seed(0)
    clip(folder, config["pooled_projection_dim"])
    t5(folder, config["joint_attention_dim"])
    shutil.copytree(FIXTURES / "flux_dev", folder / "transformer")
    (folder / "scheduler").mkdir()
    scheduler = {"_class_name": "FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting": True}
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    index = {
        "_class_name": "FluxPipeline",
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "text_encoder_2": ["transformers", "T5EncoderModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "tokenizer_2": ["transformers", "T5TokenizerFast"],
        "transformer": ["diffusers", "FluxTransformer2DModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def make_embeddings(*arguments):
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)], capture_output=True, text=True, timeout=600
    )


@pytest.fixture(scope="module")
def embeddings(flux_folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("embeddings") / "e.safetensors"
    done = make_embeddings(
        "--model", flux_folder, "--out", path, "--tokens", TOKENS, "--dtype", "float32",
        "--negative-prompt", "blur", PROMPT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return path


def test_writes_what_the_encoders_give(flux_folder, embeddings):
    """Against the encoders themselves, without the pipeline."""
    seen = safetensors.load_file(embeddings)
    assert {name: tuple(t.shape) for name, t in seen.items()} == {
        "prompt_embeds": (1, TOKENS, 24),
        "pooled_prompt_embeds": (1, 12),
        "negative_prompt_embeds": (1, TOKENS, 24),
        "negative_pooled_prompt_embeds": (1, 12),
    }
    for prefix, prompt in (("", PROMPT), ("negative_", "blur")):
        tokenizer = transformers.T5TokenizerFast.from_pretrained(flux_folder / "tokenizer_2")
        ids = tokenizer(prompt, padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt").input_ids
        encoder = transformers.T5EncoderModel.from_pretrained(flux_folder / "text_encoder_2").eval()
        with torch.no_grad():
            torch.testing.assert_close(seen[prefix + "prompt_embeds"], encoder(ids)[0])
        tokenizer = transformers.CLIPTokenizer.from_pretrained(flux_folder / "tokenizer")
        ids = tokenizer(prompt, padding="max_length", max_length=16, truncation=True, return_tensors="pt").input_ids
        encoder = transformers.CLIPTextModel.from_pretrained(flux_folder / "text_encoder").eval()
        with torch.no_grad():
            torch.testing.assert_close(seen[prefix + "pooled_prompt_embeds"], encoder(ids).pooler_output)
    assert not torch.equal(seen["prompt_embeds"], seen["negative_prompt_embeds"])


def test_generate_takes_the_file(flux_folder, embeddings, tmp_path):
    program = command_line()
    if program is None:
        pytest.skip("NOT TESTED WITH `flashomni generate`: no build of the command was found")
    latents = {}
    for strategy in ("dense", "flashomni"):
        out = tmp_path / f"{strategy}.safetensors"
        done = subprocess.run(
            [program, "generate", "--model", flux_folder, "--embeddings", embeddings, "--width", "64",
             "--height", "32", "--steps", "3", "--strategy", strategy, "-o", out],
            capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        latents[strategy] = safetensors.load_file(out)["latents"]
        assert latents[strategy].shape == (1, 1, 4, 8)
        assert torch.isfinite(latents[strategy]).all()


def test_other_pipelines_are_refused(tmp_path):
    (tmp_path / "model_index.json").write_text('{"_class_name": "WanPipeline"}')
    done = make_embeddings("--model", tmp_path, "--out", tmp_path / "e.safetensors", PROMPT)
    assert done.returncode != 0
    assert "is a WanPipeline, wanted FluxPipeline" in done.stderr
    assert not (tmp_path / "e.safetensors").exists()
