"""The end of a text: free, never, last of all; and what stands behind it. V = 40."""

import pytest
import torch
from torch import Tensor

from mdlm_core.errors import UsageError
from mdlm_llada.config import DecodeConfig

from .decode_toy import MASK, PROMPTS, Table, V, canvas, model, run

END = 7


def table(length: int, likely: dict[int, int]) -> Table:
    """Return laws in which position i is surely `likely[i]`, and others less surely."""
    logits = 0.01 * torch.arange(float(length))[:, None].repeat(1, V)
    logits[:, 3] += 4.0
    for place, token in likely.items():
        logits[place, token] = 12.0
    return Table(logits)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_never_is_never(temperature: float) -> None:
    backbone = table(8, {2: END, 5: END})
    settings = {"steps": 8, "block": 8, "temperature": temperature, "eos_ids": (END,)}
    rows = canvas([[]] * 20, 8)
    free = run(backbone, rows, DecodeConfig(**settings)).tokens
    never = run(backbone, rows, DecodeConfig(eos="never", **settings)).tokens
    assert (free == END).any()
    assert not (never == END).any()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_last_is_last_of_its_block(temperature: float) -> None:
    backbone = table(8, {1: END, 2: END})
    order: dict[str, list[Tensor]] = {"free": [], "last": []}
    for eos, seen in order.items():
        settings = DecodeConfig(
            steps=8, block=8, temperature=temperature, eos=eos, eos_ids=(END,)
        )
        run(
            backbone,
            canvas([[]], 8),
            settings,
            callback=lambda _, tokens, seen=seen: seen.append(tokens[0] != MASK),
        )
    assert order["free"][1][1:3].all()  # the surest of all come first
    assert not order["last"][5][1:3].any()
    assert order["last"][7].all()


def test_a_row_ends_with_the_block_of_its_end() -> None:
    backbone, rows = table(12, {1: END, 6: END}), canvas([[], [1]], 11)
    settings = {"steps": 9, "block": 4, "eos_ids": (END,)}
    whole = run(backbone, rows, DecodeConfig(stop=False, **settings))
    ended = run(backbone, rows, DecodeConfig(**settings))
    assert whole.nfe.tolist() == [9, 9]
    assert ended.nfe.tolist() == [4, 4]
    assert (ended.tokens[0, :4] == whole.tokens[0, :4]).all()
    assert (ended.tokens[0, 4:11] == END).all()
    assert (whole.tokens[0, 4:6] == 3).all()


def test_ends_in_the_prompt_end_nothing() -> None:
    backbone, rows = table(8, {}), canvas([[END, END, 1]], 5)
    settings = DecodeConfig(steps=5, block=4, eos_ids=(END,))
    assert run(backbone, rows, settings).nfe.tolist() == [5]


def test_the_end_of_a_checkpoint_is_known() -> None:
    from dataclasses import replace

    trunk = model()
    settings = DecodeConfig(steps=16, block=8, eos="never")
    with pytest.raises(UsageError, match="no end of text is known"):
        run(trunk, canvas(PROMPTS, 16), settings)
    free = run(trunk, canvas(PROMPTS, 16), DecodeConfig(steps=16, block=8)).tokens
    common = int(torch.bincount(free[canvas(PROMPTS, 16).free]).argmax())
    trunk.architecture = replace(trunk.architecture, eos_token_id=common)
    found = run(trunk, canvas(PROMPTS, 16), settings).tokens
    assert not (found[canvas(PROMPTS, 16).free] == common).any()


def test_unknown_ends_are_refused() -> None:
    settings = DecodeConfig(steps=8, block=8, eos_ids=(V,))
    with pytest.raises(UsageError, match=r"eos_ids holds 40.* 0 to 39"):
        run(table(8, {}), canvas([[]], 8), settings)
