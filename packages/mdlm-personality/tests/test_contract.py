"""mdlm-personality keeps the plugin contract."""

from mdlm_core.testing import contract

BROKEN = {
    "backbone-personality-dit-every_parameter_gets_a_gradient": (
        "the causal layer learns from what is known of a person, which rows of tokens "
        "do not tell; test_stages.py has each stage teach its own weights"
    )
}

test_contract = contract("personality", broken=BROKEN)
