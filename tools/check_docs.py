"""Check that the pages tell what is there; ``--write`` renews generated parts.

Generated are the parts of ``docs/`` between ``<!-- generated: NAME -->`` and
``<!-- end -->``: commands, hooks, laws and public names. Besides: every link leads
somewhere, every command line names commands and options that exist, every block of
Python compiles, and those of the README run.
"""

import argparse
import importlib
import inspect
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from mdlm_core import hooks
from mdlm_core.cli.group import CORE_COMMANDS, load_command
from mdlm_core.testing.law import KINDS, laws_of

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")})
PAGES += sorted({*ROOT.glob("examples/*.md"), *ROOT.glob("packages/*/README.md")})
MODULES = ("", ".config", ".nn", ".diffusion", ".samplers", ".data", ".kernels")
MODULES += (".train", ".tasks", ".reports", ".testing")
PART = re.compile(
    r"(<!-- generated: (\S+) -->\n)(.*?)(<!-- end -->)", re.DOTALL | re.MULTILINE
)
BLOCK = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


# ---- generated parts --------------------------------------------------------


def generated_cli() -> str:
    """Return the help of every command."""
    parts = [help_block("mdlm", [])]
    for name, words in commands():
        parts.append(help_block(f"mdlm {name}", words))
    return "\n".join(parts)


def commands(names: Iterable[str] = CORE_COMMANDS) -> list[tuple[str, list[str]]]:
    """Return the commands, those inside groups too, with the words to type."""
    return [found for name in names for found in inside(load_command(name), [name])]


def inside(command: Any, words: list[str]) -> list[tuple[str, list[str]]]:
    """Return a command, or what a group holds."""
    group = getattr(command, "commands", None)
    if group is None:
        return [(" ".join(words), words)]
    return [found for word in group for found in inside(group[word], [*words, word])]


def help_block(title: str, words: list[str]) -> str:
    """Return a heading and the help of one command."""
    return f"## `{title}`\n\n```text\n{help_text(*words)}```\n"


@cache
def help_text(*words: str, plugins: str = "") -> str:
    """Return what ``mdlm WORDS --help`` prints with `plugins`, 80 columns wide."""
    environment = {**os.environ, "COLUMNS": "80", "TERM": "dumb"}
    environment["MDLM_PLUGINS"] = plugins
    command = [sys.executable, "-m", "mdlm_core", *words, "--help"]
    result = subprocess.run(
        command, capture_output=True, text=True, check=True, env=environment
    )
    return result.stdout.strip("\n") + "\n"


def generated_hooks() -> str:
    """Return a heading, the signature and the docstring of every hook."""
    parts = []
    for kind, name in hooks.HOOK_OF_KIND.items():
        function = getattr(hooks, name)
        returns = inspect.signature(function).return_annotation
        parts.append(
            f"## `{name}`\n\n```python\ndef {name}() -> {returns}: ...\n```\n\n"
            f"{inspect.getdoc(function)} Kind: `{kind}`.\n"
        )
    return "\n".join(parts)


def generated_laws() -> str:
    """Return the laws of every kind."""
    parts = []
    for kind in KINDS:
        parts.append(f"## {kind}\n")
        parts += [f"- `{law.name}`: {law.text}" for law in laws_of(kind)]
        parts.append("")
    return "\n".join(parts)


def generated_api() -> str:
    """Return the public names of every public module, with their first lines."""
    parts = []
    for suffix in MODULES:
        module = importlib.import_module(f"mdlm_core{suffix}")
        parts.append(f"## `mdlm_core{suffix}`\n\n{first_line(module)}\n")
        for name in sorted(module.__all__, key=str.lower):
            parts.append(f"- `{name}`: {first_line(getattr(module, name))}")
        parts.append("")
    return "\n".join(parts)


def first_line(thing: object) -> str:
    """Return the first line of a docstring; constants have none."""
    is_documented = inspect.isroutine(thing) or inspect.isclass(thing)
    if not (is_documented or inspect.ismodule(thing)):
        thing = type(thing)  # a constant is described by what it is
    text = inspect.getdoc(thing) or ""
    return " ".join(text.split("\n\n")[0].split())


GENERATORS = {
    "cli": generated_cli,
    "hooks": generated_hooks,
    "laws": generated_laws,
    "api": generated_api,
}


def refresh(text: str) -> str:
    """Return a page with its generated parts made anew."""

    def renew(match: re.Match[str]) -> str:
        made = GENERATORS[match[2]]()
        if made.split() == match[3].split():  # another release may wrap lines anew
            return match[0]
        return f"{match[1]}\n{made}\n{match[4]}"

    return PART.sub(renew, text)


# ---- what is written by hand ------------------------------------------------


def problems_of(page: Path, text: str) -> list[str]:
    """Return what is wrong with the links and blocks of a page."""
    found = []
    for target in LINK.findall(text):
        inside = "://" not in target and not target.startswith("mailto:")
        if inside and not (page.parent / target).exists():
            found.append(f"the link to '{target}' leads nowhere")
    for language, block in BLOCK.findall(PART.sub("", text)):
        if language in ("bash", "console", "sh"):
            found += shell_problems(block)
        elif language == "python":
            found += python_problems(block, run=page.name == "README.md")
        elif language == "yaml":
            try:
                yaml.safe_load(block)
            except yaml.YAMLError as error:
                found.append(f"a block of YAML cannot be read: {error}")
    return found


def shell_problems(block: str) -> list[str]:
    """Return what is wrong with the command lines of a block."""
    found = []
    for line in block.replace("\\\n", " ").splitlines():
        words = shlex.split(line.removeprefix("$ "), comments=True)
        if "mdlm" in words[:3]:
            found += command_problems(words[words.index("mdlm") + 1 :])
        elif words[:1] == ["python3"] and is_missing(words[1]):
            found.append(f"'{line}': there is no {words[1]}")
    return found


def is_missing(word: str) -> bool:
    """Return whether a word is a script that does not exist."""
    return word.endswith(".py") and not (ROOT / word).exists()


def command_problems(words: list[str]) -> list[str]:
    """Return what is wrong with the words after ``mdlm``."""
    line = f"'mdlm {' '.join(words)}'"
    if not words or words[0].startswith("-"):
        return []
    plugins = {p.name.removeprefix("mdlm-") for p in ROOT.glob("packages/mdlm-*")}
    plugin = words[0] if words[0] in plugins else ""
    names = [plugin] if plugin else CORE_COMMANDS
    known = {tuple(typed) for _, typed in commands(names)}
    starts = (tuple(words[:n]) for n in (3, 2, 1))
    path = next((start for start in starts if start in known), None)
    if path is None:
        return [f"{line}: there is no such command"]
    text = help_text(*path, plugins=plugin)
    options = [word.partition("=")[0] for word in words if word.startswith("--")]
    return [
        f"{line}: there is no option {option}"
        for option in options
        if not re.search(rf"(?<![\w-]){option}(?![\w-])", text)
    ]


def python_problems(block: str, *, run: bool) -> list[str]:
    """Return why a block of Python does not compile, or does not run."""
    try:
        compile(block, "<block>", "exec")
    except SyntaxError as error:
        return [f"a block of Python does not compile: {error}"]
    if not run:
        return []
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-W", "error", "-c", block]
        result = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, check=False
        )
    last = (result.stderr.strip().splitlines() or [""])[-1]
    first = block.strip().splitlines()[0]
    return [f"the block '{first}...' fails: {last}"] if result.returncode else []


def main() -> int:
    """Check every page, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="bring pages up to date")
    write = parser.parse_args().write
    found = []
    for page in PAGES:
        name = page.relative_to(ROOT)
        text = page.read_text(encoding="utf-8")
        fresh = refresh(text)
        if fresh != text and write:
            page.write_text(fresh, encoding="utf-8")
            print(f"wrote {name}")
        elif fresh != text:
            found.append(f"{name}: stale; run python tools/check_docs.py --write")
        found += [f"{name}: {problem}" for problem in problems_of(page, fresh)]
    for line in found:
        print(f"error: {line}")
    print(f"{len(PAGES)} pages, {len(found)} problems")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
