"""Every law about declarations catches a plugin that breaks it; and the machinery."""

import importlib
import subprocess
import sys
from dataclasses import dataclass
from textwrap import dedent

import pytest

from mdlm_core import Catalog, PluginError
from mdlm_core.plugins import PluginRecord
from mdlm_core.testing import (
    BrokenLaw,
    check,
    contract,
    fresh_plugins,
    tiny_batch,
    tiny_canvas,
    tiny_vocab,
)
from mdlm_core.testing.contract import cases
from mdlm_core.testing.law import KINDS, laws_of

PLUGIN = """
from mdlm_core import MaskingPolicySpec, PresetSpec, Ref, hookimpl

@hookimpl
def mdlm_masking_policies():
    yield MaskingPolicySpec(
        name="{name}",
        summary="Hide every token alike.",
        factory=Ref("{module}.policy:build"),
        config=Ref("{module}.settings:Settings"),
    )

@hookimpl
def mdlm_presets():
    yield PresetSpec(
        name="{name}/default",
        summary="A preset.",
        path="{module}:presets/default.yaml",
    )
"""
POLICY = """
from mdlm_core.masking import UniformMasking

def build(config, *, source):
    return UniformMasking()
"""
SETTINGS = '''
from dataclasses import dataclass

@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How tokens are hidden."""

    strength: float = 1.0
    """How strongly."""
'''
PRESET = "masking: {name: NAME, strength: 0.5}\n"


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Give a function that writes a plugin package and returns it in a catalog.

    ``change(path=text, ...)`` of the files replaces what a sound plugin has.
    """
    monkeypatch.syspath_prepend(str(tmp_path))
    made = []

    def write(name, **changes):
        module = f"mdlm_{name}"
        files = {
            "__init__": '"""A plugin."""\n',
            "plugin": PLUGIN.format(name=name, module=module),
            "policy": POLICY,
            "settings": SETTINGS,
            **changes,
        }
        folder = tmp_path / module
        (folder / "presets").mkdir(parents=True)
        preset = files.pop("preset", PRESET.replace("NAME", name))
        (folder / "presets/default.yaml").write_text(preset)
        for stem, text in files.items():
            (folder / f"{stem}.py").write_text(dedent(text))
        made.append(module)
        plugins = fresh_plugins(importlib.import_module(f"{module}.plugin"))
        return Catalog(plugins), plugins.records[-1]

    yield write
    for name in list(sys.modules):
        if name.partition(".")[0] in made:
            del sys.modules[name]


def broken(catalog, name):
    verdicts = check(name, catalog=catalog)
    return {v.id: v.reason for v in verdicts if v.status == "broken"}


def test_a_sound_plugin_keeps_every_law(make):
    catalog, record = make("sound")
    assert record.status == "loaded", record.error
    verdicts = check("sound", catalog=catalog, costly=True)
    assert [v for v in verdicts if v.status != "kept"] == []
    ids = {v.id for v in verdicts}
    assert {
        "plugin-sound-declaration_is_light",
        "config-masking-sound-survives_yaml",
        "masking-sound-frozen_tokens_stay",
        "preset-sound/default-runs_two_tiny_steps",
    } <= ids
    assert all(v.law.endswith(".") for v in verdicts)


def changed(text, old, new):
    assert old in text
    return text.replace(old, new)


CONFIG = "config-masking-{name}-"
CASES = {
    "plugin-{name}-declaration_is_light": {"plugin": "import numpy\n" + PLUGIN},
    "plugin-{name}-every_reference_resolves": {
        "plugin": changed(PLUGIN, "policy:build", "policy:bild")
    },
    "plugin-{name}-hooks_are_marked_and_exist": {
        "plugin": PLUGIN + "\ndef mdlm_samplers():\n    return ()\n"
    },
    "plugin-{name}-presets_carry_its_name": {
        "plugin": changed(PLUGIN, "{name}/default", "{name}/other")
    },
    CONFIG + "is_a_frozen_dataclass": {
        "settings": changed(SETTINGS, "frozen=True, kw_only=True", "kw_only=True")
    },
    CONFIG + "has_defaults": {"settings": changed(SETTINGS, "float = 1.0", "float")},
    CONFIG + "documents_every_field": {
        "settings": changed(SETTINGS, '    """How strongly."""', "")
    },
    CONFIG + "is_light": {"settings": "import numpy\n" + SETTINGS},
    CONFIG + "tiny_settings_are_accepted": {
        "plugin": changed(
            PLUGIN, ':Settings"),', ':Settings"), tiny={{"strenght": 2.0}},'
        )
    },
    CONFIG + "survives_yaml": {
        "settings": SETTINGS + "\n    def __post_init__(self):\n"
        "        object.__setattr__(self, 'strength', self.strength / 2)\n"
    },
    "preset-{name}/default-resolves": {"preset": "masking: {nmae: uniform}\n"},
    "preset-{name}/default-survives_yaml": {
        "settings": SETTINGS + "\n    def __post_init__(self):\n"
        "        object.__setattr__(self, 'strength', self.strength / 2)\n"
    },
}


@pytest.mark.parametrize("law", CASES)
def test_catches(make, law):
    name = law.rpartition("-")[2].replace("_", "").lower()[:12] + str(len(law))
    changes = {}
    for stem, text in CASES[law].items():
        if stem == "plugin":
            text = text.format(name=name, module=f"mdlm_{name}")
        changes[stem] = text
    catalog, record = make(name, **changes)
    assert record.status == "loaded", record.error
    found = broken(catalog, name)
    assert law.format(name=name) in found, found
    assert found[law.format(name=name)]


def test_catches_heavy_commands(make):
    catalog, _ = make(
        "heavycommand",
        plugin="""
        from mdlm_core import CommandSpec, Ref, hookimpl

        @hookimpl
        def mdlm_commands():
            yield CommandSpec(
                name="heavycommand",
                summary="Do something.",
                app=Ref("mdlm_heavycommand.command:app"),
            )
        """,
        command="import numpy\nimport typer\napp = typer.Typer()\n",
    )
    assert list(broken(catalog, "heavycommand")) == [
        "plugin-heavycommand-commands_are_light"
    ]


def test_catches_a_name_that_another_plugin_has(make):
    _, first = make("first")
    _, second = make("second", plugin=PLUGIN.format(name="first", module="mdlm_second"))
    modules = [importlib.import_module(r.target) for r in (first, second)]
    catalog = Catalog(fresh_plugins(*modules))
    found = broken(catalog, "first")
    assert "masking 'first'" in found["plugin-first-names_are_its_own"]


@dataclass
class Installed:
    """Writes what an installation leaves behind."""

    folder: object

    def record(self, name, dist, *requires):
        info = self.folder / f"{dist.replace('-', '_')}-0.1.0.dist-info"
        info.mkdir()
        lines = [f"Requires-Dist: {line}" for line in requires]
        head = ["Metadata-Version: 2.1", f"Name: {dist}", "Version: 0.1.0"]
        (info / "METADATA").write_text("\n".join([*head, *lines]) + "\n")
        return PluginRecord(name, "mdlm_core.builtin", dist, "0.1.0")


def law_called(name):
    return next(law.function for law in laws_of("plugin") if law.name == name)


def test_catches_a_distribution_of_another_name(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    law = law_called("name_is_that_of_the_distribution")
    installed = Installed(tmp_path)
    law(installed.record("haiku", "mdlm-haiku"))
    with pytest.raises(BrokenLaw, match="it should be 'tanka'"):
        law(installed.record("haiku", "mdlm-tanka"))


def test_catches_a_requirement_without_an_upper_bound(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    law = law_called("core_has_an_upper_bound")
    installed = Installed(tmp_path)
    law(installed.record("good", "mdlm-good", "mdlm-core>=0.1,<0.2"))
    with pytest.raises(BrokenLaw, match="add '<'"):
        law(installed.record("open", "mdlm-open", "mdlm-core>=0.1"))
    with pytest.raises(BrokenLaw, match="does not require"):
        law(installed.record("none", "mdlm-none", "torch"))


def test_catches_a_preset_that_does_not_train(make):
    catalog, _ = make(
        "stuck",
        policy="""
        def build(config, *, source):
            raise RuntimeError("no policy today")
        """,
    )
    case = "preset-stuck/default-runs_two_tiny_steps"
    every = {v.id: v for v in check("stuck", catalog=catalog, costly=True)}
    assert every[case].status == "broken"
    assert "no policy today" in every[case].reason


def test_every_light_law_is_broken_here():
    ids = {law.rpartition("-")[2] for law in CASES}
    elsewhere = {
        "commands_are_light",
        "name_is_that_of_the_distribution",
        "core_has_an_upper_bound",
        "names_are_its_own",
        "runs_two_tiny_steps",
    }
    light = {law.name for k in ("plugin", "config", "preset") for law in laws_of(k)}
    assert light == ids | elsewhere
    assert len(KINDS) == 9


# ---- the machinery ----------------------------------------------------------


def write_test(folder, body):
    path = folder / "test_it.py"
    path.write_text(dedent(body))
    command = [sys.executable, "-m", "pytest", "-q", "-rxXs", str(path)]
    command += ["-p", "no:cacheprovider", "--rootdir", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_pytest_ids_known_failures_and_skips(tmp_path):
    result = write_test(
        tmp_path,
        """
        from mdlm_core.catalog import Catalog
        from mdlm_core.specs import DatasetSpec, ScheduleSpec
        from mdlm_core.refs import Ref
        from mdlm_core.hooks import hookimpl
        from mdlm_core.testing import contract, fresh_plugins
        from mdlm_core.diffusion import LogLinear

        class Odd(LogLinear):
            def weight(self, t):
                return 1.01 / t

        def build(config):
            return Odd()

        class mdlm_odd:
            @hookimpl
            def mdlm_schedules(self):
                yield ScheduleSpec(
                    name="odd",
                    summary="Odd.",
                    factory=Ref("test_it:build"),
                    config=Ref("mdlm_core.config.components:EpsConfig"),
                )

            @hookimpl
            def mdlm_datasets(self):
                yield DatasetSpec(
                    name="none",
                    summary="None.",
                    factory=Ref("test_it:build"),
                    config=Ref("mdlm_core.config.components:TextConfig"),
                    requires=("a_module_that_is_not_there",),
                    extra="mdlm-odd[all]",
                )

        plugin = mdlm_odd()
        plugin.__name__ = "mdlm_odd"
        test_contract = contract(
            "odd",
            catalog=Catalog(fresh_plugins(plugin)),
            broken={"schedule-odd-weight_is_finite_and_follows": "odd by design"},
        )

        """,
    )
    out = result.stdout
    assert "XFAIL" in out, out + result.stderr
    assert "test_contract[schedule-odd-weight_is_finite_and_follows]" in out
    assert "odd by design" in out
    assert "pip install 'mdlm-odd[all]'" in out


def test_what_is_called_broken_must_exist_and_have_a_reason():
    with pytest.raises(PluginError, match="has no case 'masking-uniform-typo'"):
        contract("core", broken={"masking-uniform-typo": "why not"})
    with pytest.raises(PluginError, match="without a reason"):
        contract("core", broken={"masking-uniform-monotone": " "})


def test_a_plugin_that_is_not_there_is_an_error(make):
    with pytest.raises(PluginError, match="there is no plugin 'nobody'"):
        cases("nobody")
    catalog, record = make("raising", plugin="raise_later = 1\n" + PLUGIN_THAT_RAISES)
    assert record.status == "failed"
    with pytest.raises(PluginError, match=r"failed: .*oh no"):
        cases("raising", catalog=catalog)
    with pytest.raises(PluginError, match="has no component 'dataset-nothing'"):
        cases("core", settings={"dataset-nothing": {}})


PLUGIN_THAT_RAISES = """
from mdlm_core import hookimpl

@hookimpl
def mdlm_tasks():
    raise ValueError("oh no")
"""


def test_data_that_needs_a_file_is_skipped_without_one(tmp_path):
    skipped = {c.id: c.skipped for c in cases("core") if c.skipped}
    assert skipped["dataset-text-validation_ends"].startswith("needs the network or")
    given = cases("core", settings={"dataset-text": {"path": str(tmp_path)}})
    still = {case.id for case in given if case.skipped}
    assert "dataset-text-validation_ends" not in still
    assert "dataset-jsonl-validation_ends" in still


def test_check_leaves_out_what_takes_long(make):
    names = {case.id for case in cases("core") if case.law.rule.costly}
    assert "preset-default-runs_two_tiny_steps" in names
    catalog, _ = make("quick")
    quick = {verdict.id for verdict in check("quick", catalog=catalog)}
    every = {case.id for case in cases("quick", catalog=catalog)}
    assert every - quick == {"preset-quick/default-runs_two_tiny_steps"}


def test_fresh_plugins_have_nothing_but_what_is_given(make):
    assert [record.name for record in fresh_plugins().records] == ["core"]
    _, record = make("given")
    module = importlib.import_module(record.target)
    assert [r.name for r in fresh_plugins(module).records] == ["core", "given"]


def test_tiny_things_are_what_they_say():
    batch = tiny_batch()
    assert batch.tokens.shape == (4, 16)
    assert not (batch.tokens == 5).any()
    assert batch.frozen[1, :4].all()
    assert batch.pad[-1].any()
    assert batch.sample_id.tolist() == [3, 10, 17, 24]
    canvas = tiny_canvas(batch, 5)
    masked = (canvas.tokens == 5).sum(1)
    assert masked[0] == 16
    assert ((masked > 0) & (masked <= 16)).all()
    assert (canvas.tokens == batch.tokens)[batch.frozen].all()
    vocab = tiny_vocab()
    assert vocab.decode(vocab.encode("badge")) == "badge"
    assert vocab.vocab_size == 12


def test_fixtures_come_for_the_asking(tmp_path):
    path = tmp_path / "test_fixtures.py"
    path.write_text(
        "def test_it(tiny_batch, tiny_vocab, tiny_source, fresh_plugins):\n"
        "    assert len(tiny_batch) == 4\n"
        "    assert tiny_source.tokenizer.vocab_size == tiny_vocab.vocab_size\n"
        "    assert fresh_plugins().records\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", str(path), "-p"]
    command += ["no:cacheprovider", "-p", "mdlm_core.testing.fixtures"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "1 passed" in result.stdout, result.stdout


def test_pytest_is_imported_only_when_asked():
    code = "import sys, mdlm_core.testing; sys.exit('pytest' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
