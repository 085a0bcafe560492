"""`mdlm doctor`: the environment, and what can be wrong with a run."""

import json

import pytest
import torch

from mdlm_core.catalog import Catalog, load_catalog
from mdlm_core.cli import run as command
from mdlm_core.plugins import Plugins
from mdlm_core.train import checkpoint
from mdlm_core.train.checks import environment
from mdlm_core.train.checks_run import run_folder
from mdlm_core.train.lock import FolderLock

from .tiny_run import TinySource, TinyTask, run


@pytest.fixture
def folder(tmp_path):
    run(tmp_path, steps=4)
    return tmp_path


def findings(folder, task=None, source=None):
    found = run_folder(
        folder,
        load_catalog(),
        task=task or TinyTask(),
        source=source or TinySource(),
    )
    return {finding.name: finding for finding in found}


def problems(folder, **rest):
    return {n for n, f in findings(folder, **rest).items() if f.level == "problem"}


def test_a_good_run_has_no_problem(folder):
    found = findings(folder)
    assert {f.level for f in found.values()} <= {"ok", "note"}
    assert found["mask id"].text == "257 of 258"
    assert "ln(V - 1) is 5.5491" in found["first loss"].text
    assert found["first loss"].level == "ok"
    assert found["ema"].text == "there and used"
    assert "validation 6 rows" in found["data"].text
    assert "steps 2, 4" in found["checkpoints"].text


def test_every_problem_has_a_remedy(folder):
    path = checkpoint.checkpoints(folder / "checkpoints")[-1]
    (path / "model.safetensors").unlink()
    found = list(
        run_folder(folder, load_catalog(), task=TinyTask(), source=TinySource())
    )
    bad = [finding for finding in found if finding.level == "problem"]
    assert [finding.name for finding in bad] == ["checkpoints"]
    assert "model.safetensors is missing" in bad[0].text
    assert "--resume" in bad[0].remedy


def test_no_checkpoint_at_all(folder):
    for path in checkpoint.checkpoints(folder / "checkpoints"):
        path.rename(path.with_name("gone-" + path.name))
    assert problems(folder) == {"checkpoints", "model"}


def test_no_run(tmp_path):
    assert problems(tmp_path) == {"settings"}


def test_a_mask_that_does_not_fit(folder):
    source = TinySource()
    source.tokenizer.mask_id = 256
    assert "mask id" in problems(folder, source=source)


def rewrite(folder, name, change):
    """Change the tensors of every checkpoint, and vouch for them again."""
    for path in checkpoint.checkpoints(folder / "checkpoints"):
        tensors = {
            file.stem: checkpoint.read_tensors(path, file.stem)
            for file in path.glob("*.safetensors")
        }
        change(tensors[name])
        state = checkpoint.read_state(path)
        checkpoint.write_checkpoint(path.parent, state.pop("step"), tensors, state)


def test_weights_that_are_not_finite(folder):
    rewrite(folder, "ema", lambda t: t["backbone.head.bias"].fill_(torch.nan))
    assert "weights" in problems(folder)


def test_averages_that_are_missing(folder):
    for path in checkpoint.checkpoints(folder / "checkpoints"):
        manifest = json.loads((path / "manifest.json").read_text())
        del manifest["ema.safetensors"]
        (path / "manifest.json").write_text(json.dumps(manifest))
        (path / "ema.safetensors").unlink()
    assert problems(folder) == {"ema"}


def test_empty_and_changed_data(folder):
    class Empty(TinySource):
        def size(self, split):
            return 0 if split == "validation" else 20

    assert "data" in problems(folder, source=Empty())
    changed = TinySource()
    card = changed.card()
    card["splits"]["validation"]["sha256"] = "1" * 64
    changed.card = lambda: card
    assert "data" in problems(folder, source=changed)


def test_a_head_that_does_not_start_at_zero_is_noted(folder):
    class Warm(TinyTask):
        def build(self, source):
            module = super().build(source)
            torch.nn.init.ones_(module.backbone.head.bias[:5])
            return module

    found = findings(folder, task=Warm())
    assert found["first loss"].level == "note"


def test_learning_by_heart_and_unfinished_runs_are_noted(folder):
    with (folder / "metrics.jsonl").open("a") as file:
        worse = {"step": 4, "kind": "validation", "loss": 99.0, "loss_se": 0.1}
        file.write(json.dumps(worse) + "\n")
    assert "by heart" in findings(folder)["held out"].remedy
    lines = (folder / "metrics.jsonl").read_text().splitlines()[:2]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    progress = findings(folder)["progress"]
    assert progress.text == "step 2 of 4 done"
    assert "--resume" in progress.remedy


def test_a_run_that_is_going_on(folder):
    lock = FolderLock(folder)
    try:
        assert findings(folder)["lock"].level == "note"
    finally:
        lock.release()
    assert "lock" not in findings(folder)


def test_the_environment():
    found = {f.name: f for f in environment(load_catalog())}
    assert "torch" in found["versions"].text
    assert "sdpa" in found["attention"].text
    assert found["plugins"].level == "ok"


def test_a_plugin_that_does_not_load_is_a_problem():
    class Broken:
        name, value, dist = "broken", "nowhere:x", None

        def load(self):
            raise ImportError("no such thing")

    plugins = Plugins()
    plugins.load(Broken())
    [finding] = [f for f in environment(Catalog(plugins)) if f.name == "plugins"]
    assert finding.level == "problem"
    assert finding.remedy == "mdlm plugins doctor broken"


def test_the_command(capsys, tmp_path):
    assert command(["doctor"]) == 0
    assert "versions" in capsys.readouterr().out
    assert command(["doctor", str(tmp_path), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    [problem] = [f for f in found if f["level"] == "problem"]
    assert problem["name"] == "settings"
