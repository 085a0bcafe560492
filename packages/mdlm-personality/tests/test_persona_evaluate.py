import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from mdlm_core import load_catalog
from mdlm_core.config import resolve
from mdlm_core.errors import DataError, UsageError
from mdlm_core.kernels.noise import Noise
from mdlm_core.train.start import train
from mdlm_personality.cli import app
from mdlm_personality.config import GuidanceConfig
from mdlm_personality.data.corpus import write_texts
from mdlm_personality.data.lexicon import MEANING
from mdlm_personality.data.texts import PersonaTexts
from mdlm_personality.evaluate import Plan, evaluate, judge_for, unseen, writers
from mdlm_personality.metrics import trials
from mdlm_personality.metrics.alignment import alignment
from mdlm_personality.metrics.judges import LexiconJudge, TextJudge
from mdlm_personality.metrics.representation import text_codes
from mdlm_personality.report import page, tables, text
from mdlm_personality.saved import Trained, load
from mdlm_personality.traits import TRAITS, trait_index

NOISE = Noise(2)
SMALL = Plan(gammas=(1.0, 2.0), samples=8, personas=2, rows=8, draws=2, steps=4)


def writer(listens: bool):
    """Return what writes as the corpus does, for its persona or for nobody."""

    def generate(trained, values, *, do, seed, **settings):
        values = values.clone()
        for row, one in enumerate(do or ()):
            for name, value in one.items():
                values[row, trait_index(name)] = value
        if not listens:
            values = torch.full_like(values, 0.5)
        texts = write_texts(
            values.numpy(), sentences=10, effect=8.0, labels=False, noise=Noise(seed)
        )
        width = max(len(each.split()) for each in texts)
        ids = [[hash(w) for w in each.split()] for each in texts]
        tokens = torch.tensor([row + [0] * (width - len(row)) for row in ids])
        return SimpleNamespace(
            texts=texts, tokens=tokens[:, :40], nfe=torch.full((len(texts),), 3)
        )

    return generate


def settings() -> dict:
    return {"guidance": GuidanceConfig(), "manner": None, "noise": NOISE}


def test_a_writer_that_listens_flips_and_leaves_the_rest(monkeypatch):
    monkeypatch.setattr(trials, "generate", writer(True))
    judge = LexiconJudge(8.0)
    fit = trials.aligned(None, judge, samples=200, **settings())
    assert all(each.r.value > 0.75 for each in fit.alignment)
    assert fit.drawn.nfe == 3
    found = trials.flipped(None, judge, personas=100, **settings())
    assert found.nfe == 6
    for each in found.flips:
        assert each.rate.value > 0.9
        assert each.net.value > 0.8
        assert each.off_target.value == 0  # coupled: the others' words are the same
        assert each.off_target_null.value > 0
        assert 0.02 < each.edits.value < 0.3
        assert each.pairs == 100
        assert 90 < each.rows <= 100  # of all but the undecided


def test_a_writer_that_does_not_listen_has_no_effect(monkeypatch):
    monkeypatch.setattr(trials, "generate", writer(False))
    judge = LexiconJudge(8.0)
    fit = trials.aligned(None, judge, samples=200, **settings())
    assert all(abs(each.r.value) < 0.25 for each in fit.alignment)
    found = trials.flipped(None, judge, personas=60, **settings())
    for each in found.flips:
        assert each.rate.value == 0
        assert each.edits.value == 0
        assert each.net.high <= 0


def test_personas_are_uniform_or_extreme():
    uniform = trials.uniform_personas(500, NOISE)
    assert uniform.shape == (500, 5)
    assert float(uniform.mean()) == pytest.approx(0.5, abs=0.03)
    extreme = trials.extreme_personas(500, NOISE)
    assert ((extreme <= 0.25) | (extreme >= 0.75)).all()
    assert float((extreme > 0.5).double().mean()) == pytest.approx(0.5, abs=0.05)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("evaluate") / "run"
    found = resolve(
        load_catalog(),
        plugin="personality",
        sets=[
            "data.authors=400",
            "train.steps=3",
            "task.eval_rows=4",
            "task.sample_count=0",
            "train.warmup=0",
            "model.encoder=beta-vae",
        ],
        tiny=True,
    )
    train(found.config, out=out)
    return out


@pytest.fixture(scope="module")
def trained(run: Path) -> Trained:
    return load(run, device="cpu")


@pytest.fixture(scope="module")
def card(trained: Trained) -> dict:
    written = []
    found = evaluate(trained, SMALL, progress=written.append)
    assert sum(written) == SMALL.texts
    return found


def test_a_card_has_every_measure_beside_its_reference(card):
    json.dumps(card, allow_nan=False)
    assert [each["gamma"] for each in card["guided"]] == [1.0, 2.0]
    one, two = card["guided"]
    assert two["nfe"] == pytest.approx(2 * one["nfe"], rel=0.2)
    assert len(one["flips"]) == len(one["alignment"]) == len(card["ceiling"]) == 5
    assert set(one["diversity"]) == {"written", "people"}
    assert one["diversity"]["written"]["words"] == one["diversity"]["people"]["words"]
    assert set(card["disentanglement"]) == {"persona"}  # eight rows are too few
    assert card["reconstruction"]["constant"] > 0.9
    assert card["bound"]["elbo_ppl"] > 1
    assert card["bound"]["ordered"]["perplexity"] > 1


def test_the_same_seed_gives_the_same_card(trained, card):
    again = evaluate(trained, SMALL)
    assert {**again, "seconds": 0} == {**card, "seconds": 0}


def test_the_report_has_all_tables(card):
    names = [table.name for table in tables(card)]
    assert names == [
        "summary",
        "alignment",
        "flips",
        "flips",
        "diversity",
        "disentanglement",
        "bound",
    ]
    assert "| openness" in text(card)
    html = page(card)
    assert html.count("<table>") == 1 + len(names)
    assert "no assessment of any person" in " ".join(html.split())


def test_the_judge_goes_with_the_data(trained):
    assert isinstance(judge_for(trained), LexiconJudge)
    assert judge_for(trained).effect == 8.0


def test_other_texts_can_be_compared_with(trained):
    texts = trained.run.source.texts("validation")
    judge = TextJudge().fit(trained.run.source.texts("train"))
    plan = Plan(gammas=(1.0,), samples=8, personas=0, rows=60, draws=1, steps=2)
    found = evaluate(trained, plan, data=texts, judge=judge)
    assert found["held_out_by_run"] is False
    assert found["guided"][0]["flips"] == []
    assert set(found["disentanglement"]) == {"persona", "text"}
    r = [each["r"]["value"] for each in found["ceiling"]]
    assert np.mean([value or 0 for value in r]) > 0.2


@pytest.mark.parametrize(
    "wrong",
    [
        {"samples": 2},
        {"personas": -1},
        {"gammas": ()},
        {"gammas": (1.0, 1.0)},
        {"gammas": (float("nan"),)},
        {"draws": 0},
    ],
)
def test_a_plan_that_cannot_be_is_refused(wrong):
    with pytest.raises(UsageError):
        Plan(**wrong)


def test_the_command_writes_a_report_and_does_not_replace_it(run, tmp_path):
    runner = CliRunner()
    flags = "--gamma 1 --samples 8 --personas 1 --rows 6 --draws 1 --steps 2"
    out = tmp_path / "report"
    given = ["evaluate", str(run), *flags.split(), "--out", str(out), "--device", "cpu"]
    found = runner.invoke(app, [*given, "--json"])
    assert found.exit_code == 0, found.output
    assert json.loads(found.stdout)["guided"][0]["gamma"] == 1.0
    assert {path.name for path in out.iterdir()} == {
        "evaluation.json",
        "evaluation.md",
        "evaluation.html",
    }
    again = runner.invoke(app, given)
    assert isinstance(again.exception, UsageError)
    assert "--force" in str(again.exception)
    wrong = runner.invoke(app, ["evaluate", str(run), "--gamma", "x"])
    assert "numbers with commas" in str(wrong.exception)


def test_authors_that_were_learned_from_are_left_out(trained):
    """By name, but for invented persons; and by any text that is in training."""
    source = trained.run.source
    learned, held = source.texts("train"), source.texts("validation")
    mixed = PersonaTexts(
        (*held.texts, learned.texts[0], "another text"),
        (*held.authors, "Stranger", " stranger"),
        np.concatenate([held.values, learned.values[:2]]),
        held.columns,
        held.tiers,
    )
    assert unseen(trained, mixed).texts == held.texts
    with pytest.raises(DataError, match="has learned from; give texts by others"):
        unseen(trained, learned)
    other = PersonaTexts(("new",), (learned.authors[0],), held.values[:1], held.columns)
    assert len(unseen(trained, other)) == 1  # person-0 of another corpus
    config = SimpleNamespace(data=SimpleNamespace(config=None))
    run = SimpleNamespace(source=source, config=config, folder="run")
    real = SimpleNamespace(persona=trained.persona, run=run)
    with pytest.raises(DataError, match="all 1 texts are by authors"):
        unseen(real, other)
    wrong = PersonaTexts(("new",), ("a",), np.zeros((1, 6)), (*TRAITS, "shoe size"))
    with pytest.raises(DataError, match="shoe size, and the run has"):
        unseen(trained, wrong)


def test_states_of_texts_are_one_for_each_person(trained):
    source = trained.run.source
    codes, traits = text_codes(trained, source, 0)
    people = source.table("validation")
    assert len(codes) == len(traits) == len(people) < source.size("validation")
    np.testing.assert_array_equal(traits, people[:, :5])
    rows = np.flatnonzero(source.owners("validation") == 1)
    batch = source.rows("validation", rows)
    with torch.no_grad():
        plain = replace(batch, condition={})
        states = trained.backbone.hidden(plain, torch.zeros(len(rows))).double()
    means = [s[f].mean(0) for s, f in zip(states, batch.free, strict=True)]
    np.testing.assert_allclose(codes[1], torch.stack(means).mean(0), atol=1e-5)
    some, _ = text_codes(trained, source, 60)
    assert 0 < len(some) < 60


def test_the_ceiling_is_drawn_by_authors(monkeypatch, trained):
    """An author's windows are one draw; spellings of a name are one author."""
    texts = trained.run.source.windows("validation")
    numbers = writers(texts)
    assert len(set(numbers)) == len(set(texts.authors)) < len(texts)
    assert writers(
        replace(
            texts,
            authors=("Ann", "ann ") * (len(texts) // 2) + ("Ann",) * (len(texts) % 2),
        )
    ) == [0] * len(texts)
    seen = []

    def spy(values, readings, *, noise, groups=None):
        seen.append(groups)
        return alignment(values, readings, noise=noise, groups=groups)

    monkeypatch.setattr("mdlm_personality.evaluate.alignment", spy)
    plan = Plan(gammas=(1.0,), samples=8, personas=0, rows=0, draws=1, steps=1)
    monkeypatch.setattr("mdlm_personality.evaluate._representation", lambda *_: {})
    monkeypatch.setattr("mdlm_personality.evaluate._bounds", lambda *_: {})
    evaluate(trained, plan)
    assert 1 < len(set(seen[0])) < len(seen[0])


def test_a_report_quotes_no_text_of_people(card):
    words = set(MEANING)
    shown = set(re.findall(r"[a-z]+", text(card) + page(card) + json.dumps(card)))
    assert len(shown & words) < 3
