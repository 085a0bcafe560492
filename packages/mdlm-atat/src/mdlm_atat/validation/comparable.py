"""Check 7: variants differ in what they are about, and in nothing else. Light."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mdlm_atat.variants import TIMES, Variant
from mdlm_core.config import RunConfig, to_dict
from mdlm_core.config.layers import leaves

from .report import Finding, failed, passed, warned

_NAMES = {
    "data.tokenizer": "the tokenizer",
    "data.holdout": "the split",
    "data.": "the data",
    "task.eval_": "the evaluation",
    "train.steps": "the steps",
    "train.batch_size": "the batch",
    "train.": "the training",
    "model.": "the denoiser",
    "schedule.": "the schedule",
    "seed": "the seeds",
}


def comparable(
    configs: Mapping[str, RunConfig], variants: Mapping[str, Variant]
) -> Iterator[Finding]:
    """Compare every variant's settings with those of the first one.

    Args:
        configs: variant -> its settings with the same seed.
        variants: variant -> what it is.
    """
    trees = {name: dict(leaves(to_dict(config))) for name, config in configs.items()}
    if len(trees) < 2:
        yield passed("one variant, nothing to compare")
        return
    (first, reference), *others = trees.items()
    wrong = False
    for name, tree in others:
        for path, mine, other in _differences(tree, reference):
            if path.startswith("masking.") or path == TIMES:
                continue
            if path == "train.steps" and variants[name].time_matched:
                continue
            wrong = True
            what = next(
                (text for key, text in _NAMES.items() if path.startswith(key)), path
            )
            told = (
                f"{what} differs: {path} is {mine!r} in {name} and {other!r} in {first}"
            )
            if path.startswith(("sampler.", "task.")) and not path.startswith(
                "task.eval_"
            ):
                yield warned(told, "say so beside the numbers, or make them equal")
            else:
                yield failed(told, f"give all variants the same {path}")
    if not wrong:
        yield passed(
            f"{len(trees)} variants have the same tokenizer, data, split, evaluation, "
            f"seeds, steps and batch; they differ in {_about(trees)}"
        )
    for name, variant in variants.items():
        if variant.time_matched:
            yield warned(
                f"{name}: its steps are decided by the time that "
                f"{variant.time_matched} takes",
                "compare it at equal time, not at equal steps",
            )


def _differences(
    tree: Mapping[str, Any], reference: Mapping[str, Any]
) -> Iterator[tuple[str, Any, Any]]:
    for path in dict.fromkeys((*reference, *tree)):
        mine, other = tree.get(path, "not set"), reference.get(path, "not set")
        if mine != other:
            yield path, mine, other


def _about(trees: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the settings in which any two differ."""
    (_, reference), *others = trees.items()
    found = {path for _, tree in others for path, _, _ in _differences(tree, reference)}
    sections = sorted({path.partition(".")[0] for path in found})
    return ", ".join(sections) or "nothing"
