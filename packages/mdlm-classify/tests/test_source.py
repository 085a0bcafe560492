"""Rows of labelled texts: which there are, in which order, and what is left out.

Letters: B batch, L length, C classes, V vocabulary.
"""

from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mdlm_classify.config import LabelledTextConfig
from mdlm_classify.data.docstrings import collect, library_topics
from mdlm_classify.data.document import encode
from mdlm_classify.data.duplicates import overlap, signature, signatures
from mdlm_classify.data.prepare import dropped_text
from mdlm_classify.data.source import LabelledSource, build
from mdlm_classify.data.split import holdout, subset
from mdlm_classify.data.texts import LabelledTexts
from mdlm_core.data.batch import Batch
from mdlm_core.errors import ConfigError, DataError

WORDS = [f"w{i}" for i in range(30)]


def texts(count: int, seed: int = 0) -> LabelledTexts:
    """Return texts of 1 to 20 words, no two alike, of three classes."""
    draw = np.random.default_rng(seed)
    found = [
        " ".join([f"t{seed}x{i}", *draw.choice(WORDS, draw.integers(0, 20))])
        for i in range(count)
    ]
    return LabelledTexts.of(found, [("b", "a", "c")[i % 3] for i in range(count)])


def source(
    train: LabelledTexts | None = None,
    held_out: LabelledTexts | None = None,
    unlabelled: tuple[str, ...] = (),
    **settings: Any,
) -> LabelledSource:
    config = LabelledTextConfig(**{"length": 8, "min_count": 1, **settings})
    return LabelledSource.from_texts(
        train or texts(60), held_out, config, unlabelled=unlabelled
    )


def take(data: LabelledSource, count: int, **settings: Any) -> list[Batch]:
    return list(
        islice(data.batches("train", **{"size": 4, "seed": 1, **settings}), count)
    )


def shown(batch: Batch) -> list[tuple[int, ...]]:
    """Return the ids of each row, without padding."""
    rows = zip(batch.tokens, batch.pad, strict=True)
    return [tuple(tokens[~pad].tolist()) for tokens, pad in rows]


def test_rows_are_the_windows_of_the_texts_with_their_labels() -> None:
    train, held_out = texts(30), texts(7, seed=1)
    data = source(train, held_out)
    expected = Counter()
    for text, label in zip(train.texts, train.labels or (), strict=True):
        document = encode(data.tokenizer, text, length=8)
        expected.update((w, "abc".index(label)) for w in document.windows)
    steps = data.steps_per_epoch(1)
    assert steps == data.size("train") == expected.total()
    found: Counter[tuple[tuple[int, ...], int]] = Counter()
    for batch in take(data, steps, size=1):
        assert not batch.pad.any()
        found.update(zip(shown(batch), batch.condition["label"].tolist(), strict=True))
    assert found == expected


def test_held_out_rows_are_in_order() -> None:
    held_out = texts(7, seed=1)
    data = source(held_out=held_out)
    batches = list(data.batches("validation", size=4, seed=0))
    rows = [row for batch in batches for row in shown(batch)]
    assert rows == [
        window
        for text in held_out.texts
        for window in encode(data.tokenizer, text, length=8).windows
    ]
    assert len(rows) == data.size("validation")
    later = list(data.batches("validation", size=4, seed=5, start=1))
    assert torch.equal(later[0].tokens, batches[1].tokens)


def test_a_batch_is_as_wide_as_its_longest_row_in_every_process() -> None:
    data = source(unlabelled=texts(9, seed=2).texts)
    for index, batch in enumerate(take(data, 12, size=6)):
        longest = (~batch.pad).sum(1).max()
        assert batch.length == longest
        assert torch.equal(batch.frozen, batch.pad)
        assert (batch.tokens[batch.pad] == data.tokenizer.pad_id).all()
        parts = [
            take(data, 1, size=6, start=index, rank=r, world=4)[0] for r in range(4)
        ]
        for name in ("tokens", "pad", "sample_id"):
            joined = torch.cat([getattr(part, name) for part in parts])
            assert torch.equal(joined, getattr(batch, name))
        labels = torch.cat([part.condition["label"] for part in parts])
        assert torch.equal(labels, batch.condition["label"])


def test_an_epoch_has_each_row_once_and_little_padding() -> None:
    data = source(texts(600), length=32)
    steps = data.steps_per_epoch(8)
    first, second = take(data, steps, size=8), take(data, steps, size=8, start=steps)
    for epoch, batches in enumerate((first, second)):
        ids = torch.cat([batch.sample_id for batch in batches])
        assert len(ids.unique()) == len(ids) == steps * 8
        assert {batch.epoch for batch in batches} == {epoch}
    orders = [[b.sample_id.tolist() for b in batches] for batches in (first, second)]
    assert orders[0] != orders[1]
    padding = sum(int(b.pad.sum()) for b in first) / sum(b.pad.numel() for b in first)
    assert padding < 0.05  # 40 % if rows of all lengths stand together
    lengths = torch.tensor([batch.length for batch in first]).double()
    after = torch.corrcoef(torch.stack([lengths[:-1], lengths[1:]]))[0, 1]
    assert after.abs() < 0.4  # long batches do not follow each other


def test_rows_without_labels_go_round_on_their_own() -> None:
    free = texts(7, seed=2).texts
    data = source(texts(40), unlabelled=free, unlabelled_share=0.5, length=32)
    steps = data.steps_per_epoch(8)
    assert steps == data.size("train") // 4
    epochs = 7
    batches = take(data, steps * epochs, size=8)
    seen: Counter[tuple[int, ...]] = Counter()
    for batch in batches:
        none = batch.condition["label"] == -1
        assert none.sum() == 4
        seen.update(row for row, n in zip(shown(batch), none, strict=True) if n)
        assert (batch.sample_id[none] >= data.size("train")).all()
        assert (batch.sample_id[~none] < data.size("train")).all()
    known = {tuple(data.tokenizer.encode(text)) for text in free}
    assert set(seen) == known
    assert max(seen.values()) - min(seen.values()) <= 1
    for epoch in range(epochs):
        part = batches[epoch * steps : (epoch + 1) * steps]
        ids = torch.cat([batch.sample_id for batch in part])
        assert len(ids.unique()) == len(ids)
    later = take(data, 1, size=8, start=2 * steps + 1)[0]
    assert torch.equal(later.sample_id, batches[2 * steps + 1].sample_id)


def test_without_any_label_all_texts_are_learned_from() -> None:
    free = texts(7, seed=2).texts
    train, held_out = texts(20), texts(5, seed=1)
    labelled = source(train, held_out, unlabelled=free)
    data = source(train, held_out, unlabelled=free, unlabelled_share=1)
    assert data.tokenizer.fingerprint() == labelled.tokenizer.fingerprint()
    seen = Counter()
    for batch in take(data, data.steps_per_epoch(1), size=1):
        assert batch.condition["label"].tolist() == [-1]
        seen.update(shown(batch))
    expected = [
        window
        for text in (*free, *train.texts)
        for window in encode(data.tokenizer, text, length=8).windows
    ]
    assert seen == Counter(expected)
    assert torch.equal(data.counts(), labelled.counts())


def test_a_batch_has_both_kinds_of_rows() -> None:
    free = texts(7, seed=2).texts
    for share, without in ((0.01, 1), (0.99, 3)):
        data = source(unlabelled=free, unlabelled_share=share)
        label = take(data, 1)[0].condition["label"]
        assert (label == -1).sum() == without


def test_counts_are_of_the_training_texts() -> None:
    train, free = texts(30), texts(6, seed=2).texts
    data = source(train, texts(5, seed=1), unlabelled=free, tokenizer="words:20")
    expected = torch.zeros(4, data.tokenizer.vocab_size, dtype=torch.float64)
    for text, label in zip(train.texts, train.labels or (), strict=True):
        for token in data.tokenizer.encode(text):
            expected["abc".index(label), token] += 1
            expected[3, token] += 1
    for text in free:
        for token in data.tokenizer.encode(text):
            expected[3, token] += 1
    assert torch.equal(data.counts(), expected)
    assert data.class_sizes().tolist() == [10, 10, 10]


def test_documents_are_the_texts_in_order() -> None:
    held_out = texts(7, seed=1)
    data = source(held_out=held_out)
    documents, labels = data.documents("validation")
    assert documents == [encode(data.tokenizer, t, length=8) for t in held_out.texts]
    assert labels.tolist() == ["abc".index(label) for label in held_out.labels or ()]
    found, _ = data.documents("train")
    assert sum(len(d.windows) for d in found) == data.size("train")


@pytest.mark.parametrize("name", ["byte", "char", "words:5"])
def test_any_tokenizer_will_do(name: str) -> None:
    data = source(tokenizer=name)
    assert data.tokenizer.name == name
    assert take(data, 1)[0].tokens.max() < data.tokenizer.vocab_size


def test_held_out_words_are_not_known() -> None:
    data = source(held_out=LabelledTexts.of(["secret"], ["a"]))
    (document,), _ = data.documents("validation")
    assert data.tokenizer.decode(document.windows[0]) == "\ufffd"


def test_a_finished_run_has_its_classes() -> None:
    config = LabelledTextConfig(length=8, min_count=1)
    data = LabelledSource.from_texts(texts(30), None, config)
    assert data.completed(config) == replace(config, labels=("a", "b", "c"))
    other = source(labels=("c", "a", "b"))
    assert other.labels == ("c", "a", "b")


def test_the_card_says_what_was_left_out() -> None:
    train = LabelledTexts.of(
        ["one x", "One, X!", "one  x", "two", "three", "", "four"],
        ["a", "a", "b", "b", "a", "b", "b"],
    )
    held_out = LabelledTexts.of(["Two.", "five", ""], ["b", "a", "a"])
    data = source(train, held_out)
    card: Any = data.card()
    assert card["duplicates"] == {
        "policy": "drop",
        "also_held_out": 1,
        "repeated": 2,
        "contradictory": 1,
    }
    split = card["splits"]["train"]
    assert (split["texts"], split["empty_texts"]) == (3, 1)
    assert split["texts_per_class"] == {"a": 2, "b": 1}
    assert card["splits"]["validation"]["texts"] == 3  # an empty one is measured too
    kept: Any = source(train, held_out, duplicates="keep").card()
    assert kept["splits"]["train"]["texts"] == 6
    hashes = {card["splits"]["train"]["sha256"], kept["splits"]["train"]["sha256"]}
    assert len(hashes) == 2


def test_texts_without_labels_that_are_held_out_are_dropped() -> None:
    held_out = LabelledTexts.of(["Two words.", "five"], ["b", "a"])
    data = source(held_out=held_out, unlabelled=("two words", "other", "other", ""))
    card: Any = data.card()["unlabelled"]
    found = [card[name] for name in ("texts", "rows", "also_held_out", "repeated")]
    assert found == [2, 1, 1, 1]


def test_the_same_share_of_each_class_is_held_out() -> None:
    labels = ["a"] * 100 + ["b"] * 10 + ["c"] * 2 + ["d"]
    learned, held = holdout(labels, 0.2, seed=3)
    assert sorted([*learned, *held]) == list(range(113))
    assert Counter(labels[i] for i in held) == {"a": 20, "b": 2, "c": 1}
    again = holdout(labels, 0.2, seed=3)
    assert np.array_equal(again[1], held)
    assert not np.array_equal(holdout(labels, 0.2, seed=4)[1], held)
    with pytest.raises(DataError, match="no class has two"):
        holdout(["a", "b"], 0.5, seed=0)


def test_a_smaller_part_lies_in_a_larger_one() -> None:
    labels = ["a"] * 60 + ["b"] * 30 + ["c"]
    sizes = {n: Counter(labels[i] for i in subset(labels, n, 0)) for n in (4, 31, 91)}
    assert sizes[4] == {"a": 2, "b": 1, "c": 1}
    assert sizes[31] == {"a": 20, "b": 10, "c": 1}
    assert sizes[91] == Counter(labels)
    assert set(subset(labels, 20, 0)) < set(subset(labels, 40, 0))
    assert not np.array_equal(subset(labels, 20, 0), subset(labels, 20, 1))
    assert subset(labels, 500, 0).tolist() == list(range(91))


def test_rows_decides_how_many_texts_there_are() -> None:
    card: Any = source(rows=20, holdout=0.3).card()
    sizes = [card["splits"][split]["texts"] for split in ("train", "validation")]
    assert sizes == [14, 6]


def test_the_same_words_are_the_same_text() -> None:
    same = ["Don't stop!", "dont STOP", " don't...stop_"]
    assert len({signature(text) for text in same}) == 1
    assert len({signature(text) for text in (":)", ":(", "", "stop", "1")}) == 5
    assert signature(": )") == signature(":)")


def test_the_first_of_its_kind_stays() -> None:
    texts = ["a", "b", "a", "c", "b", "", " "]
    found = overlap(signatures(texts), [1, 2, 1, 3, 9, 1, 2], signatures(["c", ""]))
    assert found.fresh.tolist() == [0, 1, 5, 6]  # empty ones are not the same
    assert (found.held_out, found.repeated, found.contradictory) == (1, 2, 1)


BAD = [
    (LabelledTexts.of(["a", "b"], ["x", "x"]), {}, "only the class 'x'"),
    (LabelledTexts.of(["a", "b", "c", "d"], [*"xxyy"]), {"labels": ("x", "y", "z")},
     "no training text of the class 'z'"),
    (LabelledTexts.of(["a", "b", "", " "], [*"xxyy"]), {"duplicates": "keep"},
     "all training texts of the class 'y' are empty"),
]  # fmt: skip


@pytest.mark.parametrize(("train", "settings", "message"), BAD)
def test_texts_that_cannot_be_learned_from_are_refused(
    train: LabelledTexts, settings: dict[str, Any], message: str
) -> None:
    held_out = LabelledTexts.of(["e", "f"], ["x", "x"])
    with pytest.raises(DataError, match=message):
        source(train, held_out, **settings)


def test_held_out_texts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match="text 1: the label 'z' is not among"):
        source(held_out=LabelledTexts.of(["e", "f"], ["a", "z"]))
    with pytest.raises(DataError, match="held-out texts are all empty"):
        source(held_out=LabelledTexts.of([" "], ["a"]))
    with pytest.raises(DataError, match="may be the same file"):
        source(held_out=texts(60))


def test_settings_that_cannot_work_are_refused() -> None:
    for name in ("words:", "words:0", "words:many", "words"):
        with pytest.raises(ConfigError, match="write words:<n>"):
            source(tokenizer=name)
    with pytest.raises(DataError, match="a batch takes 500"):
        take(source(), 1, size=500)
    free = source(unlabelled=("a", "b"), unlabelled_share=1, rows=6)
    with pytest.raises(DataError, match=r"\d training rows without labels"):
        take(free, 1, size=500)
    with pytest.raises(DataError, match="no split 'test'"):
        source().documents("test")


def test_files_become_a_source(tmp_path: Path) -> None:
    lines = [f"<i>{text}</i>,{i % 2}" for i, text in enumerate(texts(20).texts)]
    (tmp_path / "a.csv").write_text("\n".join(["text,label", *lines[:16]]))
    (tmp_path / "b.csv").write_text("\n".join(["text,label", *lines[16:]]))
    (tmp_path / "c.txt").write_text("more\ntext\n")
    data = build(
        LabelledTextConfig(
            path=str(tmp_path / "a.csv"),
            validation=str(tmp_path / "b.csv"),
            unlabelled=str(tmp_path / "c.txt"),
            label_map={"0": "no", "1": "yes"},
            clean="html",
            min_count=1,
        )
    )
    assert data.labels == ("no", "yes")
    card: Any = data.card()
    assert [card["splits"][s]["texts"] for s in ("train", "validation")] == [16, 4]
    assert card["unlabelled"]["texts"] == 2
    assert "i" not in data.tokenizer.words  # type: ignore[attr-defined]


def test_docstrings_are_labelled_by_topic(tmp_path: Path) -> None:
    def module(path: Path, docs: list[str]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        body = "".join(f'def f{i}():\n    """{d}"""\n' for i, d in enumerate(docs))
        path.write_text(body)

    twelve = " ".join(WORDS[:12])
    many = [f"number {i} {twelve}" for i in range(450)]
    module(tmp_path / "one.py", [*many, many[0]])
    inner = ["too short", f">>> {twelve}", *(f"text {i} {twelve}" for i in range(25))]
    module(tmp_path / "two" / "inner.py", inner)
    module(tmp_path / "two" / "test" / "inner.py", [f"test {i} {twelve}" for i in "ab"])
    module(tmp_path / "few.py", [f"few {twelve}"])
    (tmp_path / "two" / "broken.py").write_text("def")
    topics = {"one": "one gone", "two": "two", "few": "few"}
    found = collect(tmp_path, topics)
    assert Counter(topic for _, topic, _ in found) == {"one": 400, "two": 25}
    assert len({text for text, _, _ in found}) == 425
    assert found[-1] == (f"text 24 {twelve}", "two", "'two/inner.py', docstring 26")
    with pytest.raises(DataError, match="no docstrings of several topics"):
        collect(tmp_path, {"one": "one", "few": "few"})


def test_every_python_has_topics() -> None:
    found = library_topics()
    counts = Counter(found.labels)
    assert len(counts) >= 5
    assert min(counts.values()) >= 100
    assert len({signature(text) for text in found.texts}) == len(found)
    assert library_topics() == found


def test_it_is_said_how_many_texts_are_dropped() -> None:
    given = LabelledTexts.of(
        ["a b", "A b.", "a b!", "", "c d", "e f", "g h"],
        ["x", "x", "y", "x", "x", "y", "y"],
    )
    config = LabelledTextConfig(path="rep.csv", holdout=0.3, length=8, min_count=1)
    found = LabelledSource.from_texts(given, None, config)
    assert found.dropped.startswith("7 texts of rep.csv: ")
    assert "2 repeated, 1 of them with another label" in found.dropped
    assert found.dropped.endswith(": dropped")
    kept = replace(config, duplicates="keep")
    assert "repeated" not in LabelledSource.from_texts(given, None, kept).dropped


def test_a_line_of_dropped_texts_has_every_kind() -> None:
    found = {"repeated": 27, "contradictory": 5, "also_held_out": 1}
    said = dropped_text(1138, name="rep.csv", empty=3, found=found, policy="drop")
    assert said == (
        "1,138 texts of rep.csv: 3 empty, 27 repeated, 5 of them with another label, "
        "1 also held out: dropped"
    )
    none = dict.fromkeys(found, 0)
    assert dropped_text(8, name="", empty=0, found=none, policy="drop") == ""


def test_texts_of_which_none_can_be_held_out_are_counted_as_they_were_read() -> None:
    given = LabelledTexts.of(["a b", "A b", "c", "c!"], ["x", "x", "y", "y"])
    config = LabelledTextConfig(path="rep.csv")
    with pytest.raises(DataError, match=r"none of the 2.*4 texts of rep.csv: 2 rep"):
        LabelledSource.from_texts(given, None, config)
