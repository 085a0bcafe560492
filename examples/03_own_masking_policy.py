"""Decide which tokens are hidden first, with a masking policy of one's own.

What to look for: the policy hides the end of a row later than its beginning, and the
mean over the row still follows the schedule, so the loss keeps its meaning. Both
models learn the same rows in the same number of steps, and both are measured by the
same bound, whatever they were trained with. To choose a policy by name, in a file of
settings, put it into a plugin: `mdlm new-plugin`.
"""

import torch

from mdlm_core.config.components import DiTConfig
from mdlm_core.data import Batch
from mdlm_core.diffusion import Draw, LogLinear, nelbo
from mdlm_core.diffusion.likelihood import exact_counts
from mdlm_core.kernels.noise import Noise, global_seed
from mdlm_core.masking import UniformMasking
from mdlm_core.nn import DiT
from mdlm_core.protocols import MaskingPolicy, Rates, Schedule

VOCAB, MASK, LENGTH, ROWS, STEPS = 11, 10, 16, 64, 150


class EndLater:
    """With mask rate m and a slope c from 1 to -1 along the row, p = m + c m (1 - m)/2.

    The weight p'(t) / p(t) is that of a bound on -log p.
    """

    def rates(self, batch: Batch, t: torch.Tensor, schedule: Schedule) -> Rates:
        """Return chances and weights ``(B, L)`` at the times `t` ``(B,)``."""
        slope = 0.5 * torch.linspace(1, -1, batch.length, dtype=t.dtype)  # (L,)
        rate = schedule.mask_rate(t)[:, None]  # (B, 1)
        above = 1 + slope * (1 - rate)
        weight = schedule.weight(t)[:, None] * (1 + slope * (1 - 2 * rate)) / above
        return Rates(rate * above, weight)


def rows(noise: Noise) -> Batch:
    """Return rows that count from a random digit in random steps of 1, 2 or 3."""
    u = noise.uniform(torch.arange(ROWS), 2)
    start, step = (10 * u[:, :1]).long(), 1 + (3 * u[:, 1:]).long()
    return Batch.of((start + step * torch.arange(LENGTH)) % 10)


def learn(policy: MaskingPolicy) -> DiT:
    config = DiTConfig(
        blocks=2, width=64, heads=2, cond_width=32, dropout=0.0, conv_kernel=5
    )
    noise = Noise(0)
    with global_seed(noise.child("weights")):
        model = DiT(config, vocab_size=VOCAB, mask_id=MASK, length=LENGTH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(STEPS):
        draw = Draw(noise.child("step", step), torch.arange(ROWS), ROWS)
        batch = rows(noise.child("rows", step))
        loss = nelbo(model, batch, schedule=LogLinear(), draw=draw, policy=policy)
        optimizer.zero_grad()
        (loss.total / loss.count).backward()
        optimizer.step()
    return model.eval()


def main() -> None:
    one = Batch.of(torch.zeros(1, LENGTH, dtype=torch.int64))
    t = torch.tensor([0.5], dtype=torch.float64)
    chances = EndLater().rates(one, t, LogLinear()).mask_prob[0]
    print("chance to be hidden at t = 0.5, along the row:")
    print("   ", " ".join(f"{chance:.2f}" for chance in chances))
    print(f"    mean {chances.mean():.4f}; the schedule says 0.4995")
    held_out = rows(Noise(1))
    for policy in (UniformMasking(), EndLater()):
        found = exact_counts(learn(policy), held_out, draws=32, noise=Noise(2))
        mean, error = found.per_token()
        name = type(policy).__name__
        print(f"{name}: at most {mean:.3f} +- {error:.3f} nats per token")


if __name__ == "__main__":
    main()
