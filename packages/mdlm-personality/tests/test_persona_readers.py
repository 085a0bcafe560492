"""Readers of texts with traits: what is read, and what is said of bad files."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from mdlm_core.errors import ConfigError, DataError, UnknownNameError
from mdlm_personality.config import PersonaTextConfig
from mdlm_personality.data.source import build, read_texts
from mdlm_personality.traits import TRAITS

HEAD = "author,text," + ",".join(TRAITS)
REAL = Path(__file__).parents[3].parent / "shared/data/personality"


def written(path, text, encoding="utf-8"):
    raw = text.encode(encoding)
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return str(path)


def table(tmp_path, *rows, head=HEAD, name="data.csv"):
    return written(tmp_path / name, "\n".join([head, *rows]) + "\n")


def read(path, **more):
    return read_texts(PersonaTextConfig(path=path, **more))


@pytest.mark.parametrize("name", ["data.csv", "data.csv.gz"])
def test_a_table_with_commas(tmp_path, name):
    found = read(
        table(
            tmp_path,
            'ann,"Hello, ""you""\nand you",0.1,0.2,0.3,0.4,0.5',
            "bob,  ,1,1,1,1,1",
            "bob,Hi,,-1,nan,NA,1",
            name=name,
        )
    )
    assert found.texts == ('Hello, "you"\nand you', "Hi")
    assert found.authors == ("ann", "bob")
    nan = np.nan
    np.testing.assert_array_equal(
        found.values, [[0.1, 0.2, 0.3, 0.4, 0.5], [nan, nan, nan, nan, 1]]
    )
    assert found.columns == TRAITS


def test_json_lines(tmp_path):
    rows = [
        {"text": "Hello", "author": 7, "O": 1, "C": 2, "E": 3, "A": 4, "N": 5},
        {"text": "Hi", "author": 8, "O": None, "C": 5, "E": "3", "A": 4, "mood": 2.5},
        {"text": None, "author": 8},
    ]
    path = written(tmp_path / "data.jsonl", "\n".join(map(json.dumps, rows)))
    found = read(path, scale=(1, 5))
    assert found.authors == ("7", "8")
    np.testing.assert_allclose(
        found.values, [[0, 0.25, 0.5, 0.75, 1], [np.nan, 1, 0.5, 0.75, np.nan]]
    )


def test_labels_are_in_raw_units_and_may_be_negative(tmp_path):
    path = table(
        tmp_path,
        "ann,Hello,0,0,0,0,0,-1,3.5",
        "bob,Hi,0,0,0,0,1,NA,-2",
        head=HEAD + ",mood,walks",
    )
    found = read(path, labels={"mood": "beliefs", "walks": "actions"})
    assert found.columns == (*TRAITS, "mood", "walks")
    np.testing.assert_array_equal(found.values[:, 5:], [[-1, 3.5], [np.nan, -2]])
    assert found.tiers == {"mood": "beliefs", "walks": "actions"}


def test_texts_with_the_same_traits_share_an_author_if_nobody_is_named(tmp_path):
    head = "text," + ",".join(TRAITS)
    rows = [
        "a,1,0,0,0,0",
        "b,1,0,0,0,1",
        "c,1,0,0,0,0",
        "d,,0,0,0,0",
        "e,,,,,",
        "f,,,,,",
    ]
    found = read(table(tmp_path, *rows, head=head))
    a, b, c, d, e, f = found.authors
    assert a == c
    assert len({a, b, d, e, f}) == 5


def test_a_table_without_texts_has_a_person_in_each_row(tmp_path):
    head = ",".join(TRAITS)
    path = table(tmp_path, *["0.5,0.5,0.5,0.5,0.5"] * 30, head=head)
    found = read(path)
    assert found.texts == ("",) * 30
    assert len(set(found.authors)) == 30
    source = build(PersonaTextConfig(path=path, holdout=0.3))
    assert source.card()["texts"] is False


def test_columns_of_other_names_and_a_trait_that_is_not_told(tmp_path):
    path = table(tmp_path, "x,Hello,3,2,1,0", head="who,said,op,co,EXTRAVERSION,a")
    found = read(
        path,
        text="said",
        author="who",
        columns={"o": "op", "conscientiousness": "co", "n": ""},
        scale=(0, 4),
    )
    np.testing.assert_array_equal(found.values, [[0.75, 0.5, 0.25, 0, np.nan]])
    with pytest.raises(UnknownNameError, match="'x' is no trait"):
        read(path, columns={"x": "op"})


def test_only_so_many_texts(tmp_path):
    rows = [f"a{i},text {i},0,0,0,0,0" for i in range(9)]
    assert len(read(table(tmp_path, *rows), max_rows=4)) == 4


def test_essays_with_letters_in_an_old_encoding(tmp_path):
    head = "#AUTHID,TEXT,cEXT,cNEU,cAGR,cCON,cOPN"
    text = f"{head}\n7,It\u2019s a caf\u00e9,n,y,y,n,y\n8,No,y,n,n,n,n\n"
    found = read(written(tmp_path / "essays.csv", text, "cp1252"))
    assert found.texts == ("It\u2019s a caf\u00e9", "No")
    assert found.authors == ("7", "8")
    np.testing.assert_array_equal(found.values, [[1, 0, 0, 1, 1], [0, 0, 1, 0, 0]])


@pytest.mark.parametrize("scores", [True, False])
def test_mypersonality_by_scores_or_classes(tmp_path, scores):
    told = "sEXT,sNEU,sAGR,sCON,sOPN," if scores else ""
    numbers = "1,2,3,4,5," if scores else ""
    text = (
        f'"#AUTHID","STATUS",{told}"cEXT","cNEU","cAGR","cCON","cOPN","DATE"\n'
        f'"b7","na\u00efve, me",{numbers}n,n,y,y,y,06/19/09\n'
        f'"b7","again",{numbers}n,n,y,y,y,06/20/09\n'
    )
    found = read(written(tmp_path / "mypersonality_final.csv", text, "cp1252"))
    assert found.texts == ("na\u00efve, me", "again")
    assert found.authors == ("b7", "b7")
    expected = [1, 0.75, 0, 0.5, 0.25] if scores else [1, 1, 0, 1, 0]
    np.testing.assert_array_equal(found.values, [expected] * 2)


PROFILES = "author,mbti,age," + ",".join(TRAITS)


def pandora(folder, profiles, comments, packed=""):
    written(
        folder / f"author_profiles.csv{packed}", "\n".join([PROFILES, *profiles]) + "\n"
    )
    head = "author,author_flair,body,lang"
    written(
        folder / f"all_comments_since_2015.csv{packed}",
        "\n".join([head, *comments]) + "\n",
    )
    return str(folder)


@pytest.mark.parametrize("packed", ["", ".gz"])
def test_pandora_joins_comments_and_profiles(tmp_path, packed):
    path = pandora(
        tmp_path,
        ["ann,INTP,30,100,50,-1,,0", "bob,INTJ,,-1,-1,,,-1", "cat,,20,10,20,30,40,50"],
        [
            "ann,,one,en",
            "bob,,two,en",
            "dan,,three,en",
            "ann,,[deleted],en",
            "cat,,four,de",
            "ann,,five,en",
        ],
        packed,
    )
    found = read(path, labels={"age": "actions"})
    assert found.texts == ("one", "four", "five")
    assert found.authors == ("ann", "cat", "ann")
    nan = np.nan
    np.testing.assert_array_equal(found.values[0], [1, 0.5, nan, nan, 0, 30])
    np.testing.assert_allclose(found.values[1], [0.1, 0.2, 0.3, 0.4, 0.5, 20])
    assert len(read(path, max_rows=1)) == 1


def test_pandora_in_one_file_has_percentiles_and_no_authors(tmp_path):
    head = "text,agreeableness,openness,conscientiousness,extraversion,neuroticism"
    path = table(tmp_path, "a,99,0,50,25,75", "b,99,0,50,25,75", head=head)
    found = read(path, format="pandora")
    np.testing.assert_array_equal(found.values, [[0, 0.5, 0.25, 0.99, 0.75]] * 2)
    assert found.authors[0] == found.authors[1]
    assert read(path, format="pandora", scale=(0, 99)).values[0, 3] == 1


@pytest.mark.parametrize(
    ("profiles", "comments", "message"),
    [
        (["ann,,,101,1,1,1,1"], ["ann,,a,en"], "line 2: openness is 101, and a score"),
        (["ann,,,1,1,1,1,1"] * 2, ["ann,,a,en"], "line 3: the author 'ann' stands"),
        (["ann,,,-1,,,,"], ["ann,,a,en"], "knows no trait of any of its 1 authors"),
        (["ann,,,1,1,1,1,1"], ["bob,,a,en"], "holds no comment of the 1 authors"),
    ],
)
def test_pandora_that_is_wrong(tmp_path, profiles, comments, message):
    with pytest.raises(DataError, match=message):
        read(pandora(tmp_path, profiles, comments))


def test_a_folder_that_is_not_pandora(tmp_path):
    with pytest.raises(DataError, match=r"has no file author_profiles.csv, nor"):
        read(str(tmp_path))
    with pytest.raises(DataError, match=r"is a folder, and data.format=essays"):
        read(str(tmp_path), format="essays")


GOOD = "0,0,0,0,0"


@pytest.mark.parametrize(
    ("rows", "more", "message"),
    [
        ([f"a,t,{GOOD}", "b,t,0,0,1.5,0,0"], {}, r"line 3: extraversion is 1.5, and a"),
        (["b,t,0,0,high,0,0"], {}, r"line 2: extraversion is 'high', which is no num"),
        (["b,t,0,0,inf,0,0"], {}, r"line 2: extraversion is 'inf', which is no number"),
        ([f",t,{GOOD}"], {}, "line 2: author is empty"),
        (["b,t,0,0"], {}, "line 2: there are 4 cells, and the first line names 7"),
        (['b,"t"x,0,0,0,0,0'], {}, "line 2: the row that begins here is no csv"),
        ([], {}, "holds no rows"),
        ([f"a, ,{GOOD}"], {}, "holds 1 rows, but no text in 'text'"),
        ([f"a,t,{GOOD}"], {"text": "txt"}, "no column 'txt'; did you mean 'text'"),
        ([f"a,t,{GOOD}"], {"author": "autor"}, "'autor'; did you mean 'author'"),
        ([f"a,t,{GOOD}"], {"labels": {"x": "beliefs"}}, "no column 'x'; its columns"),
        ([f"a,t,{GOOD}"], {"columns": {"o": "opn"}}, "no column 'opn'"),
    ],
)
def test_tables_that_are_wrong(tmp_path, rows, more, message):
    with pytest.raises(DataError, match=message) as caught:
        read(table(tmp_path, *rows), **more)
    assert "data.csv" in str(caught.value)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("text,opennes,c,e,a,n", "no column 'openness'; did you mean 'opennes'"),
        ("text,o,c,e,a,e", "the column 'e' stands twice"),
        ("body,o,c,e,a,n", "if the texts are in 'body', set data.text=body"),
        (",,", "has no first line with the names of its columns"),
    ],
)
def test_heads_that_are_wrong(tmp_path, head, message):
    with pytest.raises(DataError, match=message):
        read(table(tmp_path, "x,0,0,0,0,0", head=head))


def test_settings_that_contradict_each_other(tmp_path):
    path = table(tmp_path, f"a,t,{GOOD}")
    with pytest.raises(
        ConfigError, match=r"data.missing has -1, which is also a score"
    ):
        read(path, scale=(-3, 3))
    assert len(read(path, scale=(-3, 3), missing=("",))) == 1
    with pytest.raises(ConfigError, match="'openness', which is a trait"):
        read(path, labels={"openness": "beliefs"})
    with pytest.raises(ConfigError, match=r"data.path is empty"):
        read("")


@pytest.mark.parametrize(
    ("name", "raw", "message"),
    [
        ("a.csv", b"", "is empty"),
        ("a.csv", HEAD.encode() + b"\na,caf\xe9,0,0,0,0,0\n", "is not UTF-8"),
        ("a.csv", b"#AUTHID,STATUS,x\nb,\x81,1\n", "line 2: the byte 0x81 is neither"),
        ("a.csv.gz", b"\x1f\x8b\x08 no", "is damaged|cannot be read"),
        ("a.txt", b"hello", "the format of '.*' is not clear"),
        ("a.jsonl", b"[1]\n", "line 1 holds a list, not an object"),
        ("a.jsonl", b"{\n", "line 1 is no JSON"),
        ("a.jsonl", b"\n\n", "holds no object"),
    ],
)
def test_files_that_are_wrong(tmp_path, name, raw, message):
    path = tmp_path / name
    path.write_bytes(raw)
    with pytest.raises(DataError, match=message):
        read(str(path))
    with pytest.raises(DataError, match="there is no file or folder"):
        read(str(path) + "x")


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"text": ["a"]}, "line 1: text holds a list; it must be a text"),
        ({"text": "\ud800"}, "line 1: text: character 0 of a text is U"),
        ({"text": "a", "o": 10**400}, "line 1: o is 1000"),
        ({"text": "a", "o": [1]}, r"line 1: o is \[1\], which is no number"),
    ],
)
def test_json_that_is_wrong(tmp_path, record, message):
    whole = {"o": 0, "c": 0, "e": 0, "a": 0, "n": 0} | record
    path = written(tmp_path / "data.jsonl", json.dumps(whole))
    with pytest.raises(DataError, match=message):
        read(path)


def real(name):
    if not (REAL / name).is_file():
        pytest.skip("the data folder beside the checkout is not there")
    return str(REAL / name)


def test_the_real_essays():
    found = read(real("essays/essays_big5.csv.gz"))
    assert len(found) == len(set(found.authors)) == 2467
    np.testing.assert_allclose(
        found.values.mean(axis=0), [0.515, 0.508, 0.517, 0.531, 0.5], atol=2e-3
    )


def test_the_real_questionnaires():
    spi = read(real("questionnaire/spi_scores.csv.gz"), labels={"exer": "actions"})
    assert spi.values.shape == (4000, 6)
    assert 0.1 < np.isnan(spi.values[:, 5]).mean() < 0.2
    assert not any(spi.texts)
    assert len(read(real("questionnaire/bfi_scores.csv.gz"))) == 2800


def test_names_of_pandora_may_differ_in_case(tmp_path):
    path = pandora(tmp_path, ["Ann,,1,1,1,1,1,1"], ["ann ,,one,en", "ANN,,two,en"])
    found = read(path)
    assert found.texts == ("one", "two")
    assert len(set(found.authors)) == 1


def test_a_text_in_place_of_a_score_is_not_quoted(tmp_path):
    secret = "I never told anybody that I am afraid of geese."
    path = table(tmp_path, f"a,t,0,0,{secret},0,0")
    with pytest.raises(DataError, match="line 2: extraversion is 'I never") as caught:
        read(path)
    assert "geese" not in str(caught.value)


def test_an_unknown_trait_may_be_left_out_of_the_first_json_line(tmp_path):
    rows = [
        {"text": "Hello", "author": 7, **dict.fromkeys(TRAITS[:4], 0.5)},
        {"text": "Hi", "author": 8, **dict.fromkeys(TRAITS, 0.25)},
    ]
    path = written(tmp_path / "data.jsonl", "\n".join(map(json.dumps, rows)))
    found = read(path)
    np.testing.assert_array_equal(found.values[:, 4], [np.nan, 0.25])
    assert len(found.texts) == 2
