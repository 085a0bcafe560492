"""Settings outside their range are refused before anything heavy is imported."""

import pytest

from mdlm_core import load_catalog
from mdlm_core.config import resolve
from mdlm_core.errors import ConfigError


@pytest.mark.parametrize(
    "sets",
    [
        ["train.beta2=1.5"],
        ["train.adam_eps=-1"],
        ["train.lr_min_ratio=-3"],
        ["train.decay_fraction=2"],
        ["train.keep_last=0"],
        ["task.eval_rows=-5"],
        ["task.sample_count=-1"],
        ["sampler.top_k=-1"],
        ["sampler.name=confidence", "sampler.threshold=7"],
        ["sampler.name=semi-ar", "sampler.block=0"],
        ["sampler.name=semi-ar", "sampler.steps=0"],
        ["sampler.name=semi-ar", "sampler.threshold=-1"],
        ["data.length=0"],
        ["data.max_documents=-1"],
        ["data.holdout=1"],
    ],
    ids=" ".join,
)
def test_a_value_out_of_range_is_named_with_its_rule(sets):
    path, _, value = sets[-1].partition("=")
    with pytest.raises(ConfigError, match=rf"{path} is {value}.*; it must be"):
        resolve(load_catalog(), sets=sets)


def test_values_at_the_ends_of_their_ranges_are_taken():
    resolve(
        load_catalog(),
        sets=[
            "train.lr_min_ratio=1",
            "train.ema=0",
            "sampler.name=semi-ar",
            "sampler.inner=confidence",
            "sampler.threshold=1",
            "sampler.block=1",
        ],
    )
