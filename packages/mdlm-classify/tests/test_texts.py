"""Labelled texts are read from whatever they are in, or it is said where they fail."""

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mdlm_classify.config.data import Format
from mdlm_classify.data.labels import classes_of, codes_of, in_order, label_of
from mdlm_classify.data.texts import LabelledTexts, read_texts, without_html
from mdlm_core.config.components import HuggingFaceConfig
from mdlm_core.errors import ConfigError, DataError

TEXTS = ("good, or\nnot", 'a "b" c', "", "wei\u00df")
LABELS = ("pos", "neg", "neg", "pos")


def write(path: Path, content: str | bytes) -> Path:
    raw = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


def as_csv(path: Path) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerows([("id", "label", "text")])
        writer.writerows(zip(range(4), LABELS, TEXTS, strict=True))
    return path


def as_jsonl(path: Path) -> Path:
    pairs = zip(TEXTS, LABELS, strict=True)
    lines = [json.dumps({"text": text, "label": label}) for text, label in pairs]
    return write(path, "\ufeff" + "\n\n".join(lines))


def as_folders(path: Path) -> Path:
    for i, (text, label) in enumerate(zip(TEXTS, LABELS, strict=True)):
        write(path / "train" / label / f"{i}.txt", text)
    write(path / "test" / "pos" / "0.txt", "other")
    return path


def as_classes(path: Path) -> Path:
    for label in set(LABELS):
        texts = [t for t, other in zip(TEXTS, LABELS, strict=True) if other == label]
        items = [{"text": t} if label == "pos" else t for t in texts]
        write(path / f"train_class_{label}.json", json.dumps(items))
        write(path / f"test_class_{label}.json", '["other"]')
    return path


def as_saved(path: Path) -> Path:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        text=datasets.Value("string"), label=datasets.ClassLabel(names=["neg", "pos"])
    )
    codes = [("neg", "pos").index(label) for label in LABELS]
    rows = {"text": [t or None for t in TEXTS], "label": codes}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(str(path))
    return path


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("t.csv", as_csv),
        ("t.jsonl", as_jsonl),
        ("t.jsonl.gz", as_jsonl),
        ("folders", as_folders),
        ("classes", as_classes),
        ("saved", as_saved),
    ],
)
def test_every_format_gives_the_same_texts(
    tmp_path: Path, name: str, make: Callable[[Path], Path]
) -> None:
    found = read_texts(make(tmp_path / name))
    pairs = zip(found.texts, found.labels or (), strict=True)
    assert sorted(pairs) == sorted(zip(TEXTS, LABELS, strict=True))
    assert len(set(found.origin)) == 4


def test_rows_know_where_they_stand(tmp_path: Path) -> None:
    path = as_csv(tmp_path / "t.csv")
    assert [where.partition("line ")[2] for where in read_texts(path).origin] == [
        *("2", "4", "5", "6")  # the first text has a line end
    ]


def test_tabs_divide_lines_and_quotes_may_stand_in_them(tmp_path: Path) -> None:
    lines = ['text\tlabel\r\n"whole ""so""", said\tx\r\n', '"open\ty\n"a" b "c"\tx\n']
    found = read_texts(write(tmp_path / "t.tsv.gz", "".join(lines)))
    assert found.texts == ('"whole ""so""", said', '"open', '"a" b "c"')
    quoted = write(tmp_path / "q.tsv", 'label\ttext\na\t"he said ""so"""\n')
    assert read_texts(quoted).texts == ('he said "so"',)


def test_columns_may_be_joined_and_labels_renamed(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "title,body,stars\nA,b,1\nC,d,2\n")
    names = {"1": "bad"}
    found = read_texts(path, text="title+body", label="stars", label_map=names)
    assert found.texts == ("A\nb", "C\nd")
    assert found.labels == ("bad", "2")
    with pytest.raises(DataError, match=r"label_map names '7', but .* '1', '2'"):
        read_texts(path, text="title", label="stars", label_map={"7": "x"})
    values = read_texts(path, text="title", label="stars", label_map={"7": "2"})
    assert values.labels == ("1", "2")


def test_several_files_are_read_in_order(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write(tmp_path / f"{name}.csv", f"text,label\n{name},x\n")
    assert read_texts(tmp_path / "*.csv").texts == ("a", "b")
    assert read_texts(tmp_path).texts == ("a", "b")
    write(tmp_path / "c.jsonl", '{"text": "c", "label": "x"}')
    with pytest.raises(DataError, match=r"several formats \(csv, jsonl\)"):
        read_texts(tmp_path)
    assert read_texts(tmp_path, format="jsonl").texts == ("c",)


def test_folders_may_be_chosen_by_a_glob(tmp_path: Path) -> None:
    path = as_folders(tmp_path / "f")
    assert read_texts(path, split="test").texts == ("other",)
    assert set(read_texts(f"{path}/train/p*").labels or ()) == {"pos"}


def test_files_of_classes_may_be_chosen_by_a_glob(tmp_path: Path) -> None:
    path = as_classes(tmp_path / "c")
    assert read_texts(path, split="test").texts == ("other", "other")
    found = read_texts(path / "train_class_*.json")
    assert set(found.labels or ()) == {"pos", "neg"}
    assert len(found) == 4


def test_texts_without_labels(tmp_path: Path) -> None:
    plain = read_texts(write(tmp_path / "t.txt", "a b\n\nc\n"), labelled=False)
    assert (plain.texts, plain.labels) == (("a b", "", "c"), None)
    folder = read_texts(as_folders(tmp_path / "f") / "test", labelled=False)
    assert folder.texts == ("other",)
    table = read_texts(write(tmp_path / "u.csv", "text\na\n"), labelled=False)
    assert table.texts == ("a",)


def test_tags_and_entities_are_taken_out() -> None:
    text = "<br /><b>Good</b> &amp; 1 < 2 > 0 <!-- <i> --> &lt;b&gt; <3"
    assert without_html(text).split() == [
        "Good",
        "&",
        "1",
        "<",
        "2",
        ">",
        "0",
        "<b>",
        "<3",
    ]


def test_html_is_cleaned_only_on_request(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "text,label\n<br />a,x\n")
    assert read_texts(path).texts == ("<br />a",)
    assert read_texts(path, clean="html").texts == (" a",)
    with pytest.raises(ConfigError, match="clean is 'tags'"):
        read_texts(path, clean="tags")


BAD = [
    ("t.csv", "txt,label\na,x\n", r"line 1, has no column 'text' \(did you mean 'txt'"),
    ("t.csv", "text,Label\na,x\n", r"did you mean 'Label'\?.*data\.label"),
    ("t.csv", "text;label\na;x\n", "divided by semicolons"),
    ("t.csv", "text,text,label\na,b,x\n", "column 'text' stands twice"),
    ("t.csv", "text,label\na,x\nb,c,x\n", r"line 3: there are 3 cells, .* 2 columns"),
    ("t.csv", 'text,label\na,x\n"b,y\nc,z\n', "line 3: the row that begins here"),
    ("t.csv", 'text,label\n"a"b,x\n', "line 2: the row that begins here is no csv"),
    ("t.csv", "text,label\na,x\nb, \n", "line 3 has no label"),
    ("t.csv", b"text,label\na\0b,x\n", "byte at offset 12 is zero"),
    ("t.csv", b"text,label\n\xff,x\n", "not UTF-8: the byte 0xff at offset 11"),
    ("t.csv", "text,label\n", "holds no text"),
    ("t.csv", "", "is empty"),
    ("t.tsv", "text\tlabel\na\nb\tc\n", "line 2: there are 1 cells"),
    ("t.jsonl", '{"text": "a", "label": 1}\n{"text": ', "line 2 is no JSON"),
    ("t.jsonl", '["a"]', "line 1 holds a list, not an object"),
    ("t.jsonl", '{"text": 3, "label": 1}', "line 1: the text is a int"),
    ("t.jsonl", '{"text": "a", "label": null}', "line 1 has no label"),
    ("t.jsonl", '{"text": "a", "label": [1]}', "line 1: the label is a list"),
    ("t.jsonl", '{"text": "a"}', "line 1 has no column 'label'"),
    ("t.jsonl", '{"text": "\\ud800", "label": 1}', r"line 1: .*U\+D800"),
    ("t_class_a.json", '{"a": 1}', "holds a dict; it must be a list"),
    ("t_class_a.json", '["a", 1]', "text 1: the text is a int"),
    ("t.csv.gz", b"", "holds no text|empty"),
    ("t.dat", "a", "format of .* is not clear"),
    ("t.txt", "a", "format of .* is not clear"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD)
def test_what_is_wrong_is_said_with_its_place(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(DataError, match=message) as error:
        read_texts(path)
    assert name in str(error.value)


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(b"text,label\na,x\n")[:-6])
    with pytest.raises(DataError, match=r"t\.csv\.gz' is damaged"):
        read_texts(path)


@pytest.mark.parametrize(
    "path",
    ["nosuch", "nosuch.json", "me/nosuch.json", "me/nosuch.TXT.gz", "a/b/c", "here/no"],
)
def test_a_mistyped_path_is_not_looked_up_on_the_hub(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("the hub was asked")

    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mdlm_classify.data.hub.load_rows", never)
    with pytest.raises(DataError, match=f"folder '{path}'.*is written owner/name"):
        read_texts(path)


@pytest.mark.parametrize(
    ("path", "kind"), [("me/films", "auto"), ("me/a.v2", "auto"), ("films", "hub")]
)
def test_a_name_of_the_hub_is_looked_up(
    path: str, kind: Format, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(config: HuggingFaceConfig) -> None:
        raise DataError(f"asked for {config.path}")

    monkeypatch.setattr("mdlm_classify.data.hub.load_rows", asked)
    with pytest.raises(DataError, match=f"asked for {path}"):
        read_texts(path, format=kind)


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    for path in (tmp_path / "no.csv", tmp_path / "no" / "no" / "no", "no.csv"):
        with pytest.raises(DataError, match="there is no file or folder"):
            read_texts(path)
    with pytest.raises(DataError, match="matches no file"):
        read_texts(tmp_path / "*.csv")
    with pytest.raises(ConfigError, match="path of the texts is empty"):
        read_texts("")


def test_columns_of_a_data_set_are_checked(tmp_path: Path) -> None:
    path = as_saved(tmp_path / "saved")
    with pytest.raises(DataError, match=r"no column 'tex' \(did you mean 'text'\?\)"):
        read_texts(path, text="tex")


def test_hidden_labels_of_a_data_set_are_no_class(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        text=datasets.Value("string"), label=datasets.ClassLabel(names=["neg", "pos"])
    )
    rows = {"text": ["a", "b"], "label": [1, -1]}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(str(tmp_path))
    with pytest.raises(DataError, match="row 1 has no label"):
        read_texts(tmp_path)
    assert read_texts(tmp_path, labelled=False).texts == ("a", "b")


def test_very_long_texts_are_read(tmp_path: Path) -> None:
    text = "word " * 60_000
    path = write(tmp_path / "t.csv", f"text,label\n{text},x\n")
    limit = csv.field_size_limit()
    assert read_texts(path).texts == (text,)
    assert csv.field_size_limit() == limit


def test_labels_are_text() -> None:
    cells: list[object] = [" a ", 3, True, False, 1.5]
    assert [label_of(c, "") for c in cells] == ["a", "3", "true", "false", "1.5"]
    for cell in ("", None, float("nan")):
        with pytest.raises(DataError, match="here has no label"):
            label_of(cell, "here")


def test_whole_numbers_are_ordered_by_size() -> None:
    assert in_order(["10", "9", "-1", "9"]) == ("-1", "9", "10")
    assert in_order(["10", "9", "a", "--1"]) == ("--1", "10", "9", "a")


def test_classes_need_texts() -> None:
    assert classes_of(["b", "a", "b"]) == ("a", "b")
    assert classes_of(["b", "a", "b"], ["b", "a"]) == ("b", "a")
    with pytest.raises(DataError, match=r"have only the class 'a'; .* at least two"):
        classes_of(["a", "a"])
    with pytest.raises(DataError, match=r"class 'Pos', .* \(did you mean 'pos'\?\)"):
        classes_of(["pos", "neg"], ["Pos", "neg"])


def test_unknown_labels_are_named_with_their_place() -> None:
    origin = ("line 1", "line 2", "line 3")
    codes = codes_of(["b", "a", "b"], ("a", "b"), origin)
    assert codes.tolist() == [1, 0, 1]
    with pytest.raises(DataError, match=r"line 2: the label 'B' .* 'b'\?\); 2 of 3"):
        codes_of(["b", "B", "z"], ("a", "b"), origin)


def test_texts_are_chosen_by_place() -> None:
    texts = LabelledTexts.of(["a", "b", "c"], ["x", "y", "z"], name="row")
    chosen = texts.select([2, 0])
    assert chosen == LabelledTexts(("c", "a"), ("z", "x"), ("row 2", "row 0"))
    with pytest.raises(ValueError, match="differ in number"):
        LabelledTexts(("a",), ("x", "y"), ("row 0",))
