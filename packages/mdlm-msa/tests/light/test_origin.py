"""Rows that a model wrote are known by their headers."""

import subprocess
import sys

import pytest

from mdlm_msa.origin import by_model


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("mdlm|run|seed=0|row=1|nll=2.3", True),
        (" mdlm|run", True),
        ("mdlm", False),
        ("hit mdlm|run", False),
        ("", False),
    ],
)
def test_only_the_beginning_counts(header: str, expected: bool) -> None:
    assert by_model(header) == expected


def test_it_is_light() -> None:
    code = (
        "import sys, mdlm_msa.origin; "
        "assert not {'torch', 'numpy', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
