"""Pairs of alignments: files, batches, what is refused."""

import gzip
import json
import logging
from dataclasses import replace

import numpy as np
import pytest
import torch

from mdlm_core.errors import DataError, UsageError
from mdlm_msa.alphabet import GAP, GMASK, MASK, PAD, SEPARATOR, SOP, decode, encode
from mdlm_msa.config import PairsConfig
from mdlm_msa.formats.reading import read_alignment
from mdlm_msa.preference.bounds import both, free_rows
from mdlm_msa.preference.pairs import as_json, read_pairs, write_pairs
from mdlm_msa.preference.source import build, divide

from .preference_toy import PAIRS, batch, pair, source

LINE = {"query": "LAG", "winner": ["LVG", "L-G"], "loser": ["AAS"]}


def written(path, *lines):
    text = "\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines)
    path.write_text(text + "\n")
    return path


def read(path, *lines):
    return list(read_pairs(written(path / "p.jsonl", *lines)))


def test_what_is_written_is_read(tmp_path):
    scored = pair(
        "LAG",
        ["LVG"],
        ["AAS"],
        prompt=["L-G"],
        id="7",
        score_winner=0.5,
        score_loser=0.25,
        score_difference=0.25,
        reward="profile",
        meta={"family": "f"},
    )
    for name in ("p.jsonl", "p.jsonl.gz"):
        assert write_pairs([*PAIRS, scored], tmp_path / name) == 4
        found = list(read_pairs(tmp_path / name))
        assert [as_json(p) for p in found] == [as_json(p) for p in (*PAIRS, scored)]
        with pytest.raises(UsageError, match="--force"):
            write_pairs(PAIRS, tmp_path / name)
        assert write_pairs(PAIRS, tmp_path / name, force=True) == 3
    unpacked = gzip.decompress((tmp_path / "p.jsonl.gz").read_bytes())
    assert unpacked.startswith(b'{"id": "a"')


def test_other_names_and_letters_are_read(tmp_path):
    row = {
        "query": "LUG",
        "chosen": ["B.O"],
        "rejected": ["LAG"],
        "score_winner": 3,
        "score_loser": 1,
    }
    found = read(tmp_path, "", row)[0]
    assert decode(found.query) == "LCG"
    assert decode(found.winner[0]) == "X-K"
    assert found.prompt.shape == (0, 3)
    assert found.score_difference == 2.0


def test_letters_are_those_of_the_readers(tmp_path, caplog):
    row = {**LINE, "winner": ["LjG", "l*~", "l.G"], "loser": ["L-G"]}
    with caplog.at_level(logging.WARNING):
        found = read(tmp_path, row)[0]
    assert [decode(each) for each in found.winner] == ["LXG", "LX-", "L-G"]
    path = tmp_path / "rows.fasta"
    path.write_text(">q\nLAG\n>a\nLjG\n>b\nl*~\n>c\nl.G\n")
    same = read_alignment(path, format="fasta").rows
    assert (found.winner == same[1:]).all()
    (said,) = [record.getMessage() for record in caplog.records]
    for note in ("letters J read as X: 1", "letters * read as X: 1"):
        assert note in said
    assert "letters in lower case: 3" in said


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"winner": ["LVG", "LV"]}, r"1': 'winner', row 2 has 2 columns.*has 3"),
        ({"loser": ["LVGA"]}, r"'loser', row 1 has 4 columns"),
        ({"prompt": ["L"]}, r"'prompt', row 1 has 1 columns"),
        ({"winner": ["LaVG"]}, r"'winner', row 1 has 4 columns.*without insertions"),
        ({"winner": ["L1G"]}, r"'winner', row 1 has '1' in column 2; a row is made of"),
        ({"winner": ["LéG"]}, "has 'é' in column 2"),
        ({"winner": ["L>G"]}, "has '>' in column 2"),
        ({"winner": ["L G"]}, "has ' ' in column 2"),
        ({"winner": "LVG"}, "'winner' is a str; it must be a list"),
        ({"winner": [3]}, "row 1 is 3; it must be a row of letters"),
        ({"winner": []}, "'winner' has no row"),
        ({"winner": None}, "'winner' is a NoneType"),
        ({"chosen": ["LVG"]}, "both 'winner' and 'chosen'"),
        ({"loser": ["LVG", "L-G"]}, "the same rows"),
        ({"query": "---"}, "the query has no residue"),
        ({"loser": ["XXX"]}, "no letter of the loser"),
        ({"score_winner": 1, "score_loser": 2}, "1 below the loser's"),
        ({"score_difference": -0.5}, "0.5 below the loser's"),
        ({"score_winner": "high"}, "'score_winner' is 'high'"),
        ({"score_loser": float("nan")}, "must be finite"),
    ],
)
def test_a_bad_line_is_named(tmp_path, change, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, {**LINE, **change})


def test_a_bad_file_is_named(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        list(read_pairs(tmp_path / "none.jsonl"))
    with pytest.raises(DataError, match="is a folder"):
        list(read_pairs(tmp_path))
    with pytest.raises(DataError, match="is empty"):
        read(tmp_path, "")
    with pytest.raises(DataError, match=r"p.jsonl:3' is no JSON"):
        read(tmp_path, LINE, "", "{")
    with pytest.raises(DataError, match=r"p.jsonl:1' holds a list"):
        read(tmp_path, [1])
    with pytest.raises(DataError, match="no field 'loser'; its fields are 'query'"):
        read(tmp_path, {"query": "LAG", "winner": ["LVG"]})


def test_the_canvases_of_a_batch_are_those_written_by_hand():
    found = batch()
    q, w, s = encode("VSET"), encode("VS-T"), encode("LSET")
    body = [*q, SEPARATOR, *encode("ISET"), SEPARATOR, *w, SEPARATOR, *s, SEPARATOR]
    assert found.tokens[1].tolist() == [GMASK, SOP, *body]
    assert found.frozen[1].tolist() == [
        *[True] * 12,
        *[False] * 4,
        True,
        *[False] * 4,
        True,
    ]
    assert found.tokens[0].tolist()[10:] == [PAD] * 12
    loser = found.condition["loser_tokens"][2].tolist()
    assert loser[:8] == [GMASK, SOP, *encode("WC"), SEPARATOR, encode("C")[0], MASK, 35]
    assert found.condition["loser_frozen"][2].tolist()[5:7] == [False, True]
    canvases = both(found)
    assert len(canvases) == 6
    assert canvases.tokens.shape == (6, 22)
    assert canvases.sample_id.tolist() == [0, 1, 2, 0, 1, 2]
    assert free_rows(canvases).tolist() == [1, 2, 1, 2, 1, 1]
    assert canvases.tokens[3, 6 : 6 + 8].tolist() == [
        *encode("AAS"),
        SEPARATOR,
        encode("L")[0],
        GAP,
        encode("G")[0],
        SEPARATOR,
    ]
    assert canvases.positions[3, 10].tolist() == [1, 2]
    assert canvases.pad.sum(1).tolist() == [12, 0, 14, 8, 5, 14]
    assert not (canvases.pad & ~canvases.frozen).any()
    assert canvases.free.sum(1).tolist() == [3, 8, 2, 6, 4, 1]


def test_a_batch_without_losers_is_refused():
    with pytest.raises(DataError, match="msa-preferences"):
        both(replace(batch(), condition={}))


def test_all_pairs_of_a_query_are_on_one_side():
    pairs = [
        pair(q, [w], ["GGGG"])
        for q in ("LAGV", "VSET", "WCPC", "MKKL", "AAAL")
        for w in ("LLLL", "VVVV", "AAAA")
    ]
    sides = divide(pairs, PairsConfig(holdout=0.3))
    queries = [
        {pairs[i].query.tobytes() for i in sides[name]}
        for name in ("train", "validation")
    ]
    assert [len(side) for side in queries] == [3, 2]
    assert not queries[0] & queries[1]
    other = [divide(pairs, PairsConfig(holdout=0.3, seed=s)) for s in range(8)]
    assert len({tuple(found["validation"]) for found in other}) > 1
    alone = divide(pairs[:3], PairsConfig(holdout=0.1))
    assert [len(alone[name]) for name in ("train", "validation")] == [2, 1]
    with pytest.raises(DataError, match="1 pair left"):
        divide(pairs[:1], PairsConfig())


def test_pairs_that_are_long_or_close_are_left_out(tmp_path, caplog):
    rows = [
        {**LINE, "score_difference": 0.1},
        {**LINE, "query": "LAV", "score_difference": 0.5},
        {**LINE, "query": "AAV"},
        {"query": "L" * 40, "winner": ["A" * 40], "loser": ["G" * 40]},
    ]
    path = written(tmp_path / "p.jsonl", *rows)
    with caplog.at_level(logging.WARNING):
        found = build(PairsConfig(path=str(path), length=32, min_difference=0.2))
    assert len(found.pairs) == 2
    assert found.card()["left_out"] == 2
    assert "1 of 4 pairs have more than data.length=32" in caplog.text
    assert "1 of 4 pairs differ by less" in caplog.text
    with pytest.raises(DataError, match="lower it with --set"):
        found.batches("train", size=4, seed=0)


def test_processes_share_a_batch_with_its_losers():
    found = source([*PAIRS, *PAIRS], holdout=0.3)
    whole = next(found.batches("train", size=4, seed=1))
    parts = [
        next(found.batches("train", size=4, seed=1, rank=r, world=2)) for r in (0, 1)
    ]
    for name, value in whole.condition.items():
        joined = torch.cat([part.condition[name] for part in parts])
        assert torch.equal(joined, value), name
    assert np.isin(whole.sample_id.numpy(), range(6)).all()
