"""An intervention from the trait to the words, with mdlm-personality.

What to look for: `do` sets the trait exactly, moves what depends on it and nothing
else; the pair of texts shares its noise, so that it differs only in what follows; and
the judge, which knows the law of these invented persons, reads the change. The model
is trained for seconds, so that its texts are rough.
"""

import tempfile
from pathlib import Path

import numpy as np

from mdlm_core.catalog import load_catalog
from mdlm_core.config import resolve
from mdlm_core.train.start import train
from mdlm_personality import changes, counterfactual_pair, judge, load
from mdlm_personality.config import GuidanceConfig
from mdlm_personality.generation.changes import marked
from mdlm_personality.traits import TRAITS

SETTINGS = (
    "train.steps=400",
    "train.batch_size=24",
    "train.precision=fp32",
    "data.authors=600",
    "data.sentences=24",
    "data.length=32",
    "model.width=64",
    "task.sample_count=0",
    "task.eval_rows=32",
)
PERSONA = (0.9, 0.5, 0.9, 0.5, 0.1)


def main() -> None:
    """Train for seconds, then ask what an extravert would have written otherwise."""
    config = resolve(load_catalog(), plugin="personality", sets=SETTINGS).config
    with tempfile.TemporaryDirectory() as folder:
        outcome = train(config, out=Path(folder) / "run")
        trained = load(outcome.folder, device="cpu")
        pair = counterfactual_pair(
            trained,
            PERSONA,
            {"extraversion": 0.1},
            num=24,
            guidance=GuidanceConfig(scale=3.0),
        )
    print("what moves:")
    for moved in pair.moved(trained.persona)[:4]:
        print(f"  {moved.name:18s} {moved.before:.2f} -> {moved.after:.2f}")
    texts = zip(pair.factual.texts[:2], pair.counterfactual.texts[:2], strict=True)
    for before, after in texts:
        print(marked(changes(before, after)))

    factual = judge(pair.factual.texts).mean[:, :5]
    other = judge(pair.counterfactual.texts).mean[:, :5]
    print("judged from the words, means of 24 texts:")
    for trait, a, b in zip(
        TRAITS, np.nanmean(factual, 0), np.nanmean(other, 0), strict=True
    ):
        print(f"  {trait:18s} {a:.2f} -> {b:.2f}")


if __name__ == "__main__":
    main()
