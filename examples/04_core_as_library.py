"""Use the core as a library: a model, a loss, a bound and a sampler, in a plain loop.

What to look for: a row is two digits and their sum, such as 7 5 1 2, so a row has
log(100) = 4.605 nats of information, and no model can do better. The bound falls from
4 log(10) = 9.210, that of a model that knows nothing, towards that number, and nearly
all of the samples are right sums.
"""

import math

import torch

from mdlm_core.config.components import DiTConfig
from mdlm_core.data import Batch
from mdlm_core.diffusion import Draw, LogLinear, nelbo
from mdlm_core.diffusion.likelihood import exact_counts
from mdlm_core.kernels.noise import Noise, global_seed
from mdlm_core.nn import DiT
from mdlm_core.samplers import Denoiser, ancestral

VOCAB, MASK, LENGTH, ROWS, STEPS = 11, 10, 4, 256, 500


def sums(a: torch.Tensor, b: torch.Tensor) -> Batch:
    """Return rows ``(B, 4)``: a, b and the two digits of a + b."""
    return Batch.of(torch.stack([a, b, (a + b) // 10, (a + b) % 10], 1))


def main() -> None:
    noise, schedule = Noise(0), LogLinear()
    config = DiTConfig(
        blocks=2, width=64, heads=2, cond_width=32, dropout=0.0, conv_kernel=3
    )
    with global_seed(noise.child("weights")):
        model = DiT(config, vocab_size=VOCAB, mask_id=MASK, length=LENGTH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    slower = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0.05, STEPS)
    everything = sums(torch.arange(100) // 10, torch.arange(100) % 10)

    def measure(step: int) -> None:
        found = exact_counts(model, everything, draws=64, noise=noise.child("bound"))
        mean, error = found.per_token()
        print(f"step {step}: at most {4 * mean:.3f} +- {4 * error:.3f} nats per row")

    for step in range(STEPS):
        if step % 100 == 0:
            measure(step)
        rows = torch.arange(ROWS)
        a, b = (10 * noise.uniform(rows + ROWS * step, 2)).long().unbind(1)
        draw = Draw(noise.child("step", step), rows, ROWS)
        batch = sums(a, b)
        loss = nelbo(model, batch, schedule=schedule, draw=draw, t_sampling="counts")
        optimizer.zero_grad()
        (loss.total / loss.count).backward()
        optimizer.step()
        slower.step()
    measure(STEPS)
    print(f"a row has {math.log(100):.3f} nats")

    canvas = Batch.of(torch.full((200, LENGTH), MASK))
    found = ancestral(
        Denoiser(model), canvas, schedule=schedule, noise=noise.child("x"), steps=64
    ).tokens
    a, b, tens, ones = found.unbind(1)
    right = (a + b == 10 * tens + ones).float().mean()
    print(f"{right:.0%} of 200 samples are right sums, such as", *found[0].tolist())

    canvas.tokens[:, 2:] = torch.tensor([1, 2])  # which two digits add up to 12?
    found = ancestral(
        Denoiser(model), canvas, schedule=schedule, noise=noise.child("y"), steps=64
    ).tokens
    pairs = sorted({(a, b) for a, b, *_ in found.tolist()})
    print("two digits that add up to 12:", ", ".join(f"{a}+{b}" for a, b in pairs))


if __name__ == "__main__":
    main()
