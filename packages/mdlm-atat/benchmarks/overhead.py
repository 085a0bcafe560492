"""What adaptive masking adds to a training step, as a ratio of one run.

    python packages/mdlm-atat/benchmarks/overhead.py              # DiT-small
    python packages/mdlm-atat/benchmarks/overhead.py --device cuda --rows 32

The model is the reference's `small`: 12 blocks of width 768, L = 1024, V = 50258. A
step is what training does: rates, corruption, loss, gradients, clipping, AdamW and the
average of the weights. Uniform and adaptive masking take turns on one backbone, and the
bias is at full strength. Printed are the median seconds of a step and, as the result,
the median of the ratios of neighbouring steps.
"""

from __future__ import annotations

import argparse
import statistics
import time
from types import SimpleNamespace

import torch

from mdlm_atat.config import AtatConfig, CurriculumConfig, ImportanceConfig
from mdlm_atat.policy import build
from mdlm_core.config.components import DiTConfig
from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import Draw, LogLinear
from mdlm_core.kernels import Noise
from mdlm_core.kernels.ema import Ema
from mdlm_core.kernels.noise import global_seed
from mdlm_core.masking import UniformMasking
from mdlm_core.nn import DiT
from mdlm_core.tasks import MaskedDiffusion

V, MASK = 50258, 50257
STEPS = 1000


class Words:
    """A source of random rows, for the ranks by frequency."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.tokenizer = SimpleNamespace(vocab_size=V, mask_id=MASK, pad_id=0)

    def size(self, split: str) -> int:
        """Return the rows of a split."""
        return 64

    def batches(self, split, *, size, seed, start=0, rank=0, world=1):
        """Yield random rows for ever."""
        number = start
        while True:
            yield rows_of(size, self.length, Noise(seed).child(number))
            number += 1


def rows_of(count: int, length: int, noise: Noise) -> Batch:
    """Return rows in which small ids are the frequent ones."""
    u = noise.uniform(torch.arange(count), length)
    return Batch.of((u.pow(4) * (V - 1)).long())


def stepper(module, batch, draw, autocast):
    """Return a function that makes one training step, and waits for it."""
    device = batch.tokens.device.type
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-6, fused=True)
    average = Ema(module.named_parameters(), 0.9999)

    def step() -> float:
        start = time.perf_counter()
        module.advance(STEPS // 2, STEPS)
        with torch.autocast(device, torch.bfloat16, enabled=autocast):
            loss = module(batch, draw)
        (loss.total / loss.count).backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        average.update()
        optimizer.zero_grad(set_to_none=True)
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    return step


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--length", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--bf16", action="store_true")
    given = parser.parse_args()
    with global_seed(Noise(0)):
        backbone = DiT(
            DiTConfig(dropout=0.0), vocab_size=V, mask_id=MASK, length=given.length
        )
        policy = build(
            AtatConfig(
                importance=ImportanceConfig(frequency_tokens=100_000),
                strategy="proportional",
                curriculum=CurriculumConfig(preset="none"),
            ),
            source=Words(given.length),
        )
    batch = rows_of(given.rows, given.length, Noise(1)).to(given.device)
    draw = Draw(Noise(2), batch.sample_id, given.rows)
    steps = {}
    for name, chosen in (("uniform", UniformMasking()), ("adaptive", policy)):
        module = MaskedDiffusion(backbone, schedule=LogLinear(), policy=chosen)
        steps[name] = stepper(module.to(given.device).train(), batch, draw, given.bf16)
    seconds = {name: [] for name in steps}
    for turn in range(given.repeats + 1):
        for name, step in steps.items():
            taken = step()
            if turn:  # the first is warm-up
                seconds[name].append(taken)
    ratios = [a / u for u, a in zip(*seconds.values(), strict=True)]
    sizes = [sum(p.numel() for p in m.parameters()) for m in (backbone, policy)]
    print(f"parameters: {sizes[0]:,} of the model, {sizes[1]:,} of the policy")
    for name, values in seconds.items():
        spread = f"{min(values):.3f} to {max(values):.3f}"
        print(f"{name}: {statistics.median(values):.3f} s a step ({spread})")
    print(
        f"adaptive / uniform: {statistics.median(ratios):.3f} "
        f"({min(ratios):.3f} to {max(ratios):.3f}, {len(ratios)} pairs)"
    )


if __name__ == "__main__":
    main()
