"""What ``mdlm new-plugin`` writes works as it is."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tomllib

import pytest
import yaml

from mdlm_core import __version__
from mdlm_core.cli import run
from mdlm_core.cli.new_plugin import plain_name, write_plugin
from mdlm_core.errors import UsageError

pytestmark = pytest.mark.usefixtures("only_core")

FILES = {
    "CHANGELOG.md",
    "LICENSE",
    "README.md",
    "pyproject.toml",
    "src/mdlm_end_later/__init__.py",
    "src/mdlm_end_later/config.py",
    "src/mdlm_end_later/masking.py",
    "src/mdlm_end_later/plugin.py",
    "src/mdlm_end_later/presets/default.yaml",
    "src/mdlm_end_later/py.typed",
    "tests/light/test_plugin.py",
    "tests/test_contract.py",
    "tests/test_masking.py",
}


@pytest.fixture
def written(tmp_path):
    assert run(["new-plugin", "end_later", "--into", str(tmp_path)]) == 0
    return tmp_path / "mdlm-end-later"


@pytest.fixture
def installed(written):
    """Run Python with the generated plugin installed, as pip would."""
    source = written / "src"
    info = source / "mdlm_end_later-0.1.0.dist-info"
    info.mkdir()
    project = tomllib.loads((written / "pyproject.toml").read_text())["project"]
    needs = "".join(f"Requires-Dist: {line}\n" for line in project["dependencies"])
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 0.1.0\n{needs}"
    )
    points = project["entry-points"]["mdlm.plugins"]
    lines = "".join(f"{name} = {target}\n" for name, target in points.items())
    (info / "entry_points.txt").write_text(f"[mdlm.plugins]\n{lines}")

    def python(*arguments):
        path = os.pathsep.join(
            filter(None, [str(source), os.environ.get("PYTHONPATH")])
        )
        clean = {k: v for k, v in os.environ.items() if not k.startswith("MDLM_")}
        more = {"PYTHONPATH": path, "MDLM_PLUGINS": "end-later", "MDLM_STRICT": "1"}
        return subprocess.run(
            [sys.executable, *arguments],
            env={**clean, **more},
            cwd=written,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=120,
            check=False,
        )

    return python


def test_files_are_written_and_nothing_is_left_to_fill_in(written):
    found = {
        p.relative_to(written).as_posix() for p in written.rglob("*") if p.is_file()
    }
    assert found == FILES
    for path in FILES:
        text = (written / path).read_text("utf-8")
        assert "$" not in text, path
        if path.endswith(".py"):
            assert ast.get_docstring(ast.parse(text)), path
            assert max(map(len, text.splitlines())) <= 88, path


def test_project_asks_for_this_minor_of_core(written):
    project = tomllib.loads((written / "pyproject.toml").read_text())["project"]
    major, minor = __version__.split(".")[:2]
    assert project["name"] == "mdlm-end-later"
    assert project["dependencies"] == [
        f"mdlm-core>={major}.{minor},<{major}.{int(minor) + 1}"
    ]
    assert project["entry-points"]["mdlm.plugins"] == {
        "end-later": "mdlm_end_later.plugin"
    }


def test_licence_is_the_one_of_core(written, request):
    root = request.config.rootpath
    for path in (root / "LICENSE", root / "packages" / "mdlm-core" / "LICENSE"):
        if path.exists():
            assert path.read_bytes() == (written / "LICENSE").read_bytes()


def test_preset_is_the_quick_start_with_the_policy(written, request):
    from importlib import resources

    default = resources.files("mdlm_core").joinpath("presets/default.yaml")
    core = yaml.safe_load(default.read_text("utf-8"))
    path = written / "src/mdlm_end_later/presets/default.yaml"
    mine = yaml.safe_load(path.read_text("utf-8"))
    assert mine.pop("masking") == {"name": "end-later", "strength": 0.5}
    core.pop("masking")
    assert mine == core


def test_generated_plugin_loads_and_its_preset_resolves(installed):
    shown = installed("-m", "mdlm_core", "config", "show", "--plugin", "end-later")
    assert shown.returncode == 0, shown.stderr
    assert "masking:\n  name: end-later\n  strength: 0.5\n" in shown.stdout
    listed = installed("-m", "mdlm_core", "plugins", "list")
    assert listed.returncode == 0, listed.stderr


def test_generated_light_tests_pass(installed):
    done = installed("-m", "pytest", "-q", "tests/light", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout
    assert "6 passed" in done.stdout


def test_nothing_is_overwritten(written, capsys):
    (written / "README.md").write_text("mine")
    assert run(["new-plugin", "end-later", "--into", str(written.parent)]) == 2
    assert "exists already; nothing was written" in capsys.readouterr().err
    assert (written / "README.md").read_text() == "mine"


def test_folder_must_exist(tmp_path, capsys):
    assert run(["new-plugin", "haiku", "--into", str(tmp_path / "no")]) == 2
    assert "there is no folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "plain"),
    [("haiku", "haiku"), ("end_later", "end-later"), ("mdlm-haiku", "haiku")],
)
def test_names_are_made_plain(given, plain):
    assert plain_name(given) == plain


@pytest.mark.parametrize(
    "name",
    ["", "Haiku", "two words", "1st", "a--b", "-a", "a-", "über", "class", "match"],
)
def test_names_that_cannot_be_are_refused(name):
    with pytest.raises(UsageError):
        plain_name(name)


@pytest.mark.parametrize(
    ("name", "owner"),
    [
        ("core", "the installed plugin 'core'"),
        ("train", "the command 'mdlm train'"),
        ("uniform", "the masking policy 'uniform'"),
    ],
)
def test_names_that_are_taken_are_refused(tmp_path, capsys, name, owner):
    assert run(["new-plugin", name, "--into", str(tmp_path)]) == 2
    assert owner in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_neighbouring_imports_are_sorted_whatever_the_name(tmp_path):
    for name in ("abc", "xyz"):
        write_plugin(name, tmp_path / name)
        text = (tmp_path / name / "tests" / "test_masking.py").read_text()
        imports = [line for line in text.splitlines() if line.startswith("from mdlm_")]
        assert imports == sorted(imports)
        assert len(imports) == 4
