"""Errors and references."""

import re

import pytest

from mdlm_core import errors
from mdlm_core.errors import MdlmError, MissingExtraError, PluginError
from mdlm_core.refs import Ref


def families():
    return [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, MdlmError)
    ]


def test_every_error_is_one_of_ours_and_says_how_the_command_ends():
    assert len(families()) >= 9
    for family in families():
        assert family.exit_code in (1, 2)
    assert errors.ConfigError.exit_code == errors.UsageError.exit_code == 2
    assert errors.DataError.exit_code == errors.TrainingError.exit_code == 1


def test_unknown_name_is_also_what_python_calls_it():
    assert issubclass(errors.UnknownNameError, LookupError)
    assert issubclass(MissingExtraError, ImportError)
    assert str(errors.UnknownNameError("no 'x'")) == "no 'x'"


def test_ref_loads_the_attribute():
    assert Ref("pathlib:Path").load() is __import__("pathlib").Path
    assert Ref("os.path:join").module == "os.path"
    assert str(Ref("os.path:join")) == "os.path:join"


@pytest.mark.parametrize(
    "target",
    ["", "os", "os:", ":join", "os.path.join", "os:path.join", "o s:x", "a..b:c"],
)
def test_ref_that_is_no_reference_is_refused(target):
    with pytest.raises(PluginError, match=r"package\.module:attribute"):
        Ref(target)


def test_ref_does_not_import_until_it_is_loaded():
    Ref("there_is_no_such_module:thing")


def test_ref_to_a_missing_module_says_so():
    with pytest.raises(PluginError, match="No module named 'there_is_no_such_module'"):
        Ref("there_is_no_such_module:thing").load()


def test_ref_to_a_missing_attribute_says_so():
    with pytest.raises(PluginError, match=re.escape("'pathlib' has no 'Pat'")):
        Ref("pathlib:Pat").load()


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import os; os.nothing", "AttributeError: module 'os' has no attribute"),
        ("1 / 0", "ZeroDivisionError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("this is no python", "SyntaxError"),
    ],
)
def test_module_that_fails_is_named_with_its_error(
    tmp_path, monkeypatch, source, reason
):
    name = f"fails_{len(source)}"
    (tmp_path / f"{name}.py").write_text(source, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PluginError, match=f"{name}:x' cannot be imported: {reason}"):
        Ref(f"{name}:x").load()


def test_our_own_errors_come_through_unchanged(tmp_path, monkeypatch):
    (tmp_path / "needs_an_extra.py").write_text(
        "from mdlm_core.errors import MissingExtraError\n"
        "raise MissingExtraError('pip install it')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingExtraError, match=r"^pip install it$"):
        Ref("needs_an_extra:x").load()
