"""The tasks one can train on, answer and score, by name. Light: imports nothing heavy.

A task says what its examples are, how an answer is read out of a text, and when that
answer is right. Three ways lead into the registry: the tasks of this package, a call
of `register_task`, and a plugin's hook ``mdlm_tasks`` whose factory is the method
`BaseTaskSpec.build` of a task.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from mdlm_core.errors import ConfigError, UnknownNameError
from mdlm_core.refs import Ref
from mdlm_core.specs import TaskSpec as CoreTaskSpec

from .task_spec import (
    GOLD_KEYS,
    SHARED_SETTINGS,
    Adapted,
    BaseTaskSpec,
    Example,
    Settings,
    TaskSpec,
    Verdict,
)

__all__ = [
    "GOLD_KEYS",
    "SHARED_SETTINGS",
    "BaseTaskSpec",
    "Example",
    "Settings",
    "TaskSpec",
    "Verdict",
    "get_task",
    "import_tasks",
    "known_names",
    "list_tasks",
    "register_task",
    "same_task",
]

_OWN: dict[str, Ref] = {
    "addition": Ref("mdlm_llada.tasks.addition:Addition"),
    "arc": Ref("mdlm_llada.tasks.arc:Arc"),
    "countdown": Ref("mdlm_llada.tasks.countdown:Countdown"),
    "gsm8k": Ref("mdlm_llada.tasks.gsm8k:GSM8K"),
    "humaneval": Ref("mdlm_llada.tasks.humaneval:HumanEval"),
    "jsonl": Ref("mdlm_llada.tasks.jsonl:JsonLines"),
    "math": Ref("mdlm_llada.tasks.math:Math"),
    "mbpp": Ref("mdlm_llada.tasks.mbpp:MBPP"),
    "sudoku4": Ref("mdlm_llada.tasks.sudoku4:Sudoku4"),
}
_PREFIX = "llada_"
_registered: dict[str, BaseTaskSpec] = {}
_imports: list[str] = []


def register_task(
    name: str, spec: BaseTaskSpec | TaskSpec, overwrite: bool = False
) -> None:
    """Put a task into the registry of this process.

    Args:
        name: how it is asked for.
        spec: a `BaseTaskSpec`, or anything with the methods of `TaskSpec`.
        overwrite: whether a task of that name may be replaced.

    Raises:
        ConfigError: if the name is taken, or `spec` is no task.
    """
    name = _canonical(name)
    if not name:
        raise ConfigError("a task needs a name that is not empty")
    if name in known_names() and not overwrite:
        raise ConfigError(
            f"there is a task '{name}' already; pass overwrite=True to replace it"
        )
    if isinstance(spec, type) or not isinstance(spec, BaseTaskSpec | TaskSpec):
        what = f"the class {spec.__name__}" if isinstance(spec, type) else repr(spec)
        raise ConfigError(
            f"task '{name}' is {what}; it must be an object of a class with "
            f"build_dataset, collate_fn, postprocess and metrics"
        )
    _registered[name] = spec if isinstance(spec, BaseTaskSpec) else Adapted(spec)


def get_task(name: str) -> BaseTaskSpec:
    """Return the task of a name; ``llada_gsm8k`` is gsm8k.

    Raises:
        UnknownNameError: if there is none; near misses are named.
    """
    asked = _canonical(name)
    for key in (asked, asked.removeprefix(_PREFIX)):
        if key in _registered:
            return _registered[key]
        if key in _OWN:
            task: BaseTaskSpec = _OWN[key].load()()
            return task
        found = _of_plugins().get(key)
        if found is not None:
            return found
    known = list_tasks()
    near = difflib.get_close_matches(
        asked.removeprefix(_PREFIX), known, n=3, cutoff=0.6
    )
    guess = " or ".join(f"'{item}'" for item in near)
    raise UnknownNameError(
        f"there is no task '{name}'"
        + (f" (did you mean {guess}?)" if guess else "")
        + f". Tasks: {', '.join(known)}"
    )


def same_task(name: str, task: BaseTaskSpec) -> bool:
    """Return whether a name, of a file say, means a task; aliases are equal."""
    if _canonical(name) == _canonical(task.name):
        return True
    try:
        found = get_task(name)
    except UnknownNameError:
        return False
    return found is task or found.name == task.name


def list_tasks() -> list[str]:
    """Return the names of all tasks, those of plugins too, in alphabetical order."""
    return sorted({*known_names(), *_of_plugins()})


def import_tasks(modules: Sequence[str]) -> None:
    """Import modules that register tasks, or that declare them by a hook.

    Raises:
        PluginError: if one does not load.
    """
    from mdlm_core.catalog import load_catalog

    if modules:
        load_catalog(*modules)
        _imports.extend(name for name in modules if name not in _imports)


def known_names() -> list[str]:
    """Return the names of this package's and of registered tasks."""
    return sorted({*_OWN, *_registered})


def _canonical(name: str) -> str:
    return name.strip().lower().replace("-", "_")


def _of_plugins() -> dict[str, BaseTaskSpec]:
    """Return the tasks whose `build` other plugins declare as a factory.

    Their settings are `SFTConfig` or derive from it.
    """
    from mdlm_core.catalog import load_catalog
    from mdlm_llada.config import SFTConfig

    catalog = load_catalog(*_imports)
    found: dict[str, BaseTaskSpec] = {}
    for spec in catalog.specs("task"):
        own = catalog.provider("task", spec.name).name in ("core", "llada")
        if own or not isinstance(spec, CoreTaskSpec):
            continue
        # Settings are light, so that the tasks of others are not imported in vain.
        if not issubclass(spec.config.load(), SFTConfig):
            continue
        owner = getattr(spec.factory.load(), "__self__", None)
        if isinstance(owner, BaseTaskSpec):
            found[_canonical(spec.name)] = owner
    return found
