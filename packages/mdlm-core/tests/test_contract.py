"""Core's own components keep the contract."""

from importlib.util import find_spec
from pathlib import Path

from mdlm_core.testing import contract

SUMS = Path(__file__).parent / "data"
SETTINGS = {
    "dataset-text": {"path": str(SUMS / "sums.txt"), "split_on": "blank-line"},
    "dataset-jsonl": {"path": str(SUMS / "sums.jsonl")},
}
if find_spec("datasets"):
    SETTINGS["dataset-hf"] = {"path": str(SUMS / "table")}

test_contract = contract("core", settings=SETTINGS)
