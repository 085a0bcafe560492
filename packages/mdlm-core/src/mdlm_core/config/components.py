"""The settings of core's own components. Light: imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from .schema import at_least, require, share

# ---- backbone ---------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class DiTConfig:
    """A diffusion transformer; the defaults are the reference's `small`."""

    blocks: int = 12
    """Transformer blocks."""
    width: int = 768
    """Width of the residual stream."""
    heads: int = 12
    """Attention heads; they divide `width`, and a head's size is even."""
    cond_width: int = 128
    """Width of the conditioning vector."""
    mlp_ratio: int = 4
    """Width of the MLP over `width`."""
    dropout: float = 0.1
    """On the two residual branches of a block."""
    conv_kernel: int = 0
    """Size of a depthwise convolution at the start of each block; 0 means none."""
    time_conditioned: bool = False
    """Whether the model sees t."""
    attention: Literal["auto", "sdpa", "flex", "flash"] = "auto"
    """The attention backend; flash is for training, and float32 scoring takes sdpa."""

    def __post_init__(self) -> None:
        at_least(1, "model", self, "blocks", "width", "heads", "cond_width")
        at_least(1, "model", self, "mlp_ratio")
        require(
            self.width % (2 * self.heads) == 0,
            f"model.width ({self.width}) must be a multiple of twice model.heads "
            f"({self.heads}), so that a head has an even size",
        )
        require(
            self.conv_kernel == 0 or self.conv_kernel % 2 == 1,
            f"model.conv_kernel is {self.conv_kernel}; it must be 0 or odd",
        )
        require(
            0 <= self.dropout < 1,
            f"model.dropout is {self.dropout}; it must be in [0, 1)",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class HuggingFaceModelConfig:
    """Any masked or causal language model of transformers, as a backbone."""

    path: str = ""
    """A folder, or a name on the hub; empty, with `random`, for a tiny new model."""
    kind: Literal["auto", "masked", "causal"] = "auto"
    """What the checkpoint was trained as; auto asks its config.json."""
    shift: bool | None = None
    """Whether position i gives the logits of token i + 1, as a causal model does; None
    means yes for a causal one, unless its config.json says ``mdlm_shift``."""
    mask_token_id: int | None = None
    """The mask; None takes the tokenizer's."""
    dtype: Literal["float32", "bfloat16", "auto"] = "float32"
    """Type of the weights."""
    random: bool = False
    """Whether to leave the checkpoint's weights and draw new ones."""


# ---- schedules --------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class EpsConfig:
    """Schedules that keep a share `eps` of the tokens visible at t = 1."""

    eps: float = 1e-3
    """alpha(1)."""

    def __post_init__(self) -> None:
        require(0 <= self.eps < 1, f"schedule.eps is {self.eps}; it must be in [0, 1)")


@dataclass(frozen=True, kw_only=True, slots=True)
class SigmaConfig:
    """Schedules given by sigma(t) = -log alpha(t) between two bounds."""

    sigma_min: float = 1e-3
    """sigma(0)."""
    sigma_max: float = 7.0
    """sigma(1)."""

    def __post_init__(self) -> None:
        require(
            0 < self.sigma_min < self.sigma_max,
            f"schedule.sigma_min ({self.sigma_min}) must lie between 0 and "
            f"schedule.sigma_max ({self.sigma_max})",
        )


# ---- masking ----------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class UniformMaskingConfig:
    """Every free token is hidden with the schedule's mask rate."""


# ---- task -------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class PretrainConfig:
    """Learn to restore masked tokens; measured by a bound on log p."""

    t_sampling: Literal["stratified", "uniform", "importance", "bell", "counts"] = (
        "stratified"
    )
    """How times are drawn for a training batch."""
    t_min: float = 1e-3
    """Times are drawn in [t_min, 1)."""
    eval_draws: int = 4
    """Draws per row of the exact-count estimator on held-out data."""
    eval_rows: int = 256
    """Held-out rows measured during training, spread evenly; 0 means all."""
    sample_count: int = 2
    """Texts sampled to look at."""

    def __post_init__(self) -> None:
        require(0 < self.t_min < 1, f"task.t_min is {self.t_min}; it must be in (0, 1)")
        at_least(0, "task", self, "eval_rows", "sample_count")
        require(
            self.eval_draws >= 2,
            f"task.eval_draws is {self.eval_draws}; a standard error needs at least 2",
        )


# ---- samplers ---------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplerConfig:
    """What every sampler knows."""

    steps: int = 128
    """Steps of the time grid, T."""
    temperature: float = 1.0
    """Divides the logits; 0 takes the most probable token."""
    top_k: int = 0
    """Keep the k most probable tokens; 0 means all."""
    top_p: float = 1.0
    """Keep the smallest set of tokens with at least this probability."""
    batch_size: int = 16
    """Rows evaluated together."""

    def __post_init__(self) -> None:
        at_least(1, "sampler", self, "steps", "batch_size")
        at_least(0, "sampler", self, "temperature", "top_k")
        require(
            0 < self.top_p <= 1, f"sampler.top_p is {self.top_p}; it must be in (0, 1]"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ConfidenceConfig(SamplerConfig):
    """Commit the positions the model is surest of."""

    score: Literal["probability", "margin", "entropy"] = "probability"
    """What being sure means."""
    threshold: float = 0.0
    """Commit every position whose score passes it, at least one; 0 means by count."""

    def __post_init__(self) -> None:
        SamplerConfig.__post_init__(self)
        share("sampler", self, "threshold")


@dataclass(frozen=True, kw_only=True, slots=True)
class SemiAutoregressiveConfig(ConfidenceConfig):
    """Fill block after block, left to right; score and threshold are confidence's."""

    block: int = 32
    """Positions in a block."""
    inner: Literal["ancestral", "first-hitting", "confidence"] = "ancestral"
    """The sampler inside a block."""

    def __post_init__(self) -> None:
        ConfidenceConfig.__post_init__(self)
        at_least(1, "sampler", self, "block")


# ---- data -------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class PackingConfig:
    """How documents become rows of one length."""

    eod: bool = True
    """Whether an end-of-document token stands after each document."""
    isolate: bool = False
    """Whether documents in one row do not attend to each other."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TextConfig:
    """What all text sources share."""

    length: int = 128
    """Tokens in a row, L."""
    tokenizer: str = "byte"
    """byte, char, bpe:<n>, or the name or folder of a Hugging Face tokenizer."""
    packing: PackingConfig = field(default_factory=PackingConfig)
    """How documents become rows."""
    holdout: float = 0.05
    """The share of documents held out, chosen by a hash of their text."""

    def __post_init__(self) -> None:
        at_least(1, "data", self, "length")
        require(
            0 < self.holdout < 1,
            f"data.holdout is {self.holdout}; it must be in (0, 1)",
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class PythonDocsConfig(TextConfig):
    """The Python language reference and the standard library's docstrings."""

    max_documents: int = 0
    """Use only that many documents; 0 means all."""

    def __post_init__(self) -> None:
        TextConfig.__post_init__(self)
        at_least(0, "data", self, "max_documents")


@dataclass(frozen=True, kw_only=True, slots=True)
class TextFilesConfig(TextConfig):
    """Text files: .txt, .gz and .xz."""

    path: str = ""
    """A file, a folder or a glob."""
    split_on: Literal["auto", "file", "blank-line", "line"] = "auto"
    """What ends a document; auto is a blank line in a single file, or else the file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class JsonlConfig(TextConfig):
    """One JSON object a line."""

    path: str = ""
    """A file, a folder or a glob; .gz and .xz too."""
    field: str = "text"
    """The key that holds the text."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HuggingFaceConfig(TextConfig):
    """A data set of the Hugging Face hub, or a local arrow or parquet folder."""

    path: str = ""
    """A name on the hub, or a folder."""
    subset: str = ""
    """The configuration of the data set, if it has several."""
    split: str = "train"
    """The split to learn from."""
    field: str = "text"
    """The column that holds the text."""
    streaming: bool = False
    """Whether to read it as a stream."""
