"""The flags of the original's three training scripts, as settings of `mdlm train`.

Light: imports nothing heavy. What a flag does not say is decided by the preset.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path

from mdlm_core.config.schema import RunConfig
from mdlm_core.errors import UsageError

PROGRAMS = ("train_causal_mdlm", "train_stage1", "train_stage2")
"""The original's scripts: all stages or the third, the encoder, the causal layer."""
PRESETS = {
    "train_causal_mdlm": "personality/medium",
    "train_stage1": "personality/default",
    "train_stage2": "personality/default",
}
"""What each starts from. The first two stages need no large transformer."""
FOLDERS = {
    "train_stage1": "experiments/stage1_personality_encoder",
    "train_stage2": "experiments/stage2_causal_scm",
}
"""Where a stage writes, if nothing is said: where the next one looks for it."""
DEFAULTS = ("model.encoder=beta-vae", "model.latent_dim=64", "model.beta=4.0")
"""What the original trains where our presets have other values."""
LENGTH = "data.length=1024"
"""The original's, as in the preset, but for invented persons too."""
_WHOLE, _NUMBER, _NAME, _PLACE = "a whole number", "a number", "a name", "a path"


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag of the original."""

    takes: str
    """What it takes; empty for one that is there or not."""
    paths: tuple[str, ...] = ()
    """Our settings that take its value."""
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The values it can have, and our assignments for each, if these are few."""
    reason: str = ""
    """Why it has no other values."""
    programs: tuple[str, ...] = PROGRAMS
    """The scripts that have it."""


_THIRD = ("train_causal_mdlm",)
FLAGS: Mapping[str, Flag] = {
    # ---- encoder and causal layer
    "encoder_type": Flag(
        _NAME,
        values={
            "beta_vae": ("model.encoder=beta-vae",),
            "beta-vae": ("model.encoder=beta-vae",),
            "identity": ("model.encoder=identity",),
        },
        reason="a total-correlation penalty has nothing to part in five numbers",
    ),
    "latent_dim": Flag(_WHOLE, ("model.latent_dim",)),
    "beta": Flag(_NUMBER, ("model.beta",)),
    "encoder_path": Flag(_PLACE, ("task.persona_from",), programs=("train_stage2",)),
    "causal_vae_path": Flag(_PLACE, ("task.persona_from",), programs=_THIRD),
    "freeze_causal_vae": Flag("", values={"": ("task.freeze=true",)}, programs=_THIRD),
    # ---- transformer
    "hidden_dim": Flag(_WHOLE, ("model.width",), programs=_THIRD),
    "num_layers": Flag(_WHOLE, ("model.blocks",), programs=_THIRD),
    "num_heads": Flag(_WHOLE, ("model.heads",), programs=_THIRD),
    "max_length": Flag(_WHOLE, ("data.length",), programs=_THIRD),
    "use_cfg": Flag("", values={"": ("task.condition_dropout=0.1",)}, programs=_THIRD),
    # ---- optimisation
    "epochs": Flag(_NUMBER, ("train.epochs",)),
    "batch_size": Flag(_WHOLE),
    "accumulate_grad_batches": Flag(_WHOLE),
    "gpus": Flag(_WHOLE),
    "precision": Flag(
        _NAME,
        values={
            **dict.fromkeys(("32", "32-true"), ("train.precision=fp32",)),
            **dict.fromkeys(("bf16", "bf16-mixed"), ("train.precision=bf16",)),
            **dict.fromkeys(("16", "16-mixed"), ("train.precision=fp16",)),
            "auto": ("train.precision=auto",),
        },
        reason="weights stay in float32, and the forward pass is in one of these",
    ),
    "use_wandb": Flag("", values={"": ('train.report_to=["wandb"]',)}),
    "output_dir": Flag(_PLACE),
}
"""The flags, without their dashes. `max_length` is also the length that is written."""


@dataclass(frozen=True, slots=True)
class Translated:
    """A command line of the original in our settings."""

    sets: tuple[str, ...]
    """Assignments ``path=value``."""
    out: Path | None
    """The folder of the new run."""
    gpus: int | None
    """Processes, each with a GPU; 0 is the CPU, None is not said."""


def translate(
    program: str, arguments: Sequence[str], *, defaults: Sequence[str] = DEFAULTS
) -> Translated:
    """Translate a command line of the original.

    Our own settings, such as ``--train.lr 1e-4``, are taken as they are and win.

    Args:
        program: one of `PROGRAMS`.
        arguments: what stands behind it.
        defaults: assignments below what is said.

    Raises:
        UsageError: if a flag is unknown (with near misses), of another script, has no
            value or one that it cannot have, or needs another one.
    """
    given = dict(pairs(arguments))
    sets = [f"task.stage={json.dumps(_stage(program, given))}"]
    sets += defaults
    ours: list[str] = []
    for name, value in given.items():
        if name not in FLAGS:
            ours.append(_own(program, name, value))
            continue
        flag = FLAGS[name]
        if program not in flag.programs:
            raise UsageError(
                f"--{name} is a flag of {' and '.join(flag.programs)}, not of {program}"
            )
        sets += _assignments(name, flag, value)
    sets += _sizes(given)
    if "freeze_causal_vae" in given and "causal_vae_path" not in given:
        raise UsageError(
            "--freeze_causal_vae needs --causal_vae_path RUN, the run of stage 2; "
            "without one there is nothing learned to keep"
        )
    if program == "train_stage2" and not _has_encoder(given):
        raise UsageError(
            "train_stage2 needs --encoder_path RUN, the run of train_stage1; only "
            "--encoder_type identity has nothing to learn before it"
        )
    out = given.get("output_dir")
    gpus = given.get("gpus")
    return Translated(
        sets=_last([*sets, *ours]),
        out=Path(str(out)) if out else None,
        gpus=None if gpus is None else _whole("gpus", gpus, 0),
    )


def pairs(arguments: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Yield names, with underscores for dashes, and values of ``--name value``.

    Raises:
        UsageError: if an argument is no option, or an option has no value.
    """
    rest = list(arguments)
    while rest:
        option = rest.pop(0)
        if not option.startswith("--"):
            raise UsageError(f"'{option}' is no option; write --name value")
        name, equals, value = option[2:].partition("=")
        name = name if "." in name else name.replace("-", "_")
        if name in FLAGS and not FLAGS[name].takes:
            if equals:
                raise UsageError(f"--{name} takes no value; leave out '={value}'")
            yield name, None
            continue
        if not equals:
            if _is_unknown(name):
                raise UsageError(_unknown(name))
            if not rest or rest[0].startswith("--"):
                raise UsageError(f"--{name} has no value")
            value = rest.pop(0)
        yield name, value


def run_of(path: Path | str) -> tuple[Path, str | int]:
    """Return the run folder that `path` is or is in, and the checkpoint it means.

    ``RUN``, ``RUN/best_model.pt`` and ``RUN/anything.ckpt`` are the best checkpoint,
    ``RUN/last.ckpt`` the last one, ``RUN/checkpoints/step-00000500`` that one.

    Raises:
        UsageError: if there is no run.
    """
    place = Path(path).expanduser()
    for folder in (place, *place.parents):
        if (folder / "config.yaml").is_file():
            break
    else:
        raise UsageError(
            f"'{path}' is no run, and is in none: a model is a folder here, as "
            f"'mdlm train' writes it, with a config.yaml; files of other programs "
            f"cannot be read"
        )
    for part in place.relative_to(folder).parts:
        if part.startswith("step-") and part[5:].isdigit():
            return folder, int(part[5:])
        if Path(part).stem == "last":
            return folder, "last"
    return folder, "best"


def _last(sets: Sequence[str]) -> tuple[str, ...]:
    """Return the assignments without those that a later one replaces."""
    return tuple({text.partition("=")[0]: text for text in sets}.values())


def _stage(program: str, given: Mapping[str, object]) -> int | str:
    if program == "train_causal_mdlm":
        return 3 if "causal_vae_path" in given else "all"
    return {"train_stage1": 1, "train_stage2": 2}[program]


def _has_encoder(given: Mapping[str, str | None]) -> bool:
    return "encoder_path" in given or given.get("encoder_type") == "identity"


def _assignments(name: str, flag: Flag, value: str | None) -> list[str]:
    if flag.values:
        if (key := value or "") not in flag.values:
            raise UsageError(
                f"--{name} is '{value}'; it must be {', '.join(flag.values)}: "
                f"{flag.reason}"
            )
        return list(flag.values[key])
    text = str(value)
    if flag.takes == _WHOLE:
        shown: object = _whole(name, text, 0 if name == "gpus" else 1)
    elif flag.takes == _NUMBER:
        shown = _number(name, text)
    elif name == "output_dir":
        shown = text
    else:
        shown = str(run_of(text)[0])
    return [f"{path}={json.dumps(shown)}" for path in flag.paths]


def _sizes(given: Mapping[str, str | None]) -> list[str]:
    """Return the rows of a step: those of all processes and passes together."""
    many = {
        name: _whole(name, given[name], 1)
        for name in ("accumulate_grad_batches", "gpus")
        if name in given and given[name] != "0"
    }
    times = math.prod(many.values())
    if "batch_size" not in given:
        if times > 1:
            raise UsageError(
                f"--{next(name for name in many if many[name] > 1)} needs --batch_size "
                f"too, the rows of one pass of one process"
            )
        return []
    rows = _whole("batch_size", given["batch_size"], 1)
    sets = [f"train.batch_size={rows * times}"]
    return sets if times == 1 else [*sets, f"train.micro_batch={rows}"]


def _own(program: str, name: str, value: str | None) -> str:
    if _is_unknown(name):
        raise UsageError(_unknown(name))
    return f"{name}={value}"


def _is_unknown(name: str) -> bool:
    root, dot, _ = name.partition(".")
    known = {entry.name for entry in fields(RunConfig)}
    return name not in FLAGS and (root not in known or not dot)


def _whole(name: str, value: object, low: int) -> int:
    text = str(value)
    if not text.isdigit() or int(text) < low:
        raise UsageError(f"--{name} is '{text}'; it must be {_WHOLE}, at least {low}")
    return int(text)


def _number(name: str, text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise UsageError(f"--{name} is '{text}'; it must be {_NUMBER}")
    return found


def _unknown(name: str) -> str:
    near = get_close_matches(name, FLAGS, n=2, cutoff=0.5)
    hint = " Did you mean --" + " or --".join(near) + "?" if near else ""
    return (
        f"there is no flag --{name}.{hint} Our own settings are written with their "
        f"dots, such as --train.lr 1e-4"
    )
