"""The graph command: tables and runs, what it writes, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from mdlm_core.errors import MissingExtraError, UnknownNameError, UsageError
from mdlm_core.kernels import Noise
from mdlm_core.kernels.noise import global_seed
from mdlm_core.reports import save_figure
from mdlm_personality.causal import cross_check as checking
from mdlm_personality.causal.cross_check import cross_check
from mdlm_personality.causal.figure import draw_graph, to_dot
from mdlm_personality.causal.graph import read_edges
from mdlm_personality.causal.report import of_persona
from mdlm_personality.causal.report_text import to_text
from mdlm_personality.causal.sem import fit_tiered
from mdlm_personality.causal.simulate import linear_data
from mdlm_personality.causal.tables import from_arrays, read_table
from mdlm_personality.cli import app
from mdlm_personality.persona import Persona
from mdlm_personality.traits import TRAITS

from .persona_toys import toy_config

LABELS = "trust=beliefs,outings=actions"


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Traits, of which extraversion makes trust, and trust makes outings."""
    rng = np.random.default_rng(0)
    traits = rng.random((400, 5))
    trust = 2 * traits[:, 2] + 0.3 * rng.standard_normal(400)
    outings = 3 * trust - traits[:, 4] + 0.3 * rng.standard_normal(400)
    path = tmp_path_factory.mktemp("table") / "t.csv"
    lines = [",".join([*TRAITS, "trust", "outings"])]
    for row, a, b in zip(traits, trust, outings, strict=True):
        lines.append(",".join(f"{value:.5f}" for value in (*row, a, b)))
    path.write_text("\n".join(lines))
    return path


def call(*args: object) -> str:
    result = CliRunner().invoke(app, ["graph", *map(str, args)])
    if result.exception is not None:
        raise result.exception
    return result.stdout


def effects(card: dict[str, object]) -> dict[tuple[str, str], dict[str, object]]:
    return {(e["cause"], e["node"]): e for e in card["effects"]}  # type: ignore[index,attr-defined]


def test_effects_of_a_table(table: Path, tmp_path: Path) -> None:
    out, dot, plot = tmp_path / "g.json", tmp_path / "g.dot", tmp_path / "g.svg"
    args = ("--data", table, "--labels", LABELS, "--bootstrap", 8, "--check-scale")
    files = ("--out", out, "--dot", dot, "--plot", plot)
    shown = call(*args, *files, "--do", "e", "--do", "trust=1")
    assert "extraversion -> trust" in shown
    assert "the same graph in all units" in shown
    card = json.loads(out.read_text())
    sem = fit_tiered(
        read_table(table, labels={"trust": "beliefs", "outings": "actions"})
    )
    found = effects(card)
    assert found["extraversion", "trust"]["direct"] == sem.weight[2, 5]
    assert found["extraversion", "outings"]["total"] == sem.total()[2, 6]
    assert found["trust", "outings"]["share"] == 1
    low, high = found["trust", "outings"]["total_interval"]  # type: ignore[misc]
    assert low < sem.weight[5, 6] < high
    did = {each["node"]: each for each in card["do"]["expected"]}
    assert did.keys() == {"trust", "outings"}
    assert did["trust"]["after"] == 1.0
    assert {each["node"] for each in card["do"]["unit"]} == {"trust", "outings"}
    edges = {(edge.parent, edge.child) for edge in read_edges(dot)}
    assert ("extraversion", "trust") in edges
    assert ("extraversion", "outings") not in edges
    assert plot.read_text().startswith("<?xml")
    with pytest.raises(UsageError, match="exists"):
        call(*args, "--out", out)
    again = json.loads(call(*args, "--out", out, "--force", "--json"))
    assert again["effects"] == card["effects"]


def test_searches_and_fixed_graphs(table: Path) -> None:
    labels = ("--data", table, "--labels", LABELS, "--json")
    found = effects(json.loads(call(*labels, "--structure", "notears")))
    assert found["trust", "outings"]["edge"]
    fixed = json.loads(call(*labels, "--edges", "e -> trust", "--bootstrap", 0))
    assert fixed["structure"] == "fixed"
    assert list(effects(fixed)) == [("extraversion", "trust")]
    shown = call("--data", table, "--labels", LABELS, "--markdown", "--bootstrap", 0)
    assert "| effect | direct | standardised | total |" in shown


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        ((), UsageError, "give a run, or a table"),
        (("RUN", "--check-scale"), UsageError, "--check-scale is for tables"),
        (("--data", "T", "--latent"), UsageError, "for runs"),
        (("--data", "T", "--structure", "tree"), UsageError, "tiered, fixed, dagma"),
        (("--data", "T", "--structure", "fixed"), UsageError, "needs edges"),
        (
            ("--data", "T", "--structure", "dagma", "--edges", "extraversion -> trust"),
            UsageError,
            "which is dagma",
        ),
        (("--data", "T", "--do", "e=7"), UsageError, "extraversion is 7"),
        (("--data", "T", "--labels", "trust"), UsageError, "not NAME=VALUE"),
        (("--data", "T", "--scale", "5,1"), UsageError, "not LOW,HIGH"),
        (("--data", "T", "--plot", "g.txt"), UsageError, "no name of a picture"),
        (("--data", "T", "--do", "e", "--do", "e"), UsageError, "twice"),
        (("--data", "T", "--least", "-1"), UsageError, "0 or more"),
        (("--data", "T", "--do", "extravert"), UnknownNameError, "'extraversion'"),
        (("--data", "T", "--compare", "fci"), UnknownNameError, "pc, ges, lingam"),
    ],
)
def test_calls_that_are_refused(
    table: Path, args: tuple[str, ...], error: type[Exception], message: str
) -> None:
    given = [str(table) if arg == "T" else arg for arg in args]
    with pytest.raises(error, match=message):
        call(*given)


def test_the_graph_of_a_model() -> None:
    with global_seed(Noise(0)):
        persona = Persona(toy_config())
    persona.set_scale(torch.full((7,), 0.5), torch.tensor([0.2] * 5 + [2.0, 4.0]))
    with torch.no_grad():
        persona.layer.weight.zero_()
        optimism, exercise = persona.node("optimism"), persona.node("exercise")
        persona.layer.weight[2, optimism] = 0.5
        persona.layer.weight[optimism, exercise] = -0.5
        persona.layer.weight[3, optimism + 1] = 0.7  # a latent node
    about = {"source": "run", "structure": "tiered", "least": 0.05}
    card = of_persona(
        persona,
        do={"extraversion": 0.7, "optimism": None},
        **about,  # type: ignore[arg-type]
    )
    found = effects(card)
    assert found.keys() == {
        ("extraversion", "optimism"),
        ("extraversion", "exercise"),
        ("optimism", "exercise"),
    }
    assert found["extraversion", "optimism"]["direct"] == pytest.approx(5.0)
    assert found["extraversion", "exercise"]["total"] == pytest.approx(-5.0)
    assert not found["extraversion", "exercise"]["edge"] or (
        found["extraversion", "exercise"]["direct"] == 0
    )
    assert card["do"]["unit"][0]["total"] == pytest.approx(-1.0)
    did = {each["node"]: each for each in card["do"]["expected"]}
    assert did["extraversion"]["after"] == pytest.approx(0.7)
    assert did["exercise"]["after"] - did["exercise"]["before"] == pytest.approx(-1.0)
    assert "latent nodes not shown" in to_text(card)
    every = of_persona(persona, every=True, **about)  # type: ignore[arg-type]
    latent = effects(every)["agreeableness", persona.node_names[optimism + 1]]
    assert latent["direct"] == pytest.approx(0.7 / 0.2)
    assert len(every["nodes"]) == 20


def test_a_model_with_networks_tells_derivatives() -> None:
    with global_seed(Noise(1)):
        persona = Persona(toy_config(mechanism="mask"))
    card = of_persona(persona, source="run", structure="tiered", least=0.0)
    total = persona.layer.total_effects()
    found = effects(card)["extraversion", "optimism"]
    assert found["direct"] is None
    assert found["total"] == pytest.approx(
        float(total[2, persona.node("optimism")]), rel=1e-4
    )
    assert "–" in to_text(card)


def test_pictures_and_dot(tmp_path: Path) -> None:
    weight = np.array([[0, 0.4, 0], [0, 0, -0.2], [0, 0, 0]])
    names, tiers = ["a", "b", "c"], ["personality", "actions", "actions"]
    figure = draw_graph(names, tiers, weight, title="t")
    for name in ("a.svg", "b.svg", "c.png"):
        save_figure(figure, tmp_path / name, package="mdlm-personality")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert len(figure.axes[0].texts) == 3 + 2 + 2  # nodes, tiers, arrows
    (tmp_path / "g.dot").write_text(to_dot(names, weight))
    edges = read_edges(tmp_path / "g.dot")
    assert [(e.parent, e.child, e.weight) for e in edges] == [
        ("a", "b", 0.4),
        ("b", "c", -0.2),
    ]


COLLIDER = np.array([[0, 0, 0.9, 0], [0, 0, 0.9, 0], [0, 0, 0, 0.9], [0, 0, 0, 0]])


@pytest.mark.parametrize("method", checking.METHODS)
def test_other_methods_find_what_can_be_found(method: str) -> None:
    """Two causes of one effect can be told from data; so can what follows from it."""
    pytest.importorskip("causallearn", reason="causal-learn is not installed")
    tiers = dict.fromkeys("abcd", "beliefs")
    rows = from_arrays(linear_data(COLLIDER, 2000, Noise(0), law="uniform"), tiers)
    (found,) = cross_check(rows, [method])
    assert found.rows == 2000
    for parent, child in ((0, 2), (1, 2), (2, 3)):
        assert found.verdict(parent, child) == "same"
        assert found.verdict(child, parent) == "opposite"
    assert found.verdict(0, 1) == "absent"


def test_directions_that_data_does_not_decide_stay_open() -> None:
    pytest.importorskip("causallearn", reason="causal-learn is not installed")
    chain = np.array([[0, 0.9, 0], [0, 0, 0.9], [0, 0, 0]])
    tiers = dict.fromkeys("abc", "beliefs")
    rows = from_arrays(linear_data(chain, 2000, Noise(0)), tiers)
    for found in cross_check(rows, ["pc", "ges"]):
        assert found.verdict(0, 1) == found.verdict(1, 2) == "undirected"
        assert found.verdict(0, 2) == "absent"


def test_other_methods_need_their_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "causallearn", None)
    rows = from_arrays(np.eye(3), dict.fromkeys("abc", "beliefs"))
    with pytest.raises(MissingExtraError, match=r"mdlm-personality\[causal\]"):
        cross_check(rows)


def test_a_tiered_graph_of_one_tier_says_why_it_is_empty(table: Path) -> None:
    found = CliRunner().invoke(app, ["graph", "--data", str(table), "--bootstrap", "0"])
    assert "all columns are of one tier" in found.stderr
    assert "one tier" not in found.stdout
