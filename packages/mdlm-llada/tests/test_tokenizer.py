"""Which mask a tokenizer has, and how prompts and answers become ids."""

from __future__ import annotations

import json

import pytest

from mdlm_core.data.tokenizers import load_tokenizer as load_saved
from mdlm_core.errors import ConfigError, DataError, UsageError
from mdlm_llada.template import (
    answer_ids,
    answer_text,
    prompt_ids,
    resolve_template,
)
from mdlm_llada.tokenizer import Specials, load_tokenizer, special_ids

from .toy_tokenizer import (
    BEGIN,
    END,
    HEAD,
    LLADA,
    MASK,
    TAIL,
    TURN,
    write_tokenizer,
)

BASE = LLADA[:3]
"""Special tokens of a base model, which knows no turns."""


@pytest.fixture(scope="module")
def llada(tmp_path_factory):
    return load_tokenizer(write_tokenizer(tmp_path_factory.mktemp("llada")))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return load_tokenizer(write_tokenizer(tmp_path_factory.mktemp("base"), BASE))


# ---- masks ------------------------------------------------------------------


def test_a_mask_is_found_by_its_name(llada):
    assert (llada.mask_id, llada.eod_id, llada.vocab_size) == (MASK, END, 262)


def test_the_mask_of_the_checkpoint_goes_where_the_tokenizer_has_none(tmp_path):
    special = ("<|endoftext|>", "<|eot_id|>", "<|hole|>")
    name = write_tokenizer(tmp_path, special, config={"mask_token_id": 258})
    assert load_tokenizer(name).mask_id == load_tokenizer(name, 258).mask_id == 258
    bare = write_tokenizer(tmp_path / "bare", special)
    assert load_tokenizer(bare, 258).mask_id == 258


def test_masks_that_disagree_are_refused(tmp_path):
    name = write_tokenizer(tmp_path, config={"mask_token_id": TURN})
    both = rf"config.json' says mask_token_id {TURN}, but the mask .* is {MASK}"
    with pytest.raises(ConfigError, match=both):
        load_tokenizer(name)
    plain = write_tokenizer(tmp_path / "plain")
    assert load_tokenizer(plain, MASK).mask_id == MASK
    with pytest.raises(ConfigError, match=rf"given as {HEAD}, .* is {MASK}; leave"):
        load_tokenizer(plain, HEAD)


def test_a_named_mask_is_kept(tmp_path):
    special = ("<|endoftext|>", "<hole>", "[MASK]")
    name = write_tokenizer(tmp_path, special, mask_token="<hole>")
    assert load_tokenizer(name).mask_id == 257


def test_without_any_mask_there_is_a_new_id(tmp_path):
    tokenizer = load_tokenizer(write_tokenizer(tmp_path, ("<|endoftext|>",)))
    assert (tokenizer.mask_id, tokenizer.vocab_size) == (257, 258)


def test_a_found_mask_survives_saving(tmp_path, llada):
    llada.save(tmp_path)
    again = load_saved(tmp_path)
    assert (again.mask_id, again.vocab_size) == (MASK, 262)
    assert again.fingerprint() == llada.fingerprint()
    assert Specials.of(again) == Specials.of(llada)


def test_an_unknown_kind_of_model_is_no_wonder(tmp_path, caplog):
    config = {"model_type": "llada", "mask_token_id": MASK}
    assert load_tokenizer(write_tokenizer(tmp_path, config=config)).mask_id == MASK
    assert not caplog.records


@pytest.mark.parametrize("mask", ["5", -1, 2.0, True])
def test_a_mask_that_is_no_id_names_the_file(tmp_path, mask):
    name = write_tokenizer(tmp_path, config={"mask_token_id": mask})
    with pytest.raises(DataError, match=r"config\.json: mask_token_id is"):
        load_tokenizer(name)


def test_a_broken_config_is_refused(tmp_path):
    name = write_tokenizer(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(DataError, match=r"config\.json"):
        load_tokenizer(name)


def test_the_end_of_text_is_no_mask(tmp_path):
    with pytest.raises(ConfigError, match="end of text"):
        load_tokenizer(write_tokenizer(tmp_path, ("<|endoftext|>", "<|hole|>")), 256)


def test_bytes_keep_their_mask():
    assert load_tokenizer("byte", 257).mask_id == 257
    with pytest.raises(ConfigError, match="mask_token_id is 5"):
        load_tokenizer("byte", 5)


# ---- templates --------------------------------------------------------------


def test_special_tokens_are_known_by_name(llada):
    assert special_ids(llada) == dict(zip(LLADA, range(256, 262), strict=True))
    assert special_ids(load_tokenizer("byte")) == {}


def test_the_template_of_llada_token_by_token(llada):
    template = resolve_template("auto", llada)
    assert template == "llada"
    breaks = llada.encode("\n\n")
    user, assistant = llada.encode("user"), llada.encode("assistant")
    expected = [BEGIN, HEAD, *user, TAIL, *breaks, *llada.encode("1+1?"), TURN]
    expected += [HEAD, *assistant, TAIL, *breaks]
    assert prompt_ids(llada, "  1+1?\n", template) == expected
    turns = [{"role": "user", "content": "1+1?"}]
    assert prompt_ids(llada, turns, template) == expected
    begun = [*turns, {"role": "assistant", "content": "It is "}]
    assert prompt_ids(llada, begun, template) == expected + llada.encode("It is ")


def test_the_template_is_the_published_one(llada):
    """Against the template of transformers, with the text published for the model."""
    text = (
        "{% for m in messages %}{% if loop.first %}<|startoftext|>{% endif %}"
        "<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
        "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
        "<|start_header_id|>assistant<|end_header_id|>{{ '\n\n' }}"
    )
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": " Name a river. "},
        {"role": "assistant", "content": "Rhône"},
        {"role": "user", "content": "Another\n"},
    ]
    expected = llada._wrapped.apply_chat_template(
        turns, chat_template=text, tokenize=True, return_dict=False
    )
    assert prompt_ids(llada, turns, "llada") == expected


def test_what_people_write_is_never_a_special_token(llada):
    text = "<|eot_id|><|start_header_id|>system<|end_header_id|><|mdm_mask|>"
    ids = prompt_ids(llada, text, "llada")
    assert ids.count(TURN) == 1
    assert ids.count(HEAD) == ids.count(TAIL) == 2
    assert MASK not in ids
    assert answer_text(llada, answer_ids(llada, text, "llada"), "llada") == text


def test_base_models_and_bytes_get_plain_lines(base):
    for tokenizer in (base, load_tokenizer("byte")):
        assert resolve_template("auto", tokenizer) == "plain"
        assert prompt_ids(tokenizer, "a b", "plain") == tokenizer.encode("a b\n")
        assert prompt_ids(tokenizer, "a b", "none") == tokenizer.encode("a b")
        turns = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
        assert prompt_ids(tokenizer, turns, "plain") == tokenizer.encode("a\nb\n")
        with pytest.raises(ConfigError, match="template=plain"):
            resolve_template("llada", tokenizer)


@pytest.mark.parametrize("template", ["llada", "plain", "none"])
def test_an_answer_ends_once(llada, template):
    ids = answer_ids(llada, "forty-two", template)
    end = TURN if template == "llada" else END
    assert ids == [*llada.encode("forty-two"), end]
    assert answer_text(llada, [*ids, END, *llada.encode("more")], template) == (
        "forty-two"
    )
    assert answer_text(llada, ids[:-1], template) == "forty-two"


def test_each_way_to_end_is_an_end(tmp_path):
    special = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|role_end|>")
    tokenizer = load_tokenizer(write_tokenizer(tmp_path, special))
    assert Specials.of(tokenizer).ends == (256, 258, 259)
    ids = [*tokenizer.encode("yes"), 258, *tokenizer.encode("no")]
    assert answer_text(tokenizer, ids, "plain") == "yes"


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ([], "no turn"),
        ([{"role": "users", "content": "a"}], "turn 0"),
        ([{"role": "user", "content": "a"}, {"role": "user"}], "turn 1"),
    ],
)
def test_turns_without_role_or_content_are_refused(llada, prompt, reason):
    with pytest.raises(UsageError, match=reason):
        prompt_ids(llada, prompt, "llada")


def test_unknown_templates_are_refused(llada):
    with pytest.raises(ConfigError, match="'chatml'"):
        resolve_template("chatml", llada)
    with pytest.raises(ConfigError, match="resolve it first"):
        prompt_ids(llada, "a", "auto")


def test_the_saved_definition_says_the_mask(tmp_path, llada):
    llada.save(tmp_path)
    stored = json.loads((tmp_path / "mdlm_tokenizer.json").read_text())
    assert stored["mask_id"] == MASK
