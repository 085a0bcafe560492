"""Models to decode with, from runs and from checkpoints alike."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from mdlm_core.data.pretrained import PretrainedTokenizer
from mdlm_core.errors import CheckpointError, ConfigError, UsageError
from mdlm_core.protocols import Backbone, Tokenizer
from mdlm_core.train.devices import choose_device

from .checkpoint.locate import locate
from .checkpoint.read import Dtype, read_checkpoint, read_config
from .checkpoint.write import CONFIG, PROMPTS, TOKENIZER_FILES
from .template import resolve_template
from .tokenizer import load_tokenizer, special_ids

if TYPE_CHECKING:
    from mdlm_core.catalog import Catalog
    from mdlm_core.train import LoadedRun

RUN = "config.yaml"
"""What a run folder has and a checkpoint has not."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model and what it takes to ask it something."""

    backbone: Backbone
    """The denoiser, in evaluation mode."""
    tokenizer: Tokenizer
    """Knows every id that the model can give."""
    template: str
    """How a prompt becomes text, see :func:`mdlm_llada.template.resolve_template`."""
    name: str
    """What was loaded, as it was asked for."""

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        parameter: nn.Parameter = next(self.module.parameters())
        return parameter.device

    @property
    def module(self) -> nn.Module:
        """The backbone, as a module."""
        assert isinstance(self.backbone, nn.Module)
        return self.backbone


def load_model(
    path: Path | str,
    *,
    device: str | None = "cpu",
    mask_token_id: int | None = None,
    dtype: Dtype = "auto",
    template: str = "auto",
    checkpoint: str | int = "best",
    weights: str = "ema",
    catalog: Catalog | None = None,
) -> LoadedModel:
    """Load a run, a checkpoint of the family, or any other model of transformers.

    Args:
        path: a run folder; or the folder of a checkpoint, or its name on the hub.
        device: where the model goes; None or "auto" takes a GPU if there is one.
        mask_token_id: the mask, for a checkpoint that does not name one.
        dtype: type of the weights; auto leaves them as they were saved.
        template: how a prompt becomes text; auto is what a run was trained with, and
            what fits the tokenizer for a checkpoint.
        checkpoint: of a run: "best", "last", or the number of a step.
        weights: of a run: "ema", or "raw".
        catalog: where the components of a run come from.

    Raises:
        CheckpointError: if files are missing or damaged, or do not fit together.
        ConfigError: if the mask is not known or cannot be one, or the tokenizer has
            more ids than the model.
        UsageError: if the device is not there, or the path is empty, or what is for a
            run alone is asked of a checkpoint.
    """
    if is_run(path):
        if mask_token_id is not None:
            raise UsageError(
                f"'{path}' is a run, which knows its mask; leave mask_token_id out"
            )
        return _from_run(
            path,
            device=device,
            dtype=dtype,
            template=template,
            checkpoint=checkpoint,
            weights=weights,
            catalog=catalog,
        )
    if (checkpoint, weights) != ("best", "ema"):
        raise UsageError(
            f"checkpoint is {checkpoint} and weights is {weights}, but '{path}' is no "
            f"run, which alone has several: leave them out"
        )
    folder = locate(path)
    where = choose_device(device)
    config = read_config(folder)
    if not any(any(folder.glob(files)) for files in TOKENIZER_FILES):
        raise CheckpointError(
            f"the checkpoint '{path}' has no tokenizer: there is no tokenizer.json "
            f"nor another file of one beside its {CONFIG}; copy them there from where "
            f"the model was published"
        )
    tokenizer = load_tokenizer(str(folder), mask_token_id)
    module: nn.Module
    if is_family(config):
        module = read_checkpoint(
            folder,
            mask_token_id=mask_token_id,
            vocab_size=_ids(folder, tokenizer, mask_token_id),
            dtype=dtype,
            device=where,
        )
        if tokenizer.mask_id != module.mask_id:
            tokenizer = load_tokenizer(str(folder), module.mask_id)
    else:
        module = _other(folder, tokenizer, mask_token_id, dtype).to(where)
    if template == "auto":
        template = _noted_template(folder)
    return _loaded(module, tokenizer, template, str(path))


def is_run(path: Path | str) -> bool:
    """Return whether `path` is a run folder.

    Raises:
        UsageError: if it is empty.
    """
    if not str(path).strip():
        raise UsageError(
            "the path of the model is empty; name a run, the folder of a checkpoint, "
            "or its name on the hub"
        )
    return (Path(path).expanduser() / RUN).is_file()


def is_family(config: dict[str, Any]) -> bool:
    """Return whether a config.json is of a format that is read here.

    One without ``architectures`` is taken for one, and refused when it is read if its
    fields say otherwise.
    """
    listed = config.get("architectures")
    names = [str(name) for name in listed] if isinstance(listed, list) else []
    return not names or any(name.startswith(("LLaDA", "Dream")) for name in names)


def _from_run(
    path: Path | str,
    *,
    device: str | None,
    dtype: Dtype,
    template: str,
    checkpoint: str | int,
    weights: str,
    catalog: Catalog | None,
) -> LoadedModel:
    from mdlm_core.train import load_run

    run = load_run(
        Path(path).expanduser(),
        device=device or "auto",
        weights=weights,
        checkpoint=checkpoint,
        catalog=catalog,
    )
    module = run.module.backbone
    assert isinstance(module, nn.Module)
    if dtype != "auto":
        module = module.to(getattr(torch, dtype))
    if template == "auto":
        template = trained_template(run)
    return _loaded(module, run.tokenizer, template, str(path))


def trained_template(run: LoadedRun) -> str:
    """Return how prompts became text when the run was trained, auto if unknown."""
    stated = run.data.get("template") or getattr(
        run.config.data.config, "template", "auto"
    )
    return str(stated)


def _noted_template(folder: Path) -> str:
    """Return the template that a converted run has noted, auto if there is no note."""
    path = folder / PROMPTS
    if not path.is_file():
        return "auto"
    try:
        return str(json.loads(path.read_bytes())["template"])
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"'{path}' cannot be read: {error!r}; it should hold "
            f'{{"template": "llada"}}, "plain" or "none"'
        ) from error


def _loaded(
    module: nn.Module, tokenizer: Tokenizer, template: str, name: str
) -> LoadedModel:
    assert isinstance(module, Backbone)
    if (
        isinstance(tokenizer, PretrainedTokenizer)
        and tokenizer.vocab_size < module.vocab_size
    ):
        # Published embeddings have some rows more than there are tokens. An id among
        # them is the model's mistake, and no text.
        tokenizer.vocab_size = module.vocab_size
    return LoadedModel(
        backbone=module.eval(),
        tokenizer=tokenizer,
        template=resolve_template(template, tokenizer),
        name=name,
    )


def _ids(folder: Path, tokenizer: Tokenizer, given: int | None) -> int:
    """Return the ids that the tokenizer needs, without a mask made for it here."""
    made = (
        given is None
        and isinstance(tokenizer, PretrainedTokenizer)
        and tokenizer.mask_id not in special_ids(tokenizer).values()
    )
    return tokenizer.vocab_size - made


def _other(
    folder: Path, tokenizer: Tokenizer, mask_token_id: int | None, dtype: Dtype
) -> nn.Module:
    """Return a model of transformers that is not of the family."""
    from . import hugging_face
    from .config import HuggingFaceModelConfig

    if dtype == "float16":
        raise ConfigError(
            "dtype is float16; for a model that is not of the family it must be "
            "float32, bfloat16 or auto"
        )
    config = HuggingFaceModelConfig(
        path=str(folder), mask_token_id=mask_token_id, dtype=dtype
    )
    return hugging_face.build(
        config, vocab_size=tokenizer.vocab_size, mask_id=tokenizer.mask_id, length=1
    )
