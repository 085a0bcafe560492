"""One bad plugin never stops the others, and says in one line what is wrong."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from mdlm_core import hookimpl
from mdlm_core.catalog import Catalog, load_catalog
from mdlm_core.errors import PluginError
from mdlm_core.plugins import Plugins
from mdlm_core.refs import Ref
from mdlm_core.specs import SamplerSpec, ScheduleSpec


def spec(name, kind=SamplerSpec):
    return kind(
        name=name, summary="One.", factory=Ref("no.where:build"), config=Ref("no:C")
    )


class Good:
    @hookimpl
    def mdlm_samplers(self):
        yield spec("good-sampler")


class Misspelt:
    @hookimpl
    def mdlm_sampler(self):
        yield spec("never")


class WrongObject:
    @hookimpl
    def mdlm_samplers(self):
        yield spec("before")
        yield {"name": "a-mapping"}


class WrongKind:
    @hookimpl
    def mdlm_samplers(self):
        yield spec("a-schedule", ScheduleSpec)


class NotIterable:
    @hookimpl
    def mdlm_samplers(self):
        return 7


class RaisesInHook:
    @hookimpl
    def mdlm_schedules(self):
        yield spec("kept-for-nobody", ScheduleSpec)

    @hookimpl
    def mdlm_samplers(self):
        yield spec("before")
        raise RuntimeError("the hook\nis broken")


class ExitsInHook:
    @hookimpl
    def mdlm_samplers(self):
        raise SystemExit(4)
        yield


class WrongSpec:
    @hookimpl
    def mdlm_samplers(self):
        yield spec("Not Kebab")


class Point:
    """Looks like an entry point; `result` is the module or what the import raises."""

    def __init__(self, name, result, requires=("mdlm-core>=0.1",), dist=None):
        self.name, self.value, self.result = name, f"mdlm_{name}.plugin", result
        self.dist = dist or SimpleNamespace(
            name=f"mdlm-{name}", version="9.8", requires=requires
        )
        self.loads = 0

    def load(self):
        self.loads += 1
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result


@pytest.fixture(autouse=True)
def no_switches(monkeypatch):
    for name in ("MDLM_PLUGINS", "MDLM_DISABLE_PLUGINS", "MDLM_STRICT"):
        monkeypatch.delenv(name, raising=False)


BAD = {
    "import error": (Point("bad", ImportError("No module named 'Bio'")), "Bio"),
    "any error": (Point("bad", KeyError("x")), "KeyError"),
    "exit": (Point("bad", SystemExit(0)), "SystemExit: 0"),
    "misspelt hook": (Point("bad", Misspelt()), "mdlm_sampler"),
    "wrong object": (Point("bad", WrongObject()), "a-mapping"),
    "wrong kind": (Point("bad", WrongKind()), "must yield specs of kind 'sampler'"),
    "not iterable": (Point("bad", NotIterable()), "TypeError"),
    "raises in hook": (Point("bad", RaisesInHook()), "the hook is broken"),
    "exits in hook": (Point("bad", ExitsInHook()), "SystemExit: 4"),
    "wrong spec": (Point("bad", WrongSpec()), "kebab-case"),
}


@pytest.mark.parametrize(("point", "reason"), BAD.values(), ids=BAD)
def test_bad_plugin_is_recorded_and_the_others_go_on(point, reason, capsys):
    plugins = Plugins()
    record = plugins.load(point)
    plugins.load(Point("good", Good()))
    assert (record.status, record.specs) == ("failed", [])
    assert reason in record.error
    assert "\n" not in record.error
    assert "Traceback" in record.details
    assert [r.name for r in plugins.failures()] == ["bad"]
    found = Catalog(plugins)
    assert "good-sampler" in found.names("sampler")
    assert "before" not in found.names("sampler")
    assert "kept-for-nobody" not in found.names("schedule")
    plugins.warn()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("warning: plugin 'bad' (mdlm-bad 9.8) did not load: ")
    assert lines[0].endswith("Details: mdlm plugins doctor bad")


def test_keyboard_interrupt_is_not_swallowed():
    with pytest.raises(KeyboardInterrupt):
        Plugins().load(Point("bad", KeyboardInterrupt()))


@pytest.mark.parametrize(
    "requirement",
    ["mdlm-core>=99", "mdlm_core<0.1", "MDLM.Core[hf]>=99", "mdlm-core==0.0.1"],
)
def test_plugin_for_another_core_is_not_imported(requirement):
    point = Point("old", Good(), requires=("numpy", requirement))
    record = Plugins().load(point)
    assert record.status == "incompatible"
    assert "is installed" in record.error
    assert point.loads == 0


@pytest.mark.parametrize(
    "requires", [None, (), ("numpy>=99",), ("mdlm-core",), ("mdlm-core[hf]>=0.1,<99",)]
)
def test_plugin_that_fits_is_loaded(requires):
    assert Plugins().load(Point("fits", Good(), requires=requires)).status == "loaded"


def test_requirement_that_cannot_be_read_is_told():
    record = Plugins().load(Point("odd", Good(), requires=("mdlm-core>>1",)))
    assert record.status == "incompatible"
    assert "mdlm-core>>1" in record.error


def test_distribution_whose_metadata_is_broken_does_not_stop_anything():
    class Broken:
        @property
        def name(self):
            raise KeyError("Name")

    record = Plugins().load(Point("torn", Good(), dist=Broken()))
    assert record.status == "failed"


def test_second_plugin_of_one_name_fails_and_the_first_stays():
    plugins = Plugins()
    first = plugins.load(Point("twin", Good()))
    second = plugins.load(Point("twin", Good()))
    assert (first.status, second.status) == ("loaded", "failed")
    assert "good-sampler" in Catalog(plugins).names("sampler")


def test_one_module_under_two_names_counts_once():
    plugins, module = Plugins(), Good()
    plugins.load(Point("first", module))
    assert plugins.load(Point("second", module)).status == "failed"
    assert Catalog(plugins).provider("sampler", "good-sampler").name == "first"


@pytest.mark.parametrize(
    ("variable", "value", "off"),
    [
        ("MDLM_PLUGINS", "", {"a", "b"}),
        ("MDLM_PLUGINS", "b", {"a"}),
        ("MDLM_PLUGINS", " a , b ", set()),
        ("MDLM_DISABLE_PLUGINS", "a", {"a"}),
        ("MDLM_DISABLE_PLUGINS", "", set()),
    ],
)
def test_lists_switch_plugins_off(monkeypatch, variable, value, off):
    monkeypatch.setenv(variable, value)
    plugins = Plugins()
    points = [Point("a", Good()), Point("b", Good())]
    records = [plugins.load(point) for point in points]
    assert {r.name for r in records if r.status == "disabled"} == off
    assert {p.name for p in points if p.loads == 0} == off
    assert plugins.failures() == []


def test_deny_list_wins_over_allow_list(monkeypatch):
    monkeypatch.setenv("MDLM_PLUGINS", "a")
    monkeypatch.setenv("MDLM_DISABLE_PLUGINS", "a")
    assert Plugins().load(Point("a", Good())).status == "disabled"


def test_strict_makes_a_failure_an_error(monkeypatch, capsys):
    bad = Point("bad", RuntimeError("broken"))
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: [bad])
    load_catalog.cache_clear()
    try:
        assert load_catalog().names("backbone") == ["dit"]
        assert "warning: plugin 'bad'" in capsys.readouterr().err
        load_catalog.cache_clear()
        monkeypatch.setenv("MDLM_STRICT", "1")
        with pytest.raises(PluginError, match=r"MDLM_STRICT=1.*'bad'"):
            load_catalog()
    finally:
        load_catalog.cache_clear()


def test_plugins_are_loaded_in_the_order_of_their_names(monkeypatch):
    points = [Point(name, Good()) for name in ("c", "a", "b")]
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: points)
    names = [record.name for record in Plugins().discover().records]
    assert names == ["core", "a", "b", "c"]


# ---- real distributions, in a process of their own ---------------------------

GOOD = """
    from mdlm_core import SamplerSpec, Ref, hookimpl

    @hookimpl
    def mdlm_samplers():
        yield SamplerSpec(name="haiku", summary="Short.", factory=Ref("a:b"),
                          config=Ref("mdlm_core.config.components:SamplerConfig"))
"""


@pytest.fixture
def zoo(distribution):
    """One good plugin among bad ones."""
    distribution("haiku", GOOD)
    distribution("ill", "import there_is_no_such_module")
    distribution("leaves", "import sys; sys.exit(0)")
    distribution("newer", "raise AssertionError('imported')", requires="mdlm-core>=99")
    distribution("typo", GOOD.replace("mdlm_samplers", "mdlm_sampelrs"))
    return "haiku,ill,leaves,newer,typo"


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], ["list"], ["plugins", "list"], ["config", "show"]],
    ids=" ".join,
)
def test_bad_distributions_never_stop_a_command(mdlm, zoo, arguments):
    done = mdlm(*arguments, MDLM_PLUGINS=zoo)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_each_bad_distribution_is_told_in_one_line(mdlm, zoo):
    done = mdlm("list", "sampler", MDLM_PLUGINS=zoo)
    assert "haiku" in done.stdout
    lines = done.stderr.splitlines()
    assert [line.split("'")[1] for line in lines] == ["ill", "leaves", "newer", "typo"]
    assert "needs mdlm-core>=99" in lines[2]


def test_list_says_status_version_and_what_is_provided(mdlm, zoo):
    done = mdlm("plugins", "list", "--json", MDLM_PLUGINS=zoo)
    records = {record["name"]: record for record in json.loads(done.stdout)}
    assert records["haiku"]["status"] == "loaded"
    assert records["haiku"]["version"] == "1.2.3"
    assert records["haiku"]["distribution"] == "mdlm-haiku"
    assert records["haiku"]["provides"] == {"sampler": ["haiku"]}
    assert {n: records[n]["status"] for n in ("ill", "leaves", "newer", "typo")} == {
        "ill": "failed",
        "leaves": "failed",
        "newer": "incompatible",
        "typo": "failed",
    }


def test_strict_process_ends_with_one(mdlm, zoo):
    assert mdlm("list", MDLM_PLUGINS=zoo, MDLM_STRICT="1").returncode == 1
    listed = mdlm("plugins", "list", MDLM_PLUGINS=zoo, MDLM_STRICT="1")
    assert listed.returncode == 1
    assert "leaves" in listed.stdout
    assert mdlm("list", MDLM_PLUGINS="haiku", MDLM_STRICT="1").returncode == 0


def test_doctor_shows_the_traceback_of_a_failure(mdlm, zoo):
    done = mdlm("plugins", "doctor", "ill", MDLM_PLUGINS=zoo)
    assert done.returncode == 1
    assert "Traceback" in done.stdout
    assert "No module named 'there_is_no_such_module'" in done.stdout
    assert done.stderr.startswith("error: plugin 'ill' (mdlm-ill 1.2.3) is failed")


def test_doctor_shows_the_fence(mdlm, zoo):
    done = mdlm("plugins", "doctor", "newer", MDLM_PLUGINS=zoo)
    assert done.returncode == 1
    assert "it needs mdlm-core>=99, but" in done.stdout


def test_doctor_finds_a_reference_that_leads_nowhere(mdlm, zoo):
    done = mdlm("plugins", "doctor", "haiku", MDLM_PLUGINS=zoo)
    assert done.returncode == 1
    assert "sampler haiku: 'a:b' cannot be imported" in done.stdout
