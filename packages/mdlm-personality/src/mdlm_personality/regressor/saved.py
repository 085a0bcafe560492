"""Load a trained regressor from its run folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mdlm_core.catalog import Catalog
from mdlm_core.errors import UsageError
from mdlm_core.protocols import Tokenizer
from mdlm_core.train.runs import load_run

from .model import TraitRegressor


def load_regressor(
    run: Path | str,
    *,
    tokenizer: Tokenizer | None = None,
    device: str = "auto",
    weights: str = "ema",
    checkpoint: str | int = "best",
    catalog: Catalog | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> TraitRegressor:
    """Load a regressor; see `mdlm_core.train.runs.load_run`.

    Args:
        run: the folder.
        tokenizer: that of the model to guide, which must be the regressor's.
        device: "auto" takes a GPU if there is one.
        weights: "ema" or "raw".
        checkpoint: "best", "last" or the number of a step.
        catalog: where components come from; by default the installed plugins.
        say: told about damaged checkpoints that were passed over.

    Raises:
        UsageError: if the run is no regressor, or of another tokenizer.
    """
    loaded = load_run(
        run,
        device=device,
        weights=weights,
        checkpoint=checkpoint,
        catalog=catalog,
        say=say,
    )
    if not isinstance(loaded.module, TraitRegressor):
        raise UsageError(
            f"the run '{run}' has the task '{loaded.config.task.name}', and guidance "
            f"needs a trait-regressor; train one with "
            f"'mdlm train --preset personality/regressor --out FOLDER'"
        )
    if tokenizer is not None:
        own, other = loaded.tokenizer.fingerprint(), tokenizer.fingerprint()
        if own != other:
            raise UsageError(
                f"the regressor '{run}' has the tokenizer '{loaded.tokenizer.name}' "
                f"({own}), and the model to guide '{tokenizer.name}' ({other}); train "
                f"it on the data of the model, with the same data settings"
            )
    return loaded.module
