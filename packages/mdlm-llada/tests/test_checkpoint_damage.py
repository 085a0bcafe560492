"""Checkpoints that are not whole, or do not fit together, are refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mdlm_core.errors import CheckpointError, ConfigError, UsageError
from mdlm_llada.checkpoint.locate import locate
from mdlm_llada.checkpoint.read import read_checkpoint
from mdlm_llada.checkpoint.tiny import tiny_checkpoint
from mdlm_llada.checkpoint.write import write_checkpoint

INDEX = "model.safetensors.index.json"
SECOND = "model-00002-of-00003.safetensors"
WTE = "model.transformer.wte.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_checkpoint(tmp_path / "tiny")


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    return tiny_checkpoint(tmp_path / "tiny", shards=3)


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def change_tensors(
    folder: Path, change: Callable[[dict[str, Tensor]], Mapping[str, Tensor]]
) -> None:
    path = folder / "model.safetensors"
    save_file(dict(change(load_file(path))), path)


def test_a_missing_shard_is_named(sharded: Path) -> None:
    (sharded / SECOND).unlink()
    with pytest.raises(CheckpointError, match=rf"lacks 1 of its files: '{SECOND}'"):
        read_checkpoint(sharded)


def test_a_missing_shard_is_named_without_an_index_too(sharded: Path) -> None:
    (sharded / INDEX).unlink()
    assert read_checkpoint(sharded).mask_id == 261
    (sharded / SECOND).unlink()
    with pytest.raises(CheckpointError, match=rf"lacks 1 of its files: '{SECOND}'"):
        read_checkpoint(sharded)


def test_an_index_that_says_another_file_is_refused(sharded: Path) -> None:
    edit(sharded / INDEX, lambda c: c["weight_map"].update({WTE: SECOND}))
    with pytest.raises(
        CheckpointError, match=rf"index.json' says that '{WTE}' is in '{SECOND}', but"
    ):
        read_checkpoint(sharded)


def test_an_index_that_names_what_is_not_there_is_refused(sharded: Path) -> None:
    edit(sharded / INDEX, lambda c: c["weight_map"].update({"more.weight": SECOND}))
    with pytest.raises(CheckpointError, match=r"'more.weight' is in .* but it is in"):
        read_checkpoint(sharded)


def test_an_index_may_not_point_outside_the_folder(sharded: Path) -> None:
    edit(sharded / INDEX, lambda c: c["weight_map"].update({WTE: f"../{SECOND}"}))
    with pytest.raises(CheckpointError, match="not a file of the same folder"):
        read_checkpoint(sharded)


def test_a_broken_index_is_refused(sharded: Path) -> None:
    (sharded / INDEX).write_text("{")
    with pytest.raises(CheckpointError, match="cannot be read as an index of weights"):
        read_checkpoint(sharded)


def test_a_tensor_in_two_files_is_refused(sharded: Path) -> None:
    (sharded / INDEX).unlink()
    values = load_file(sharded / SECOND)
    values[WTE] = torch.zeros(2)
    save_file(values, sharded / SECOND)
    with pytest.raises(CheckpointError, match=rf"both .* and .* hold '{WTE}'"):
        read_checkpoint(sharded)


def test_missing_unexpected_and_wrong_tensors_are_all_reported(folder: Path) -> None:
    def change(values: dict[str, Tensor]) -> dict[str, Tensor]:
        del values["model.transformer.blocks.1.ff_out.weight"]
        values["model.transformer.blocks.2.ff_out.weight"] = torch.zeros(3)
        values["model.transformer.ln_f.weight"] = torch.ones(31)
        values[WTE] = values[WTE].to(torch.int8)
        return values

    change_tensors(folder, change)
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(folder)
    text = str(caught.value)
    assert "missing 1: model.transformer.blocks.1.ff_out.weight" in text
    assert "unexpected 1: model.transformer.blocks.2.ff_out.weight" in text
    assert "wrong 2: model.transformer.ln_f.weight is (31,) and should be (32,)" in text
    assert f"{WTE} is of type I8, which is not read" in text


def test_a_long_report_is_cut(folder: Path) -> None:
    edit(folder / "config.json", lambda c: c.update(n_layers=3))
    with pytest.raises(CheckpointError, match=r"missing 9: (\S+, ){4}\.\.\.$"):
        read_checkpoint(folder)


@pytest.mark.parametrize(
    "content",
    [b"", b"version https://git-lfs.github.com/spec/v1", bytes(64)],
    ids=["empty", "pointer", "zeros"],
)
def test_a_file_that_is_no_safetensors_is_named(folder: Path, content: bytes) -> None:
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match="cannot be read as safetensors"):
        read_checkpoint(folder)


def test_a_file_that_was_cut_is_named(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="cannot be read as safetensors"):
        read_checkpoint(folder)


def test_a_folder_without_settings_or_weights_is_refused(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="no weights in safetensors; 'pytorch_mo"):
        read_checkpoint(folder)
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(CheckpointError, match="no weights in safetensors"):
        read_checkpoint(folder)
    (folder / "config.json").write_text("[]")
    with pytest.raises(CheckpointError, match="holds list, not an object"):
        read_checkpoint(folder)
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"it has no config\.json"):
        read_checkpoint(folder)


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (262, "mask_token_id is 262, but .* ids from 0 to 261"),
        (-1, "mask_token_id is -1, but .* ids from 0 to 261"),
        (257, "mask_token_id is 257, which is also eos_token_id"),
    ],
)
def test_a_mask_that_cannot_be_one_is_refused(
    folder: Path, mask: int, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        read_checkpoint(folder, mask_token_id=mask)
    edit(folder / "config.json", lambda c: c.update(mask_token_id=mask))
    with pytest.raises((ConfigError, CheckpointError), match=f"mask_token_id.*{mask}"):
        read_checkpoint(folder)


def test_a_checkpoint_that_names_no_mask_is_refused(folder: Path) -> None:
    edit(folder / "config.json", lambda c: c.pop("mask_token_id"))
    assert read_checkpoint(folder).mask_id == 261  # <|mdm_mask|> of the tokenizer
    for name in ("tokenizer.json", "tokenizer_config.json"):
        text = (folder / name).read_text()
        (folder / name).write_text(text.replace("<|mdm_mask|>", "<|hole|>"))
    with pytest.raises(ConfigError, match="does not say which token is the mask"):
        read_checkpoint(folder)
    for path in folder.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(ConfigError, match="does not say which token is the mask"):
        read_checkpoint(folder)


def test_a_tokenizer_larger_than_the_model_is_refused(folder: Path) -> None:
    assert read_checkpoint(folder, vocab_size=262).vocab_size == 262
    with pytest.raises(ConfigError, match=r"tokenizer has 263 ids.*rows for 262"):
        read_checkpoint(folder, vocab_size=263)


def test_where_there_is_nothing_it_says_so(folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"there is no folder '.*nowhere'"):
        locate(folder / "nowhere")
    with pytest.raises(CheckpointError, match="there is no folder 'nowhere'"):
        locate("nowhere")
    with pytest.raises(CheckpointError, match="is a file; name the folder"):
        locate(folder / "config.json")


def in_cache(cache: Path, files: Path) -> Path:
    """Return where the hub's cache would have `files` as owner/name."""
    model = cache / "models--owner--name"
    place = model / "snapshots" / "abc"
    place.mkdir(parents=True)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text("abc")
    for file in files.iterdir():
        (place / file.name).write_bytes(file.read_bytes())
    return place


def test_the_hubs_cache_is_used_before_the_network(
    sharded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def snapshot(name: str, **_: object) -> str:
        asked.append(name)
        raise OSError("no route\nto host")

    cache = tmp_path / "cache"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    found = huggingface_hub.try_to_load_from_cache
    monkeypatch.setattr(
        huggingface_hub,
        "try_to_load_from_cache",
        lambda name, file: found(name, file, cache_dir=cache),
    )
    with pytest.raises(CheckpointError, match=r"'owner/name' is neither .*: no route"):
        locate("owner/name")
    assert asked == ["owner/name"]
    place = in_cache(cache, sharded)
    assert locate("owner/name") == place
    assert read_checkpoint("owner/name").mask_id == 261
    assert asked == ["owner/name"]
    (place / SECOND).unlink()  # a download that was broken off goes on
    with pytest.raises(CheckpointError, match="nor whole in the Hugging Face cache"):
        locate("owner/name")


def test_nothing_is_written_over_and_nothing_is_left_behind(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = read_checkpoint(folder)
    with pytest.raises(UsageError, match="not an empty folder"):
        write_checkpoint(model, folder)
    out = folder.parent / "out"
    written = []

    def full(values: dict[str, Tensor], path: Path, **options: Any) -> None:
        if written:
            raise OSError(28, "No space left on device")
        written.append(path)
        save_file(values, path, **options)

    monkeypatch.setattr("mdlm_llada.checkpoint.write.save_file", full)
    with pytest.raises(CheckpointError, match=r"out' could not be written.*No space"):
        write_checkpoint(model, out, shard_bytes=50_000)
    assert len(written) == 1
    assert sorted(path.name for path in folder.parent.iterdir()) == ["tiny"]


def test_weights_that_the_format_has_no_name_for_are_not_dropped(folder: Path) -> None:
    model = read_checkpoint(folder)
    model.blocks[0].more = torch.nn.Linear(2, 2)
    with pytest.raises(CheckpointError, match=r"'blocks.0.more.bias' \(and 1 more\)"):
        write_checkpoint(model, folder.parent / "out")
