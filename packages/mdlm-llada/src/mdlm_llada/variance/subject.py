"""What the variance is measured of: a run with its data, or a model with a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from torch import nn

from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import LogLinear
from mdlm_core.errors import DataError
from mdlm_core.kernels.noise import Noise
from mdlm_core.protocols import DataSource, MaskingPolicy, Schedule, Tokenizer
from mdlm_llada.config import ProcessedConfig, SFTConfig, TimesConfig
from mdlm_llada.data.processed import read_processed
from mdlm_llada.data.rows import Gathered
from mdlm_llada.data.sidecar import Sidecar
from mdlm_llada.data.sources import RowSource
from mdlm_llada.sft.density import Density
from mdlm_llada.sft.measure import TimeLaw

if TYPE_CHECKING:
    from mdlm_core.catalog import Catalog


@dataclass(frozen=True, slots=True)
class Subject:
    """A model, its rows, and how it is trained."""

    name: str
    backbone: nn.Module
    rows: Batch
    schedule: Schedule
    policy: MaskingPolicy | None
    t_min: float
    times: TimesConfig
    own: Density | None
    """The density that the run draws its times from, if it was fitted."""
    batch: int
    """Rows of a global batch."""


def of_run(
    path: Path,
    *,
    rows: int,
    data: Path | None = None,
    max_length: int = 4096,
    noise: Noise,
    device: str | None = None,
    checkpoint: str | int = "last",
    weights: str = "raw",
    catalog: Catalog | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Subject:
    """Return a run with rows of its training data, or of a file.

    Schedule, masking policy, times and batch size are those of the run.

    Raises:
        ConfigError: if `path` is no run.
        DataError: if there are too few rows.
    """
    from mdlm_core.train import load_run

    run = load_run(
        path,
        device=device or "auto",
        weights=weights,
        checkpoint=checkpoint,
        catalog=catalog,
        say=say,
    )
    module = run.module
    backbone = cast("nn.Module", module.backbone)
    task = run.config.task.config
    law = getattr(module, "times", None)
    fitted = isinstance(law, TimeLaw) and int(law.measured) >= 0
    source: DataSource = run.source
    if data is not None:
        source = read_file(data, run.tokenizer, max_length)
    return Subject(
        name=str(path),
        backbone=backbone,
        rows=draw_rows(source, rows, noise).to(next(backbone.parameters()).device),
        schedule=run.schedule,
        policy=cast("MaskingPolicy | None", getattr(module, "policy", None)),
        t_min=float(getattr(module, "t_min", SFTConfig().t_min)),
        times=task.times if isinstance(task, SFTConfig) else TimesConfig(),
        own=cast("TimeLaw", law).cpu().law if fitted else None,
        batch=run.config.train.batch_size,
    )


def of_model(
    path: str,
    data: Path,
    *,
    rows: int,
    max_length: int = 4096,
    noise: Noise,
    device: str | None = None,
) -> Subject:
    """Return a checkpoint with rows of a file, under uniform masks as LLaDA has them.

    Raises:
        CheckpointError: if the checkpoint is damaged.
        DataError: if the file is broken, of another tokenizer, or has too few rows.
    """
    from mdlm_llada.models import load_model

    model = load_model(path, device=device)
    source = read_file(data, model.tokenizer, max_length)
    return Subject(
        name=path,
        backbone=model.module,
        rows=draw_rows(source, rows, noise).to(model.device),
        schedule=LogLinear(eps=0.0),
        policy=None,
        t_min=SFTConfig().t_min,
        times=TimesConfig(),
        own=None,
        batch=32,
    )


def read_file(path: Path, tokenizer: Tokenizer, max_length: int) -> RowSource:
    """Return the rows of a file of token ids, see `mdlm llada preprocess`.

    Raises:
        DataError: if it is broken, was made with another tokenizer, or has no row of
            at most `max_length` tokens.
    """
    config = ProcessedConfig(path=str(path), max_length=max_length, train_ratio=1.0)
    sidecar = Sidecar.read(path)
    if sidecar is not None:
        sidecar.check(path, tokenizer)
    found, none = Gathered(config), Gathered(config)
    for row in read_processed(path, tokenizer):
        found.add(row)
    if sidecar is not None:
        sidecar.check_file(path)
    found.fit.check(f"'{path}'")
    found.fit.tell(f"'{path}'")
    splits = {"train": found.rows(), "validation": none.rows()}
    return RowSource(tokenizer, splits, config)


def draw_rows(source: DataSource, count: int, noise: Noise) -> Batch:
    """Return `count` random training rows.

    Raises:
        DataError: if there are not so many.
    """
    known = source.size("train")
    if known is not None and known < count:
        raise DataError(
            f"there are {known} rows to learn from, and --rows asks for {count}; ask "
            f"for fewer or give more data"
        )
    return next(source.batches("train", size=count, seed=noise.integer()))
