"""What can be compared is known, and its settings read, without torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mdlm_classify.candidates import CANDIDATES, choose, split_sets
from mdlm_core.errors import ConfigError, UnknownNameError, UsageError


def test_candidates_are_chosen_by_name() -> None:
    assert choose([]) == tuple(CANDIDATES)
    assert choose(["nb", "mdlm"]) == ("nb", "mdlm")
    with pytest.raises(UnknownNameError, match="did you mean 'tfidf-lr'"):
        choose(["tfidf"])
    with pytest.raises(UnknownNameError, match="there are nb, "):
        choose(["forest of trees"])
    with pytest.raises(UsageError, match="twice"):
        choose(["nb", "nb"])


def test_settings_are_for_all_or_for_one() -> None:
    every, of = split_sets(
        ["train.lr=1e-3", "mdlm:train.epochs=4", "data.tokenizer=words:500"]
    )
    assert every == {"train.lr": 1e-3, "data.tokenizer": "words:500"}
    assert of == {"mdlm": {"train.epochs": 4}}


def test_what_is_no_setting_is_refused() -> None:
    with pytest.raises(UsageError, match="'nb' has no settings"):
        split_sets(["nb:alpha=1"])
    with pytest.raises(ConfigError, match="takes path=value"):
        split_sets(["mdlm:train.epochs"])


def test_names_and_settings_need_nothing_heavy() -> None:
    program = (
        "import sys; import mdlm_classify.candidates as c, mdlm_classify.cli.compare; "
        "c.split_sets(['train.lr=1']); "
        "print(sorted({'torch', 'numpy', 'sklearn', 'scipy'} & set(sys.modules)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"
