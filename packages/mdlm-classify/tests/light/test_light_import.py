"""The package is light until a classifier is asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

import mdlm_classify


def test_importing_the_package_imports_nothing_heavy() -> None:
    program = (
        "import mdlm_classify, sys;"
        "heavy = {'torch', 'numpy', 'scipy', 'sklearn', 'transformers', 'pandas'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


def test_public_names_are_listed() -> None:
    assert {"MDLMClassifier", "compare", "load_classifier"} <= set(dir(mdlm_classify))
    assert set(mdlm_classify.__all__) <= set(dir(mdlm_classify))
    with pytest.raises(AttributeError, match="Classifier"):
        mdlm_classify.Classifier  # noqa: B018
