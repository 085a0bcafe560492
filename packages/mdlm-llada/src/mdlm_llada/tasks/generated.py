"""Examples that a task makes itself: deterministic, and never in two splits.

Which split an item belongs to is decided by a hash of the item. Whatever the seeds and
the numbers of rows, what is learned from is not what is measured on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import TypeVar

from mdlm_core.errors import ConfigError
from mdlm_llada.registry import Settings

from .files import TRAIN, count

TEST_SHARE = 10
"""One item in so many is for measuring."""
TRAIN_ROWS, TEST_ROWS = 10_000, 500
_CHUNK = 4096
_PATIENCE = 20

Item = TypeVar("Item")


def is_held_out(key: str) -> bool:
    """Return whether the item with this key is one to measure on."""
    digest = blake2b(key.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") % TEST_SHARE == 0


def draw_items(
    task: str,
    split: str,
    cfg: Settings,
    columns: int,
    make: Callable[[list[float]], tuple[str, Item] | None],
) -> list[Item]:
    """Return different items of a split, as many as `cfg` asks for.

    Args:
        task: its name, part of what decides the draws.
        split: "train", or anything else for items to measure on.
        cfg: `rows`, `held_out` and `seed`.
        columns: uniform numbers that one item is made of.
        make: from such numbers, each in (0, 1), an item and its key; None if they
            give no item. Items of one key are the same item.

    Raises:
        ConfigError: if no number is given, or there are not so many items.
    """
    held_out = split != TRAIN
    default = TEST_ROWS if held_out else TRAIN_ROWS
    wanted = count(split, cfg, default=default)
    if not wanted:
        key = "held_out" if held_out else "rows"
        raise ConfigError(
            f"{key} is 0, but task '{task}' makes its examples itself; give a number, "
            f"for example {default}"
        )
    items: list[Item] = []
    seen: set[str] = set()
    without = 0
    for numbers in _uniform(task, int(cfg.get("seed", 0)), columns):
        before = len(items)
        for row in numbers:
            made = make(row)
            if made is None or made[0] in seen or is_held_out(made[0]) != held_out:
                continue
            seen.add(made[0])
            items.append(made[1])
            if len(items) == wanted:
                return items
        without = without + 1 if len(items) == before else 0
        if without == _PATIENCE:
            raise ConfigError(
                f"task '{task}' has no {wanted} different examples of the split "
                f"'{split}'; it gave {len(items)}; ask for fewer"
            )
    raise AssertionError("uniform numbers do not end")


def _uniform(task: str, seed: int, columns: int) -> Iterator[list[list[float]]]:
    import torch

    from mdlm_core.kernels.noise import Noise

    noise = Noise(seed).child("task", task)
    start = 0
    while True:
        rows = torch.arange(start, start + _CHUNK)
        yield noise.uniform(rows, columns).tolist()
        start += _CHUNK
