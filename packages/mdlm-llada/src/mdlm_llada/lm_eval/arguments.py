"""The arguments of a model, under the names of LLaDA's and dLLM's scripts, and ours."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

from mdlm_core.errors import UsageError
from mdlm_llada.config import DecodeConfig
from mdlm_llada.likelihood import LikelihoodSettings

NAMES: Mapping[str, str] = {
    "model_path": "model",
    "pretrained": "model",
    "mask_id": "mask_token_id",
    "mc_num": "draws",
    "mc_se": "target_se",
    "mc_max": "max_draws",
    "is_check_greedy": "greedy",
    "cfg": "cfg_scale",
    "gen_length": "answer_length",
    "max_new_tokens": "answer_length",
    "max_gen_toks": "answer_length",
    "block_length": "block",
    "block_size": "block",
}
"""Other names of arguments."""

_DECODING = (
    "temperature",
    "top_k",
    "top_p",
    "remasking",
    "threshold",
    "factor",
    "entropy_bound",
    "cache",
    "refresh",
    "eos",
)
_LIKELIHOOD = ("draws", "target_se", "max_draws", "greedy")
_ENDS = (
    "suppress_tokens",
    "begin_suppress_tokens",
    "logits_eos_inf",
    "confidence_eos_eot_inf",
)
_OWN = (
    "model",
    "mask_token_id",
    "dtype",
    "device",
    "template",
    "checkpoint",
    "weights",
    "seed",
    "max_length",
    "batch_size",
    "cfg_scale",
    "answer_length",
    "steps",
    "block",
    "right_shift_logits",
)
_IGNORED = ("trust_remote_code", "max_batch_size", "parallelize")
"""What the harness may add: no code that comes with a model is ever run."""
KNOWN = frozenset((*_OWN, *_DECODING, *_LIKELIHOOD, *_ENDS))

DEFAULTS: Mapping[str, object] = {
    "model": "",
    "mask_token_id": None,
    "dtype": "auto",
    "device": "auto",
    "template": "auto",
    "checkpoint": "best",
    "weights": "ema",
    "seed": 0,
    "max_length": 4096,
    "batch_size": 32,
    "cfg_scale": 0.0,
    "answer_length": 256,
    "greedy": True,
    "right_shift_logits": None,
}


@dataclass(frozen=True, slots=True)
class Arguments:
    """What the adapter was told."""

    own: Mapping[str, Any]
    """The arguments by their names here, defaults filled in."""
    answer_length: int
    """G, tokens of an answer, whole blocks."""
    decoding: DecodeConfig
    """How answers are decoded; its steps are those for G."""
    likelihood: LikelihoodSettings
    """How probabilities are measured."""

    @property
    def steps_per_block(self) -> int:
        """Steps in a block, which longer and shorter answers keep."""
        return self.decoding.steps // (self.answer_length // self.decoding.block)

    def decoding_of(self, request: Mapping[str, Any]) -> tuple[DecodeConfig, int, int]:
        """Return how one request is decoded, over how many tokens, and how many count.

        Args:
            request: its generation arguments; what they say goes before the model's
                arguments. ``do_sample=False`` means temperature 0.
        """
        given = named(request)
        wanted = _integer("max_gen_toks", given.get("answer_length"), None)
        block = _integer("block", given.get("block"), self.decoding.block)
        assert block is not None
        wanted = self.answer_length if wanted is None else wanted
        if wanted < 1 or block < 1:
            raise UsageError(
                f"a request wants {wanted} tokens in blocks of {block}; both must be "
                f"at least 1"
            )
        blocks = math.ceil(wanted / block)
        share = self.steps_per_block * block / self.decoding.block
        steps = given.get("steps", blocks * max(1, round(share)))
        changes = {name: given[name] for name in _DECODING if name in given}
        if "cfg_scale" in given:
            changes["cfg_scale"] = given["cfg_scale"]
        if given.get("do_sample") is False:
            changes["temperature"] = 0.0
        settings = replace(self.decoding, steps=int(steps), block=block, **changes)
        return settings, blocks * block, wanted


def named(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments by their names here.

    Raises:
        UsageError: if two names of one thing have different values.
    """
    found: dict[str, Any] = {}
    said: dict[str, str] = {}
    for key, value in given.items():
        name = NAMES.get(key, key)
        if name in found and found[name] != value:
            raise UsageError(
                f"{said[name]}={found[name]} and {key}={value} are two names of one "
                f"thing; leave one of them"
            )
        found[name], said[name] = value, key
    return found


def parse(given: Mapping[str, Any]) -> Arguments:
    """Return what the arguments of ``--model_args`` mean.

    Raises:
        UsageError: if one is unknown, or they do not go together.
        ConfigError: if one is out of its range.
    """
    known = named({k: v for k, v in given.items() if k not in _IGNORED})
    for name in known:
        if name not in KNOWN:
            near = get_close_matches(name, [*KNOWN, *NAMES], n=1)
            hint = f"did you mean '{near[0]}'?" if near else "see its documentation"
            raise UsageError(f"'{name}' is no argument of the model mdlm; {hint}")
    own = {**DEFAULTS, **known}
    if not own["model"]:
        raise UsageError(
            "model_path is missing; write --model_args model_path=FOLDER, a run, a "
            "checkpoint, or a name on the hub"
        )
    length = _integer("gen_length", own["answer_length"], None)
    batch = _integer("batch_size", own["batch_size"], None)
    assert length is not None
    assert batch is not None
    block = _integer("block_length", own.get("block"), min(32, length))
    assert block is not None
    if length < 1 or block < 1 or length % block:
        raise UsageError(
            f"gen_length is {length}, which is not a multiple of block_length, {block}"
        )
    steps = _integer("steps", own.get("steps"), length)
    assert steps is not None
    blocks = length // block
    if steps < 1 or steps % blocks:
        raise UsageError(
            f"steps is {steps}, which is not a multiple of the {blocks} blocks of "
            f"gen_length={length}; set steps={math.ceil(steps / blocks) * blocks or 1}"
        )
    cfg_scale = float(own["cfg_scale"])
    decoding = DecodeConfig(
        steps=steps,
        block=block,
        batch_size=batch,
        cfg_scale=cfg_scale,
        **{name: own[name] for name in _DECODING if name in own},
        **_ends(own),
    )
    likelihood = LikelihoodSettings(
        batch_size=batch,
        cfg_scale=cfg_scale,
        **{name: own[name] for name in _LIKELIHOOD if name in own},
    )
    return Arguments(own, length, decoding, likelihood)


def _ends(own: Mapping[str, Any]) -> dict[str, Any]:
    """Return what happens to ends of text, by what the scripts call it.

    ``suppress_tokens`` and ``logits_eos_inf``: never drawn. ``begin_suppress_tokens``
    and ``confidence_eos_eot_inf``: committed last of all.
    """
    never, last = (
        _ids(name, own.get(name))
        for name in ("suppress_tokens", "begin_suppress_tokens")
    )
    is_never = bool(never) or bool(own.get("logits_eos_inf"))
    is_last = bool(last) or bool(own.get("confidence_eos_eot_inf"))
    if is_never and is_last:
        raise UsageError(
            "an end of text can be never drawn (suppress_tokens, logits_eos_inf) or "
            "committed last (begin_suppress_tokens, confidence_eos_eot_inf), not both"
        )
    if not (is_never or is_last):
        return {}
    if own.get("eos", "free") != "free":
        raise UsageError(f"eos={own['eos']} says already what happens to ends of text")
    return {"eos": "never" if is_never else "last", "eos_ids": never or last}


def _ids(name: str, value: Any) -> tuple[int, ...]:
    """Return ids written as ``[126081;126348]``, as a list, or as one number."""
    if value in (None, ""):
        return ()
    items = [value] if isinstance(value, int) else value
    if isinstance(value, str):
        items = [item for item in value.strip("[] ").split(";") if item.strip()]
    try:
        return tuple(int(item) for item in items)
    except (TypeError, ValueError):
        raise UsageError(f"{name} is {value!r}; write ids as [126081;126348]") from None


def _integer(name: str, value: Any, default: int | None) -> int | None:
    """Return a whole number; the harness may hand it over as text."""
    if value is None:
        return default
    try:
        if isinstance(value, bool) or int(value) != float(value):
            raise ValueError
    except (TypeError, ValueError):
        raise UsageError(f"{name} is {value!r}; it must be a whole number") from None
    return int(value)
