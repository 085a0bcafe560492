"""``python -m mdlm_personality.train_stage1``: the encoder, as in the original.

See `train_causal_mdlm`.
"""

from __future__ import annotations

from typing import NoReturn

from .train_causal_mdlm import training

train_stage1 = training("train_stage1")


def main() -> NoReturn:
    """Run the command."""
    from mdlm_core.cli import run_module

    run_module(train_stage1, "mdlm_personality.train_stage1", any_option=True)


if __name__ == "__main__":
    main()
