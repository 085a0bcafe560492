"""``mdlm msa generate``, ``inpaint``, ``choose`` and ``chat``, with a model on disk."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mdlm_core.errors import DataError, MdlmError, UsageError
from mdlm_msa.cli import app
from mdlm_msa.cli.writing_options import as_trained
from mdlm_msa.config.data import AlignmentsConfig, PairsConfig
from mdlm_msa.formats.reading import read_alignment
from mdlm_msa.generation.provenance import cost_of
from mdlm_msa.generation.queries import read_queries, with_prompt
from mdlm_msa.generation.stream import BLANK, CanvasView

from .generation_toys import QUERY, ROWS, family, write
from .score_toys import write_run

HEADER = re.compile(r"mdlm\|run\|seed=0\|row=(\d+)\|nll=\d\.\d{3}")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("model") / "run", length=256)


@pytest.fixture
def query(tmp_path) -> Path:
    path = tmp_path / "q.fasta"
    path.write_text(f">q1 a protein\n{QUERY[:10]}\n{QUERY[10:]}\n")
    return path


@pytest.fixture
def msa(tmp_path) -> Path:
    path = tmp_path / "toy.a3m"
    rows = "".join(f">r{i}\n{row}\n" for i, row in enumerate(ROWS))
    path.write_text(rows.replace("MKSAYIAKQR--", "MKSAYaaIAKQR--"))
    return path


def call(*arguments: object, fails: bool = False, given: str | None = None) -> Any:
    words = [str(word) for word in arguments]
    result = CliRunner().invoke(app, words, input=given)
    if fails:
        assert isinstance(result.exception, MdlmError), result.output
        return result.exception
    if result.exception is not None:
        raise result.exception
    return result


FAST = ("--steps", "4", "--draws", "1", "--device", "cpu")


def test_a_query_in_an_alignment_out(run, query, tmp_path):
    out = tmp_path / "out.a3m"
    said = call("generate", query, "--model", run, "--rows", 5, "--out", out, *FAST)
    found = read_alignment(out)
    assert found.query == QUERY
    assert found.headers[0] == "q1 a protein"
    assert [HEADER.fullmatch(h)[1] for h in found.headers[1:]] == list("12345")
    assert "5 new rows of 20 columns" in said.output
    assert "Neff" in said.output
    kept = json.loads((tmp_path / "out.a3m.json").read_text())
    assert kept["model"]["run"] == str(run)
    assert kept["sampler"]["name"] == "ddpm"
    assert kept["sampler"]["steps"] == 4
    assert kept["settings"]["rows"] == 5
    assert "\t" not in out.read_text()
    call("check", out, "--for", "colabfold")
    again = call("generate", query, "--model", run, "--out", out, *FAST, fails=True)
    assert "--force" in str(again)


def test_rows_of_the_input_are_kept_when_asked_for(run, query, msa, tmp_path):
    out = tmp_path / "out.a3m"
    call(
        "generate", query, "--model", run, "--rows", 2, "--out", out, *FAST,
        "--msa-prompt", msa, "--keep-input",
    )  # fmt: skip
    lines = out.read_text().splitlines()
    assert lines[1] == QUERY
    assert lines[3] == "MKSAYaaIAKQR--SFVRSHFS"
    assert len(lines) == 2 * (len(ROWS) + 2)
    kept = json.loads((tmp_path / "out.a3m.json").read_text())
    assert {row["header"] for row in kept["shown"][0]["rows"]} <= {
        f"r{i}" for i in range(1, 6)
    }


def test_several_queries_give_what_each_gives_alone(run, query, msa, tmp_path):
    folder = tmp_path / "many"
    call("generate", query, msa, "--model", run, "--rows", 3, "--out", folder, *FAST)
    assert sorted(path.name for path in folder.iterdir()) == [
        "q1.a3m",
        "q1.a3m.json",
        "toy.a3m",
        "toy.a3m.json",
    ]
    alone = tmp_path / "alone.a3m"
    call("generate", msa, "--model", run, "--rows", 3, "--out", alone, *FAST)
    assert alone.read_text() == (folder / "toy.a3m").read_text()


def test_no_input_is_replaced(run, query, msa, tmp_path):
    before = {path: path.read_text() for path in (query, msa)}
    link = tmp_path / "link.a3m"
    link.symlink_to(msa)
    for words in (
        ("generate", msa, "--out", msa),
        ("generate", tmp_path / "t*.a3m", "--out", msa),
        ("generate", query, "--msa-prompt", msa, "--out", msa),
        ("generate", msa, "--out", link),
        ("inpaint", msa, "--out", msa),
        ("choose", msa, "--rows", 1, "--out", msa),
    ):
        model = () if words[0] == "choose" else ("--model", run)
        error = call(*words, *model, "--force", fails=True)
        assert "the file that is read" in str(error)
    assert {path: path.read_text() for path in before} == before


def test_what_needs_no_model_is_said_without_one(query, msa, tmp_path):
    gone, out = tmp_path / "gone", tmp_path / "out.a3m"
    for words, said in (
        (("generate", query, "--freeze", "99"), "columns go from 1 to 20"),
        (("generate", query, "--allowed", "1=J"), "column 1 have 'J'"),
        (("generate", query, "--identity", "2"), "band in [0, 1]"),
        (("inpaint", msa, "--rows", 900), "rows go from 1 to 6"),
        (("inpaint", msa, "--rows", 1), "it is the query"),
        (("inpaint", msa, "--what", "columns", "--columns", 99), "from 1 to 20"),
        (("inpaint", msa, "--what", "columns"), "needs --columns"),
        (("inpaint", msa, "--allowed", "1=J"), "column 1 have 'J'"),
    ):
        error = call(*words, "--model", gone, "--out", out, fails=True)
        assert said in str(error)


def test_many_queries_have_files_of_the_format(run, tmp_path):
    several, folder = tmp_path / "rows.fasta", tmp_path / "many"
    several.write_text(f">a\n{QUERY}\n>b\n{QUERY[::-1]}\n")
    said = call(
        "generate", several, "--model", run, "--rows", 1, "--out", folder, "--format",
        "jsonl", *FAST,
    )  # fmt: skip
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["a.jsonl", "a.jsonl.json", "b.jsonl", "b.jsonl.json"]
    assert "2 queries read" in said.stderr
    assert "--msa-prompt" in said.stderr
    assert f"record in {folder / 'a.jsonl.json'}" in said.stderr
    several.write_text(f">a\n{QUERY}\n>b\n{QUERY}MK\n")
    said = call(
        "generate", several, "--model", run, "--rows", 1, "--out", folder, *FAST
    )
    assert "2 queries read" in said.stderr
    assert "--msa-prompt" not in said.stderr


def test_names_of_queries_are_no_paths(run, tmp_path):
    folder = tmp_path / "in" / "many"
    folder.mkdir(parents=True)
    queries = tmp_path / "names.jsonl"
    names = ["../../evil", "a/b", "a_b", "A_B", ".."]
    lines = [json.dumps({"id": n, "query": QUERY, "sequences": []}) for n in names]
    queries.write_text("\n".join(lines) + "\n")
    call("generate", queries, "--model", run, "--rows", 1, "--out", folder, *FAST)
    written = sorted(path.name for path in folder.glob("*.a3m"))
    assert written == ["A_B_3.a3m", "a_b.a3m", "a_b_2.a3m", "alignment.a3m", "evil.a3m"]
    assert {path.name for path in tmp_path.iterdir()} == {"in", "names.jsonl"}
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["many"]


def test_the_first_row_is_the_sequence_that_was_given(run, tmp_path):
    odd, path, out = QUERY.replace("K", "U"), tmp_path / "u.fasta", tmp_path / "o.a3m"
    path.write_text(f">u\n{odd}\n")
    call("generate", path, "--model", run, "--rows", 2, "--out", out, *FAST)
    assert out.read_text().splitlines()[1] == odd
    prompt = tmp_path / "p.a3m"
    rows = [odd.replace("U", "C"), odd.replace("U", "O")]
    prompt.write_text(f">c\n{rows[0]}\n>o\n{rows[1]}aa\n")
    call(
        "generate", path, "--model", run, "--rows", 2, "--out", out, *FAST, "--force",
        "--msa-prompt", prompt, "--keep-input",
    )  # fmt: skip
    assert out.read_text().splitlines()[:4] == [">u", odd, ">o", f"{rows[1]}aa"]
    (one,) = read_queries([str(path)])
    assert with_prompt(one, read_alignment(prompt), path="p").query == odd


def test_rows_are_shown_as_in_training_unless_told_otherwise(run, msa, tmp_path):
    out = tmp_path / "out.a3m"
    both = ("generate", msa, "--model", run, "--rows", 1, "--out", out, *FAST)
    call(*both)
    settings = json.loads((tmp_path / "out.a3m.json").read_text())["settings"]
    assert (settings["select"], settings["min_coverage"]) == ("random", 0.5)
    call(*both, "--force", "--select", "top", "--min-coverage", 0.9)
    settings = json.loads((tmp_path / "out.a3m.json").read_text())["settings"]
    assert (settings["select"], settings["min_coverage"]) == ("top", 0.9)
    config = AlignmentsConfig(select="weighted", filter="none")
    assert as_trained(config) == {"select": "weighted", "min_coverage": 0.0}
    assert as_trained(AlignmentsConfig(min_coverage=0.7))["min_coverage"] == 0.7
    assert as_trained(PairsConfig()) == {}


def test_one_query_that_fails_does_not_stop_the_others(run, query, tmp_path):
    long = tmp_path / "long.fasta"
    long.write_text(f">long\n{QUERY * 20}\n")
    error = call(
        "generate", long, query, "--model", run, "--rows", 2, "--out",
        tmp_path / "many", *FAST, fails=True,
    )  # fmt: skip
    assert "long: the query has 400 columns" in str(error)
    assert "--window" in str(error)
    assert (tmp_path / "many" / "q1.a3m").is_file()
    assert not (tmp_path / "many" / "long.a3m").exists()


def test_what_was_accepted_is_written_when_the_budget_ends(run, query, tmp_path):
    out = tmp_path / "out.a3m"
    error = call(
        "generate", query, "--model", run, "--rows", 9, "--out", out, *FAST,
        "--identity", "0.3-0.5", "--tries", 1,
        fails=True,
    )  # fmt: skip
    assert "of 9 rows were accepted out of 10" in str(error)
    kept = json.loads((tmp_path / "out.a3m.json").read_text())
    assert read_alignment(out).depth == kept["accepted"] + 1
    assert 0 < kept["accepted"] < 9
    assert all(0.3 <= row["identity"] <= 0.5 for row in kept["rows"])


def test_columns_gaps_samplers_and_choice(run, msa, tmp_path):
    out = tmp_path / "out.fasta"
    said = call(
        "generate", msa, "--model", run, "--rows", 6, "--choose", 4, "--out", out,
        *FAST, "--freeze", "2-4", "--allowed", "10=W", "--no-gap", "--sampler",
        "remask", "--set", "sampler.eta=0.5", "--json",
    )  # fmt: skip
    rows = out.read_text().split("\n")[1::2]
    assert {row[1:4] for row in rows} == {"KTA"}
    assert {row[9] for row in rows[1:]} == {"W"}
    assert "-" not in "".join(rows)
    assert len(rows) - 1 == 4
    kept = json.loads(said.stdout)
    assert kept["sampler"]["eta"] == 0.5
    assert kept["accepted"] == 4


def test_subfamilies_get_files_of_their_own(run, tmp_path):
    other = "GGSAPPDDEELLNNQQRRTT"
    rows = [QUERY, *(f"{QUERY[:i]}W{QUERY[i + 1 :]}" for i in range(4))]
    rows += [f"{other[:i]}W{other[i + 1 :]}" for i in range(5)]
    path = tmp_path / "two.a3m"
    path.write_text("".join(f">{i}\n{row}\n" for i, row in enumerate(rows)))
    said = call(
        "generate", path, "--model", run, "--rows", 2, "--cluster", 3, "--out",
        tmp_path / "out.a3m", *FAST,
    )  # fmt: skip
    assert "'two' has 2 subfamilies, and --cluster is 3" in said.stderr
    for name in ("out.1.a3m", "out.2.a3m"):
        assert read_alignment(tmp_path / name).depth == 3
    for out, format, names in (
        ("cl", "auto", ["cl.1.a3m"]),
        ("cl.v2", "msagpt", ["cl.v2.1.txt"]),
        ("cl.fasta.gz", "auto", ["cl.1.fasta.gz"]),
    ):
        call(
            "generate", path, "--model", run, "--rows", 1, "--cluster", 1, "--out",
            tmp_path / "parts" / out, "--format", format, *FAST,
        )  # fmt: skip
        assert all((tmp_path / "parts" / name).is_file() for name in names)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--gaps", "some"), "one of free, none, template"),
        (("--gaps", "template", "--no-gap"), "contradict"),
        (("--select", "best"), "one of random"),
        (("--identity", "high"), "band of shares"),
        (("--identity", "0.6-0.4"), r"band in \[0, 1\]"),
        (("--choose", "99"), "at most --rows"),
        (("--choose", "-1"), "--choose is -1; it must be at least 0"),
        (("--rows", "0"), "--rows is 0; it must be at least 1"),
        (("--rows", "-3"), "--rows is -3; it must be at least 1"),
        (("--format", "pdb"), "--format is 'pdb'"),
        (("--allowed", "x"), "COLUMN=LETTERS"),
        (("--set", "train.lr=1"), "only the sampler"),
        (("--sampler", "dpm"), "no sampler 'dpm'"),
        (("--tries", "0"), "tries is 0"),
        (("--freeze", "99"), "columns go from 1 to 20"),
    ],
)
def test_options_that_are_wrong_are_refused(run, query, tmp_path, options, words):
    out = tmp_path / "out.a3m"
    error = call(
        "generate", query, "--model", run, "--out", out, *FAST, *options, fails=True
    )
    assert re.search(words, str(error))
    assert not out.exists()


def test_a_prompt_of_another_protein_is_refused(run, query, tmp_path):
    other = tmp_path / "other.a3m"
    other.write_text(f">a\n{QUERY[:5]}W{QUERY[6:]}\n>b\n{QUERY}\n")
    error = call(
        "generate", query, "--model", run, "--out", tmp_path / "o.a3m", "--msa-prompt",
        other, *FAST, fails=True,
    )  # fmt: skip
    assert "differ at place 6" in str(error)


def test_rows_are_chosen_from_a_file(run, query, tmp_path):
    made, out = tmp_path / "made.a3m", tmp_path / "few.a3m"
    call("generate", query, "--model", run, "--rows", 6, "--out", made, *FAST)
    call("choose", made, "--rows", 3, "--out", out)
    found, whole = read_alignment(out), read_alignment(made)
    costs = [cost_of(header) for header in whole.headers[1:]]
    assert cost_of(found.headers[1]) == min(costs)
    assert found.depth == 4
    table = tmp_path / "folded.csv"
    lines = [f"{header},{i}" for i, header in enumerate(whole.headers[1:5])]
    table.write_text("row,plddt\n" + "\n".join(lines) + "\n")
    result = call(
        "choose", made, "--rows", 2, "--out", out, "--scores", table, "--force"
    )
    assert read_alignment(out).headers[1:] == whole.headers[4:2:-1]
    assert "2 of 6 rows have no score" in result.stderr
    plain = tmp_path / "plain.a3m"
    plain.write_text(f">a\n{QUERY}\n>b\n{QUERY}\n")
    error = call("choose", plain, "--rows", 1, "--out", tmp_path / "x", fails=True)
    assert "--scores" in str(error)


# ---- queries ----------------------------------------------------------------------


def test_files_folders_and_sequences_are_queries(query, msa, tmp_path):
    two = tmp_path / "two.fa"
    two.write_text(">a|1\nMKTAYI\n>b\nmktAYIA*\n")
    found = list(read_queries([str(two), QUERY, str(msa), str(query)]))
    assert [one.name for one in found] == ["a_1", "b", "query", "toy", "q1"]
    assert [one.depth for one in found] == [1, 1, 1, len(ROWS), 1]
    assert found[1].query.startswith("MKTAYIA")
    assert found[1].notes["letters of lower case read as upper case"] == 3
    aligned = tmp_path / "aligned.fasta"
    aligned.write_text(f">a\n{QUERY}\n>b\n{ROWS[1]}\n")
    assert next(read_queries([str(aligned)])).depth == 2
    twice = list(read_queries([str(query), str(query)]))
    assert [one.name for one in twice] == ["q1", "q1_2"]


def test_a_folder_of_queries(query, tmp_path):
    assert [one.name for one in read_queries([str(tmp_path)])] == ["q1"]
    (tmp_path / "x.a3m").write_text(">x\nMKTA\n")
    with pytest.raises(UsageError, match="name them separately"):
        list(read_queries([str(tmp_path)]))


def test_what_is_no_query_is_refused(tmp_path):
    empty = tmp_path / "empty.fasta"
    empty.write_text("")
    with pytest.raises(DataError, match="holds no sequence"):
        list(read_queries([str(empty)]))
    empty.write_text("MKTA\n")
    with pytest.raises(DataError, match="does not begin with '>'"):
        list(read_queries([str(empty)]))
    with pytest.raises(DataError, match="nothing"):
        list(read_queries([str(tmp_path / "nothing.fasta")]))


# ---- inpaint and chat -------------------------------------------------------------


def test_inpaint_fills_gaps_and_says_so(run, msa, tmp_path):
    out = tmp_path / "full.a3m"
    said = call(
        "inpaint", msa, "--model", run, "--out", out, "--steps", 4, "--rows", "2-3"
    )
    found, before = read_alignment(out), read_alignment(msa)
    changed = found.rows != before.rows
    assert bool((before.is_gap[1:3] == changed[1:3]).all())
    assert not changed[[0, 3, 4, 5]].any()
    assert found.headers[1] == "mdlm|run|seed=0|filled=2 r1"
    assert "5 symbols written in 2 of 6 rows" in said.output
    assert "aa" in out.read_text()
    assert json.loads((tmp_path / "full.a3m.json").read_text())["written"] == 5
    error = call(
        "inpaint", msa, "--model", run, "--out", out, "--force", "--columns", "2",
        fails=True,
    )  # fmt: skip
    assert "--what columns" in str(error)


def test_chat_answers_each_line_and_goes_on_after_an_error(run):
    lines = f"{QUERY}<M>{ROWS[1]}\nMKJ\n\nMKTAYI\nstop\nMKTAYIAK\n"
    result = call(
        "chat", "--model", run, "--max-gen-length", 63, "--num-diffusion-steps", 4,
        "--diffusion-sampler", "ddpm_cache", "--stream-chat", "--no-gap", given=lines,
    )  # fmt: skip
    answers = result.stdout.strip().splitlines()
    assert [answer.split("<M>")[0] for answer in answers] == [QUERY, "MKTAYI"]
    assert [answer.count("<M>") for answer in answers] == [3, 9]
    assert "'J' at place 3" in result.stderr
    assert "100 % written" in result.stderr
    error = call("chat", "--model", run, "--rows", 1, "--max-gen-length", 9, fails=True)
    assert "say the same" in str(error)


def test_the_canvas_is_shown_as_it_fills_in():
    view, seen = CanvasView(rows=3), []
    write(rows=2, together=2, callback=lambda step, rows: seen.append((step, rows)))
    text = view.render(*seen[0]).plain.splitlines()
    assert text[1] == QUERY
    assert "left" in text[0]
    assert text[-1].endswith("more rows)")
    whole = CanvasView(rows=99).render(*seen[0]).plain
    assert BLANK in whole
    assert BLANK not in CanvasView(rows=99).render(*seen[-1]).plain
    assert family().query in whole
