"""The part of `decoding.py` for an accelerator: a random model shaped as LLaDA-8B.

Decoding in bf16: tokens per second of every path, with one row and with eight. Then a
step of fine-tuning, all weights: seconds, memory, and model FLOPs utilisation, which is
the FLOPs that the model needs over what the same device does in one large product.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from decoding_worker import CASE, measure, model_of

from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import Draw, LogLinear
from mdlm_core.kernels.noise import Noise
from mdlm_core.masking import UniformMasking
from mdlm_llada.config import TimesConfig
from mdlm_llada.sft.measure import TimeLaw
from mdlm_llada.sft.module import FineTuning

EIGHT = {
    "layers": 32,
    "width": 4096,
    "heads": 32,
    "vocabulary": 126464,
    "dtype": "bfloat16",
}
TINY = {"layers": 2, "width": 64, "heads": 2, "vocabulary": 300, "dtype": "bfloat16"}


def report(device: str, *, quick: bool) -> None:
    """Measure and print; `quick` takes a tiny model, to see that everything runs."""
    shape = {**CASE, **(TINY if quick else EIGHT), "device": device}
    if quick:
        shape |= {"prompt": 8, "answer": 16, "block": 8, "steps": 8}
    decoding(shape, rounds=1 if quick else 3)
    training(shape, length=64 if quick else 4096, rounds=1 if quick else 4)


def decoding(shape: dict[str, Any], rounds: int) -> None:
    """Print the tokens per second of every path."""
    model = model_of(shape)
    paths: list[dict[str, Any]] = [
        {"name": "published loop", "path": "textbook"},
        {"name": "exact", "path": "ours"},
        {"name": "prefix cache", "path": "ours", "cache": "approx-prefix"},
        {"name": "dual cache", "path": "ours", "cache": "approx-dual"},
        {"name": "published loop, T 1", "path": "textbook", "temperature": 1.0},
        {"name": "exact, T 1", "path": "ours", "temperature": 1.0},
        {
            "name": "dual cache, threshold 0.9",
            "path": "ours",
            "cache": "approx-dual",
            "threshold": 0.9,
            "sharp": 50.0 * (512 / shape["width"]) ** 0.5,
        },
    ]
    size = sum(parameter.numel() for parameter in model.parameters())
    print(f"{size / 1e9:.2f} B parameters, {shape['dtype']}, {shape['device']}")
    print(f"{'path':<28} {'rows':>4} {'tokens/s':>10} {'ratio':>6} {'a pass':>7}")
    for rows in (1, 8):
        seconds: dict[str, list[float]] = {}
        passes: dict[str, float] = {}
        for _ in range(rounds):
            for path in paths:
                if rows > 1 and path["path"] == "textbook":
                    continue
                case = {**shape, **path, "rows": rows}
                with scaled(model, case["sharp"]):
                    found = measure(case, model)
                seconds.setdefault(path["name"], []).append(found["seconds"])
                passes[path["name"]] = found["a_pass"]
        for name, taken in seconds.items():
            rate = rows * shape["answer"] / statistics.median(taken)
            loop = "published loop, T 1" if "T 1" in name else "published loop"
            base = seconds.get(loop)
            ratio = "-"
            if base:
                ratio = f"{statistics.median(base) / statistics.median(taken):.2f}"
            print(f"{name:<28} {rows:>4} {rate:>10.1f} {ratio:>6} {passes[name]:>7.2f}")


class scaled:
    """The model with its head scaled, inside the block."""

    def __init__(self, model: Any, factor: float) -> None:
        self.weight, self.factor = model.head.weight, factor

    def __enter__(self) -> None:
        with torch.no_grad():
            self.weight *= self.factor

    def __exit__(self, *_: object) -> None:
        with torch.no_grad():
            self.weight /= self.factor


def timed(device: str, once: Callable[[], None], rounds: int) -> float:
    """Return the median seconds of a call, after one to warm up."""
    taken = []
    for turn in range(rounds + 1):
        start = time.perf_counter()
        once()
        if torch.device(device).type == "cuda":
            torch.cuda.synchronize()
        if turn:
            taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def training(shape: dict[str, Any], length: int, rounds: int) -> None:
    """Print what a step of fine-tuning takes: a row of a prompt and an answer."""
    device, width, layers = shape["device"], shape["width"], shape["layers"]
    cuda = torch.device(device).type == "cuda"
    backbone = model_of(shape).train().requires_grad_(True)
    backbone.gradient_checkpointing = True
    module = FineTuning(
        backbone,
        schedule=LogLinear(eps=0.0),
        policy=UniformMasking(),
        times=TimeLaw(TimesConfig()),
    ).to(device)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-6, fused=cuda)
    u = Noise(3).uniform(torch.arange(1), length)
    tokens = (u * (shape["vocabulary"] - 1)).long().to(device)
    frozen = torch.arange(length, device=device) < length // 4
    batch = Batch.of(tokens, frozen=frozen.expand_as(tokens))
    hidden = []

    def step() -> None:
        draw = Draw(Noise(4), batch.sample_id, 1, step=len(hidden))
        loss = module(batch, draw)
        (loss.total / loss.count).backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        hidden.append(int(loss.masked.sum()))

    if cuda:
        torch.cuda.reset_peak_memory_stats()
    seconds = timed(device, step, rounds)
    a = torch.randn(8192 if cuda else 256, 8192 if cuda else 256, device=device)
    a = a.to(torch.bfloat16)
    rate = 2 * a.shape[0] ** 3 / timed(device, lambda: a @ a, 5)
    inside = sum(p.numel() for p in backbone.blocks.parameters())
    share = statistics.fmean(hidden) / length
    per_token = 6 * inside + 12 * layers * width * length
    per_token += 6 * width * shape["vocabulary"] * share
    flops = per_token * length
    print(
        f"fine-tuning, one row of {length} tokens, {share:.0%} masked, activations "
        f"recomputed, AdamW in bf16: {seconds:.3f} s a step, "
        f"{length / seconds:,.0f} tokens/s"
    )
    print(
        f"model FLOPs {flops / 1e12:.1f} T a step, {flops / seconds / 1e12:.1f} T/s; a "
        f"large product does {rate / 1e12:.1f} T/s: utilisation "
        f"{flops / seconds / rate:.1%}"
    )
    if cuda:
        memory = torch.cuda.max_memory_allocated() / 2**30
        print(f"memory at its most {memory:.1f} GiB")
