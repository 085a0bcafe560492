"""The model ``mdlm`` of lm-evaluation-harness.

Letters: G answer length, M tokens that a model takes.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import lm_eval.models  # noqa: F401  (the harness's own, which it then forgets to load)
import torch
from accelerate import PartialState
from accelerate.utils import gather
from lm_eval.api.model import LM
from lm_eval.api.registry import model_registry
from torch import Tensor
from tqdm import tqdm

from mdlm_core.errors import UsageError
from mdlm_llada.config import DecodeConfig
from mdlm_llada.extract.stops import cut
from mdlm_llada.generate import generate
from mdlm_llada.likelihood import Score, score
from mdlm_llada.models import LoadedModel, load_model

from .arguments import KNOWN, named, parse
from .prompts import encode, encode_pair, render

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

NAMES = ("mdlm", "llada_dist", "llada")
"""What it is called with ``--model``."""
Pair = tuple[list[int], list[int]]
_CHUNK = 8
"""Batches after which results are handed to the harness's cache."""
_UNDERSTOOD = KNOWN | {"until", "do_sample"}
_log = logging.getLogger(__name__)


class MaskedDiffusionLM(LM):  # type: ignore[misc]
    """A masked diffusion model, asked for probabilities and for answers.

    The probability of a continuation is a lower bound, measured by the estimator with
    exact numbers of hidden tokens; `scores` keeps the standard errors. Answers are
    decoded block by block, in batches. Neither depends on which other requests there
    are. Arguments are those of LLaDA's script and of dLLM's, see `arguments`.
    """

    def __init__(self, model: LoadedModel | str = "", **arguments: Any) -> None:
        """Load a model.

        Args:
            model: one that is loaded already, or a run, a checkpoint, a name.
            arguments: see `arguments.parse`.

        Raises:
            UsageError: if an argument is unknown or does not go with the model.
        """
        super().__init__()
        loaded = model if isinstance(model, LoadedModel) else None
        if loaded is not None:
            arguments["model"] = loaded.name
        elif model:
            arguments["model"] = model
        self.arguments = parse(arguments)
        own = self.arguments.own
        state = PartialState()
        self._rank, self._world_size = state.process_index, state.num_processes
        device = str(state.device) if self._world_size > 1 else str(own["device"])
        self.loaded = loaded or load_model(
            own["model"],
            device=device,
            mask_token_id=own["mask_token_id"],
            dtype=own["dtype"],
            template=own["template"],
            checkpoint=own["checkpoint"],
            weights=own["weights"],
        )
        self._device = self.loaded.device
        self.max_length = _longest(self.loaded, int(own["max_length"]))
        self.scores: list[Score] = []
        """Of all continuations so far, with their standard errors."""
        shift = own["right_shift_logits"]
        has = _shifts(self.loaded)
        if shift is not None and bool(shift) != has:
            raise UsageError(
                f"right_shift_logits is {shift}, but '{own['model']}' "
                f"{'shifts' if has else 'does not shift'} them; leave it out"
            )

    @property
    def tokenizer_name(self) -> str:
        """What caches of prompts are kept under."""
        tokenizer = self.loaded.tokenizer
        name = tokenizer.name.replace("/", "__")
        return f"{name}-{tokenizer.fingerprint()[:12]}-{self.loaded.template}"

    def chat_template(self, chat_template: bool | str = False) -> str:
        """Return the name of the template that chats have."""
        return f"mdlm_llada:{self.loaded.template}"

    def apply_chat_template(
        self,
        chat_history: Sequence[Mapping[str, str]],
        add_generation_prompt: bool = True,
    ) -> str:
        """Return a conversation as a prompt; see `prompts.render`."""
        begun = not add_generation_prompt
        return render(chat_history, self.loaded.template, begun=begun)

    def get_model_info(self) -> dict[str, Any]:
        """Return what the harness's report says about the model."""
        errors = [one.se for one in self.scores if not math.isnan(one.se)]
        return {
            "model_name": self.loaded.name,
            "template": self.loaded.template,
            "likelihoods": len(self.scores),
            "likelihood_mean_draws": _mean([one.draws for one in self.scores]),
            "likelihood_mean_standard_error": _mean(errors),
        }

    # ---- probabilities -------------------------------------------------------

    def loglikelihood(
        self, requests: Sequence[Instance], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """Return the bound of log p(continuation | context), and whether it is greedy.

        With ``is_check_greedy=False`` the second is always False.
        """
        pairs = [
            self._shortened(*encode_pair(self.loaded.tokenizer, *request.args))
            for request in requests
        ]
        found: dict[int, tuple[float, bool]] = {}
        for group in self._chunks(pairs, "likelihood", disable_tqdm):
            for i, one in zip(
                group, self._score([pairs[i] for i in group]), strict=True
            ):
                found[i] = (one.log_likelihood, bool(one.greedy))
                self.cache_hook.add_partial("loglikelihood", requests[i].args, found[i])
        return [found[i] for i in range(len(pairs))]

    def loglikelihood_rolling(
        self, requests: Sequence[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """Return the bound of log p of whole texts.

        A text longer than M is cut: the first M tokens are scored alone, and each
        further piece of M / 2 given the M / 2 before it. The sum is a bound, too.
        """
        texts = [encode(self.loaded.tokenizer, request.args[0]) for request in requests]
        pairs, owner = [], []
        for i, ids in enumerate(texts):
            windows = list(_windows(ids, self.max_length))
            pairs += windows
            owner += [i] * len(windows)
        sums = [0.0] * len(texts)
        left = [owner.count(i) for i in range(len(texts))]
        for group in self._chunks(pairs, "likelihood", disable_tqdm):
            for j, one in zip(
                group, self._score([pairs[j] for j in group]), strict=True
            ):
                i = owner[j]
                sums[i] += one.log_likelihood
                left[i] -= 1
                if not left[i]:
                    args = requests[i].args
                    self.cache_hook.add_partial("loglikelihood_rolling", args, sums[i])
        return sums

    def _score(self, pairs: Sequence[Pair]) -> list[Score]:
        found = score(
            self.loaded.backbone,
            pairs,
            settings=self.arguments.likelihood,
            seed=int(self.arguments.own["seed"]),
        )
        self.scores += found
        return found

    def _shortened(
        self, before: list[int], ids: list[int]
    ) -> tuple[list[int], list[int]]:
        """Return a pair that the model takes: the beginning of the prompt is cut off.

        Raises:
            UsageError: if the continuation alone is too long.
        """
        room = self.max_length - len(ids)
        if room < 0:
            raise UsageError(
                f"a continuation has {len(ids)} tokens, more than max_length, "
                f"{self.max_length}"
            )
        return self._cut(before, room), ids

    def _cut(self, prompt: list[int], room: int) -> list[int]:
        if len(prompt) > room:
            _log.warning(
                "a prompt of %d tokens is cut at its beginning to %d, so that it fits "
                "into max_length=%d",
                len(prompt),
                room,
                self.max_length,
            )
        return prompt[len(prompt) - room :] if len(prompt) > room else prompt

    # ---- answers -------------------------------------------------------------

    def generate_until(
        self, requests: Sequence[Instance], disable_tqdm: bool = False
    ) -> list[str]:
        """Return decoded answers, each up to the first of its stop strings.

        Above temperature 0 an answer depends on the seed, the prompt, and on how many
        requests with that prompt stand before it, as the harness repeats them.
        """
        groups: dict[tuple[DecodeConfig, int, int], list[int]] = {}
        for i, request in enumerate(requests):
            groups.setdefault(self._plan(request.args[1]), []).append(i)
        texts: dict[int, str] = {}
        for (settings, length, wanted), members in groups.items():
            if length >= self.max_length:
                raise UsageError(
                    f"an answer of {length} tokens leaves no room for a prompt in "
                    f"max_length={self.max_length}"
                )
            prompts = [
                self._cut(
                    encode(self.loaded.tokenizer, requests[i].args[0]),
                    self.max_length - length,
                )
                for i in members
            ]
            numbers = _numbers(prompts)
            rows: list[Pair] = [(prompt, []) for prompt in prompts]
            for group in self._chunks(rows, "answers", disable_tqdm):
                answers = generate(
                    self.loaded,
                    [prompts[j] for j in group],
                    answer_length=length,
                    settings=settings,
                    seed=int(self.arguments.own["seed"]),
                    numbers=[numbers[j] for j in group],
                )
                for j, answer in zip(group, answers, strict=True):
                    i = members[j]
                    text = self.loaded.tokenizer.decode(answer.ids[:wanted])
                    texts[i] = _until(text, requests[i].args[1])
                    args = requests[i].args
                    self.cache_hook.add_partial("generate_until", args, texts[i])
        return [texts[i] for i in range(len(requests))]

    def _plan(self, request: Mapping[str, Any]) -> tuple[DecodeConfig, int, int]:
        unknown = sorted(set(named(request)) - _UNDERSTOOD)
        if unknown:
            _log.warning("generation arguments without effect: %s", ", ".join(unknown))
        return self.arguments.decoding_of(request)

    def _chunks(
        self,
        pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
        what: str,
        quiet: bool,
    ) -> Iterator[list[int]]:
        """Yield the numbers of some pairs at a time, the longest first."""
        order = sorted(range(len(pairs)), key=lambda i: -sum(map(len, pairs[i])))
        size = _CHUNK * self.arguments.decoding.batch_size
        with tqdm(total=len(order), desc=what, disable=quiet or self._rank > 0) as bar:
            for start in range(0, len(order), size):
                group = order[start : start + size]
                yield group
                bar.update(len(group))

    # ---- several processes ---------------------------------------------------

    def all_gather(self, tensor: Tensor) -> Tensor:
        """Return the tensors of all processes."""
        gathered: Tensor = gather(tensor)
        return gathered

    def gather_object(self, obj: Any, dst: int = 0) -> list[Any] | None:
        """Return the objects of all processes on process `dst`, None elsewhere."""
        if self._world_size == 1:
            return [obj]
        everyone = [None] * self._world_size if self._rank == dst else None
        torch.distributed.gather_object(obj, everyone, dst=dst)
        return everyone

    def barrier(self) -> None:
        """Wait for all processes."""
        PartialState().wait_for_everyone()


def register() -> None:
    """Make the model known to the harness under `NAMES`, as far as they are free."""
    for name in NAMES:
        if name not in model_registry:
            model_registry.register(name)(MaskedDiffusionLM)
        elif model_registry.get(name) is not MaskedDiffusionLM:
            _log.warning("lm_eval has a model '%s' already; use --model mdlm", name)


def _numbers(prompts: Sequence[Sequence[int]]) -> list[int]:
    """Return a number of 62 bits for each prompt, another one for each repetition."""
    seen: Counter[tuple[int, ...]] = Counter()
    numbers = []
    for ids in map(tuple, prompts):
        digest = blake2b(repr((ids, seen[ids])).encode(), digest_size=8).digest()
        numbers.append(int.from_bytes(digest, "little") >> 2)
        seen[ids] += 1
    return numbers


def _until(text: str, request: Mapping[str, Any]) -> str:
    """Return a text before the first stop string in it."""
    stops = request.get("until") or []
    return cut(text, [stops] if isinstance(stops, str) else stops)


def _windows(ids: list[int], longest: int) -> Iterator[tuple[list[int], list[int]]]:
    """Yield what comes before and what is scored, so that each token is scored once."""
    yield [], ids[:longest]
    piece = max(1, longest // 2)
    for start in range(longest, len(ids), piece):
        yield ids[start - (longest - piece) : start], ids[start : start + piece]


def _longest(model: LoadedModel, asked: int) -> int:
    """Return M: what was asked for, but no more than the model has learned."""
    limit = getattr(model.backbone, "longest", None)
    return asked if limit is None else min(asked, int(limit))


def _shifts(model: LoadedModel) -> bool:
    architecture = getattr(model.backbone, "architecture", None)
    return bool(getattr(model.backbone, "shift", getattr(architecture, "shift", False)))


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
