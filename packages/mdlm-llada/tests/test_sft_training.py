"""Fine-tuning as a whole: accumulation, resuming, epochs, what is measured."""

import ast
from pathlib import Path

import pytest
import torch

from mdlm_core.catalog import load_catalog
from mdlm_core.errors import ConfigError
from mdlm_core.train import checkpoint, load_run
from mdlm_llada import sft
from mdlm_llada.sft.held_out import measure

from .sft_run import MIRROR, TOKEN, config, run, trace

KINDS = {"mirror": MIRROR, "token": TOKEN}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    for name, kind in KINDS.items():
        run(folder / name, kind)
    return folder


def tensors(folder, step=6, name="model"):
    place = folder / "checkpoints" / f"step-{step:08d}"
    return checkpoint.read_tensors(place, name)


# ---- accumulation ------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("micro", [1, 3])
def test_accumulation_changes_nothing(whole, tmp_path, kind, micro):
    """Also where the last part of a batch is smaller than the others: 3, 3 and 2."""
    run(tmp_path, KINDS[kind], train__micro_batch=micro, task__eval_generate=0)
    for one, other in zip(
        trace(whole / kind, "train"), trace(tmp_path, "train"), strict=True
    ):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-4)
        assert one["tokens"] == other["tokens"]
    for name, value in tensors(whole / kind).items():
        assert torch.allclose(value, tensors(tmp_path)[name], atol=1e-4), name


def test_answers_differ_in_length_so_that_normalisers_matter(whole):
    source = load_run(whole / "token").source
    batch = next(source.batches("train", size=8, seed=0))
    assert len(set(batch.free.sum(1).tolist())) > 2


# ---- resuming ----------------------------------------------------------------


def test_a_resumed_run_is_the_run_that_was_not_stopped(whole, tmp_path):
    run(tmp_path, MIRROR, train__steps=3)
    before = tensors(tmp_path, 3)
    assert int(before["times.measured"]) == 0
    run(tmp_path, MIRROR, resume=True)
    for name in ("model", "ema", "optimizer"):
        files = [
            f / "checkpoints" / "step-00000006" / f"{name}.safetensors"
            for f in (whole / "mirror", tmp_path)
        ]
        assert files[0].read_bytes() == files[1].read_bytes(), name
    after = tensors(tmp_path)
    assert int(after["times.measured"]) == 4
    assert not torch.equal(before["times.density"], after["times.density"])
    assert trace(whole / "mirror") == trace(tmp_path)


def test_a_loaded_run_has_the_density_of_its_times(whole):
    loaded = load_run(whole / "mirror")
    saved = tensors(whole / "mirror")
    times = loaded.module.times
    assert torch.equal(times.density, saved["times.density"])
    assert times.density.dtype == torch.float64
    spread = times.density.max() / times.density.min()
    assert float(spread) > 1.05  # it was fitted
    assert float(torch.trapezoid(times.density, times.grid)) == pytest.approx(1.0)


# ---- measuring ---------------------------------------------------------------


def test_evaluation_is_the_same_at_every_epoch(whole):
    """The same weights have the same numbers, whatever happened in between."""
    loaded = load_run(whole / "mirror")
    first = dict(loaded.task.evaluate(loaded.module, loaded.source))
    next(loaded.source.batches("train", size=8, seed=0))
    loaded.module.advance(4, 10)  # measures the times anew
    loaded.module.train()
    again = dict(loaded.task.evaluate(loaded.module, loaded.source))
    assert first == again
    assert loaded.module.training
    held_out = trace(whole / "mirror", "validation")
    assert {line["step"] for line in held_out} == {3, 6}
    assert held_out[-1]["loss"] == first["loss"]
    names = {"loss", "loss_se", "perplexity", "loss_at_0.250", "loss_at_0.750"}
    assert names <= first.keys()
    assert first["accuracy_low"] <= first["accuracy"] <= first["accuracy_high"]
    assert first["nfe"] >= 4


def test_evaluation_does_not_depend_on_how_times_are_drawn(whole):
    """Neither the density of the times nor their weights are in the bound."""
    loaded = load_run(whole / "mirror")
    first = loaded.task.evaluate(loaded.module, loaded.source)["loss"]
    loaded.module.times.density.mul_(3)
    loaded.module.mode, loaded.module.loss_norm = "Normal", "batch"
    assert loaded.task.evaluate(loaded.module, loaded.source)["loss"] == first


def test_mdlm_evaluate_has_the_same_estimator(whole):
    from mdlm_core.evaluate import evaluate
    from mdlm_core.kernels.noise import Noise

    loaded = load_run(whole / "token")
    card = evaluate(loaded, draws=3, rows=7, seed=2)
    found = measure(
        loaded.backbone,
        loaded.source,
        draws=3,
        rows=7,
        noise=Noise(2).child("evaluate"),
        schedule=loaded.schedule,
    ).bound
    assert card["bound"]["nats_per_token"]["value"] == found.nats
    assert card["rows"] == 7
    assert card["data"]["bytes_per_token"] < 1  # an end has no bytes


def test_samples_are_prompts_with_answers(whole):
    loaded = load_run(whole / "token")
    [text] = loaded.task.samples(loaded.module, loaded.source, seed=0)
    [again] = loaded.task.samples(loaded.module, loaded.source, seed=0)
    assert text == again
    prompts = [e.prompt for e in loaded.source.examples("validation")]
    assert text.split("\n")[0] in prompts


def test_without_held_out_rows_there_is_nothing_to_measure(whole):
    class Nothing:
        def size(self, split):
            return 0

    loaded = load_run(whole / "token")
    assert loaded.task.evaluate(loaded.module, Nothing()) == {}
    assert loaded.task.samples(loaded.module, Nothing(), seed=0) == []


# ---- epochs ------------------------------------------------------------------


def test_measuring_and_saving_by_epochs(tmp_path):
    """40 rows in batches of 8 are five steps an epoch."""
    run(
        tmp_path,
        TOKEN,
        train__epochs=2,
        train__eval_every="epoch",
        train__save_every="epoch",
        train__keep_last=5,
        task__eval_generate=0,
    )
    assert [line["step"] for line in trace(tmp_path, "validation")] == [5, 10]
    saved = [path.name for path in checkpoint.checkpoints(tmp_path / "checkpoints")]
    assert saved == ["step-00000005", "step-00000010"]


# ---- what is refused, and what is not needed ---------------------------------


def test_answers_that_nobody_can_judge_are_refused():
    settings = config()
    task = load_catalog().build(
        "task", settings.task, run=settings, catalog=load_catalog()
    )

    class Plain:
        def examples(self, split):
            return None

    class Programs:
        def examples(self, split):
            return [1]

        def card(self):
            return {"task": "humaneval"}

    with pytest.raises(ConfigError, match="do not say what a right answer is"):
        task.build(Plain())
    with pytest.raises(ConfigError, match="answers of the task 'humaneval' are"):
        task.build(Programs())


def test_answers_are_decoded_in_the_models_blocks(tmp_path, caplog):
    sets = {"model__family": "llada2", "model__block_size": 16, "train__steps": 1}
    run(tmp_path, **sets)
    assert "the model sees blocks of 16, in which answers are decoded" in caplog.text
    loaded = load_run(tmp_path)
    assert loaded.config.sampler.config.block == 8
    assert loaded.task.samples(loaded.module, loaded.source, seed=0)


def test_a_model_that_sees_blocks_is_trained_and_measured(tmp_path):
    """The bound is that of every block given the clean ones before it."""
    run(tmp_path, MIRROR, model__family="llada2", model__block_size=8, train__steps=2)
    loaded = load_run(tmp_path)
    kept = []
    backbone, hidden = loaded.backbone, loaded.backbone.hidden

    def watch(batch, t=None):
        kept.append(batch)
        return hidden(batch, t)

    backbone.hidden = watch
    numbers = loaded.task.evaluate(loaded.module, loaded.source)
    noisy = [batch for batch in kept if "clean" in batch.condition]
    assert len(noisy) == 2  # one for each draw; the others decode answers
    for batch in noisy:
        free = batch.free
        assert (batch.condition["clean"] != backbone.mask_id)[free].all()
        assert (batch.tokens == backbone.mask_id)[free].any()
    assert numbers["loss"] == trace(tmp_path, "validation")[-1]["loss"]


def test_no_tracker_and_no_launcher_is_imported():
    wanted = {"wandb", "deepspeed", "tensorboard", "peft"}
    for path in Path(sft.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names]
                names.append(getattr(node, "module", None) or "")
                assert not wanted & {name.split(".")[0] for name in names}, path
