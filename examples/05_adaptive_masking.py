"""Hide tokens by a learned importance, with mdlm-atat, in a plain loop.

What to look for: the mean chance to be hidden is the schedule's, 0.4995 at t = 0.5, at
every stage of training. In the warm-up each letter has just that chance. Later rare
letters are hidden more often than frequent ones, and what the network takes for hard
more often than the rest. At the end the chances are equal again: the model has learned
from the masks under which it is measured.
"""

import torch

from mdlm_atat.config import AtatConfig, CurriculumConfig, ImportanceConfig
from mdlm_atat.policy import AdaptiveMasking
from mdlm_core.config.components import DiTConfig, PythonDocsConfig
from mdlm_core.data.python_docs import build
from mdlm_core.diffusion import Draw, LogLinear, rates_of
from mdlm_core.diffusion.likelihood import exact_counts
from mdlm_core.kernels.noise import Noise, global_seed
from mdlm_core.nn import DiT
from mdlm_core.tasks import MaskedDiffusion

STEPS, ROWS, LENGTH = 200, 32, 64
POLICY = AtatConfig(
    temperature=1.0,
    importance=ImportanceConfig(
        width=32, blocks=1, heads=2, conv_kernel=5, frequency_tokens=100_000
    ),
    curriculum=CurriculumConfig(preset="early"),
)


def main() -> None:
    noise, schedule = Noise(0), LogLinear()
    source = build(PythonDocsConfig(length=LENGTH, max_documents=300))
    tokenizer = source.tokenizer
    with global_seed(noise.child("weights")):
        model = DiT(
            DiTConfig(blocks=2, width=96, heads=2, cond_width=32, conv_kernel=7),
            vocab_size=tokenizer.vocab_size,
            mask_id=tokenizer.mask_id,
            length=LENGTH,
        )
        policy = AdaptiveMasking(POLICY, source=source)
    module = MaskedDiffusion(model, schedule=schedule, policy=policy)
    optimizer = torch.optim.AdamW(module.parameters(), lr=3e-3)
    batches = source.batches("train", size=ROWS, seed=0)
    held_out = next(source.batches("validation", size=128, seed=0))

    def show(step: int) -> None:
        t = torch.full((len(held_out),), 0.5, dtype=torch.float64)
        with torch.no_grad():
            rates = rates_of(policy, held_out, t, schedule, noise)
        chance = rates.mask_prob.expand(held_out.tokens.shape)
        letters = {
            letter: float(chance[held_out.tokens == ord(letter)].mean())
            for letter in " exz"
        }
        each = ", ".join(f"'{name}' {value:.4f}" for name, value in letters.items())
        stage = f"step {step}, {policy.curriculum.stage}"
        print(f"{stage}: hidden with chance {chance.mean():.4f}; {each}")

    for step in range(STEPS):
        module.advance(step, STEPS)
        if step in (0, STEPS // 3, 2 * STEPS // 3, STEPS - 1):
            show(step)
        draw = Draw(noise, torch.arange(ROWS), ROWS, step)
        loss = module(next(batches), draw)
        optimizer.zero_grad()
        (loss.total / loss.count).backward()
        optimizer.step()
    model.eval()
    found = exact_counts(model, held_out, draws=4, noise=noise.child("bound"))
    mean, error = found.per_token()
    print(f"held out: at most {mean:.3f} +- {error:.3f} nats per byte")


if __name__ == "__main__":
    main()
