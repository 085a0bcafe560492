"""What the parts of a run expect of each other.

Structural types only: a plugin satisfies them by having the methods, not by
inheriting. Letters: B batch, L length, V vocabulary (mask included), D width,
N selected positions, P position axes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .data.batch import Batch
    from .kernels.noise import Noise
    from .samplers.denoiser import Denoiser


@runtime_checkable
class Tokenizer(Protocol):
    """Text to ids and back. The mask id never comes out of `encode`.

    One more attribute is read if it exists: ``unknown_id``, what stands for text that
    has no id; it is never sampled.

    One more method is called if it exists: ``token_bytes()``, the UTF-8 bytes of text
    behind each of the V ids, 0 for special tokens, or None if ids have no bytes of
    their own. With it bits per byte are known for any rows.
    """

    name: str
    vocab_size: int
    """V: every id, the mask and the end of document included."""
    mask_id: int
    eod_id: int
    """The end of a document."""
    pad_id: int
    """What fills positions that are not there; may equal `eod_id`."""

    def encode(self, text: str) -> list[int]:
        """Return the ids of `text`, without any special token."""
        ...

    def decode(self, ids: Sequence[int], *, mask: str = "▒") -> str:
        """Return the text of `ids`; special tokens vanish, a mask shows as `mask`."""
        ...

    def save(self, folder: Path) -> None:
        """Write what `load_tokenizer` needs to build it again, offline.

        A plugin's tokenizer writes ``mdlm_tokenizer.json`` with its `name` and, as
        its `kind`, the function that reads it: ``"package.module:function"``.
        """
        ...

    def fingerprint(self) -> str:
        """Return a hash of everything that decides the ids."""
        ...


@runtime_checkable
class DataSource(Protocol):
    """Batches of token ids, in an order that depends on the seed alone.

    The bytes of the rows that are scored, for bits per byte, are counted by the
    tokenizer's ``token_bytes``. If it has none, they are only known when all rows of
    a split are scored, from ``card()["splits"][split]["bytes_per_token"]``.

    Two more methods are called if they exist: ``steps_per_epoch(batch_size)``, of a
    source that gives a batch more than once (otherwise an epoch has ``size("train") //
    batch_size`` steps), and ``completed(config)``, which returns the settings of the
    data with what the data itself decided, such as the classes that were found. The run
    records these, so that the model can be built again without the data.
    """

    tokenizer: Tokenizer
    length: int
    """L, of the longest rows: a batch may be cut to the longest row that it has."""

    def size(self, split: str) -> int | None:
        """Return the rows of `split` ("train" or "validation"); None if streamed."""
        ...

    def batches(
        self,
        split: str,
        *,
        size: int,
        seed: int,
        start: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> Iterator[Batch]:
        """Yield this process's rows of global batch `start`, `start + 1`, ...

        A global batch has `size` rows; process `rank` of `world` gets the rows
        ``rank * size // world`` up to ``(rank + 1) * size // world``. "train" is
        shuffled by (seed, epoch) and never ends; "validation" is in order, ends, and
        its last batch may be short.
        """
        ...

    def card(self) -> Mapping[str, object]:
        """Return what identifies the data: tokenizer, sizes, policy, split hashes."""
        ...


@runtime_checkable
class Backbone(Protocol):
    """A denoiser in two parts, so that the head runs on chosen positions only."""

    vocab_size: int
    mask_id: int
    time_conditioned: bool

    def hidden(self, batch: Batch, t: Tensor | None = None) -> Tensor:
        """Return the states ``(B, L, D)`` of the canvas `batch.tokens`.

        `t` is ``(B,)``, and only read if `time_conditioned`. What stands at padded
        positions must not change any other position.
        """
        ...

    def logits(self, hidden: Tensor) -> Tensor:
        """Return ``(N, V)`` for states ``(N, D)``. A pure function of its argument.

        If it is one `nn.Linear`, the backbone also has it as the attribute `head`,
        and the fused loss is used.
        """
        ...


@runtime_checkable
class Schedule(Protocol):
    """alpha(t), the chance that a token is still visible at time t in [0, 1]."""

    def alpha(self, t: Tensor) -> Tensor:
        """Return the chance to be visible: 1 at t = 0, falling."""
        ...

    def mask_rate(self, t: Tensor) -> Tensor:
        """Return 1 - alpha(t), accurate near 0."""
        ...

    def dalpha(self, t: Tensor) -> Tensor:
        """Return the derivative alpha'(t), which is negative."""
        ...

    def weight(self, t: Tensor) -> Tensor:
        """Return -alpha'(t) / (1 - alpha(t))."""
        ...

    def time_of(self, mask_rate: Tensor) -> Tensor:
        """Return the t at which the mask rate is `mask_rate`: the inverse."""
        ...


class Rates(NamedTuple):
    """A masking policy's answer; each ``(B, L)`` or broadcastable to it."""

    mask_prob: Tensor
    """The chance that a token is hidden, in [0, 1]."""
    weight: Tensor
    """The weight of its cross-entropy if it is."""


@runtime_checkable
class MaskingPolicy(Protocol):
    """Which tokens are hidden at time t.

    A policy that is an `nn.Module` trains with the model and is saved with it. Three
    more methods are called if they exist: ``check(schedule, t_sampling)``, before
    training, to refuse what it cannot work with; ``advance(step, steps)``, before every
    step; and ``auxiliary_loss(corrupted, nll)``, a term added to the training loss. Two
    attributes are read if they are there: with ``draws = True``, for a policy that is
    random itself, `rates` is given ``noise``; with ``needs_residual = True``
    `auxiliary_loss` is given ``residual``, see `diffusion.Loss`.
    """

    def rates(self, batch: Batch, t: Tensor, schedule: Schedule) -> Rates:
        """Return mask probabilities and loss weights for times `t` ``(B,)``.

        A policy that is uniform in the positions returns ``(B, 1)``.
        """
        ...


class Sampled(NamedTuple):
    """What a sampler returns."""

    tokens: Tensor
    """``(B, L)``, no mask left at a free position."""
    nfe: Tensor
    """``(B,)`` forward passes that each row took part in."""


SamplerCallback = Callable[[int, "Tensor"], None]
"""Called with (step, canvas ``(B, L)``) after every change of the canvas."""


@runtime_checkable
class Sampler(Protocol):
    """Fill the masked free positions of a canvas; one signature for all."""

    def __call__(
        self,
        denoiser: Denoiser,
        canvas: Batch,
        *,
        schedule: Schedule,
        noise: Noise,
        steps: int,
        callback: SamplerCallback | None = None,
    ) -> Sampled:
        """Return the filled canvas. `canvas.tokens` holds the mask where to write.

        Frozen positions, and free positions that hold a token already, stay as they
        are. Every draw is keyed by (noise, row's `sample_id`, position), so that a
        row's result does not depend on the other rows.
        """
        ...


class Task(Protocol):
    """What is trained: builds the module, measures it, shows what it can do.

    One more method is called if it exists: ``start(module, source)``, once in a new
    run, before its first step and not when it goes on or is loaded: for weights that
    begin with statistics of the data, or with those of another run.

    One more method is called if it exists: ``bound(module, source, *, draws, noise,
    rows, estimator, schedule)``, for `mdlm evaluate`, by a task whose rows need more
    than `tasks.bound.measure` does; it returns a `tasks.bound.Bound`.

    And one more: ``condition(values, num)``, for `mdlm sample`, by a task whose model
    is told something. `values` is what the user said, as text by name, such as
    ``{"label": "positive"}``, and may be empty; the answer is the named tensors of
    `Batch.condition`, with a first dimension of `num` or 1. It refuses names and
    values that it does not know.
    """

    def build(self, source: DataSource) -> nn.Module:
        """Return the module to train.

        Its ``forward(batch, draw)`` returns a `diffusion.Loss`; all learned parts
        (backbone, masking policy) are its children, and `backbone` is one of them.
        All that it remembers is in parameters and buffers: a checkpoint holds nothing
        else, and extra state is refused. Weights that come from outside and never
        change are left out of it: the part that has them names them in a set
        `external_tensors`. If it has ``count(batch)``, the loss is divided by the sum
        of that over the global batch, instead of by the free tokens; ``Loss.count``
        must sum to the same. If it has ``parameter_groups(config)``, its
        parts may learn at rates of their own (`train.optim.build_optimizer`). If a
        step may leave some weights without a gradient, it has ``learns_in_parts =
        True``, so that several processes do not wait for one.
        """
        ...

    def evaluate(self, module: nn.Module, source: DataSource) -> Mapping[str, float]:
        """Return held-out numbers; the one under "loss" selects the best checkpoint.

        It is in nats per token, unless another number is called after its unit, such as
        "nats_per_row", or is a "log_loss".
        """
        ...

    def samples(self, module: nn.Module, source: DataSource, *, seed: int) -> list[str]:
        """Return a few texts to look at."""
        ...
