"""Pairs and prompts as data: files, splits, batches, what is refused."""

import json
from itertools import islice

import pytest
import torch

from mdlm_core.catalog import load_catalog
from mdlm_core.config import resolve
from mdlm_core.errors import ConfigError, DataError
from mdlm_core.train.epochs import in_steps
from mdlm_llada.config import PreferencesConfig, PromptsConfig
from mdlm_llada.data import preferences, prompts
from mdlm_llada.registry import Example
from mdlm_llada.tasks.addition import worked

from .toy_tokenizer import BEGIN, TURN, write_tokenizer

WORDS = ("yes", "indeed", "a longer answer", "no")


def lines(count=40):
    return [
        {
            "prompt": f"question {i // 2}",
            "chosen": f"{WORDS[i % 4]} {i}",
            "rejected": "x" * (1 + i % 7),
        }
        for i in range(count)
    ]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def file(tmp_path):
    return write(tmp_path / "pairs.jsonl", lines())


def read(path, **settings):
    return preferences.build(
        PreferencesConfig(path=path, template="plain", max_length=64, **settings)
    )


def rejected_text(source, batch, row):
    length = int(batch.condition["rejected_length"][row])
    ids = batch.condition["rejected"][row, :length].tolist()
    assert ids[-1] == source.tokenizer.eod_id
    return source.tokenizer.decode(ids[:-1])


# ---- pairs -------------------------------------------------------------------


def test_both_answers_come_with_their_prompt(file):
    source = read(file)
    known = {row["chosen"]: row for row in lines()}
    seen = 0
    for batch in islice(source.batches("train", size=4, seed=0), 5):
        widths = [batch.condition["rejected"].shape[1], batch.length]
        longest = [
            int(batch.condition["rejected_length"].max()),
            int((~batch.pad).sum(1).max()),
        ]
        assert widths == longest
        for r in range(4):
            ids = batch.tokens[r][batch.free[r]].tolist()
            assert ids[-1] == source.tokenizer.eod_id
            row = known[source.tokenizer.decode(ids[:-1])]
            prompt = batch.tokens[r][batch.frozen[r] & ~batch.pad[r]].tolist()
            assert source.tokenizer.decode(prompt) == row["prompt"] + "\n"
            text = rejected_text(source, batch, r)
            assert text == row["prompt"] + "\n" + row["rejected"]
            seen += 1
    assert seen == 20


def test_processes_have_rejected_answers_of_one_width(file):
    source = read(file)
    settings = {"size": 6, "seed": 1, "start": 1}
    whole = next(source.batches("train", **settings))
    parts = [
        next(source.batches("train", rank=rank, world=2, **settings)) for rank in (0, 1)
    ]
    for name, value in whole.condition.items():
        assert torch.equal(torch.cat([p.condition[name] for p in parts]), value)


def test_the_pairs_of_a_prompt_are_on_one_side(file):
    source = read(file, train_ratio=0.7)
    sides = {}
    for split in ("train", "validation"):
        rows = source._rows[split]
        sides[split] = {
            tuple(rows.row(i)[: rows.prompts[i]].tolist()) for i in range(len(rows))
        }
        assert len(sides[split]) * 2 == len(rows)
    assert not sides["train"] & sides["validation"]
    assert sum(map(len, sides.values())) == 20


def test_the_longer_answer_decides_whether_a_pair_fits(file):
    pairs = lines()
    size = [
        len(row["prompt"]) + 2 + max(len(row["chosen"]), len(row["rejected"]))
        for row in pairs
    ]
    limit = sorted(size)[25]
    source = preferences.build(
        PreferencesConfig(path=file, template="plain", max_length=limit)
    )
    kept = sum(source.size(split) for split in ("train", "validation"))
    assert kept == sum(s <= limit for s in size)
    assert source.card()["too_long"]["dropped"] == 40 - kept
    assert len(source._rejected["train"]) == source.size("train")
    cut = preferences.build(
        PreferencesConfig(
            path=file, template="plain", max_length=limit, too_long="truncate"
        )
    )
    assert sum(cut.size(split) for split in ("train", "validation")) == 40
    with pytest.raises(DataError, match=r"pairs\.jsonl:\d+' has \d+ tokens"):
        preferences.build(
            PreferencesConfig(
                path=file, template="plain", max_length=limit, too_long="error"
            )
        )


def test_rows_is_a_limit(file):
    source = read(file, rows=30, train_ratio=0.7)
    assert source.size("train") + source.size("validation") == 30


def test_a_prompt_may_be_a_conversation(tmp_path):
    turns = [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "three"},
    ]
    row = {"prompt": turns, "chosen": "four", "rejected": "five"}
    path = write(tmp_path / "a.jsonl", [row])
    tokenizer = write_tokenizer(tmp_path / "tokenizer")
    source = preferences.build(
        PreferencesConfig(
            path=path, tokenizer=tokenizer, max_length=200, train_ratio=1.0
        )
    )
    batch = next(source.batches("train", size=1, seed=0))
    ids = batch.tokens[0].tolist()
    assert ids[0] == BEGIN
    assert ids[-1] == TURN
    assert batch.condition["rejected"][0, -1] == TURN
    text = source.tokenizer.decode(ids)
    assert text.index("one") < text.index("two") < text.index("three")


def test_the_card_tells_files_apart(file, tmp_path):
    other = lines()
    other[3]["rejected"] = "z"
    changed = read(write(tmp_path / "b.jsonl", other)).card()["splits"]
    same = read(file).card()["splits"]
    assert any(
        changed[s]["rejected_sha256"] != same[s]["rejected_sha256"] for s in same
    )
    assert all(changed[s]["sha256"] == same[s]["sha256"] for s in same)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "a", "chosen": "b"}, "2' has no field 'rejected'; its fields are"),
        ({"prompt": "a", "chosen": "b", "rejected": 3}, "'rejected' is 3; it must"),
        ({"prompt": "", "chosen": "b", "rejected": "c"}, "'prompt' is ''; it must be"),
        ({"prompt": "a", "chosen": "b", "rejected": "b"}, "are the same text"),
        ({"prompt": [{"role": "x"}], "chosen": "b", "rejected": "c"}, "turn 0 of a"),
    ],
)
def test_a_line_that_is_no_pair_is_refused_by_its_place(tmp_path, row, message):
    path = write(tmp_path / "pairs.jsonl", [lines()[0], row])
    with pytest.raises(DataError, match=message) as error:
        read(path)
    assert "pairs.jsonl:2'" in str(error.value)


def test_a_side_without_pairs_is_refused(tmp_path):
    path = write(tmp_path / "pairs.jsonl", lines(2))
    with pytest.raises(DataError, match=r"has no pair for the \w+ split"):
        read(path)
    assert read(path, train_ratio=1.0).size("validation") == 0


def test_without_a_file_there_are_sums_and_wrong_carries():
    source = read("", rows=50)
    for pair in preferences.sums(50):
        left, right = pair.prompt.split("+")
        assert pair.chosen == worked(pair.prompt)
        steps, _, result = pair.rejected.partition("#### ")
        assert int(result) != int(left) + int(right)
        carry = wrong = 0
        for place, step in enumerate(steps.split(";")):
            x, y, z = (int(part) for part in step.partition("=")[0].split("+"))
            assert x + y + z == int(step.partition("=")[2])
            wrong += z != carry
            assert z == (1 - carry if place else 0)
            carry = (x + y + carry) // 10
        assert wrong == 2
    assert source.size("train") + source.size("validation") == 50


# ---- prompts -----------------------------------------------------------------


def test_rows_are_prompts_with_one_end():
    source = prompts.build(PromptsConfig(template="plain", rows=30, held_out=5))
    batch = next(source.batches("train", size=8, seed=0))
    assert (batch.free.sum(1) == 1).all()
    assert (batch.tokens[batch.free] == source.tokenizer.eod_id).all()
    for row, index in zip(batch.tokens, batch.sample_id.tolist(), strict=True):
        example = source.examples("train")[index]
        assert source.tokenizer.decode(row.tolist()) == example.prompt + "\n"
    assert source.size("validation") == 5


@pytest.mark.parametrize("repeats", [1, 3])
def test_batches_are_repeated(repeats):
    settings = {"template": "plain", "rows": 20, "held_out": 4}
    once = prompts.build(PromptsConfig(**settings))
    source = prompts.build(PromptsConfig(**settings, repeats=repeats))
    assert source.size("train") == 20 * repeats
    assert source.size("validation") == 4
    plain = [b.sample_id for b in islice(once.batches("train", size=6, seed=2), 5)]
    for start in (0, 1, 4, 7):
        found = source.batches("train", size=6, seed=2, start=start)
        for offset, batch in enumerate(islice(found, 5)):
            number = (start + offset) // repeats
            if number < 5:
                assert torch.equal(batch.sample_id, plain[number])
    sweep = [len(b) for b in source.batches("validation", size=3, seed=0)]
    assert sweep == [3, 1]


def test_epochs_count_whole_batches_before_they_are_repeated():
    """20 prompts fill 3 batches of 6: 9 steps, though 60 rows would fill 10."""
    settings = {"template": "plain", "rows": 20, "held_out": 4, "repeats": 3}
    source = prompts.build(PromptsConfig(**settings))
    sets = ["data.repeats=3", "train.batch_size=6", "train.epochs=2"]
    config = resolve(load_catalog(), preset="llada/grpo", sets=sets).config
    steps = in_steps(config, source).train.steps
    assert steps == 2 * 9
    found = islice(source.batches("train", size=6, seed=2), steps + 1)
    epochs = [batch.epoch for batch in found]
    assert epochs == [0] * 9 + [1] * 9 + [2]


def test_examples_need_no_answer(monkeypatch):
    class Results:
        name, generated, runs_code = "results", True, False

        def build_dataset(self, split, cfg):
            return [Example(str(i), f"{split} {i}", "", "1") for i in range(6)]

    monkeypatch.setattr("mdlm_llada.data.examples.get_task", lambda name: Results())
    source = prompts.build(PromptsConfig(task="results", template="none"))
    assert source.size("train") == 6


@pytest.mark.parametrize(
    ("config", "settings", "message"),
    [
        (PromptsConfig, {"too_long": "truncate"}, "a prompt that is cut"),
        (PromptsConfig, {"repeats": 0}, r"data\.repeats is 0"),
        (PromptsConfig, {"eos_pad": "loss"}, r"data\.eos_pad is loss"),
        (PreferencesConfig, {"eos_pad": "loss_k"}, r"data\.eos_pad is loss_k"),
        (PreferencesConfig, {"random_length": 0.1}, r"data\.random_length is 0\.1"),
    ],
)
def test_settings_that_mean_nothing_here_are_refused(config, settings, message):
    with pytest.raises(ConfigError, match=message):
        config(**settings)
