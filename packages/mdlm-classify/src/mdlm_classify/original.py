"""`SimpleDiscreteDiffusion`: the model of that name, which is autoregressive.

It is one causal language model of one class, trained on the texts of that class. Two or
more of them make a classifier by comparing `compute_nll`; `CausalLMClassifier` does
that in one object, with priors, calibration and checks.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from json import dumps
from pathlib import Path
from typing import Any, Self, cast

from torch import nn

from mdlm_core.catalog import load_catalog
from mdlm_core.config import RunConfig, resolve
from mdlm_core.errors import CheckpointError, ConfigError, UsageError
from mdlm_core.protocols import DataSource
from mdlm_core.train.devices import choose_device
from mdlm_core.train.runs import load_run

from .causal.model import build
from .causal.score import score
from .causal.task import ClassifyCausal
from .data.document import encode
from .data.one_class import LABEL, one_class
from .inputs import texts_of
from .nn.per_class import PerClass
from .pretrained import NEW, begin_with, not_none
from .saved import write_run
from .training import Trained, fitting, repeatable, run_folder, train_run

AUTOREGRESSIVE = (
    "SimpleDiscreteDiffusion is no diffusion: it is an autoregressive language model, "
    "of the kind of GPT-2. CausalLMClassifier is the same under its own name, and "
    "SimpleMaskedDiffusion is a diffusion"
)
_said: set[str] = set()


class SimpleDiscreteDiffusion:
    """A causal language model of one class. Despite its name it is no diffusion.

    It reads from left to right, as GPT-2 does: ``-compute_nll(text)`` is the exact
    log p(text | class). Its name is kept for those who know it; the first instance
    warns that it is autoregressive. A diffusion of the same size is
    `SimpleMaskedDiffusion`.

    Example:
        >>> negative = SimpleDiscreteDiffusion.load("class_0")  # doctest: +SKIP
        >>> positive = SimpleDiscreteDiffusion.load("class_1")  # doctest: +SKIP
        >>> positive.compute_nll(text) < negative.compute_nll(text)  # doctest: +SKIP

    Args:
        base_model: the weights to begin with, and their tokenizer: a folder, or a name
            on the hub; "new" or None for a small new model of bytes. Models that are
            compared must have the same one.
        epochs: passes over the texts; None for the preset's.
        length: tokens in a window; None for the preset's.
        settings: settings of a run by dotted path; they win over the others.
        tiny: whether to make a new model, whatever `base_model` says, and shrink
            everything to seconds on a CPU.
        device: "auto", "cpu", "cuda", "cuda:1".
        random_state: an integer makes learning repeatable.
        verbose: whether to show progress on stdout.
    """

    def __init__(
        self,
        base_model: str | None = "distilgpt2",
        *,
        epochs: float | None = None,
        length: int | None = None,
        settings: Mapping[str, Any] | None = None,
        tiny: bool = False,
        device: str = "auto",
        random_state: int = 0,
        verbose: bool = False,
    ) -> None:
        _warn_once()
        self.base_model = None if tiny or base_model == NEW else base_model
        self.epochs = epochs
        self.length = length
        self.settings = settings
        self.tiny = tiny
        self.device = device
        self.random_state = random_state
        self.verbose = verbose
        self._trained: Trained | None = None

    # ---- learning ------------------------------------------------------------

    def train_on_class_data(
        self, texts: Iterable[str], *, out: str | Path | None = None
    ) -> Self:
        """Learn from the texts of the class; once more goes on where it was.

        Args:
            texts: the texts.
            out: the run folder; None trains in a temporary one.

        Raises:
            DataError: if there are too few texts to learn from.
        """
        config = self._config()
        before = self._trained
        source = one_class(
            texts_of(texts, what="texts"),
            cast("Any", config.data.config),
            tokenizer=None if before is None else before.tokenizer,
        )
        config = fitting(config, source)
        task = _Continued(config, None if before is None else before.module)
        with run_folder(out, device=self.device) as folder:
            run = train_run(
                config,
                folder,
                source=source,
                device=self.device,
                verbose=self.verbose,
                task=task,
            )
            self._trained = Trained.of(run)
        return self

    def _config(self) -> RunConfig:
        given = {
            **begin_with(self.base_model, "causal"),
            **({"data.tokenizer": "byte"} if self.base_model is None else {}),
            **not_none({"train.epochs": self.epochs, "data.length": self.length}),
            "task.select": "bound",
            **(self.settings or {}),
            "seed": self.random_state,
            "data.path": "(texts given in memory)",
            "data.labels": [LABEL],
        }
        sets = [f"{path}={dumps(value)}" for path, value in given.items()]
        config = resolve(
            load_catalog(), preset="classify/causal", sets=sets, tiny=self.tiny
        ).config
        _check_tokenizer(str(cast("Any", config.data.config).tokenizer))
        return config if "train.precision" in given else repeatable(config, self.device)

    # ---- scoring -------------------------------------------------------------

    def compute_nll(self, text: Any) -> Any:
        """Return -log p(text | class) in nats: of one text a number, of N a list.

        Every token is scored, the first one given a start; a text that is longer than
        a window is read in consecutive windows, each from the start.

        Raises:
            UsageError: if the model is new and has learned nothing yet.
        """
        model = self._ready()
        texts = [text] if isinstance(text, str) else texts_of(text, what="text")
        documents = [encode(model.tokenizer, one, length=model.length) for one in texts]
        models = cast("PerClass", model.module.backbone)
        values = (0.0 - score(models, documents).log_likelihood[:, 0]).tolist()
        return values[0] if isinstance(text, str) else values

    def _ready(self) -> Trained:
        """Return what was trained, or else the model that training begins with."""
        if self._trained is None:
            self._trained = self._untrained()
        return self._trained

    def _untrained(self) -> Trained:
        from mdlm_core.data.pretrained import load_pretrained

        if self.base_model is None:
            raise UsageError(
                "a new model knows nothing yet: call train_on_class_data first, or "
                "give base_model"
            )
        config = self._config()
        length = int(cast("Any", config.data.config).length)
        tokenizer = load_pretrained(self.base_model)
        models = build(
            cast("Any", config.model.config), tokenizer=tokenizer, length=length
        )
        models.add_classes(1)
        module = nn.Module()
        module.backbone = models.to(choose_device(self.device)).eval()
        return Trained(
            config=config,
            module=module,
            tokenizer=tokenizer,
            schedule=load_catalog().build("schedule", config.schedule),
            length=length,
            step=0,
            data={},
        )

    # ---- files ---------------------------------------------------------------

    def save(self, folder: str | Path) -> Path:
        """Write a run folder that `load` reads; it must be empty.

        Raises:
            UsageError: if there is something in `folder`, or nothing was learned yet.
        """
        if self._trained is None or not self._trained.step:
            raise UsageError(
                "nothing was learned yet: call train_on_class_data first; the weights "
                "to begin with are kept at base_model"
            )
        write_run(Path(folder), self._trained, (LABEL,))
        return Path(folder)

    @classmethod
    def load(cls, folder: str | Path, *, device: str = "auto") -> Self:
        """Return the model of a run folder that `save` or training left.

        Raises:
            CheckpointError: if it is of another kind.
        """
        run = load_run(folder, device=device)
        labels = getattr(run.config.data.config, "labels", ())
        if run.config.task.name != "classify-causal" or len(labels) != 1:
            raise CheckpointError(
                f"'{folder}' is no causal model of one class: its task is "
                f"{run.config.task.name}, and it has {len(labels)} classes; read a "
                f"classifier with mdlm_classify.load_classifier"
            )
        model = cast("Any", run.config.model.config)
        self = cls(model.path or None, device=device)
        self._trained = Trained.of(run)
        return self


class _Continued(ClassifyCausal):
    """The task, with the weights that were learned before."""

    def __init__(self, run: RunConfig, before: nn.Module | None) -> None:
        super().__init__(cast("Any", run.task.config), run=run, catalog=load_catalog())
        self.before = before

    def start(self, module: nn.Module, source: DataSource) -> None:
        """Take over the weights."""
        super().start(module, source)
        if self.before is not None:
            backbone = cast("nn.Module", self.before.backbone)
            cast("nn.Module", module.backbone).load_state_dict(backbone.state_dict())


def _check_tokenizer(name: str) -> None:
    """Refuse a tokenizer that the texts of one class would decide."""
    kind = name.partition(":")[0]
    if kind in ("words", "bpe", "char"):
        raise ConfigError(
            f"data.tokenizer is {name}, which is made from the training texts: the "
            f"model of each class would have another one, and their likelihoods could "
            f"not be compared; use byte, or the name of a pretrained tokenizer"
        )


def _warn_once() -> None:
    if "autoregressive" not in _said:
        _said.add("autoregressive")
        warnings.warn(AUTOREGRESSIVE, UserWarning, stacklevel=3)
