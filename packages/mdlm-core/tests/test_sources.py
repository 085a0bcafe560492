"""Sources: order, sharing between processes, resuming, cards, and reading files."""

from __future__ import annotations

import gzip
import json
import lzma
from dataclasses import replace
from itertools import islice

import pytest
import torch

from mdlm_core.config.components import (
    JsonlConfig,
    PackingConfig,
    TextConfig,
    TextFilesConfig,
)
from mdlm_core.data.conditions import WithoutConditions
from mdlm_core.data.files import build_jsonl, build_text, read_lines
from mdlm_core.data.source import PackedSource
from mdlm_core.data.streaming import StreamedSource
from mdlm_core.errors import ConfigError, DataError
from mdlm_core.protocols import DataSource

DOCUMENTS = [f"document {i}: " + "lorem ipsum " * (i % 5) for i in range(120)]
LENGTH = 32


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MDLM_CACHE", str(tmp_path / "cache"))


def config(**settings):
    return TextConfig(**{"length": LENGTH, "holdout": 0.3, **settings})


def packed(**settings):
    return PackedSource.from_documents(DOCUMENTS, config(**settings))


def streamed(buffer=8, **settings):
    return StreamedSource(DOCUMENTS, config(**settings), buffer=buffer)


@pytest.fixture(params=[packed, streamed])
def make(request):
    return request.param


def take(source, number, split="train", *, size=6, seed=0, **where):
    return list(islice(source.batches(split, size=size, seed=seed, **where), number))


def same(one, other):
    return (
        torch.equal(one.tokens, other.tokens)
        and torch.equal(one.sample_id, other.sample_id)
        and torch.equal(one.pad, other.pad)
        and one.epoch == other.epoch
    )


def epoch_of(source, epoch, size=6, seed=0):
    """Return the sample ids of one epoch, in order."""
    ids = []
    for batch in source.batches("train", size=size, seed=seed):
        if batch.epoch > epoch:
            return ids
        if batch.epoch == epoch:
            ids += batch.sample_id.tolist()
    raise AssertionError("a training source never ends")


# ---- laws of every source ---------------------------------------------------


def test_it_is_a_data_source(make):
    assert isinstance(make(), DataSource)


@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize("world", [2, 3, 4])
def test_the_processes_share_the_global_batch(make, split, world):
    source = make()
    whole = take(source, 40, split)
    parts = [take(source, 40, split, rank=rank, world=world) for rank in range(world)]
    assert len(whole) >= 3
    assert all(len(part) == len(whole) for part in parts)
    for index, batch in enumerate(whole):
        joined = torch.cat([part[index].tokens for part in parts])
        ids = torch.cat([part[index].sample_id for part in parts])
        assert torch.equal(joined, batch.tokens)
        assert torch.equal(ids, batch.sample_id)
        if split == "train":
            sizes = [
                (rank + 1) * 6 // world - rank * 6 // world for rank in range(world)
            ]
            assert [len(part[index]) for part in parts] == sizes


@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_later_start_continues_the_same_sequence(make, split):
    whole = take(make(), 60, split)
    per_epoch = sum(batch.epoch == 0 for batch in whole)
    for start in {1, 2, per_epoch - 1, per_epoch, per_epoch + 1, 2 * per_epoch}:
        rest = take(make(), 60 - start, split, start=start)
        assert len(rest) == max(0, len(whole) - start)
        assert all(map(same, whole[start:], rest))


def test_the_order_depends_on_the_seed_and_the_epoch_alone(make):
    first, second = epoch_of(make(), 0), epoch_of(make(), 1)
    assert first == epoch_of(make(), 0)
    assert first != second
    assert first != epoch_of(make(), 0, seed=1)
    assert first != sorted(first)


def test_no_row_comes_twice_in_an_epoch(make):
    for epoch in range(3):
        ids = epoch_of(make(), epoch)
        assert len(set(ids)) == len(ids)


def test_a_row_is_the_same_text_in_every_epoch(make):
    rows = {}
    for batch in take(make(), 80):
        assert not batch.pad.any()
        for id_, tokens in zip(batch.sample_id.tolist(), batch.tokens, strict=True):
            assert torch.equal(rows.setdefault(id_, tokens), tokens)


def test_held_out_rows_hold_every_held_out_token_in_order(make):
    source = make()
    batches = take(source, 99, "validation", size=4)
    tokens = torch.cat([batch.tokens[~batch.pad] for batch in batches])
    text = source.tokenizer.decode(tokens.tolist())
    from mdlm_core.data.split import survey

    assert text == "".join(survey(DOCUMENTS, 0.3).select(DOCUMENTS, "validation"))
    ids = torch.cat([batch.sample_id for batch in batches])
    assert ids.tolist() == list(range(len(ids)))
    last = batches[-1]
    assert last.pad[-1].any()
    assert torch.equal(last.frozen, last.pad)
    assert (last.tokens[last.pad] == source.tokenizer.pad_id).all()
    # again, and from elsewhere: it is not consumed
    assert all(map(same, batches, take(source, 99, "validation", size=4)))


@pytest.mark.parametrize("tokenizer", ["byte", "bpe:300"])
def test_both_sources_hold_the_same_rows(tokenizer):
    one, other = packed(tokenizer=tokenizer), streamed(tokenizer=tokenizer)
    assert one.tokenizer.fingerprint() == other.tokenizer.fingerprint()
    rows = {
        int(id_): tokens
        for batch in take(one, one.size("train") // 6)
        for id_, tokens in zip(batch.sample_id, batch.tokens, strict=True)
    }
    seen = 0
    for batch in take(other, one.size("train") // 6):
        for id_, tokens in zip(batch.sample_id.tolist(), batch.tokens, strict=True):
            if id_ in rows:
                assert torch.equal(rows[id_], tokens)
                seen += 1
    assert seen >= 20
    ours, theirs = (take(source, 99, "validation") for source in (one, other))
    assert len(ours) == len(theirs)
    assert all(map(same, ours, theirs))


@pytest.mark.parametrize("split", ["train", "validation"])
def test_isolated_documents_are_told_apart(make, split):
    source = make(packing=PackingConfig(isolate=True))
    assert take(make(), 1)[0].documents is None
    end = source.tokenizer.eod_id
    for batch in take(source, 99 if split == "validation" else 8, split):
        for tokens, documents, pad in zip(
            batch.tokens, batch.documents, batch.pad, strict=True
        ):
            text, owners = tokens[~pad], documents[~pad]
            walls = owners[1:] != owners[:-1]
            assert torch.equal(walls, text[:-1] == end)  # after each end, a wall
            assert not {*documents[pad].tolist()} & {*owners.tolist()}


def test_without_end_tokens_the_text_is_joined(make):
    source = make(packing=PackingConfig(eod=False))
    end = source.tokenizer.eod_id
    assert all((b.tokens[~b.pad] != end).all() for b in take(source, 20))
    assert source.card()["splits"]["validation"]["bytes_per_token"] == 1.0


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"split": "test", "size": 4}, "no split 'test'"),
        ({"split": "train", "size": 2, "world": 3}, "shared by 3 processes"),
        ({"split": "train", "size": 4, "rank": 2, "world": 2}, "process 2 of 2"),
        ({"split": "train", "size": 4, "start": -1}, "batch -1"),
    ],
)
def test_a_request_that_cannot_be_served_is_refused_at_once(make, request_, message):
    with pytest.raises(DataError, match=message):
        make().batches(seed=0, **request_)


# ---- packed -----------------------------------------------------------------


def test_an_epoch_is_all_full_batches():
    source = packed()
    rows = source.size("train")
    ids = epoch_of(source, 0)
    assert len(ids) == rows // 6 * 6
    assert set(ids) <= set(range(rows))
    left_out = {*range(rows)} - {*ids}
    if left_out:  # they come in another epoch
        assert left_out & {*epoch_of(source, 1), *epoch_of(source, 2)}


def test_sizes_follow_from_the_card():
    source = packed()
    splits = source.card()["splits"]
    assert source.size("train") == splits["train"]["tokens"] // LENGTH
    assert source.size("validation") == -(-splits["validation"]["tokens"] // LENGTH)
    for split in ("train", "validation"):
        assert splits[split]["rows"] == source.size(split)


@pytest.mark.parametrize("tokenizer", ["byte", "char", "bpe:300"])
def test_bytes_per_token_against_a_count_over_the_rows(tokenizer):
    source = packed(tokenizer=tokenizer)
    tokens, text = 0, []
    for batch in take(source, 99, "validation"):
        tokens += int(batch.free.sum())
        text += batch.tokens[batch.free].tolist()
    size = len(source.tokenizer.decode(text).encode())
    facts = source.card()["splits"]["validation"]
    assert (facts["tokens"], facts["bytes"]) == (tokens, size)
    assert facts["bytes_per_token"] == pytest.approx(size / tokens, rel=1e-12)


@pytest.mark.parametrize("tokenizer", ["byte", "char", "bpe:300"])
def test_every_id_knows_its_bytes(tokenizer):
    source = packed(tokenizer=tokenizer)
    sizes = source.tokenizer.token_bytes()
    assert len(sizes) == source.tokenizer.vocab_size
    rows = [ids for b in take(source, 99, "validation") for ids in b.tokens[b.free]]
    facts = source.card()["splits"]["validation"]
    assert sum(sizes[int(i)] for i in rows) == facts["bytes"]


def test_the_bytes_of_some_rows_are_counted_over_them():
    source = packed(tokenizer="bpe:300")
    sizes = source.tokenizer.token_bytes()
    for batch in take(source, 3, "validation", size=1):
        ids = batch.tokens[batch.free].tolist()
        text = source.tokenizer.decode(ids).encode()  # ASCII: no half characters
        assert sum(sizes[i] for i in ids) == len(text)


def test_a_stream_has_the_hash_of_its_probe_only():
    for facts in streamed().card()["splits"].values():
        assert len(facts["probe_sha256"]) == 64
        assert "sha256" not in facts


def test_the_card_is_json_and_identifies_the_data():
    card = packed().card()
    assert json.loads(json.dumps(card)) == card
    assert card["tokenizer"]["name"] == "byte"
    others = [packed(holdout=0.31), packed(tokenizer="char"), packed(length=16)]
    others += [packed(packing=PackingConfig(eod=False)), streamed()]
    assert all(other.card() != card for other in others)
    assert packed().card() == card
    json.dumps(streamed().card())


def test_merges_are_learned_from_the_training_text_alone():
    from mdlm_core.data.split import survey
    from mdlm_core.data.tokenizers import build_tokenizer

    train = list(survey(DOCUMENTS, 0.3).select(DOCUMENTS, "train"))
    expected = build_tokenizer("bpe:300", train).fingerprint()
    assert packed(tokenizer="bpe:300").tokenizer.fingerprint() == expected


def test_too_little_text_for_a_row():
    with pytest.raises(DataError, match=r"fills no row: .* documents hold \d+ tokens"):
        packed(length=100_000)


def test_too_few_rows_for_a_batch_says_what_to_lower():
    with pytest.raises(DataError, match=r"lower train\.batch_size or data\.length"):
        packed().batches("train", size=10_000, seed=0)
    with pytest.raises(DataError, match=r"lower train\.batch_size or data\.length"):
        take(streamed(), 1, size=10_000)


def test_a_short_validation_split_is_one_padded_row():
    source = packed(length=3000)
    assert source.size("validation") == 1
    (batch,) = take(source, 9, "validation")
    assert batch.free.sum() == source.card()["splits"]["validation"]["tokens"]


# ---- streamed ---------------------------------------------------------------


def test_a_stream_is_not_counted():
    assert streamed().size("train") is None
    assert streamed().size("validation") is None


def test_a_buffer_of_one_keeps_the_order():
    ids = epoch_of(streamed(buffer=1), 0)
    assert ids == sorted(ids)


def test_a_stream_is_read_no_further_than_needed():
    read = []

    class Endless:
        def __iter__(self):
            for i in range(10**9):
                read.append(i)
                yield f"document {i} of a stream without an end"

    source = StreamedSource(Endless(), config(), buffer=8)
    take(source, 5)
    take(source, 5, "validation")
    assert len(read) < 2000


def test_the_held_out_part_of_a_stream_is_bounded():
    source = StreamedSource(DOCUMENTS, config(), held_out_rows=5)
    assert sum(map(len, take(source, 99, "validation", size=2))) == 5


def test_a_stream_that_breaks_goes_on_where_it_was():
    broken = [True]

    class Breaking:
        def __iter__(self):
            for i, text in enumerate(DOCUMENTS):
                if i == 100 and broken[0]:
                    raise ConnectionError("gone")
                yield text

    broken[0] = False
    source = StreamedSource(Breaking(), config())
    broken[0] = True
    with pytest.raises(ConnectionError):
        take(source, 99, "validation", size=2)
    broken[0] = False
    whole = take(streamed(), 99, "validation", size=2)
    after = take(source, 99, "validation", size=2)
    assert len(after) == len(whole)
    assert all(map(same, after, whole))


def test_a_stream_without_text_or_for_characters():
    with pytest.raises(DataError, match="no text"):
        StreamedSource(["", ""], config())
    with pytest.raises(ConfigError, match=r"data\.tokenizer=char"):
        streamed(tokenizer="char")
    source = StreamedSource(DOCUMENTS, config(holdout=1e-9))
    with pytest.raises(DataError, match=r"validation split is empty.*data\.holdout"):
        take(source, 1, "validation")


# ---- text files -------------------------------------------------------------

PARAGRAPHS = [f"paragraph {i}\nwith a second line, é" for i in range(40)]


def text(path, **settings):
    return build_text(
        TextFilesConfig(path=str(path), **{"length": 16, "holdout": 0.3, **settings})
    )


def write_folder(folder):
    (folder / "deep" / "er").mkdir(parents=True)
    parts = [p.encode() for p in PARAGRAPHS]
    (folder / "a.txt").write_bytes(b"\n\n".join(parts[:10]))
    (folder / "b.txt.gz").write_bytes(gzip.compress(b"\n\n".join(parts[10:20])))
    (folder / "deep" / "c.xz").write_bytes(lzma.compress(b"\n\n".join(parts[20:30])))
    (folder / "deep" / "er" / "d.txt").write_bytes(b"\r\n\r\n".join(parts[30:]))
    (folder / "deep" / "e.png").write_bytes(b"\0\1\2")
    (folder / ".hidden.txt").write_bytes(b"not this")


def hashes(source):
    splits = source.card()["splits"]
    return [splits[split]["sha256"] for split in splits]


def test_a_folder_is_read_in_order_and_unpacked(tmp_path):
    write_folder(tmp_path)
    source = text(tmp_path, split_on="blank-line")
    expected = PackedSource.from_documents(PARAGRAPHS, config(length=16))
    assert hashes(source) == hashes(expected)
    assert source.card()["files"] == 4
    glob = text(tmp_path / "**" / "*.[tgx]*", split_on="blank-line")
    assert hashes(glob) == hashes(expected)


def test_files_and_lines_as_documents(tmp_path):
    write_folder(tmp_path)
    assert (
        sum(
            s["documents"]
            for s in text(tmp_path, holdout=0.5).card()["splits"].values()
        )
        == 4
    )
    lines = text(tmp_path, split_on="line")
    expected = [line for p in PARAGRAPHS for line in p.split("\n")]
    assert hashes(lines) == hashes(PackedSource.from_documents(expected, config()))


def test_a_single_file_is_divided_at_blank_lines(tmp_path):
    (tmp_path / "one.md").write_text("\n\n".join(PARAGRAPHS))
    explicit = text(tmp_path / "one.md", split_on="blank-line")
    assert hashes(text(tmp_path / "one.md")) == hashes(explicit)
    with pytest.raises(DataError, match=r"data\.split_on=blank-line"):
        text(tmp_path / "one.md", split_on="file")


def test_a_byte_order_mark_is_no_text(tmp_path):
    path = tmp_path / "bom.txt"
    path.write_bytes(b"\xef\xbb\xbffirst\nsecond\n")
    assert list(read_lines(path)) == ["first\n", "second\n"]


@pytest.mark.parametrize("split_on", ["file", "line", "blank-line"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"fine\nfine\nnot \xff fine", r"byte 0xff at offset 14 "),
        ("é\né\n".encode() + b"\xff", r"byte 0xff at offset 6 "),
        (b"fine\ncut \xc3", r"byte 0xc3 at offset 9 "),
        (b"fine\nGIF\0\1", r"offset 8 .*is zero"),
        ("fine".encode("utf-16-le"), r"offset 1 .*UTF-16"),
    ],
)
def test_bad_text_is_refused_with_file_and_offset(tmp_path, split_on, content, message):
    path = tmp_path / "bad.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        text(path, split_on=split_on)
    assert "bad.txt" in str(caught.value)


def test_offsets_in_compressed_files_are_of_their_content(tmp_path):
    path = tmp_path / "bad.txt.gz"
    path.write_bytes(gzip.compress(b"a" * 5000 + b"\xff"))
    with pytest.raises(DataError, match=r"offset 5000 \(of the unpacked content\)"):
        text(path)


@pytest.mark.parametrize("suffix", [".gz", ".xz"])
@pytest.mark.parametrize("damage", ["cut", "other", "flip"])
def test_damaged_archives(tmp_path, suffix, damage):
    pack = gzip.compress if suffix == ".gz" else lzma.compress
    data = pack("".join(f"text {i * i}" for i in range(5000)).encode())
    if damage == "cut":
        data = data[:-40]
    elif damage == "flip":
        data = data[:200] + bytes([data[200] ^ 0xFF]) + data[201:]
    else:
        data = b"plain text with a wrong name"
    path = tmp_path / f"bad.txt{suffix}"
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"bad\.txt.* is damaged"):
        text(path)


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("", ConfigError, r"data\.path is empty"),
        ("absent.txt", DataError, r"absent\.txt' does not exist"),
        ("*.txt", DataError, r"matches no file"),
        (".", DataError, r"holds no file .*\.txt, \.gz, \.xz"),
    ],
)
def test_nothing_to_read(tmp_path, monkeypatch, path, error, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "picture.png").write_bytes(b"x")
    with pytest.raises(error, match=message):
        build_text(TextFilesConfig(path=path))


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    from mdlm_core.data import files

    (tmp_path / "a.txt").write_text("text")

    def deny(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files, "_open", deny)
    with pytest.raises(DataError, match=r"a\.txt' cannot be read: Permission denied"):
        text(tmp_path)


# ---- JSON lines -------------------------------------------------------------


def jsonl(path, **settings):
    return build_jsonl(
        JsonlConfig(path=str(path), **{"length": 16, "holdout": 0.3, **settings})
    )


def test_json_lines_give_their_texts(tmp_path):
    lines = [json.dumps({"body": text, "n": 1}) for text in DOCUMENTS]
    (tmp_path / "a.jsonl").write_text("\n".join(lines[:50]) + "\n\n")
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress("\n".join(lines[50:]).encode()))
    expected = PackedSource.from_documents(DOCUMENTS, config())
    assert hashes(jsonl(tmp_path, field="body")) == hashes(expected)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"text": "cut', r"is no JSON: .*column"),
        ("[" * 100_000, r"is no JSON"),
        ('["text"]', r"holds a list, not an object"),
        ('{"txt": "a", "b": 1}', r"no field 'text'; its fields are 'b', 'txt'"),
        ('{"text": 3}', r"'text' holds a int, not a string"),
        ('{"text": null}', r"'text' holds a NoneType, not a string"),
        ('{"text": "\\ud800"}', r"half of a surrogate pair"),
    ],
)
def test_a_broken_line_is_named(tmp_path, line, message):
    path = tmp_path / "bad.jsonl"
    path.write_text('{"text": "fine"}\n\n' + line + '\n{"text": "fine"}\n')
    with pytest.raises(DataError, match=message) as caught:
        jsonl(path)
    assert f"{path}:3" in str(caught.value)


class Labelled(PackedSource):
    """Has a condition in every batch, and an attribute of its own."""

    classes = ("a", "b")

    def batches(self, split, **where):
        for batch in super().batches(split, **where):
            yield replace(batch, condition={"class": batch.sample_id})


def test_conditions_are_left_out_and_nothing_else():
    source = Labelled.from_documents(DOCUMENTS, config())
    assert isinstance(source, Labelled)
    seen = WithoutConditions(source)
    assert isinstance(seen, DataSource)
    for one, other in zip(
        take(source, 3, rank=1, world=2, start=4, seed=7),
        take(seen, 3, rank=1, world=2, start=4, seed=7),
        strict=True,
    ):
        assert one.condition
        assert not other.condition
        assert same(one, other)
    assert seen.size("validation") == source.size("validation")
    assert seen.card() == source.card()
    assert seen.classes == ("a", "b")
