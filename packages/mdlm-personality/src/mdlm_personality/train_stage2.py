"""``python -m mdlm_personality.train_stage2``: the causal layer, as in the original.

See `train_causal_mdlm`.
"""

from __future__ import annotations

from typing import NoReturn

from .train_causal_mdlm import training

train_stage2 = training("train_stage2")


def main() -> NoReturn:
    """Run the command."""
    from mdlm_core.cli import run_module

    run_module(train_stage2, "mdlm_personality.train_stage2", any_option=True)


if __name__ == "__main__":
    main()
