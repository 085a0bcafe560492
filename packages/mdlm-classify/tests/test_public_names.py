"""A public name is the same object however often, and in whatever order, it is read."""

from __future__ import annotations

import inspect

import mdlm_classify
import mdlm_classify.cli.compare


def test_no_public_name_is_hidden_by_a_module() -> None:
    for _ in range(2):
        for name in mdlm_classify.__all__:
            assert not inspect.ismodule(getattr(mdlm_classify, name)), name
    assert inspect.isfunction(mdlm_classify.compare)
    assert mdlm_classify.baseline("nb") is not None


def test_the_public_names_are_listed_alone() -> None:
    assert dir(mdlm_classify) == sorted(mdlm_classify.__all__)
    assert "baseline" in dir(mdlm_classify)
