"""A run that was killed and resumed is the run that was not."""

import subprocess
import sys
from pathlib import Path

import pytest

from mdlm_core.errors import CheckpointError, ConfigError, UsageError
from mdlm_core.train import checkpoint

from .tiny_run import TinySource, run, trace

TENSORS = ("model", "ema", "optimizer")


def same_end(first, second):
    """Whether two runs have the same numbers and the same tensors, bit for bit."""
    assert trace(first) == trace(second)
    ends = [checkpoint.checkpoints(f / "checkpoints")[-1] for f in (first, second)]
    assert ends[0].name == ends[1].name
    for name in TENSORS:
        contents = [(end / f"{name}.safetensors").read_bytes() for end in ends]
        assert contents[0] == contents[1], name


@pytest.mark.parametrize("kind", ["tiny", "real"])
def test_killed_at_random_moments_then_resumed(tmp_path, kind):
    program = Path(__file__).with_name("killed_runs.py")
    command = [sys.executable, str(program), str(tmp_path), "1", kind]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("killed at") == 7
    assert len(trace(tmp_path / "whole")) == 12 + 3
    same_end(tmp_path / "whole", tmp_path / "killed")


def test_stopping_early_and_going_on_changes_nothing(tmp_path):
    run(tmp_path / "whole", log_every=3, save_every=5)
    # The schedule is constant, so that a shorter run is the beginning of a longer one;
    # it ends between two lines of metrics.
    run(tmp_path / "parts", steps=5, log_every=3, save_every=5, eval_every=0)
    metrics = tmp_path / "parts" / "metrics.jsonl"
    assert [line["step"] for line in trace(tmp_path / "parts")] == [3, 5, 5]
    run(tmp_path / "parts", resume=True, log_every=3, save_every=5)
    assert metrics.read_text().endswith("\n")
    for name in TENSORS:
        whole, parts = (
            tmp_path / f / "checkpoints" / "step-00000012" / f"{name}.safetensors"
            for f in ("whole", "parts")
        )
        assert whole.read_bytes() == parts.read_bytes(), name


def test_lines_after_the_checkpoint_are_not_repeated(tmp_path):
    run(tmp_path, steps=6, save_every=4)
    for path in checkpoint.checkpoints(tmp_path / "checkpoints")[1:]:
        path.rename(path.with_name("elsewhere"))  # as if killed after step 4
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 7, "ki')  # and in the middle of a line
    run(tmp_path, resume=True, steps=8, save_every=4)
    steps = [line["step"] for line in trace(tmp_path) if line["kind"] == "train"]
    assert steps == list(range(1, 9))


@pytest.mark.parametrize("harm", ["truncate", "flip"])
def test_a_damaged_newest_checkpoint_is_passed_over(tmp_path, capsys, harm):
    run(tmp_path / "whole", steps=6, eval_every=0)
    run(tmp_path / "hurt", steps=6, eval_every=0)
    newest = checkpoint.checkpoints(tmp_path / "hurt" / "checkpoints")[-1]
    file = newest / "model.safetensors"
    content = bytearray(file.read_bytes())
    if harm == "truncate":
        del content[-10:]
    else:
        content[-10] ^= 1
    file.write_bytes(content)

    capsys.readouterr()
    run(tmp_path / "hurt", resume=True, steps=6, eval_every=0, verbose=True)
    warnings = [t for t in capsys.readouterr().out.splitlines() if "warning" in t]
    assert len(warnings) == 1
    assert "checkpoint 'step-00000006' is damaged" in warnings[0]
    same_end(tmp_path / "whole", tmp_path / "hurt")
    assert not checkpoint.damage(newest)  # written again


def test_rotation_after_damage_keeps_what_is_sound(tmp_path, capsys):
    settings = {"eval_every": 0, "keep_last": 2, "keep_best": 0}
    run(tmp_path, steps=6, save_every=3, **settings)
    place = tmp_path / "checkpoints"
    newest = checkpoint.checkpoints(place)[-1]
    (newest / "model.safetensors").write_bytes(b"hurt")
    capsys.readouterr()
    settings["keep_last"] = 1
    run(tmp_path, steps=4, save_every=1, resume=True, verbose=True, **settings)
    assert "kept as 'damaged-step-00000006'" in capsys.readouterr().out
    assert {path.name for path in place.iterdir()} == {
        "step-00000004",
        "damaged-step-00000006",
    }
    found = checkpoint.newest_sound(place, print)
    assert found is not None
    assert found.name == "step-00000004"


def test_all_checkpoints_damaged_is_an_error(tmp_path):
    run(tmp_path, steps=4)
    for path in checkpoint.checkpoints(tmp_path / "checkpoints"):
        (path / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match="every checkpoint"):
        run(tmp_path, resume=True, steps=4)


def test_resume_wants_a_run_and_a_new_run_wants_none(tmp_path):
    with pytest.raises(UsageError, match="leave out --resume"):
        run(tmp_path, resume=True)
    run(tmp_path / "a", steps=1)
    with pytest.raises(UsageError, match="already holds a run; add --resume"):
        run(tmp_path / "a", steps=1)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.tex").touch()
    with pytest.raises(UsageError, match=r"not empty \(it holds 'thesis.tex'\)"):
        run(tmp_path / "b", steps=1)
    (tmp_path / "c").touch()
    with pytest.raises(UsageError, match="is a file"):
        run(tmp_path / "c", steps=1)


def test_a_run_without_checkpoint_starts_again(tmp_path):
    run(tmp_path / "whole", steps=2)
    run(tmp_path / "early", steps=2)
    for path in checkpoint.checkpoints(tmp_path / "early" / "checkpoints"):
        path.rename(path.with_name("elsewhere"))
    run(tmp_path / "early", resume=True, steps=2)
    same_end(tmp_path / "whole", tmp_path / "early")


def test_settings_that_change_the_past_are_refused_by_name(tmp_path):
    run(tmp_path, steps=2)
    with pytest.raises(ConfigError, match=r"train\.ema \(0\.9 -> 0\.5\), train\.lr"):
        run(tmp_path, resume=True, steps=2, lr=1.0, ema=0.5)
    harmless = {"eval_every": 1, "save_every": 1, "log_every": 2, "keep_last": 1}
    assert run(tmp_path, resume=True, steps=3, **harmless).step == 3


def test_other_data_is_refused(tmp_path):
    class Other(TinySource):
        def card(self):
            split = {"bytes_per_token": 1.0, "sha256": "1" * 64}
            return {"name": "tiny", "splits": {"validation": split}}

    run(tmp_path, steps=2)
    with pytest.raises(CheckpointError, match=r"splits\.validation\.sha256"):
        run(tmp_path, resume=True, steps=3, source=Other())


def test_resume_asks_for_the_batches_that_are_left(tmp_path):
    run(tmp_path, steps=4)
    source = TinySource()
    run(tmp_path, resume=True, steps=6, source=source)
    assert ("train", 4, 0, 1) in source.asked


def test_a_finished_run_says_so(tmp_path, capsys):
    first = run(tmp_path, steps=2)
    again = run(tmp_path, resume=True, steps=2, verbose=True)
    assert "all 2 steps are done" in capsys.readouterr().out
    assert again.held_out == first.held_out
    assert again.step == 2
