"""The contract that every plugin keeps, and small things to test plugins with.

A plugin's whole contract test is two lines::

    from mdlm_core.testing import contract

    test_contract = contract("haiku")

pytest is imported only when `contract` is called, and nothing here is a pytest
plugin by itself; fixtures are in `mdlm_core.testing.fixtures`, for whoever asks.
"""

from .contract import Verdict, check, contract, fresh_plugins
from .law import BrokenLaw
from .tiny import tiny_batch, tiny_canvas, tiny_source, tiny_vocab

__all__ = [
    "BrokenLaw",
    "Verdict",
    "check",
    "contract",
    "fresh_plugins",
    "tiny_batch",
    "tiny_canvas",
    "tiny_source",
    "tiny_vocab",
]
