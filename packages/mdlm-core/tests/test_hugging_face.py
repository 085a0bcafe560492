"""Hugging Face tokenizers and data sets, built locally; the network is never used."""

from __future__ import annotations

import json
import sys
from itertools import islice

import pytest
import torch

from mdlm_core.config.components import HuggingFaceConfig, TextConfig
from mdlm_core.data.hugging_face import build
from mdlm_core.data.pretrained import load_pretrained, of_bytes
from mdlm_core.data.source import PackedSource
from mdlm_core.data.streaming import StreamedSource
from mdlm_core.data.tokenizers import build_tokenizer, load_tokenizer
from mdlm_core.errors import ConfigError, DataError, MissingExtraError
from mdlm_core.protocols import Tokenizer

TEXTS = [f"document {i} says hello to the world, naïve café" for i in range(90)]


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    import datasets
    import huggingface_hub.constants

    monkeypatch.setenv("MDLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    datasets.disable_progress_bars()


# ---- tokenizers -------------------------------------------------------------


def byte_level(folder, **special):
    """Write a tokenizer of gpt2's kind: byte pairs and one special token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=sorted(set(special.values())),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(TEXTS, trainer)
    wrapped = PreTrainedTokenizerFast(tokenizer_object=inner, **special)
    wrapped.save_pretrained(folder)
    return wrapped


def test_ids_that_are_of_bytes_know_how_many(tmp_path):
    end = "<|endoftext|>"
    byte_level(tmp_path, bos_token=end, eos_token=end, unk_token=end)
    tokenizer = build_tokenizer(str(tmp_path))
    sizes = tokenizer.token_bytes()
    assert len(sizes) == tokenizer.vocab_size
    for text in ("one two  three", " größer\n日本 😀", end):
        ids = tokenizer.encode(text)
        assert sum(sizes[i] for i in ids) == len(text.encode())
    assert sizes[tokenizer.eod_id] == sizes[tokenizer.mask_id] == 0


@pytest.mark.parametrize(
    "change",
    [
        {"normalizer": {"type": "Lowercase"}},
        {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True}},
        {"pre_tokenizer": {"type": "Metaspace"}},
        {"decoder": {"type": "WordPiece"}},
        {"pre_tokenizer": None},
    ],
)
def test_ids_that_are_not_of_bytes_say_so(change):
    level = {"type": "ByteLevel", "add_prefix_space": False}
    state = {"normalizer": None, "pre_tokenizer": level, "decoder": level}
    assert of_bytes(state)
    parts = {"type": "Sequence", "pretokenizers": [{"type": "Split"}, level]}
    assert of_bytes({**state, "normalizer": {"type": "NFC"}, "pre_tokenizer": parts})
    assert not of_bytes({**state, **change})
    assert not of_bytes({})


def test_a_mask_is_appended_to_a_tokenizer_like_gpt2(tmp_path):
    end = "<|endoftext|>"
    wrapped = byte_level(tmp_path, bos_token=end, eos_token=end, unk_token=end)
    tokenizer = build_tokenizer(str(tmp_path))
    assert isinstance(tokenizer, Tokenizer)
    assert tokenizer.mask_id == len(wrapped)
    assert tokenizer.vocab_size == len(wrapped) + 1
    assert tokenizer.eod_id == tokenizer.pad_id == wrapped.eos_token_id
    ids = tokenizer.encode(TEXTS[3])
    assert ids == wrapped.encode(TEXTS[3])
    assert tokenizer.decode(ids) == TEXTS[3]
    mixed = [tokenizer.mask_id, *ids, tokenizer.eod_id, tokenizer.mask_id]
    assert tokenizer.decode(mixed, mask="#") == f"#{TEXTS[3]}#"


def test_a_mask_of_its_own_is_used_and_never_comes_out_of_text(tmp_path):
    wrapped = byte_level(tmp_path, mask_token="[MASK]", sep_token="[SEP]")
    tokenizer = load_pretrained(str(tmp_path))
    assert tokenizer.vocab_size == len(wrapped)
    assert tokenizer.mask_id == wrapped.mask_token_id
    assert tokenizer.eod_id == wrapped.sep_token_id
    assert tokenizer.mask_id in wrapped.encode("[MASK]")  # what must not happen here
    text = "a [MASK] and a [SEP] in a text"
    ids = tokenizer.encode(text)
    assert not {tokenizer.mask_id, tokenizer.eod_id} & {*ids}
    assert tokenizer.decode(ids) == text


def test_a_mask_that_the_tokenizer_does_not_name_is_given(tmp_path):
    wrapped = byte_level(tmp_path / "from", eos_token="</s>", sep_token="<|mdm_mask|>")
    given = wrapped.sep_token_id
    tokenizer = load_pretrained(str(tmp_path / "from"), given)
    assert tokenizer.mask_id == given
    assert tokenizer.vocab_size == len(wrapped)
    assert given not in tokenizer.encode("a <|mdm_mask|> in a text")
    assert tokenizer.decode([*tokenizer.encode("ab"), given]) == "ab▒"
    tokenizer.save(tmp_path / "to")
    loaded = load_tokenizer(tmp_path / "to")
    assert loaded.mask_id == given
    assert loaded.fingerprint() == tokenizer.fingerprint()
    plain = load_pretrained(str(tmp_path / "from"))
    assert plain.fingerprint() != tokenizer.fingerprint()
    for wrong in (wrapped.eos_token_id, -1):
        with pytest.raises(ConfigError, match=f"given as {wrong}"):
            load_pretrained(str(tmp_path / "from"), wrong)


def test_code_of_an_unknown_model_is_never_asked_for(tmp_path, monkeypatch):
    byte_level(tmp_path, eos_token="</s>")
    plain = load_pretrained(str(tmp_path)).fingerprint()
    settings = {"model_type": "unheard", "rope_scaling": None}
    settings["auto_map"] = {"AutoConfig": "configuration_unheard.Unheard"}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    (tmp_path / "configuration_unheard.py").write_text("raise SystemExit('ran')\n")
    monkeypatch.setattr("builtins.input", lambda text: pytest.fail(text))
    assert load_pretrained(str(tmp_path)).fingerprint() == plain


def test_without_any_special_token_two_are_appended(tmp_path):
    wrapped = byte_level(tmp_path)
    tokenizer = load_pretrained(str(tmp_path))
    assert (tokenizer.eod_id, tokenizer.mask_id) == (len(wrapped), len(wrapped) + 1)
    assert tokenizer.vocab_size == len(wrapped) + 2
    assert tokenizer.decode([*tokenizer.encode("hello"), tokenizer.eod_id]) == "hello"


def test_padding_and_truncation_of_its_own_are_not_applied(tmp_path):
    from tokenizers import Tokenizer

    byte_level(tmp_path, eos_token="</s>")
    plain = load_pretrained(str(tmp_path))
    path = tmp_path / "tokenizer.json"
    changed = Tokenizer.from_file(str(path))
    changed.enable_truncation(3)
    changed.enable_padding(length=5, pad_token="</s>", pad_id=0)
    changed.save(str(path))
    tokenizer = load_pretrained(str(tmp_path))
    assert tokenizer.encode(TEXTS[0]) == plain.encode(TEXTS[0])
    assert tokenizer.fingerprint() == plain.fingerprint()


def test_saved_and_loaded_it_is_the_same(tmp_path):
    byte_level(tmp_path / "from", eos_token="</s>")
    tokenizer = load_pretrained(str(tmp_path / "from"))
    tokenizer.encode(TEXTS[0])
    tokenizer.save(tmp_path / "to")
    loaded = load_tokenizer(tmp_path / "to")
    assert loaded.name == tokenizer.name
    assert loaded.fingerprint() == tokenizer.fingerprint()
    assert loaded.encode(TEXTS[5]) == tokenizer.encode(TEXTS[5])
    assert (loaded.mask_id, loaded.vocab_size) == (
        tokenizer.mask_id,
        tokenizer.vocab_size,
    )

    path = tmp_path / "to" / "tokenizer.json"
    state = json.loads(path.read_text())
    state["model"]["merges"].pop()
    path.write_text(json.dumps(state))
    with pytest.raises(DataError, match="fingerprint differs"):
        load_tokenizer(tmp_path / "to")


def test_it_packs_like_its_own_encoding(tmp_path):
    wrapped = byte_level(tmp_path, eos_token="</s>")
    source = PackedSource.from_documents(
        TEXTS, TextConfig(length=16, holdout=0.3, tokenizer=str(tmp_path))
    )
    from mdlm_core.data.split import survey

    expected: list[int] = []
    for text in survey(TEXTS, 0.3).select(TEXTS, "validation"):
        expected += [*wrapped.encode(text), wrapped.eos_token_id]
    batches = list(source.batches("validation", size=8, seed=0))
    got = torch.cat([batch.tokens[batch.free] for batch in batches])
    assert got.tolist() == expected


def test_a_name_that_cannot_be_fetched():
    with pytest.raises(DataError, match=r"'nobody/nothing' .*network, or use byte"):
        build_tokenizer("nobody/nothing")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nope", r"'nope' is neither .* OWNER/NAME; name"),
        ("gpt22", r"did you mean 'gpt2'"),
        ("toka", r"did you mean 'token'"),
        ("a/b/c", r"OWNER/NAME"),
    ],
)
def test_a_name_that_the_hub_cannot_have_is_not_asked_for(
    monkeypatch, tmp_path, name, said
):
    from transformers import AutoTokenizer

    def load(place, *, local_files_only=False, **options):
        if not local_files_only:
            pytest.fail("asks the network")
        raise OSError

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", load)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "token").mkdir()
    with pytest.raises(DataError, match=said):
        build_tokenizer(name)


def test_a_folder_that_is_no_tokenizer(tmp_path):
    with pytest.raises(DataError, match="cannot be loaded as a tokenizer") as caught:
        build_tokenizer(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_without_transformers(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"mdlm-core\[hf\]"):
        build_tokenizer("gpt2")


# ---- data sets --------------------------------------------------------------


def rows(texts=TEXTS, field="text"):
    from datasets import Dataset

    return Dataset.from_dict({field: texts, "number": list(range(len(texts)))})


def write(folder, kind, texts=TEXTS, field="text"):
    from datasets import DatasetDict

    folder.mkdir(exist_ok=True)
    half = len(texts) // 2
    if kind == "parquet":
        rows(texts[:half], field).to_parquet(folder / "part-0.parquet")
        rows(texts[half:], field).to_parquet(folder / "part-1.parquet")
    elif kind == "arrow":
        rows(texts, field).save_to_disk(folder)
    else:
        other = rows(["other"], field)
        DatasetDict(train=rows(texts, field), test=other).save_to_disk(folder)


def config(path, **settings):
    return HuggingFaceConfig(
        path=str(path), **{"length": 16, "holdout": 0.3, **settings}
    )


def expected():
    return PackedSource.from_documents(TEXTS, TextConfig(length=16, holdout=0.3))


KINDS = ["parquet", "arrow", "arrow of several splits"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_local_folder(tmp_path, kind):
    write(tmp_path / "data", kind)
    source = build(config(tmp_path / "data"))
    assert isinstance(source, PackedSource)
    assert source.card()["splits"] == expected().card()["splits"]
    assert source.card()["name"] == "hf"


@pytest.mark.parametrize("kind", KINDS)
def test_a_local_folder_as_a_stream(tmp_path, kind):
    write(tmp_path / "data", kind)
    source = build(config(tmp_path / "data", streaming=True))
    assert isinstance(source, StreamedSource)
    assert source.size("train") is None
    ours = list(source.batches("validation", size=7, seed=0))
    theirs = list(expected().batches("validation", size=7, seed=0))
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one.tokens, other.tokens)
    whole = list(islice(source.batches("train", size=8, seed=1), 60))
    assert whole[-1].epoch > 0
    rest = list(islice(source.batches("train", size=8, seed=1, start=25), 35))
    for one, other in zip(whole[25:], rest, strict=True):
        assert torch.equal(one.tokens, other.tokens)


@pytest.mark.parametrize("streaming", [False, True])
def test_rows_without_text_are_left_out(tmp_path, streaming):
    write(tmp_path / "data", "arrow", [None, "", *TEXTS, None], field="body")
    source = build(config(tmp_path / "data", field="body", streaming=streaming))
    got = list(source.batches("validation", size=99, seed=0))
    want = list(expected().batches("validation", size=99, seed=0))
    assert torch.equal(got[0].tokens, want[0].tokens)
    if not streaming:
        assert source.card()["empty_documents"] == 3


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_a_column_that_is_not_there(tmp_path, kind, streaming):
    write(tmp_path / "data", kind)
    with pytest.raises(DataError, match=r"no column 'body'.*number, text.*data\.field"):
        build(config(tmp_path / "data", field="body", streaming=streaming))


@pytest.mark.parametrize("streaming", [False, True])
def test_a_column_that_holds_no_text(tmp_path, streaming):
    write(tmp_path / "data", "parquet")
    with pytest.raises(DataError, match=r"row 0: the column 'number' holds a int"):
        build(config(tmp_path / "data", field="number", streaming=streaming))


@pytest.mark.parametrize("kind", KINDS)
def test_a_split_that_is_not_there(tmp_path, kind):
    write(tmp_path / "data", kind)
    with pytest.raises(DataError, match=r"split.*(nosuch|train)"):
        build(config(tmp_path / "data", split="nosuch"))


def test_a_folder_that_is_no_data_set(tmp_path):
    (tmp_path / "data").mkdir()
    with pytest.raises(DataError, match="cannot be loaded as a data set"):
        build(config(tmp_path / "data"))


def test_a_name_without_the_network():
    with pytest.raises(DataError, match=r"'nobody/nothing' cannot be loaded.*network"):
        build(config("nobody/nothing"))


def test_no_path():
    with pytest.raises(ConfigError, match=r"data\.path is empty"):
        build(config(""))


def test_without_datasets(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"mdlm-core\[hf\]"):
        build(config(tmp_path))
