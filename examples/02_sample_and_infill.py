"""Sample from a model, go on from a prompt, and fill in a blank.

What to look for: the model has learned sentences about colours. Whatever is given,
before or after the blank, stays as it is, and what is filled in fits both sides. The
samplers differ in how often they ask the model (NFE, forward passes per text).
"""

import tempfile
from itertools import product
from pathlib import Path

from mdlm_core import load_catalog
from mdlm_core.config import resolve
from mdlm_core.config.components import SamplerConfig, TextConfig
from mdlm_core.data import PackedSource
from mdlm_core.diffusion import LogLinear
from mdlm_core.samplers import confidence, first_hitting, sample_text
from mdlm_core.train import load_run, train

COLOURS = {"sky": "blue", "grass": "green", "snow": "white", "coal": "black"}
LENGTH = 28
SETTINGS = [
    "model={blocks: 2, width: 96, heads: 2, cond_width: 32, conv_kernel: 5}",
    "task={name: pretrain, eval_rows: 16, sample_count: 1}",
    "train.steps=450",
    "train.batch_size=32",
    "train.lr=3e-3",
    "train.warmup=10",
    "train.ema=0.9",
    "train.precision=fp32",
    "train.eval_every=0",
    "train.save_every=0",
]


def sentences() -> list[str]:
    """Return sentences that all have LENGTH - 1 letters."""
    made = []
    for number, (thing, colour), day in product(
        range(40), COLOURS.items(), ("today", "again")
    ):
        text = f"{number:02d} the {thing} is {colour} {day}"
        made.append(text.ljust(LENGTH - 1, "."))
    return made


def main() -> None:
    catalog = load_catalog()
    source = PackedSource.from_documents(
        sentences(), TextConfig(length=LENGTH, tokenizer="char", holdout=0.1)
    )
    config = resolve(catalog, sets=SETTINGS).config
    with tempfile.TemporaryDirectory() as folder:
        out = train(config, out=Path(folder) / "run", device="cpu", source=source)
        model = load_run(out.folder, device="cpu").backbone
    schedule, tokenizer = LogLinear(), source.tokenizer

    def show(title: str, prompt: str = "", **settings: object) -> None:
        found = sample_text(
            model,
            tokenizer,
            schedule=schedule,
            length=LENGTH,
            num=3,
            prompt=prompt,
            config=SamplerConfig(steps=64),
            **settings,
        )
        print(f"{title}; NFE {found.nfe.tolist()}")
        print("".join(f"    {text}\n" for text in found.texts), end="")

    show("from nothing, ancestral")
    show("from nothing, one token at a time", sampler=first_hitting)
    show("from nothing, surest first", sampler=confidence)
    show("after '07 the snow'", prompt="07 the snow")
    show("between two sides", prompt="____{2} the ____{4} is black again.")


if __name__ == "__main__":
    main()
