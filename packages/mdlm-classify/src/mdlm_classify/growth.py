"""A trained model learns on: a new class, without changing what it knows of others.

A new class is one more vector, one more column of output biases, and nothing else (with
a model for each class, one more model). The biases start at the counts of its texts,
smoothed by what the model expects without a context (Dirichlet smoothing, Zhai and
Lafferty, SIGIR 2001): with n_v of n tokens and u the model's own unigram law,

    p(v | new class) = (n_v + m u_v) / (n + m),   m = smoothing * (V - 1).

They are then trained alone: every other weight stays as it is, bit for bit, and the
likelihoods of the other classes up to rounding. Texts held out decide when it is
enough, which may be at the start.

Letters: N texts, C classes, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from mdlm_core.catalog import Catalog, load_catalog
from mdlm_core.config import RunConfig
from mdlm_core.errors import DataError
from mdlm_core.protocols import DataSource, Tokenizer
from mdlm_core.train.state import collect, named_tensors

from .config import ClassifyConfig, LabelledTextConfig
from .data.prepare import Prepared
from .data.rows import Rows, encode_all
from .data.source import LabelledSource
from .data.texts import LabelledTexts
from .nn.condition import Conditional
from .saved import with_labels
from .task import ClassConditionalDiffusion, Classify
from .training import Trained, fitting, run_folder, train_run


def grow(
    trained: Trained,
    texts: LabelledTexts,
    held_out: LabelledTexts,
    labels: Sequence[str],
    sizes: Sequence[int],
    *,
    alone: bool,
    epochs: float | None = None,
    device: str = "auto",
    verbose: bool = False,
) -> Trained:
    """Return a model that has learned from more texts; the old one is unchanged.

    Args:
        trained: the model.
        texts: N texts.
        held_out: texts to choose a checkpoint by, if `alone`; they may be the same.
        labels: the classes of the model in their order, then new ones.
        sizes: ``(C,)`` all texts that the model will have learned from.
        alone: whether nothing is trained but what is new.
        epochs: passes over the texts; None for those of the model's settings.
        device: "auto", or the device by name.
        verbose: whether to show progress on stdout.

    Raises:
        DataError: if no text has a token.
    """
    assert texts.labels is not None
    old = cast("Conditional", trained.module.backbone).classes
    met = {labels.index(label) for label in texts.labels}
    # Without texts of the other classes it would only learn to be chosen.
    compare = len(met) > 1 and (len(labels) == old or min(met) < old)
    config = settings_of(
        trained.config, labels, alone=alone, compare=compare, epochs=epochs
    )
    data = cast("LabelledTextConfig", config.data.config)
    source = source_of(texts, held_out, labels, trained.tokenizer, data)
    task = Growth(
        cast("ClassifyConfig", config.task.config),
        run=config,
        catalog=load_catalog(),
        before=collect(named_tensors(trained.module)),
        sizes=torch.tensor(list(sizes)),
        alone=alone,
    )
    with run_folder(None, device=device) as folder:
        run = train_run(
            fitting(config, source),
            folder,
            source=source,
            task=task,
            device=device,
            checkpoint="best" if alone else "last",
            verbose=verbose,
        )
        found = run.data  # reads the folder
    return replace(
        trained,
        config=with_labels(trained.config, tuple(labels)),
        module=run.module,
        step=trained.step + run.step,
        data={**trained.data, "later": [*trained.data.get("later", []), found]},
    )


class Growth(Classify):
    """The task of learning on from the weights `before`; see `Classify`."""

    def __init__(
        self,
        config: ClassifyConfig,
        *,
        run: RunConfig,
        catalog: Catalog,
        before: Mapping[str, Tensor],
        sizes: Tensor,
        alone: bool,
    ) -> None:
        """Prepare to build a model with at least the classes of `before`.

        Args:
            config: what is learned.
            run: the settings, with all classes in `data.labels`.
            catalog: where the parts come from.
            before: the tensors of the trained module, by name.
            sizes: ``(C,)`` all texts that the model will have learned from.
            alone: whether nothing is trained but what `before` does not have.
        """
        super().__init__(config, run=run, catalog=catalog)
        self.before = before
        self.sizes = sizes
        self.alone = alone

    def build(self, source: DataSource) -> ClassConditionalDiffusion:
        """Build the model, with the weights that it had."""
        module = super().build(source)
        fill(module, self.before)
        return module

    def start(self, module: nn.Module, source: DataSource) -> None:
        """Give new classes the biases of their counts; freeze what must not change."""
        trained = cast("ClassConditionalDiffusion", module)
        backbone = cast("Conditional", trained.backbone)
        counts = torch.as_tensor(cast("LabelledSource", source).counts()[:-1])
        law = unigram(backbone)
        new = self.sizes.shape[0] - self.before["log_prior"].shape[0]
        if new and law is not None:
            pseudo = self.config.smoothing * (backbone.vocab_size - 1)
            mixed = counts.double() + pseudo * law.exp()
            frequencies = (mixed / mixed.sum(1, keepdim=True)).log()
            frequencies[:, backbone.mask_id] = law[backbone.mask_id]
            backbone.set_biases(law, frequencies)
            fill(module, self.before)
        vectors = getattr(backbone, "class_vectors", None)
        if new and vectors is not None:  # as the null class, until they learn
            with torch.no_grad():
                vectors[-new:] = 0
        shares = self.sizes.double() / self.sizes.sum()
        trained.log_prior.copy_(shares.log())
        if self.alone:
            freeze(module, self.before)


def fill(module: nn.Module, before: Mapping[str, Tensor]) -> None:
    """Write tensors into a module that may have grown: into the first entries."""
    with torch.no_grad():
        for name, target in named_tensors(module).items():
            if name in before:
                old = before[name]
                target[tuple(slice(0, size) for size in old.shape)] = old.to(target)


def freeze(module: nn.Module, before: Mapping[str, Tensor]) -> None:
    """Let nothing learn but the parameters, and entries of such, that are new."""
    for name, parameter in module.named_parameters():
        old = before.get(name)
        if old is None:
            continue
        if old.shape == parameter.shape:
            parameter.requires_grad_(False)
            continue
        mask = torch.ones_like(parameter, requires_grad=False)
        mask[tuple(slice(0, size) for size in old.shape)] = 0
        cast("Any", parameter).register_hook(_keep(mask))


def _keep(mask: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda gradient: gradient * mask.to(gradient)


def unigram(backbone: Conditional) -> Tensor | None:
    """Return what the model expects without context or class, ``(V,)`` float64.

    These are log-probabilities, by the biases of the head alone. With a model for each
    class there is no such law, and it is uniform; a pretrained model of transformers
    has none either, and its classes start as the null class: None.
    """
    module = cast("Any", backbone)
    bias = getattr(getattr(module, "head", None), "bias", None)
    if bias is None and getattr(module, "new", False):
        bias = module.background
    if bias is None and not hasattr(module, "models"):
        return None
    law = torch.zeros(backbone.vocab_size, dtype=torch.float64)
    if bias is not None:
        law = bias.detach().double().cpu().clone()
    law[backbone.mask_id] = -torch.inf
    law = law.log_softmax(0)
    law[backbone.mask_id] = 0  # no law reads it
    return law


# ---- texts of some classes ---------------------------------------------------


def source_of(
    texts: LabelledTexts,
    held_out: LabelledTexts,
    labels: Sequence[str],
    tokenizer: Tokenizer,
    config: LabelledTextConfig,
) -> LabelledSource:
    """Return texts as a source; not every class needs a text.

    Args:
        texts: N texts.
        held_out: texts to measure on.
        labels: all classes, in the order of the model.
        tokenizer: the one of the model.
        config: for the length of rows.

    Raises:
        DataError: if no text has a token.
    """
    index = {name: number for number, name in enumerate(labels)}

    def rows(texts: LabelledTexts) -> Rows:
        assert texts.labels is not None
        ids = encode_all(tokenizer, texts.texts)
        codes = [index[label] for label in texts.labels]
        known = [(found, code) for found, code in zip(ids, codes, strict=True) if found]
        return Rows.cut(
            [found for found, _ in known],
            np.array([code for _, code in known], dtype=np.int64),
            config.length,
        )

    train, held = rows(texts), rows(held_out)
    if not len(train):
        raise DataError(
            f"none of the {len(texts)} texts has a token, so that there is nothing to "
            f"learn from"
        )
    splits = {"train": train, "validation": held if len(held) else train}
    none = Rows.cut([], np.zeros(0, dtype=np.int64), config.length)
    card = {"texts": train.texts, "labels": list(labels)}
    return LabelledSource(
        Prepared(tokenizer, tuple(labels), splits, none, card), config
    )


def settings_of(
    run: RunConfig,
    labels: Sequence[str],
    *,
    alone: bool,
    compare: bool,
    epochs: float | None = None,
) -> RunConfig:
    """Return the settings of learning on.

    New classes alone are learned without warm-up, and are measured at the start too;
    all weights learn to the end. Weights do not decay.

    Args:
        run: the settings of the model.
        labels: all classes.
        alone: whether nothing is trained but new classes.
        compare: whether rows are compared with other classes.
        epochs: passes over the texts, if not those of `run`.
    """
    task = cast("ClassifyConfig", run.task.config)
    data = cast("LabelledTextConfig", run.data.config)
    return replace(
        run,
        task=replace(
            run.task,
            config=replace(
                task,
                warm_start="",
                null_share=0.0 if alone else task.null_share,
                discriminative=task.discriminative if compare else 0.0,
                select=task.select if compare else "bound",
                sample_count=0,
            ),
        ),
        data=replace(
            run.data, config=replace(data, labels=tuple(labels), unlabelled="")
        ),
        train=replace(
            run.train,
            optimizer="adamw",
            weight_decay=0.0,
            compile=False,
            epochs=run.train.epochs if epochs is None else epochs,
            warmup=0 if alone else run.train.warmup,
            eval_start=alone,
            eval_every=run.train.eval_every if alone else 0,
            save_every=0,
            patience=run.train.patience if alone else 0,
            sample_every=0,
        ),
    )
