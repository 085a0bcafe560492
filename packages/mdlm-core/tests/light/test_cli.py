"""The command line: light, helpful, and with one meaning for an exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import typer

from mdlm_core import __version__, cli
from mdlm_core.catalog import FIRST_PARTY
from mdlm_core.cli import options, run
from mdlm_core.cli.group import CORE_COMMANDS
from mdlm_core.config import resolve
from mdlm_core.errors import DataError
from mdlm_core.refs import Ref

pytestmark = pytest.mark.usefixtures("only_core")

HEAVY = (
    "torch",
    "numpy",
    "transformers",
    "datasets",
    "accelerate",
    "safetensors",
    "rich",
)


# ---- nothing heavy is imported ----------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--help"], 0),
        (["--version"], 0),
        (["list"], 0),
        (["list", "model", "dit"], 0),
        (["plugins", "list"], 0),
        (["config", "show", "--tiny", "--origins"], 0),
        (["config", "show", "--help-fields"], 0),
        (["config", "show", "--set", "train.stesp=3"], 2),
        (["new-plugin", "Bad Name"], 2),
        (["nothing"], 2),
    ],
    ids=str,
)
def test_light_commands_import_nothing_heavy(arguments, code):
    program = (
        "import sys\n"
        "from mdlm_core.cli import run\n"
        f"code = run({arguments!r})\n"
        f"heavy = sorted(set({HEAVY!r}) & set(sys.modules))\n"
        "sys.exit(f'imported {heavy}' if heavy else code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "MDLM_PLUGINS": ""},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stderr


COMMANDS = """
    from mdlm_core import CommandSpec, Ref, hookimpl

    @hookimpl
    def mdlm_commands():
        yield CommandSpec(name="haiku", summary="Write verse.",
                          app=Ref("mdlm_haiku.cli:app"))
        yield CommandSpec(name="lost", summary="Never.", app=Ref("mdlm_haiku.no:app"))
        yield CommandSpec(name="ill", summary="Fails.", app=Ref("mdlm_haiku.ill:app"))
        yield CommandSpec(name="train", summary="Hides.", app=Ref("mdlm_haiku.cli:app"))
"""
APP = """
import typer
app = typer.Typer()

@app.command()
def count(number: int):
    "Count syllables."
    print("syllables", number)
"""


@pytest.fixture
def haiku(distribution):
    package = distribution("haiku", COMMANDS)
    (package / "cli.py").write_text(APP)
    (package / "ill.py").write_text("raise SystemExit('no licence')")
    return package


def test_help_lists_plugin_commands_without_importing_them(mdlm, haiku):
    (haiku / "cli.py").write_text("open('imported', 'w')\n" + APP)
    done = mdlm("--help", MDLM_PLUGINS="haiku")
    assert "  haiku  Write verse." in done.stdout
    assert "  lost   (unavailable: there is no module 'mdlm_haiku.no')" in done.stdout
    assert not (haiku.parent / "imported").exists()
    assert not os.path.exists("imported")
    assert done.stdout.count("  train ") == 1


def test_plugin_command_runs(mdlm, haiku):
    done = mdlm("haiku", "count", "5", MDLM_PLUGINS="haiku")
    assert (done.returncode, done.stdout) == (0, "syllables 5\n")
    done = mdlm("haiku", "--help", MDLM_PLUGINS="haiku")
    assert "count  Count syllables." in done.stdout
    assert done.stdout.isascii()


@pytest.mark.parametrize(
    ("name", "reason"), [("lost", "ModuleNotFoundError"), ("ill", "no licence")]
)
def test_plugin_command_that_does_not_load_fails_when_called(mdlm, haiku, name, reason):
    done = mdlm(name, MDLM_PLUGINS="haiku")
    assert done.returncode == 1
    assert f"error: 'mdlm {name}' is unavailable" in done.stderr
    assert reason in done.stderr
    assert "Traceback" not in done.stderr


def test_core_commands_cannot_be_replaced(mdlm, haiku):
    assert "Train a model" in mdlm("train", "--help", MDLM_PLUGINS="haiku").stdout


# ---- commands, help and names -----------------------------------------------


def test_every_command_of_core_exists_and_its_help_says_what_the_list_says(capsys):
    assert run(["--help"]) == 0
    listed = capsys.readouterr().out
    for name, (target, summary) in CORE_COMMANDS.items():
        Ref(f"mdlm_core.cli.{target}").load()
        assert f"  {name} " in listed
        assert summary in listed
        assert run([name, "--help"]) == 0
        assert f"Usage: mdlm {name}" in capsys.readouterr().out


def test_options_have_one_spelling_each():
    names = []
    for value in vars(options).values():
        for item in getattr(value, "__metadata__", ()):
            names += [item.default, *(item.param_decls or ())]
            assert item.help.endswith(".")
    assert len(names) == len(set(names))
    assert {
        "--plugin",
        "--preset",
        "--config",
        "--set",
        "--out",
        "--resume",
        "--dry-run",
        "--dump-config",
        "--import",
        "--tiny",
        "--device",
        "--seed",
        "--json",
    } == set(names)


def test_underscore_finds_the_command(capsys):
    assert run(["new_plugin", "--help"]) == 0
    assert "new" in capsys.readouterr().out


def test_version(capsys):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"mdlm-core {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tran"], "error: there is no command 'tran'; did you mean 'train'?"),
        (["zzzz"], "error: there is no command 'zzzz'; 'mdlm --help' lists them"),
        (["core"], "plugin 'core' (mdlm-core"),
        (["attat"], "did you mean 'atat'?"),
        (["config", "shwo"], "Did you mean 'show'?; see 'mdlm config --help'"),
        (["config", "show", "--orgins"], "No such option: --orgins"),
        (["config", "cp", "default"], "issing argument 'FILE'"),
        (["config", "show", "--seed", "x"], "invalid value for '--seed'"),
        (["list", "modle"], "did you mean 'model'?"),
        (["list", "zzzzz"], "there is no kind 'zzzzz'. The kinds are: task, model"),
        (["list", "model", "dti"], "did you mean 'dit'?"),
        (["plugins", "doctor", "zzz"], "there is no plugin 'zzz'. Installed: core"),
    ],
)
def test_wrong_usage_ends_with_two_and_one_line(capsys, arguments, message):
    assert run(arguments) == 2
    text = capsys.readouterr().err
    assert message.lower() in text.lower()
    assert text.startswith("error: ")
    assert len(text.splitlines()) == 1


def test_checking_a_plugin_that_is_not_here_says_what_to_install(capsys, monkeypatch):
    monkeypatch.setattr("mdlm_core.plugins.metadata.entry_points", lambda group: [])
    assert run(["plugins", "check", "atat"]) == 2
    assert "pip install mdlm-atat" in capsys.readouterr().err


@pytest.mark.parametrize("name", FIRST_PARTY)
def test_first_party_command_says_what_to_install(mdlm, name):
    done = mdlm(name, "anything", MDLM_PLUGINS="")
    if "is disabled" not in done.stderr:
        assert done.returncode == 2
        assert f"comes with mdlm-{name}, which is not installed" in done.stderr
        assert f"pip install mdlm-{name}" in done.stderr


def test_no_argument_shows_help(capsys):
    for arguments in ([], ["config"], ["plugins"]):
        assert run(arguments) == 2
        assert capsys.readouterr().err.startswith("Usage: mdlm")


def test_debug_shows_the_traceback(capsys, monkeypatch):
    assert run(["config", "show", "--set", "x=1"]) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert run(["config", "show", "--set", "x=1", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err
    monkeypatch.setenv("MDLM_DEBUG", "1")
    assert run(["config", "show", "--set", "x=1"]) == 2
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert shown.splitlines()[-1].startswith("error: there is no setting 'x'")


@pytest.mark.parametrize("free", [False, True])
def test_a_module_is_run_as_a_command(monkeypatch, capsys, free):
    def tell(context: typer.Context, name: str = "you") -> None:
        typer.echo(" ".join([name, *context.args]))

    monkeypatch.setattr(sys, "argv", ["x", "--name", "me", "--more.of", "it"])
    with pytest.raises(SystemExit) as ended:
        cli.run_module(tell, "a.module", any_option=free)
    told = capsys.readouterr()
    assert ended.value.code == (0 if free else 2)
    if free:
        assert told.out == "me --more.of it\n"
    else:
        assert "no such option: --more.of" in told.err
        assert "'python -m a.module --help'" in told.err


@pytest.mark.parametrize(
    ("raised", "code", "message"),
    [
        (DataError("empty.txt is empty"), 1, "error: empty.txt is empty\n"),
        (KeyError("x"), 1, "error: KeyError: 'x'\nThis is unexpected; --debug"),
        (KeyboardInterrupt(), 130, ""),
        (typer.Abort(), 1, "aborted"),
        (typer.Exit(7), 7, ""),
        (SystemExit(3), 3, ""),
        (SystemExit("gone"), 1, "gone"),
    ],
)
def test_every_way_to_end_has_its_code(monkeypatch, capsys, raised, code, message):
    def fail(*arguments, **keywords):
        raise raised

    monkeypatch.setattr("mdlm_core.cli.config.settings", fail)
    assert run(["config", "show"]) == code
    assert capsys.readouterr().err.startswith(message)


def test_interrupt_before_a_command_runs_has_its_code_too(monkeypatch):
    def interrupt(app):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "get_command", interrupt)
    assert run(["list"]) == 130


def test_main_exits_with_the_code(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["mdlm", "nothing-like-that"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such pipe")
@pytest.mark.parametrize("lines", [1, 2000])
def test_closed_pipe_is_quiet(lines):
    program = (
        "import sys\n"
        "from mdlm_core import cli\n"
        "import mdlm_core.cli.config as config\n"
        f"config.to_yaml = lambda *a: 'x' * 80 * {lines}\n"
        "sys.exit(cli.run(['config', 'show']))\n"
    )
    buffered = {**os.environ, "MDLM_PLUGINS": ""}
    buffered.pop("PYTHONUNBUFFERED", None)
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-c", program],
        stdout=writing,
        stderr=subprocess.PIPE,
        env=buffered,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(writing)
    assert done.stderr == ""
    assert done.returncode == 1


# ---- list and config --------------------------------------------------------


def test_list_shows_every_kind(capsys):
    assert run(["list"]) == 0
    shown = capsys.readouterr().out
    for text in ("backbones (model.name)", "presets", "loglinear", "ddpm-cache"):
        assert text in shown


@pytest.mark.parametrize("kind", ["model", "models", "backbone", "backbones"])
def test_kind_may_be_named_in_four_ways(capsys, kind):
    assert run(["list", kind, "--json"]) == 0
    assert [s["name"] for s in json.loads(capsys.readouterr().out)["backbone"]] == [
        "dit"
    ]


def test_list_shows_settings_with_default_and_meaning(capsys):
    assert run(["list", "model", "dit"]) == 0
    shown = capsys.readouterr().out
    assert "model.blocks            12     Transformer blocks." in shown
    assert run(["list", "model", "dit", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["settings"][0] == {
        "path": "model.blocks",
        "type": "a whole number",
        "default": 12,
        "help": "Transformer blocks.",
    }


def test_list_shows_one_of_every_kind(capsys):
    for kind, name in (("preset", "default"), ("data", "hf"), ("masking", "uniform")):
        assert run(["list", kind, name]) == 0
        assert f"'{name}', from 'core'" in capsys.readouterr().out


def test_config_show_reads_back(capsys, tmp_path, catalog):
    given = ["--seed", "5", "--set", "model.width=64", "--set", "model.heads=2"]
    assert run(["config", "show", *given]) == 0
    file = tmp_path / "shown.yaml"
    file.write_text(capsys.readouterr().out)
    shown = resolve(catalog, files=[file]).config
    sets = ["seed=5", "model.width=64", "model.heads=2"]
    assert shown == resolve(catalog, sets=sets).config
    assert run(["config", "show", str(tmp_path / "shown.yaml")]) == 0


def test_config_show_says_where_from_and_what_for(capsys):
    assert run(["config", "show", "--origins", "--seed", "5"]) == 0
    assert "# --set" in capsys.readouterr().out.splitlines()[0]
    assert run(["config", "show", "--help-fields"]) == 0
    assert "Optimiser steps." in capsys.readouterr().out
    assert run(["config", "show", "--json", "--origins"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["origins"]["model.width"] == "preset default"
    assert shown["config"]["model"]["name"] == "dit"


def test_config_check_tells_every_file(capsys, tmp_path):
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text("seed: 1")
    bad.write_text("sede: 1")
    assert run(["config", "check", str(good)]) == 0
    assert capsys.readouterr().out == f"{good}: all right\n"
    assert run(["config", "check", str(bad), str(good)]) == 2
    shown = capsys.readouterr()
    assert f"{bad}: there is no setting 'sede' (from {bad}:1)" in shown.out
    assert f"{good}: all right" in shown.out
    assert shown.err == "error: 1 of 2 files cannot be used\n"


def test_config_cp_writes_once(capsys, tmp_path, catalog):
    target = tmp_path / "mine.yaml"
    assert run(["config", "cp", "dit-small", str(target)]) == 0
    copied = resolve(catalog, files=[target]).config
    assert copied == resolve(catalog, preset="dit-small").config
    assert "  steps: 1000000 " in target.read_text()
    assert "# Optimiser steps.\n" in target.read_text()
    capsys.readouterr()
    assert run(["config", "cp", "default", str(target)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert run(["config", "cp", "default", str(tmp_path)]) == 0
    assert (tmp_path / "default.yaml").exists()
    assert run(["config", "cp", "default", str(tmp_path / "no" / "a.yaml")]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_import_makes_a_module_known(tmp_path, monkeypatch, capsys):
    (tmp_path / "bring.py").write_text(
        "from mdlm_core import SamplerSpec, Ref, hookimpl\n"
        "@hookimpl\n"
        "def mdlm_samplers():\n"
        "    yield SamplerSpec(name='mine', summary='One.', factory=Ref('a:b'),\n"
        "        config=Ref('mdlm_core.config.components:SamplerConfig'))\n"
    )
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    arguments = ["config", "show", "--set", "sampler=mine"]
    assert run(arguments) == 2
    assert run([*arguments, "--import", "bring"]) == 0
    assert "sampler:\n  name: mine\n" in capsys.readouterr().out
