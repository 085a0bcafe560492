"""Tokenizers: exact round trips, special ids apart from text, saved and loaded."""

from __future__ import annotations

import json
import sys
import types
from importlib import metadata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdlm_core.data.tokenizers import (
    DEFINITION,
    ByteTokenizer,
    CharTokenizer,
    build_tokenizer,
    load_tokenizer,
)
from mdlm_core.errors import (
    ConfigError,
    DataError,
    MissingExtraError,
    PluginError,
)
from mdlm_core.protocols import Tokenizer

TEXTS = [
    "The quick brown fox jumps over the lazy dog.\n",
    "the dog and the fox, the fox and the dog",
    "naïve café: Ω ≠ 𝄞",
    "  two  spaces\tand a tab\n\n",
] * 3


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MDLM_CACHE", str(tmp_path / "cache"))


@pytest.fixture(params=["byte", "char", "bpe:300"])
def tokenizer(request):
    return build_tokenizer(request.param, TEXTS)


def test_it_is_a_tokenizer_with_distinct_ids(tokenizer):
    assert isinstance(tokenizer, Tokenizer)
    assert tokenizer.mask_id != tokenizer.eod_id
    for id_ in (tokenizer.mask_id, tokenizer.eod_id, tokenizer.pad_id):
        assert 0 <= id_ < tokenizer.vocab_size


def test_text_comes_back_and_holds_no_special_id(tokenizer):
    for text in TEXTS:
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert not {tokenizer.mask_id, tokenizer.eod_id} & set(ids)


def test_masks_show_and_ends_vanish(tokenizer):
    ids = tokenizer.encode("the dog")
    at = [tokenizer.mask_id, *ids, tokenizer.eod_id, tokenizer.mask_id]
    assert tokenizer.decode([*at, tokenizer.mask_id], mask="#") == "#the dog##"


def test_saved_and_loaded_it_is_the_same(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "tokenizer")
    for loaded in (
        load_tokenizer(tmp_path / "tokenizer"),
        build_tokenizer(str(tmp_path / "tokenizer")),
    ):
        assert type(loaded) is type(tokenizer)
        assert loaded.name == tokenizer.name
        assert loaded.fingerprint() == tokenizer.fingerprint()
        assert loaded.vocab_size == tokenizer.vocab_size
        assert loaded.mask_id == tokenizer.mask_id
        assert [loaded.encode(t) for t in TEXTS] == [tokenizer.encode(t) for t in TEXTS]


def test_an_id_outside_the_vocabulary_is_refused(tokenizer):
    with pytest.raises(DataError, match=rf"id {tokenizer.vocab_size} is not"):
        tokenizer.decode([tokenizer.vocab_size])


@settings(max_examples=100, deadline=None)
@given(st.text())
def test_bytes_are_utf8(text):
    tokenizer = ByteTokenizer()
    assert tokenizer.encode(text) == [*text.encode()]
    assert np.array_equal(tokenizer.encode_array(text), tokenizer.encode(text))
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_byte_ids_are_fixed():
    tokenizer = ByteTokenizer()
    assert (tokenizer.vocab_size, tokenizer.eod_id, tokenizer.mask_id) == (
        258,
        256,
        257,
    )
    assert tokenizer.pad_id == tokenizer.eod_id
    assert tokenizer.encode("é") == [0xC3, 0xA9]
    assert tokenizer.decode([0xC3, 257, 0xA9]) == "\ufffd▒\ufffd"


def test_half_a_surrogate_pair_is_refused():
    with pytest.raises(DataError, match=r"character 2 .*U\+D800"):
        ByteTokenizer().encode("ab\ud800")


def test_characters_get_ids_in_the_order_of_code_points():
    tokenizer = CharTokenizer("banana")
    assert tokenizer.alphabet == "abn"
    assert tokenizer.encode("nab") == [2, 0, 1]
    assert (tokenizer.eod_id, tokenizer.mask_id, tokenizer.vocab_size) == (3, 4, 5)


def test_an_unknown_character_is_named_with_its_place():
    with pytest.raises(DataError, match=r"'z' \(U\+007A\) at offset 3 .* byte"):
        CharTokenizer("abc").encode("abcz")


def test_fingerprints_tell_tokenizers_apart():
    names = ["byte", "char", "bpe:270", "bpe:300"]
    marks = {build_tokenizer(name, TEXTS).fingerprint() for name in names}
    assert len(marks) == len(names)
    other = build_tokenizer("char", ["another alphabet"]).fingerprint()
    assert other not in marks


def test_byte_pairs_are_learned_from_the_text_and_stay_within_the_size():
    tokenizer = build_tokenizer("bpe:300", TEXTS)
    assert 258 < tokenizer.vocab_size <= 300
    assert len(tokenizer.encode(TEXTS[1])) < len(TEXTS[1].encode()) / 2
    assert build_tokenizer("bpe:258", TEXTS).vocab_size == 258


def test_byte_pairs_do_not_depend_on_the_run(tmp_path):
    first = build_tokenizer("bpe:300", TEXTS, tmp_path / "a")
    again = build_tokenizer("bpe:300", TEXTS, tmp_path / "b")
    assert first.fingerprint() == again.fingerprint()


def test_byte_pairs_are_cached_by_content(monkeypatch):
    import tokenizers

    first = build_tokenizer("bpe:280", TEXTS)

    def refuse(*_, **__):
        raise AssertionError("learned again")

    # what cannot be patched on the class itself is replaced with it
    kept = types.SimpleNamespace(from_str=tokenizers.Tokenizer.from_str)
    monkeypatch.setattr(tokenizers, "Tokenizer", kept)
    monkeypatch.setattr(tokenizers.trainers, "BpeTrainer", refuse)
    assert build_tokenizer("bpe:280", TEXTS).fingerprint() == first.fingerprint()
    with pytest.raises((AssertionError, TypeError)):
        build_tokenizer("bpe:280", [*TEXTS, "more"])


@pytest.mark.parametrize("name", ["bpe:", "bpe:many", "bpe:257", "bpe:-1", "", " "])
def test_a_name_that_cannot_be_understood(name):
    with pytest.raises(ConfigError, match=r"data\.tokenizer"):
        build_tokenizer(name, TEXTS)


@pytest.mark.parametrize(
    ("name", "meant"), [("bytes", "byte"), ("Char", "char"), ("bpe", "bpe:<n>")]
)
def test_a_near_miss_is_answered_without_the_network(name, meant):
    with pytest.raises(ConfigError, match=f"did you mean '{meant}'"):
        build_tokenizer(name, TEXTS)


@pytest.mark.parametrize("name", ["char", "bpe:300"])
def test_no_text_to_build_from(name):
    with pytest.raises(DataError, match="no text"):
        build_tokenizer(name, [])


def test_without_the_extra_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingExtraError, match=r"mdlm-core\[hf\]"):
        build_tokenizer("bpe:300", TEXTS)


def test_a_folder_without_a_tokenizer(tmp_path):
    with pytest.raises(DataError, match="no saved tokenizer"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"{", b"[]", b"{}", b"\xff", json.dumps({"kind": "morse", "name": "m"}).encode()],
)
def test_a_damaged_definition(tmp_path, content):
    (tmp_path / DEFINITION).write_bytes(content)
    with pytest.raises(DataError, match=DEFINITION):
        load_tokenizer(tmp_path)


def test_damaged_merges(tmp_path):
    build_tokenizer("bpe:300", TEXTS).save(tmp_path)
    (tmp_path / "merges.json").write_text("{}")
    with pytest.raises(DataError, match=r"merges\.json"):
        load_tokenizer(tmp_path)


def test_a_plugin_reads_its_own_tokenizer(tmp_path, monkeypatch):
    """The kind names a function, which must be of an installed plugin."""
    kind = "mdlm_fake.letters:read"
    (tmp_path / "mdlm_tokenizer.json").write_text(
        json.dumps({"kind": kind, "name": "letters"})
    )
    with pytest.raises(PluginError, match="pip install mdlm-fake"):
        load_tokenizer(tmp_path)

    point = metadata.EntryPoint("fake", "mdlm_fake.plugin", "mdlm.plugins")
    monkeypatch.setattr(metadata, "entry_points", lambda group: [point])
    letters = types.ModuleType("mdlm_fake.letters")
    letters.read = lambda folder: ("read from", folder)
    monkeypatch.setitem(sys.modules, "mdlm_fake", types.ModuleType("mdlm_fake"))
    monkeypatch.setitem(sys.modules, "mdlm_fake.letters", letters)
    assert load_tokenizer(tmp_path) == ("read from", tmp_path)


def test_a_run_folder_cannot_name_any_function(tmp_path):
    (tmp_path / "mdlm_tokenizer.json").write_text(
        json.dumps({"kind": "shutil:rmtree", "name": "trap"})
    )
    with pytest.raises(PluginError, match="no installed plugin"):
        load_tokenizer(tmp_path)
    assert tmp_path.exists()
