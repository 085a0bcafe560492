"""The original's spelling: merging, the table of keys, errors. Without torch."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from mdlm_core.catalog import load_catalog
from mdlm_core.config import resolve
from mdlm_core.config.layers import leaves
from mdlm_core.errors import ConfigError, UsageError
from mdlm_llada.cli.launch_config import NAMES, resolved
from mdlm_llada.original import is_original, merge, translate
from mdlm_llada.original_keys import KEYS, REQUIRED
from mdlm_llada.train import PRESET

WORDS = (
    "seed task model model_path tokenizer_path mask_token_id pad_token_id "
    "train_data_path max_len epochs train_ratio lr lr_scheduler_type warmup_steps "
    "weight_decay max_grad_norm batch_size_per_gpu grad_accum eval_strategy eval_steps "
    "save_strategy save_steps output_dir logging_steps train_mode PPOTS p_model "
    "num_samples_x0 num_samples_t num_samples_xt n_starts mix_uniform max_is_weight "
    "loss_max max_tokens_per_forward t_sampler eps loss_norm eos_pad refresh_every "
    "gradient_checkpointing dtype report_to china"
)
SPELLED = set(WORDS.split())
"""Every key that the original has, or that its users were told of."""


def original(**train):
    return {"engine": "llada_plus", "train": {"task": "gsm8k", **train}}


def run_config(tree, processes=1):
    found = translate(tree, processes=processes)
    return resolve(load_catalog(), preset=PRESET, sets=found.sets).config, found


def value_at(config, path):
    value = config
    for part in path.split("."):
        if hasattr(value, "config") and not hasattr(value, part):
            value = value.config
        value = getattr(value, part)
    return value


def test_every_key_is_there():
    assert set(SPELLED) <= set(KEYS)


@pytest.mark.parametrize(
    ("key", "given", "path", "expected"),
    [
        ("max_len", 512, "data.max_length", 512),
        ("train_data_path", "a.jsonl", "data.path", "a.jsonl"),
        ("epochs", 3, "train.epochs", 3.0),
        ("train_ratio", 1.0, "data.train_ratio", 1.0),
        ("lr", "5e-6", "train.lr", 5e-6),
        ("warmup_steps", 7, "train.warmup", 7),
        ("weight_decay", 0.2, "train.weight_decay", 0.2),
        ("max_grad_norm", 0.5, "train.clip", 0.5),
        ("logging_steps", 3, "train.log_every", 3),
        ("lr_scheduler_type", "cosine_with_restarts", "train.lr_schedule",
         "cosine-restarts"),
        ("lr_scheduler_type", "polynomial", "train.lr_schedule", "polynomial"),
        ("eval_strategy", "epoch", "train.eval_every", "epoch"),
        ("eval_strategy", False, "train.eval_every", 0),
        ("save_strategy", "epoch", "train.save_every", "epoch"),
        ("save_strategy", "last", "train.save_every", 0),
        ("train_mode", "MIRROR", "task.train_mode", "MIRROR"),
        ("PPOTS", True, "task.times.ppots", True),
        ("num_samples_x0", 4, "task.times.samples_x0", 4),
        ("num_samples_t", 5, "task.times.samples_t", 5),
        ("num_samples_xt", 6, "task.times.samples_xt", 6),
        ("n_starts", 2, "task.times.starts", 2),
        ("mix_uniform", 0.1, "task.times.mix_uniform", 0.1),
        ("max_is_weight", 9.0, "task.times.max_weight", 9.0),
        ("loss_max", 8.0, "task.times.loss_max", 8.0),
        ("max_tokens_per_forward", 99, "task.times.max_tokens_per_forward", 99),
        ("t_sampler", "stratified", "task.times.stratified", True),
        ("eps", 0.01, "task.t_min", 0.01),
        ("loss_norm", "token", "task.loss_norm", "token"),
        ("eos_pad", "loss_k", "data.eos_pad", "loss_k"),
        ("refresh_every", 50, "task.times.refresh_every", 50),
        ("gradient_checkpointing", True, "train.checkpoint_activations", True),
        ("dtype", "bfloat16", "train.precision", "bf16"),
        ("report_to", ["wandb"], "train.report_to", ("wandb",)),
        ("report_to", "tensorboard", "train.report_to", ("tensorboard",)),
        ("mask_token_id", 5, "model.mask_token_id", 5),
        ("mask_token_id", 5, "data.mask_token_id", 5),
        ("model_path", "folder", "model.path", "folder"),
        ("model_path", "folder", "data.tokenizer", "folder"),
        ("tokenizer_path", "other", "data.tokenizer", "other"),
        ("seed", 731, "seed", 731),
        ("lora", {"r": 8, "lora_alpha": 32}, "model.lora.rank", 8),
        ("lora", {"target_modules": ["q"]}, "model.lora.targets", ("q",)),
    ],
)  # fmt: skip
def test_a_key_becomes_the_setting_that_it_means(key, given, path, expected):
    config, _ = run_config(original(**{key: given}))
    assert value_at(config, path) == expected


def test_defaults_are_those_of_the_original():
    config, found = run_config(original())
    assert config.seed == 42
    assert config.model.config.path == "GSAI-ML/LLaDA-8B-Instruct"
    assert config.data.config.path == "./data/train/gsm8k.jsonl"
    assert found.out == "./logs/gsm8k"
    assert (config.train.lr, config.train.epochs) == (5e-5, 1)
    assert config.task.config.train_mode == "Normal"
    assert not config.task.config.times.ppots
    assert not found.mirror


def test_the_global_batch_is_a_product():
    tree = original(batch_size_per_gpu=2, grad_accum=4)
    config, _ = run_config(tree, processes=3)
    assert (config.train.batch_size, config.train.micro_batch) == (24, 2)


def test_steps_of_measuring_and_saving():
    tree = original(
        eval_strategy="steps", eval_steps=7, save_strategy="steps", save_steps=9
    )
    config, _ = run_config(tree)
    assert (config.train.eval_every, config.train.save_every) == (7, 9)


def test_our_settings_stand_beside_the_originals():
    tree = original(lr=1e-4, keep_last=5)
    tree["masking"] = {"name": "uniform"}
    config, _ = run_config(tree)
    assert config.train.keep_last == 5


def test_seed_and_task_may_stand_at_the_top():
    tree = {"engine": "llada_plus", "seed": 3, "task": "sudoku4", "train": {}}
    config, found = run_config(tree)
    assert config.seed == 3
    assert found.out == "./logs/sudoku4"


@pytest.mark.parametrize(
    ("tree", "told"),
    [
        (original(batch_size_per_gup=2), "did you mean 'train.batch_size_per_gpu'"),
        (original(save_strategy="often"), "must be one of 'last', 'epoch', 'steps'"),
        ({"engine": "llada", "train": {"task": "a"}}, "there is one, llada_plus"),
        ({"engine": "llada_plus", "train": {}}, "train.task is missing"),
        ({**original(), "optimiser": {"name": "adam"}}, "no setting 'optimiser.name'"),
    ],
)
def test_what_cannot_be_is_refused(tree, told):
    with pytest.raises(ConfigError, match=told):
        translate(tree)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("batch_size_per_gpu", 2.5, "a whole number"),
        ("grad_accum", "x", "a whole number"),
        ("china", "true", "true or false"),
        ("PPOTS", 1, "true or false"),
        ("report_to", ["wandb", "tensorboard"], "one of"),
    ],
)
def test_values_of_the_wrong_kind_are_refused(name, value, told):
    with pytest.raises(ConfigError, match=f"train.{name} is .*{told}"):
        translate(original(**{name: value}))


def test_null_is_the_default_of_the_original():
    nothing = dict.fromkeys(set(KEYS) - {"task"})
    found = translate({"engine": "llada_plus", "train": {"task": "a", **nothing}})
    assert found == translate({"engine": "llada_plus", "train": {"task": "a"}})


def test_constant_has_no_warmup():
    rates = {"warmup_steps": 100}
    for kind, warmup in (("constant", 0), ("constant_with_warmup", 100)):
        config, _ = run_config(original(lr_scheduler_type=kind, **rates))
        assert config.train.warmup == warmup


def test_a_density_is_chosen_only_with_ppots():
    config, _ = run_config(original(p_model="clipped"))
    assert config.task.config.times.model == "EPR"
    assert not config.task.config.times.ppots
    config, _ = run_config(original(p_model="AP", PPOTS=True))
    assert config.task.config.times.model == "AP"


def test_files_are_merged_deeply_and_lists_are_replaced(tmp_path):
    (tmp_path / "a.yaml").write_text("train: {lr: 1, x: [1, 2]}\nseed: 1\n")
    (tmp_path / "b.yaml").write_text("train:\n  x: [3]\n  y: {z: 1}\n")
    tree = merge([tmp_path / "a.yaml", tmp_path / "b.yaml"], ["train.y.w=None"])
    assert tree == {
        "train": {"lr": 1, "x": [3], "y": {"z": 1, "w": None}},
        "seed": 1,
    }
    assert list(tree) == ["train", "seed"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a.b=true", True),
        ("a.b=null", None),
        ("a.b=5e-5", 5e-5),
        ("a.b=[1, 2]", [1, 2]),
        ("a.b=GSAI-ML/LLaDA", "GSAI-ML/LLaDA"),
        ("a.b=x=y", "x=y"),
    ],
)
def test_values_are_literals_or_text(text, value):
    assert merge([], [text]) == {"a": {"b": value}}


def test_bad_files_and_assignments_are_named(tmp_path):
    (tmp_path / "bad.yaml").write_text("a: [1\n")
    (tmp_path / "list.yaml").write_text("- 1\n")
    for name, told in (("bad", "is no YAML"), ("list", "no mapping"), ("not", "such")):
        with pytest.raises(ConfigError, match=told):
            merge([tmp_path / f"{name}.yaml"], [])
    with pytest.raises(UsageError, match="path=value"):
        merge([], ["train.lr"])


def test_only_keys_of_its_own_make_it_the_originals():
    assert not is_original({})
    assert not is_original({"train": {"lr": 1e-3, "steps": 5}})
    assert is_original({"train": {"batch_size_per_gpu": 1}})
    assert is_original(original())


def test_a_dump_is_the_merged_yaml_and_needs_no_torch(tmp_path):
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(original(lr=1e-4)))
    code = (
        "import sys\nfrom mdlm_llada.train import main\n"
        f"sys.argv[1:] = ['--config', {str(tmp_path / 'a.yaml')!r}, '--set', "
        "'train.output_dir=out', '--dump_config']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert yaml.safe_load(done.stdout) == original(lr=1e-4, output_dir="out")
    assert done.stdout.splitlines()[-1].startswith("# mdlm train --preset llada/8b-sft")


def test_every_row_of_the_table_reaches_a_setting_that_exists():
    paths = {path for path, _ in leaves_of(run_config(original())[0])}
    for name, key in KEYS.items():
        assert key.paths or key.values or key.note, name
        for path in key.paths:
            assert path in paths, name
        for rules in key.values.values():
            for rule in rules:
                assert rule.partition("=")[0].removesuffix(".name") in {
                    part for path in paths for part in (path, path.rpartition(".")[0])
                } | {"model"}, name
    assert KEYS["task"].default is REQUIRED


def leaves_of(config):
    from mdlm_core.config import to_dict

    return leaves(to_dict(config))


# ---- launch configurations ------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_launch_configuration_is_yaml_whose_paths_are_there(name):
    tree = yaml.safe_load(resolved(name, 2))
    assert tree["num_processes"] == 2
    if name == "fsdp2":
        assert tree["fsdp_config"]["fsdp_version"] == 2
        return
    path = Path(tree["deepspeed_config"]["deepspeed_config_file"])
    assert path.is_absolute()
    stage = json.loads(path.read_text())["zero_optimization"]["stage"]
    assert stage == int(name[-1])


def test_the_command_prints_where_it_is(tmp_path, monkeypatch):
    from mdlm_llada.cli import app

    monkeypatch.setenv("MDLM_CACHE", str(tmp_path))
    found = CliRunner().invoke(app, ["launch-config", "zero2"])
    assert found.exit_code == 0, found.output
    assert Path(found.stdout.strip()).is_file()
