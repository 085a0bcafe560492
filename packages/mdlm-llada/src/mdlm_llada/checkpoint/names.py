"""Which tensor of a checkpoint is which parameter of the trunk. Light: no torch.

Four formats are told apart by `Architecture.family`. The names are those that the
published checkpoints have; a tensor of theirs may hold several of ours (queries, keys
and values of LLaDA 2.x in one), or be one layer of a stack of ours (experts).

Letters: V vocabulary, D width, F inner width of an MLP, H heads, G key heads, K head
size, E experts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mdlm_llada.architecture import Architecture
    from mdlm_llada.config.model import ExpertsConfig

Shape = tuple[int, ...]

IGNORED = ("rotary_emb.inv_freq", "rotary_emb.original_inv_freq")
"""Ends of names of what old checkpoints hold besides, made again from the settings."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One part of a checkpoint's tensor that is one part of a parameter."""

    theirs: str
    """Name in the checkpoint."""
    ours: str
    """Name in the trunk."""
    shape: Shape
    """Of this part."""
    rows: tuple[int, int] | None = None
    """First row and last row + 1 of theirs; None means all."""
    layer: int | None = None
    """Which layer of our stack it is; None means all of our parameter."""


@dataclass(frozen=True, slots=True)
class _Names:
    """What a format calls the parts; {n} is the number of a block."""

    embed: str
    norm: str
    head: str
    block: str
    attention_norm: str
    q: str
    k: str
    v: str
    out: str
    mlp_norm: str
    gate: str
    up: str
    down: str
    mlp: str = ""
    """What stands before {gate, up, down} of a dense MLP."""
    q_norm: str = ""
    k_norm: str = ""
    qkv: str = ""
    """All three of q, k, v, one above the other."""
    router: str = ""
    correction: str = ""
    """What is added to a router's scores when experts are chosen."""
    expert: str = ""
    """What stands before {gate, up, down}; {e} is the number of the expert."""
    shared: str = ""


_PROJECTIONS = {"gate": "gate_proj", "up": "up_proj", "down": "down_proj"}
_QWEN = _Names(
    embed="model.embed_tokens",
    norm="model.norm",
    head="lm_head",
    block="model.layers.{n}.",
    attention_norm="input_layernorm",
    q="self_attn.q_proj",
    k="self_attn.k_proj",
    v="self_attn.v_proj",
    out="self_attn.o_proj",
    mlp_norm="post_attention_layernorm",
    q_norm="self_attn.q_norm",
    k_norm="self_attn.k_norm",
    mlp="mlp.",
    router="mlp.gate.weight",
    expert="mlp.experts.{e}.",
    **_PROJECTIONS,
)
NAMES: dict[str, _Names] = {
    "llada": _Names(
        embed="model.transformer.wte",
        norm="model.transformer.ln_f",
        head="model.transformer.ff_out",  # a block's down projection ends like it
        block="model.transformer.blocks.{n}.",
        attention_norm="attn_norm",
        q="q_proj",
        k="k_proj",
        v="v_proj",
        out="attn_out",
        mlp_norm="ff_norm",
        gate="ff_proj",
        up="up_proj",
        down="ff_out",
    ),
    "dream": _QWEN,
    "llada-moe": _QWEN,
    "llada2": _Names(
        embed="model.word_embeddings",
        norm="model.norm",
        head="lm_head",
        block="model.layers.{n}.",
        attention_norm="input_layernorm",
        q="",
        k="",
        v="",
        qkv="attention.query_key_value",
        out="attention.dense",
        mlp_norm="post_attention_layernorm",
        q_norm="attention.query_layernorm",
        k_norm="attention.key_layernorm",
        mlp="mlp.",
        router="mlp.gate.weight",
        correction="mlp.gate.expert_bias",
        expert="mlp.experts.{e}.",
        shared="mlp.shared_experts.",
        **_PROJECTIONS,
    ),
}


def pieces(architecture: Architecture) -> list[Piece]:
    """Return every part of a checkpoint of `architecture`, in the trunk's order."""
    a = architecture
    names = NAMES[a.family]
    table = [Piece(f"{names.embed}.weight", "embed.weight", (a.vocab_size, a.width))]
    for block in range(a.blocks):
        theirs, ours = names.block.format(n=block), f"blocks.{block}."
        table += _attention(a, names, theirs, ours)
        table += _transform(a, names, theirs, ours, block)
    table.append(Piece(f"{names.norm}.weight", "norm.weight", (a.width,)))
    if not a.tied:
        head = Piece(f"{names.head}.weight", "head.weight", (a.vocab_size, a.width))
        table.append(head)
    return table


def parts_of(table: list[Piece]) -> dict[str, list[Piece]]:
    """Return the parts of every tensor of a checkpoint, from top to bottom."""
    parts: dict[str, list[Piece]] = {}
    for piece in table:
        parts.setdefault(piece.theirs, []).append(piece)
    return parts


def shapes(table: list[Piece]) -> dict[str, Shape]:
    """Return the name and the shape of every tensor of a checkpoint."""
    found: dict[str, Shape] = {}
    for piece in table:
        if piece.rows is None:
            found[piece.theirs] = piece.shape
        else:  # parts come from top to bottom
            found[piece.theirs] = (piece.rows[1], *piece.shape[1:])
    return found


def _attention(
    a: Architecture, names: _Names, theirs: str, ours: str
) -> Iterator[Piece]:
    queries, keys = a.heads * a.head_size, a.kv_heads * a.head_size
    yield _norm(names.attention_norm, theirs, f"{ours}attention_norm", a.width)
    first = 0
    for name, out in (("q", queries), ("k", keys), ("v", keys)):
        rows = (first, first + out) if names.qkv else None
        tensor = theirs + (names.qkv or getattr(names, name))
        yield Piece(f"{tensor}.weight", f"{ours}{name}.weight", (out, a.width), rows)
        if a.qkv_bias:
            yield Piece(f"{tensor}.bias", f"{ours}{name}.bias", (out,), rows)
        first += out
    if a.qk_norm:
        yield _norm(names.q_norm, theirs, f"{ours}q_norm", a.head_size)
        yield _norm(names.k_norm, theirs, f"{ours}k_norm", a.head_size)
    tensor = theirs + names.out
    yield Piece(f"{tensor}.weight", f"{ours}out.weight", (a.width, queries))
    if a.out_bias:
        yield Piece(f"{tensor}.bias", f"{ours}out.bias", (a.width,))


def _transform(
    a: Architecture, names: _Names, theirs: str, ours: str, block: int
) -> Iterator[Piece]:
    """Yield the parts of a block behind its attention."""
    yield _norm(names.mlp_norm, theirs, f"{ours}mlp_norm", a.width)
    if a.experts is None or block < a.experts.dense_layers:
        yield from _mlp(names, theirs + names.mlp, ours, a.width, a.mlp_width)
    else:
        yield from _experts(a, a.experts, names, theirs, f"{ours}experts.")


def _experts(
    a: Architecture, experts: ExpertsConfig, names: _Names, theirs: str, ours: str
) -> Iterator[Piece]:
    count = experts.count
    yield Piece(theirs + names.router, f"{ours}router.weight", (count, a.width))
    if names.correction:
        yield Piece(theirs + names.correction, f"{ours}bias", (count,))
    for expert in range(count):
        prefix = theirs + names.expert.format(e=expert)
        for piece in _mlp(names, prefix, ours, a.width, experts.width):
            stack = piece.ours.removesuffix(".weight")
            yield replace(piece, ours=stack, layer=expert)
    if experts.shared:
        prefix, width = theirs + names.shared, experts.shared * experts.width
        yield from _mlp(names, prefix, f"{ours}shared.", a.width, width)


def _mlp(
    names: _Names, theirs: str, ours: str, width: int, inner: int
) -> Iterator[Piece]:
    for name, shape in (
        ("gate", (inner, width)),
        ("up", (inner, width)),
        ("down", (width, inner)),
    ):
        tensor = theirs + getattr(names, name)
        yield Piece(f"{tensor}.weight", f"{ours}{name}.weight", shape)


def _norm(name: str, theirs: str, ours: str, size: int) -> Piece:
    return Piece(f"{theirs}{name}.weight", f"{ours}.weight", (size,))
