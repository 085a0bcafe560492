"""mdlm-personality keeps the plugin contract."""

from mdlm_core.testing import contract

test_contract = contract("personality")
