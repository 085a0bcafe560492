"""One measurement of `decoding.py`: its argument is a case as JSON; prints JSON."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mdlm_core.data.batch import Batch
from mdlm_core.diffusion.schedule import LogLinear
from mdlm_core.kernels.noise import Noise, global_seed
from mdlm_core.samplers import Denoiser
from mdlm_llada.architecture import Architecture
from mdlm_llada.config import DecodeConfig, LLaDAConfig
from mdlm_llada.decode import decode
from mdlm_llada.nn.trunk import LLaDA

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from textbook import textbook

CASE: dict[str, Any] = {
    "layers": 8,
    "width": 512,
    "heads": 8,
    "vocabulary": 4096,
    "prompt": 64,
    "answer": 128,
    "block": 32,
    "steps": 128,
    "dtype": "float32",
    "cache": "none",
    "threshold": 0.0,
    "temperature": 0.0,
    "sharp": 1.0,
    "rows": 1,
    "device": "cpu",
}
"""What a case is where it does not say."""


def model_of(case: dict[str, Any]) -> LLaDA:
    """Return a random model, made where it will be and in its type."""
    config = LLaDAConfig(
        blocks=case["layers"],
        width=case["width"],
        heads=case["heads"],
        mlp_width=3 * case["width"],
        rope_theta=500_000.0,
    )
    mask = case["vocabulary"] - 1
    architecture = Architecture.from_settings(config, case["vocabulary"], mask)
    dtype = getattr(torch, case["dtype"])
    before = torch.get_default_dtype()
    # On a CPU all types have the same weights, but for rounding.
    torch.set_default_dtype(torch.float32 if case["device"] == "cpu" else dtype)
    try:
        with global_seed(Noise(0)), torch.device(case["device"]):
            model = LLaDA(architecture, mask_id=mask)
    finally:
        torch.set_default_dtype(before)
    with torch.no_grad():
        model.head.weight *= case["sharp"]
    return model.to(dtype).eval().requires_grad_(False)


def prompts_of(case: dict[str, Any]) -> Tensor:
    """Return random prompts ``(B, P)``."""
    u = Noise(1).uniform(torch.arange(case["rows"]), case["prompt"])
    return (u * (case["vocabulary"] - 1)).long().to(case["device"])


def canvas_of(case: dict[str, Any]) -> Batch:
    """Return the prompts with masks behind them."""
    prompts = prompts_of(case)
    masks = torch.full_like(prompts[:, :1], case["vocabulary"] - 1)
    tokens = torch.cat([prompts, masks.expand(-1, case["answer"])], dim=1)
    place = torch.arange(tokens.shape[1], device=tokens.device)
    return Batch.of(tokens, frozen=(place < case["prompt"]).expand_as(tokens))


def ours(model: LLaDA, case: dict[str, Any]) -> Callable[[int], tuple[Tensor, int]]:
    """Return a function of the steps that decodes: tokens and forward passes."""
    canvas = canvas_of(case)
    settings = DecodeConfig(
        steps=case["steps"],
        block=case["block"],
        cache=case["cache"],
        threshold=case["threshold"],
        temperature=case["temperature"],
        batch_size=case["rows"],
    )

    def once(steps: int) -> tuple[Tensor, int]:
        sampled = decode(
            Denoiser(model, temperature=case["temperature"]),
            canvas,
            schedule=LogLinear(eps=0.0),
            noise=Noise(2),
            steps=steps,
            settings=settings,
        )
        return sampled.tokens, int(sampled.nfe.sum())

    return once


def published(
    forward: Callable[[Tensor], Tensor], case: dict[str, Any]
) -> Callable[[int], tuple[Tensor, int]]:
    """Return a function of the steps that runs the published loop."""
    prompts = prompts_of(case)

    def once(steps: int) -> tuple[Tensor, int]:
        with torch.no_grad(), global_seed(Noise(2)):
            tokens = textbook(
                forward,
                prompts,
                mask_id=case["vocabulary"] - 1,
                answer=case["answer"],
                block=case["block"],
                steps=steps,
                temperature=case["temperature"],
            )
        return tokens, steps

    return once


def everywhere(model: LLaDA) -> Callable[[Tensor], Tensor]:
    """Return the logits ``(b, L, V)`` of a model at every position."""

    def forward(tokens: Tensor) -> Tensor:
        return model.logits(model.hidden(Batch.of(tokens)))

    return forward


def as_llama(model: LLaDA) -> Callable[[Tensor], Tensor]:
    """Return the logits of transformers' Llama with the same weights."""
    from mdlm_llada.checkpoint.llama import to_llama

    llama = to_llama(model).eval()

    def forward(tokens: Tensor) -> Tensor:
        length = tokens.shape[1]
        see = torch.zeros(1, 1, length, length, dtype=llama.dtype)
        return llama(tokens, attention_mask=see, use_cache=False).logits

    return forward


def measure(case: dict[str, Any], model: LLaDA | None = None) -> dict[str, Any]:
    """Return the seconds of a case, its tokens and its forward passes."""
    model = model or model_of(case)
    if case["path"] == "ours":
        once = ours(model, case)
    else:
        forward = everywhere(model) if case["path"] == "textbook" else as_llama(model)
        once = published(forward, case)

    def wait() -> float:
        if torch.device(case["device"]).type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    once(case["answer"] // case["block"])  # warm-up
    start = wait()
    tokens, passes = once(case["steps"])
    seconds = wait() - start
    written = case["rows"] * case["answer"]
    return {
        "seconds": seconds,
        "passes": passes,
        "a_pass": written / passes,
        "tokens": tokens[:, case["prompt"] :].flatten().tolist(),
    }


if __name__ == "__main__":
    print(json.dumps(measure({**CASE, **json.loads(sys.argv[1])})))
