"""``mdlm msa eval``: the table, the verdict, the page."""

import json
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from typer.testing import CliRunner

from mdlm_core.errors import DataError, MdlmError, UsageError
from mdlm_core.kernels.noise import Noise
from mdlm_msa.alphabet import ID_OF_STATE, decode
from mdlm_msa.cli import app
from mdlm_msa.data.synthetic import synthetic_families
from mdlm_msa.evaluation.generators import sample_pssm

from .score_toys import write_run


def a3m(path, query, rows, head="r"):
    text = f">query\n{decode(query)}\n" + "".join(
        f">{head}{i}\n{decode(row)}\n" for i, row in enumerate(rows)
    )
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("eval")
    family = synthetic_families(1, Noise(7), rows=(201, 201), columns=(30, 30))[0]
    rows = family.alignment.rows
    new = ID_OF_STATE[sample_pssm(family.alignment.states[1:], 30, Noise(0))]
    places = np.random.default_rng(0).normal(0, 12, (30, 3))
    lines = [
        "\t".join([str(i + 1), letter, *(f"{x:.3f}" for x in place)])
        for i, (letter, place) in enumerate(zip(decode(rows[0]), places, strict=True))
    ]
    structure = folder / "s.tsv"
    structure.write_text("# column residue x y z\n" + "\n".join(lines))
    return {
        "query": rows[0],
        "reference": a3m(folder / "ref.a3m", rows[0], rows[1:]),
        "natural": a3m(folder / "nat.a3m", rows[0], rows[1:61]),
        "pssm": a3m(folder / "pssm.a3m", rows[0], new, "mdlm|m|seed=0|row="),
        "structure": structure,
        "rows": rows,
    }


def call(*arguments, fails=False):
    result = CliRunner().invoke(app, ["eval", *(str(word) for word in arguments)])
    if fails:
        assert isinstance(result.exception, MdlmError), result.output
        return result.exception
    if result.exception is not None:
        raise result.exception
    return result


class Page(HTMLParser):
    """Which tags a page has, and that they close."""

    def __init__(self):
        super().__init__()
        self.open, self.seen, self.sources = [], [], []

    def handle_starttag(self, tag, attributes):
        self.seen.append(tag)
        self.sources += [v for k, v in attributes if k in ("src", "href")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_samples_of_a_profile_are_called_so(files):
    out = call(files["pssm"], "--reference", files["reference"]).output
    assert "this augmentation looks no better than a PSSM" in out
    for name in ("another natural split", "PSSM sampling", "BLOSUM62 mutation"):
        assert name in out
    assert re.search(r"30 rows of each kind, against \d+ of the reference", out)


def test_the_report_is_whole(files, tmp_path, monkeypatch):
    out = tmp_path / "made" / "report"
    result = call(
        *(files["pssm"], "--reference", files["reference"], "--prompt"),
        *(files["natural"], "--structure", files["structure"], "--out", out, "--json"),
    )
    card = json.loads(result.stdout)
    assert card == json.loads((out / "evaluation.json").read_text())
    assert card["verdict"]["better_than_pssm"] is False
    assert card["facts"]["rows shown to the model"] == 60
    facts = card["facts"]
    assert facts["rows of reference left out because shown"] == 60
    left_out = 60 + facts.get("rows of reference left out for coverage", 0)
    assert facts["rows of reference"] == 200 - left_out
    assert card["lines"]["generated"]["neff_gain"] > 0
    assert set(card["contacts"]["precision"]) == {
        "shown",
        "shown and generated",
        "generated",
        "reference",
    }
    assert len(card["columns"]["js"]) == 30
    text = (out / "evaluation.html").read_text()
    page = Page()
    page.feed(text)
    assert not page.open
    assert page.seen.count("img") == 3
    assert all(source.startswith("data:image/svg+xml") for source in page.sources)
    assert "<b>This augmentation looks no better than a PSSM</b>" in text
    again = (files["pssm"], "--reference", files["reference"], "--out", out)
    assert "has a report already" in str(call(*again, fails=True))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    call(*again, "--force")


def test_without_matplotlib_there_is_a_page(files, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = call(
        files["pssm"], "--reference", files["reference"], "--out", tmp_path / "r"
    )
    assert "pip install 'mdlm-msa[plot]'" in result.stderr
    text = (tmp_path / "r" / "evaluation.html").read_text()
    assert "<img" not in text
    assert "matplotlib is not installed" in text


def test_a_model_is_measured_on_the_reference(files, tmp_path):
    run = write_run(tmp_path / "run", length=256)
    result = call(
        *(files["pssm"], "--reference", files["reference"], "--model", run),
        *("--model-rows", 3, "--draws", 2, "--device", "cpu", "--json"),
    )
    lines = json.loads(result.stdout)["held_out"]["lines"]
    assert {line["k"] for line in lines} == {0, 1, 4}
    assert {"model", "uniform", "PSSM of k", "PSSM of all"} <= {
        line["law"] for line in lines
    }
    assert "too good" in result.stderr
    assert all(line["low"] is None for line in lines)  # of one family


def test_rows_without_provenance_are_all_generated(files):
    result = call(files["natural"], "--reference", files["reference"], "--json")
    card = json.loads(result.stdout)
    assert card["facts"]["generated rows"] == 60
    assert card["verdict"]["words"].startswith("these rows are copies")


def test_rows_that_no_model_wrote_are_those_shown(files, tmp_path):
    both = tmp_path / "both.a3m"
    new = files["pssm"].read_text().split("\n", 2)[2]
    both.write_text(files["natural"].read_text() + new)
    result = call(both, "--reference", files["reference"], "--json")
    facts = json.loads(result.stdout)["facts"]
    assert facts["generated rows"] == 30
    assert facts["rows shown to the model"] == 60
    assert facts["rows of reference left out because shown"] == 60


def record(path, query, rows):
    """Write the record of a file, with rows that the model was shown."""
    prompt = [
        {"row": i + 1, "header": f"h{i}", "letters": decode(row)}
        for i, row in enumerate([query, *rows])
    ]
    path.with_name(f"{path.name}.json").write_text(json.dumps({"prompt": prompt}))


def test_rows_on_record_are_those_shown(files, tmp_path):
    new = tmp_path / "new.a3m"
    new.write_text(files["pssm"].read_text())
    result = call(new, "--reference", files["reference"], "--json")
    assert "no record new.a3m.json" in result.stderr
    assert json.loads(result.stdout)["facts"]["rows shown to the model"] == 0
    record(new, files["query"], files["rows"][5:17])
    result = call(new, "--reference", files["reference"], "--json")
    facts = json.loads(result.stdout)["facts"]
    assert "no record" not in result.stderr
    assert facts["rows shown to the model"] == 12
    assert facts["rows of reference left out because shown"] == 12
    # rows of the input that were kept, but not shown, still measure
    kept = files["natural"].read_text() + files["pssm"].read_text().split("\n", 2)[2]
    new.write_text(kept)
    result = call(new, "--reference", files["reference"], "--json")
    facts = json.loads(result.stdout)["facts"]
    assert facts["rows of reference left out because shown"] == 12
    record(new, files["rows"][1], [])
    error = call(new, "--reference", files["reference"], fails=True)
    assert "new.a3m.json" in str(error)


def test_an_older_record_asks_for_the_prompt(files, tmp_path):
    new = tmp_path / "new.a3m"
    new.write_text(files["pssm"].read_text())
    old = {"format": 1, "model": {}, "shown": [{"canvas": 0, "rows": []}]}
    place = tmp_path / "new.a3m.json"
    place.write_text(json.dumps(old))
    error = str(call(new, "--reference", files["reference"], fails=True))
    assert "older record (format 1)" in error
    assert "give --prompt" in error
    result = call(
        *(new, "--reference", files["reference"], "--prompt", files["natural"]),
        "--json",
    )
    assert json.loads(result.stdout)["facts"]["rows shown to the model"] == 60
    assert "older record" in result.stderr
    place.write_text(json.dumps({**old, "format": 99, "prompt": [3]}))
    error = call(new, "--reference", files["reference"], fails=True)
    assert "newer version" in str(error)


def test_what_was_generated_is_evaluated_without_its_prompt(files, tmp_path):
    run, new = write_run(tmp_path / "run", length=256), tmp_path / "new.a3m"
    CliRunner().invoke(
        app,
        [
            *("generate", str(files["reference"]), "--model", str(run), "--out"),
            *(str(new), "--rows", "4", "--steps", "4", "--draws", "0"),
        ],
        catch_exceptions=False,
    )
    result = call(new, "--reference", files["reference"], "--json")
    facts = json.loads(result.stdout)["facts"]
    assert facts["rows shown to the model"] > 0
    left_out = facts["rows of reference left out because shown"]
    assert left_out >= facts["rows shown to the model"]


def test_what_cannot_be_compared_is_refused(files, tmp_path):
    other = a3m(tmp_path / "o.a3m", files["rows"][1], files["rows"][2:9])
    error = call(files["pssm"], "--reference", other, fails=True)
    assert isinstance(error, DataError)
    assert "both must be aligned to one query" in str(error)
    alone = a3m(tmp_path / "q.a3m", files["query"], [])
    error = call(alone, "--reference", files["reference"], fails=True)
    assert "no row besides the query" in str(error)
    error = call(files["pssm"], "--reference", alone, fails=True)
    assert "give a deeper alignment" in str(error)
    for wrong in (
        ("--couplings", "guess"),
        ("--rows", 0),
        ("--min-coverage", 2),
        ("--out", files["structure"]),
    ):
        error = call(
            files["pssm"], "--reference", files["reference"], *wrong, fails=True
        )
        assert isinstance(error, UsageError)


def test_the_command_is_light():
    import subprocess

    code = (
        "import sys, mdlm_msa.cli.eval; "
        "print(sorted({'torch', 'numpy', 'scipy', 'matplotlib'} & set(sys.modules)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"
