"""Preparing text: budgets, measurements, repair, and what is refused."""

from __future__ import annotations

import json
import lzma
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdlm_atat.datasets import get_dataset_manager, prepare, sources, to_sets
from mdlm_atat.datasets.prepare import find_flaw, prepare_phase, validation_source
from mdlm_core import DataError, MissingExtraError, load_catalog
from mdlm_core.cli import run
from mdlm_core.config import resolve
from mdlm_core.data import ByteTokenizer

WORDS = ("the", "cat", "and", "a", "dog", "went", "over", "some", "hills", "to", "see")


def prose(paragraphs: int, seed: int = 0) -> str:
    """Return paragraphs that differ, of plain words."""
    state, blocks = seed + 1, []
    for _ in range(paragraphs):
        words = []
        for _ in range(40):
            state = (state * 48271) % 0x7FFFFFFF
            words.append(WORDS[state % len(WORDS)])
        blocks.append(" ".join(words) + f" {state}.")
    return "\n\n".join(blocks) + "\n"


REGISTRY = """
defaults: {stage: debug, chunk: 400, holdout: 0.2}
datasets:
  prose:
    source: file:texts
    license: own
    splits: {train: train.txt.xz, validation: valid.txt}
    variants:
      small: {max_tokens: 6000}
      medium: {max_tokens: 1e7}
      full: {about_tokens: 9}
  prose27:
    source: file:texts
    splits: {train: train.txt.xz, validation: valid.txt}
    symbols: a-z
    tokenizer: char
    variants: {small: {max_tokens: 5000}, full: {about_tokens: 9}}
phase_configurations:
  HERE:
    dataset: prose (small)
    preset: atat/books-cpu
    variants: [uniform]
  AWAY:
    dataset: openwebtext (small)
    val_dataset: wikitext2 (small)
    fallback: prose (small)
    preset: atat/books-cpu
    tokenizer: byte
    variants: [uniform]
"""


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """Work in a folder with texts and a registry; the hub cannot be reached."""
    folder = tmp_path / "work"
    (folder / "texts").mkdir(parents=True)
    (folder / "texts" / "train.txt.xz").write_bytes(lzma.compress(prose(60).encode()))
    (folder / "texts" / "valid.txt").write_text(prose(20, seed=9), "utf-8")
    (folder / "datasets.yaml").write_text(REGISTRY, "utf-8")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MDLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in ("MDLM_DATA", "MDLM_DATASETS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sources, "in_hub_cache", lambda name: False)
    return folder


def config(name="prose", variant="small", **more):
    return get_dataset_manager().get_config(name, variant, **more)


def texts(path: Path) -> list[str]:
    return [json.loads(line)["text"] for line in path.read_text("utf-8").splitlines()]


def left_over(done) -> list[str]:
    return sorted(path.name for path in done.cache_file.parent.iterdir())


# ---- budgets and measurements -----------------------------------------------


@pytest.mark.parametrize("name", ["prose", "prose27"])
def test_takes_whole_documents_in_order_up_to_the_budget(name):
    done = prepare.prepare(config(name)).config
    raw = prose(60)
    if name == "prose27":
        letters = "".join(c if c in "abcdefghijklmnopqrstuvwxyz" else " " for c in raw)
        raw = " ".join(letters.split()) + " "
        assert set("".join(texts(done.cache_file))) <= set(
            "abcdefghijklmnopqrstuvwxyz "
        )
    taken = texts(done.cache_file)
    assert raw.startswith("".join(taken))
    assert all(200 <= len(text) <= 400 for text in taken)
    following = texts(prepare.prepare(config(name, "full")).config.cache_file)
    assert following[: len(taken)] == taken
    sizes = [len(text) + 1 for text in following]
    assert sum(sizes[: len(taken)]) == done.num_tokens <= done.max_tokens
    assert sum(sizes[: len(taken) + 1]) > done.max_tokens


def test_without_a_budget_all_text_is_taken():
    before = config(variant="full")
    assert (before.num_tokens, before.measured) == (9, False)
    done = prepare.prepare(before).config
    assert done.measured
    assert "".join(texts(done.cache_file)) == prose(60)
    assert done.manifest["complete"]
    assert done.manifest["bytes"] == len(prose(60).encode())
    assert not prepare.prepare(config()).config.manifest["complete"]


@pytest.mark.parametrize("tokenizer", ["byte", "char", "bpe:300"])
def test_measurements_are_those_of_the_run(tokenizer):
    if tokenizer.startswith("bpe"):
        pytest.importorskip("tokenizers")
    done = prepare.prepare(config(tokenizer=tokenizer)).config
    chosen = resolve(load_catalog(), sets=to_sets(done, length=64)).config.data
    card = load_catalog().build("dataset", chosen).card()
    splits = card["splits"].values()
    assert sum(split["tokens"] for split in splits) == done.num_tokens
    assert sum(split["bytes"] for split in splits) == done.manifest["bytes"]
    documents = [split["documents"] for split in splits]
    assert sum(documents) == done.manifest["documents"]
    assert (
        card["splits"]["validation"]["documents"]
        == (done.manifest["held_out_documents"])
    )
    for key in ("vocab_size", "fingerprint"):
        assert card["tokenizer"][key] == done.manifest["tokenizer"][key]


def test_the_same_text_gives_the_same_files_anywhere(tmp_path, monkeypatch):
    one = prepare.prepare(config()).config
    monkeypatch.setenv("MDLM_CACHE", str(tmp_path / "other"))
    two = prepare.prepare(config()).config
    assert one.cache_file != two.cache_file
    assert one.cache_file.read_bytes() == two.cache_file.read_bytes()
    manifest = one.manifest_file.read_bytes()
    assert manifest == two.manifest_file.read_bytes()
    assert str(tmp_path).encode() not in manifest


def test_validation_split_is_a_file_of_its_own():
    val = config(variant="full", split="validation")
    done = prepare.prepare(val).config
    assert "".join(texts(done.cache_file)) == prose(20, seed=9)
    source = validation_source(done, ByteTokenizer(), length=64)
    rows = list(source.batches("validation", size=16, seed=0))
    assert sum(int((~batch.pad).sum()) for batch in rows) == done.num_tokens
    with pytest.raises(DataError, match=r"not prepared; try: mdlm atat datasets"):
        validation_source(config(split="validation"), ByteTokenizer(), length=64)


def test_embedded_corpus_keeps_its_documents(monkeypatch):
    topics = [prose(3, seed=seed).replace("a", "a b c d e f g\n") for seed in range(60)]
    topics[0] += " jklmnopqrstuvwxyz"
    monkeypatch.setattr(sources, "python_documents", lambda: topics)
    plain = prepare.prepare(config("python-docs", "full")).config
    assert texts(plain.cache_file) == topics
    done = prepare.prepare(config("python-docs27", "full")).config
    assert done.measured
    assert done.manifest["source"] == "builtin:python-docs"
    assert done.manifest["recipe"]["python"]
    assert done.manifest["documents"] == 60
    assert done.manifest["tokenizer"]["vocab_size"] == 29
    assert done.manifest["held_out_documents"] > 0


# ---- finding it -------------------------------------------------------------


def test_looks_beside_the_registry_then_here_then_in_the_data_folder(
    place, tmp_path, monkeypatch
):
    # three folders: that of the registry, the working one, that of MDLM_DATA
    folders = [place, tmp_path / "here", tmp_path / "data"]
    found = Path("texts", "valid.txt")
    (place / found).unlink()
    for folder in folders[1:]:
        (folder / "texts").mkdir(parents=True)
    monkeypatch.chdir(folders[1])
    monkeypatch.setenv("MDLM_DATASETS", str(place / "datasets.yaml"))
    monkeypatch.setenv("MDLM_DATA", str(folders[2]))
    for folder in reversed(folders):
        (folder / found).write_text(prose(20), "utf-8")
        assert sources.locate(config(split="validation")) == folder / found


def test_missing_file_says_where_it_was_looked_for(place, monkeypatch):
    monkeypatch.setenv("MDLM_DATA", "/data/of/mine")
    (place / "texts" / "valid.txt").unlink()
    with pytest.raises(DataError) as caught:
        prepare.prepare(config(split="validation"))
    message = str(caught.value)
    assert str(place / "texts" / "valid.txt") in message
    assert "/data/of/mine/texts/valid.txt" in message
    assert "MDLM_DATA" in message
    assert "datasets.prose.source" in message


def test_hub_that_cannot_be_reached_says_what_to_do():
    with pytest.raises(DataError) as caught:
        prepare.prepare(config("openwebtext"))
    message = str(caught.value)
    for part in ("cannot be reached", "openwebtext/train.jsonl", "MDLM_DATA", "source"):
        assert part in message


def test_hub_without_the_extra_says_what_to_install(monkeypatch):
    monkeypatch.setattr(sources, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'mdlm-core\[hf\]'"):
        prepare.prepare(config("wikitext2"))


def test_local_file_stands_for_the_hub(place, monkeypatch):
    (place / "data" / "wikitext-2").mkdir(parents=True)
    (place / "data" / "wikitext-2" / "valid.txt").write_text(prose(20), "utf-8")
    monkeypatch.setenv("MDLM_DATA", str(place / "data"))
    val = config("wikitext2", "full", split="validation", tokenizer="byte")
    done = prepare.prepare(val).config
    assert done.manifest["source"] == "file:wikitext-2/valid.txt"
    assert "".join(texts(done.cache_file)) == prose(20)


def rows_of_the_hub(monkeypatch, rows):
    """Let the hub answer with `rows`; return the requests it gets."""
    asked = []

    class Rows:
        column_names = ("text",)

        def select_columns(self, names):
            return self

        def iter(self, batch_size):
            for row in rows():
                yield {"text": [row]}

    def load(request):
        asked.append(request)
        return Rows()

    monkeypatch.setattr(sources, "find_spec", lambda name: True)
    monkeypatch.setattr(sources, "reachable", lambda: True)
    monkeypatch.setattr(sources, "load_rows", load)
    return asked


def test_budget_reads_the_beginning_of_a_stream_alone(monkeypatch):
    read = count()

    def rows():
        while True:
            yield f"page {next(read)}: " + prose(3, seed=7)

    asked = rows_of_the_hub(monkeypatch, rows)
    done = prepare.prepare(config("openwebtext", tokenizer="byte")).config
    assert asked[0].streaming
    assert asked[0].path == "Skylion007/openwebtext"
    assert done.num_tokens <= 100_000 < done.num_tokens + 1000
    assert next(read) < 1000


def test_rows_that_break_off_leave_nothing(monkeypatch):
    def rows():
        yield prose(3)
        raise ConnectionError("reset by peer")

    rows_of_the_hub(monkeypatch, rows)
    wanted = config("openwebtext", tokenizer="byte")
    with pytest.raises(DataError, match=r"openwebtext .*broke off.*reset by peer"):
        prepare.prepare(wanted)
    assert left_over(wanted) == []


# ---- again ------------------------------------------------------------------


def test_whole_file_is_verified_and_left_alone():
    first = prepare.prepare(config())
    before = first.config.cache_file.stat().st_mtime_ns
    second = prepare.prepare(config(), tell=pytest.fail)
    assert (first.action, second.action) == ("prepared", "verified")
    assert second.config.cache_file.stat().st_mtime_ns == before
    assert prepare.prepare(config(), force=True).action == "rebuilt"


def flip(done) -> None:
    content = done.cache_file.read_bytes()
    done.cache_file.write_bytes(content.replace(b"cat", b"cut", 1))


def change_source(done) -> None:
    path = Path("texts", "train.txt.xz")
    path.write_bytes(lzma.compress(prose(60, seed=4).encode()))


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (flip, "damaged"),
        (lambda done: done.cache_file.write_bytes(b"{}"), "does not fit"),
        (lambda done: done.manifest_file.unlink(), "does not fit"),
        (lambda done: done.manifest_file.write_text("[]"), "does not fit"),
        (change_source, "its source has changed"),
    ],
    ids=["flipped", "cut off", "no manifest", "other manifest", "source"],
)
def test_what_is_not_whole_is_told_and_built_again(harm, reason):
    done = prepare.prepare(config()).config
    good = done.cache_file.read_bytes()
    harm(done)
    told = []
    again = prepare.prepare(config(), tell=told.append)
    assert again.action == "rebuilt"
    assert reason in again.reason
    assert reason in told[0]
    assert find_flaw(again.config) == ""
    assert (again.config.cache_file.read_bytes() == good) == (harm is not change_source)


def test_prepared_text_outlives_its_source(place):
    done = prepare.prepare(config()).config
    (place / "texts" / "train.txt.xz").unlink()
    assert prepare.prepare(config()).action == "verified"
    done.cache_file.unlink()
    with pytest.raises(DataError, match="is not here"):
        prepare.prepare(config())


@pytest.mark.parametrize("before", [False, True], ids=["fresh", "over another"])
def test_interrupt_leaves_no_half_file(monkeypatch, before):
    wanted = config()
    if before:
        prepare.prepare(wanted)
    there = left_over(wanted) if before else []

    def interrupted(*arguments):
        yield from ["one " * 50, "two " * 50]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(prepare, "documents", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepare.prepare(wanted, force=True)
    assert left_over(wanted) == there
    if before:
        assert prepare.prepare(wanted).action == "verified"


def test_disk_that_cannot_be_written_is_told(monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(prepare.os, "fsync", full)
    with pytest.raises(DataError, match=r"No space left.*MDLM_CACHE"):
        prepare.prepare(config())
    assert left_over(config()) == []


# ---- what gives nothing -----------------------------------------------------


@pytest.mark.parametrize(
    ("text", "more", "reason"),
    [
        (" \n\n ", "", "holds no text"),
        ("word " * 5000, "chunk: 0, ", "first document alone is longer"),
        ("word " * 60, "", "leaves none"),
    ],
)
def test_text_that_gives_nothing_is_refused(place, text, more, reason):
    (place / "texts" / "one.txt").write_text(text, "utf-8")
    line = f"{{source: 'file:texts/one.txt', {more}variants: {{a: {{max_tokens: 9e3}}}}"
    registry = REGISTRY.replace("datasets:\n", f"datasets:\n  one: {line}}}\n", 1)
    (place / "datasets.yaml").write_text(registry, "utf-8")
    with pytest.raises(DataError, match=reason):
        prepare.prepare(config("one", "a"))
    assert left_over(config("one", "a")) == []


def test_text_and_json_lines_do_not_mix(place):
    (place / "texts" / "a.jsonl").write_text('{"text": "x"}\n')
    registry = REGISTRY.replace(
        "splits: {train: train.txt.xz, ", "splits: {train: '', "
    )
    (place / "datasets.yaml").write_text(registry, "utf-8")
    with pytest.raises(DataError, match="both JSON lines and plain"):
        prepare.prepare(config())


# ---- phases -----------------------------------------------------------------


def test_phase_is_prepared_with_its_validation_split():
    phase = prepare_phase(get_dataset_manager().get_phase_config("here"))
    assert phase.dataset.measured
    assert phase.val_dataset.measured
    assert phase.val_dataset.split == "validation"
    assert (phase.replaced, phase.fallback) == ("", None)


def test_fallback_is_told_and_kept():
    told = []
    plan = get_dataset_manager().get_phase_config("away")
    phase = prepare_phase(plan, tell=told.append)
    assert phase.dataset.name == phase.val_dataset.name == "prose"
    assert phase.val_dataset.split == "validation"
    assert phase.tokenizer == "byte"
    assert "in place of openwebtext and wikitext2" in phase.replaced
    assert "cannot be reached" in phase.replaced
    assert "runs on prose (small) in place of openwebtext" in told[0]
    assert phase.to_dict()["replaced"] == phase.replaced


def test_fallback_does_not_hide_text_that_is_not_usable(place):
    phase = get_dataset_manager().get_phase_config("away")
    (place / "openwebtext").mkdir()
    (place / "openwebtext" / "train.jsonl").write_text('{"txt": "x"}\n')
    with pytest.raises(DataError, match="no field 'text'"):
        prepare_phase(phase)


def test_without_a_fallback_nothing_stands_in():
    phase = get_dataset_manager().get_phase_config("A1_IMPORTANCE_ESTIMATOR_ABLATION")
    with pytest.raises(DataError, match="openwebtext"):
        prepare_phase(phase)


# ---- cutting ----------------------------------------------------------------


@given(
    st.lists(st.text(alphabet="ab \n", max_size=40), max_size=8),
    st.integers(min_value=1, max_value=20),
)
def test_cut_pieces_joined_are_the_text(parts, size):
    pieces = list(sources.cut(parts, size))
    whole = "".join(
        part + "\n" if part and not part[-1].isspace() else part for part in parts
    )
    assert "".join(pieces) == whole
    assert all(1 <= len(piece) <= size for piece in pieces)
    assert all(len(piece) > size // 2 for piece in pieces[:-1])


def test_cut_prefers_paragraphs_then_lines_then_words():
    def first(text):
        return next(iter(sources.cut([text], 20)))

    assert first("aaaa bbb cc\n\nd\neee f ggg hhh") == "aaaa bbb cc\n\n"
    assert first("aaaa bbb cc d\neee f ggg hhh") == "aaaa bbb cc d\n"
    assert first("aaaa bbb cc dddd ggg hhh") == "aaaa bbb cc dddd "
    assert first("a" * 30) == "a" * 20


def test_letters():
    assert sources.to_letters("  It's 12 o'Clock\n\u00c9t\u00e9!") == "it s o clock t"


# ---- the command ------------------------------------------------------------


def test_command_prepares_shows_and_lists(capsys):
    assert run(["atat", "datasets", "prepare", "prose", "--preset", "debug"]) == 0
    out = capsys.readouterr().out
    assert "prose (small), train: prepared, " in out
    assert "prose (small), validation: prepared, " in out
    assert run(["atat", "datasets", "prepare", "prose", "--variant", "small"]) == 0
    assert "train: verified, " in capsys.readouterr().out
    assert run(["atat", "datasets", "ls"]) == 0
    line = next(
        row for row in capsys.readouterr().out.splitlines() if row.startswith("prose ")
    )
    assert f"small {config().num_tokens:,}" in line
    assert run(["atat", "datasets", "show", "prose", "--variant", "small"]) == 0
    out = capsys.readouterr().out
    assert str(config().cache_file) in out
    assert config().manifest["sha256"] in out
    arguments = ["prepare", "prose", "--split", "validation", "--json"]
    assert run(["atat", "datasets", *arguments]) == 0
    (record,) = json.loads(capsys.readouterr().out)
    assert (record["split"], record["action"]) == ("validation", "verified")
    assert run(["atat", "datasets", "show", "prose", "--json"]) == 0
    records = json.loads(capsys.readouterr().out)
    assert [one["split"] for one in records] == ["train", "validation"]
    assert records[0]["measured"]


def test_command_knows_phases(capsys):
    assert run(["atat", "datasets", "prepare", "AWAY"]) == 0
    done = capsys.readouterr()
    assert "runs on prose (small) in place of openwebtext" in done.err
    assert "prose (small), validation: " in done.out
    assert run(["atat", "datasets", "ls", "--phases"]) == 0
    assert "AWAY " in capsys.readouterr().out
    assert run(["atat", "datasets", "show", "away", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["fallback"]["name"] == "prose"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["prepare", "pros"], 2, "dataset or phase 'pros' (did you mean 'prose'"),
        (["show", "prose", "--variant", "smal"], 2, "did you mean 'small'"),
        (["ls", "--preset", "debg"], 2, "did you mean 'debug'"),
        (["prepare", "here", "--variant", "small"], 2, "leave --variant out"),
        (["prepare", "openwebtext"], 1, "cannot be reached"),
        (["prepare", "prose", "--split", "tset"], 2, "split of 'prose' 'tset'"),
        (["prepare", "here", "--split", "train"], 2, "leave --split out"),
        (["ls", "--config", "no.yaml"], 2, "no configuration file"),
    ],
)
def test_command_refuses_with_a_reason(capsys, arguments, code, message):
    assert run(["atat", "datasets", *arguments]) == code
    assert message in capsys.readouterr().err
