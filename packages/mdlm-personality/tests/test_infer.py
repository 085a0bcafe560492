"""Traits of a text by Bayes, against laws that are known."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from torch import Tensor, nn
from typer.testing import CliRunner

from mdlm_core.data.batch import Batch
from mdlm_core.data.tokenizers import CharTokenizer
from mdlm_core.diffusion.schedule import LogLinear
from mdlm_core.errors import DataError, UsageError
from mdlm_core.kernels.noise import Noise
from mdlm_personality import inference
from mdlm_personality.inference import encode, infer_traits, windows
from mdlm_personality.posteriors import fit_temperature, training_prior
from mdlm_personality.traits import TRAITS

EFFECT = 4.0


class Words(nn.Module):
    """Letters that are independent given the traits: the bound is exact.

    Trait k has the letters 2k (of the high) and 2k + 1 (of the low), whose log-odds
    are ``EFFECT (v - 0.5)``, 0 if it is not known.
    """

    time_conditioned = False

    def __init__(self, tokenizer: CharTokenizer) -> None:
        super().__init__()
        self.vocab_size, self.mask_id = tokenizer.vocab_size, tokenizer.mask_id
        self.seen: list[Tensor] = []

    def hidden(self, batch: Batch, t: Tensor | None = None) -> Tensor:
        value, known = batch.condition["traits"], batch.condition["known"]
        half = torch.where(known, EFFECT * (value - 0.5), 0.0) / 2
        law = torch.zeros(len(batch), self.vocab_size)
        law[:, 0:10:2], law[:, 1:10:2] = half[:, :5], -half[:, :5]
        pairs = law[:, :10].view(-1, 5, 2).log_softmax(-1)
        law[:, :10] = pairs.reshape(-1, 10)
        self.seen.append(batch.tokens == self.mask_id)
        return law[:, None].expand(-1, batch.length, -1)

    def logits(self, hidden: Tensor) -> Tensor:
        return hidden


def trained(length: int = 12, columns: int = 7) -> Any:
    tokenizer = CharTokenizer("abcdefghij")
    names = (*TRAITS, "wellness", "exercise")[:columns]
    table = np.array([[0.1, 0.5, 0.5, 0.5, np.nan], [0.1, 0.5, 0.52, 0.9, np.nan]])
    source = SimpleNamespace(table=lambda split: table)
    return SimpleNamespace(
        backbone=Words(tokenizer),
        persona=SimpleNamespace(columns=names),
        tokenizer=tokenizer,
        schedule=LogLinear(eps=0.0),
        length=length,
        device="cpu",
        run=SimpleNamespace(source=source),
    )


def density(v: float, high: int, low: int) -> float:
    p = 1 / (1 + np.exp(-EFFECT * (v - 0.5)))
    return float(p**high * (1 - p) ** low)


def bayes(high: int, low: int) -> tuple[float, float]:
    """Return the posterior mean and deviation under a uniform prior, by quadrature."""
    total, first, second = (
        quad(lambda v, k=k: v**k * density(v, high, low), 0, 1)[0] for k in range(3)
    )
    mean = first / total
    return mean, (second / total - mean**2) ** 0.5


def test_the_posterior_is_that_of_bayes() -> None:
    """Context-free letters: the bound is -log p, and the answer naive Bayes."""
    found = infer_traits(
        trained(), ["aaaab", "ddf"], grid=41, draws=1, estimator="any-order"
    )
    counts = [
        [(4, 1), (0, 0), (0, 0), (0, 0), (0, 0)],
        [(0, 0), (0, 2), (0, 1), (0, 0), (0, 0)],
    ]
    for row, traits in enumerate(counts):
        for k, (high, low) in enumerate(traits):
            mean, sd = bayes(high, low)
            assert float(found.mean[row, k]) == pytest.approx(mean, abs=2e-3)
            assert float(found.sd[row, k]) == pytest.approx(sd, abs=2e-3)
            law = [density(v, high, low) for v in found.grid.tolist()]
            law[0], law[-1] = law[0] / 2, law[-1] / 2
            wanted = torch.tensor(law).double() / sum(law)
            assert torch.allclose(found.law[row, k], wanted, atol=1e-5)
    assert float(found.mode[0, 0]) == pytest.approx(0.85, abs=0.03)
    assert float(found.mode[1, 1]) == 0.0
    assert found.tokens.tolist() == [6, 4]


def test_orders_of_letters_without_context_are_all_alike() -> None:
    found = infer_traits(trained(), ["abcab"], draws=3, estimator="any-order")
    assert found.draws.shape == (1, 5, 11, 3)
    assert float(found.mean_se.max()) < 1e-6
    some = infer_traits(trained(), ["abcab"], draws=3)
    assert float(some.mean_se.max()) > 1e-3  # a mask alone scores part of the text
    one = infer_traits(trained(), ["abcab"], draws=1)
    assert bool(one.mean_se.isnan().all())


def test_the_standard_error_is_that_of_repeated_draws() -> None:
    found = [
        infer_traits(trained(), ["aabac"], draws=5, noise=Noise(seed))
        for seed in range(60)
    ]
    means = torch.stack([f.mean[0, 0] for f in found])
    told = torch.stack([f.mean_se[0, 0] for f in found]).square().mean().sqrt()
    assert float(means.std()) < 1.5 * float(told)
    assert float(means.mean()) == pytest.approx(bayes(3, 1)[0], abs=0.03)


def test_all_values_of_all_traits_share_their_masks() -> None:
    model = trained()
    infer_traits(model, ["abcdefgh"], grid=5, draws=3)
    for masks in model.backbone.seen:
        assert len(masks) == 25
        assert bool((masks == masks[0]).all())


def test_only_one_trait_is_told_at_a_time() -> None:
    model, told = trained(), []
    hidden = model.backbone.hidden

    def watch(batch: Batch, t: Tensor | None = None) -> Tensor:
        told.append(batch.condition["known"])
        return cast("Tensor", hidden(batch, t))

    model.backbone.hidden = watch
    infer_traits(model, ["ab"], grid=3, draws=1)
    known = told[0]
    assert known.shape == (15, 7)
    assert known.sum(1).tolist() == [1] * 15
    assert known.int().argmax(1).tolist() == [k for k in range(5) for _ in range(3)]


def test_long_texts_are_cut_and_their_evidence_adds_up() -> None:
    text = "a" * 9 + "b" * 5
    short = infer_traits(trained(4), [text], draws=1, grid=21, estimator="any-order")
    mean, _ = bayes(9, 5)
    assert float(short.mean[0, 0]) == pytest.approx(mean, abs=0.004)
    assert short.tokens.tolist() == [15]


def test_texts_of_one_author_are_one_text() -> None:
    both = infer_traits(
        trained(), ["aab", "aaa"], together=True, draws=1, estimator="any-order"
    )
    assert both.mean.shape == (1, 5)
    assert float(both.mean[0, 0]) == pytest.approx(bayes(5, 1)[0], abs=0.01)


def test_a_text_does_not_depend_on_the_others() -> None:
    texts = ["aab", "ccdeabf", "j"]
    tokenizer = trained().tokenizer
    rows, owner = windows(encode(tokenizer, texts), 4, tokenizer)
    assert owner.tolist() == [0, 1, 1, 2]
    assert rows.pad.sum(1).tolist() == [0, 0, 0, 2]
    assert [rows.tokens[r][~rows.pad[r]].tolist()[-1] for r in (0, 2, 3)] == [
        tokenizer.eod_id
    ] * 3
    every = infer_traits(trained(), texts, draws=3)
    first = infer_traits(trained(), texts[:1], draws=3)
    assert torch.allclose(every.mean[0], first.mean[0])


def test_pieces_change_nothing() -> None:
    model = trained()
    rows, _ = windows(encode(model.tokenizer, ["aab", "cd", "ef"]), 12, model.tokenizer)
    settings: dict[str, Any] = {
        "grid": torch.linspace(0, 1, 3),
        "columns": 7,
        "draws": 2,
        "noise": Noise(0),
    }
    one = inference.log_likelihoods(model.backbone, rows, **settings)
    done: list[tuple[int, int]] = []
    two = inference.log_likelihoods(
        model.backbone,
        rows,
        **settings,
        tokens_at_once=1,
        progress=lambda a, b: done.append((a, b)),
    )
    assert torch.allclose(one, two)
    assert done == [(1, 3), (2, 3), (3, 3)]


def test_the_prior_of_the_training_authors() -> None:
    found = infer_traits(trained(), ["j"], prior="training", draws=1)
    cells = torch.tensor([0.05, *[0.1] * 9, 0.05]).double()
    wanted = cells.clone()
    wanted[1] += 2
    assert torch.allclose(found.log_prior[0].exp(), wanted / 3)
    assert torch.allclose(found.log_prior[4].exp(), cells)
    assert torch.allclose(found.law[0, 0], wanted / 3)
    table = np.array([[np.nan, 1.0, 0.0, 0.5, 0.5]])
    masses = training_prior(table, torch.linspace(0, 1, 3).double()).exp()
    assert masses[1].tolist() == pytest.approx([0.125, 0.25, 0.625])


def test_the_fitted_temperature_makes_up_for_a_factor() -> None:
    """Likelihoods that count every letter three times need T = 3."""
    u = Noise(0).uniform(torch.arange(300), 40)
    truth = (u[:, :1] * 20).round() / 20
    grid = torch.linspace(0, 1, 21).double()
    chance = torch.sigmoid(EFFECT * (truth - 0.5))
    high = (u[:, 1:13] < chance).sum(1)  # (N,) of 12 letters
    p = torch.sigmoid(EFFECT * (grid - 0.5))
    nats = high[:, None] * p.log() + (12 - high[:, None]) * (1 - p).log()
    draws = 3 * nats[:, None, :, None].expand(-1, 5, -1, 2)
    known = torch.zeros(300, 5, dtype=torch.bool)
    known[:, 0] = True
    log_prior = torch.full((5, 21), 1 / 21).double().log()
    wrong = torch.rand_like(truth).expand(-1, 4)  # values that are not known
    found = fit_temperature(draws, torch.cat([truth, wrong], 1), known, grid, log_prior)
    assert found == pytest.approx(3.0, rel=0.25)
    with pytest.raises(DataError, match="no trait"):
        fit_temperature(draws, truth.expand(-1, 5), ~known & False, grid, log_prior)


def test_temperature_makes_the_law_flatter() -> None:
    sharp = infer_traits(trained(), ["aaaaaa"], draws=2)
    flat = infer_traits(trained(), ["aaaaaa"], draws=2, temperature=5.0)
    assert torch.allclose(flat.draws, sharp.draws)
    assert float(flat.sd[0, 0]) > float(sharp.sd[0, 0])


@pytest.mark.parametrize(
    ("texts", "settings", "message"),
    [
        ([], {}, "no text"),
        (["a", " "], {}, "text 2 of 2 is empty"),
        (["a"], {"grid": 1}, "at least 2"),
        (["a"], {"draws": 0}, "at least 1"),
        (["a"], {"temperature": 0.0}, "positive"),
        (["a"], {"estimator": "mean"}, "exact-counts or any-order"),
        (["a"], {"prior": "normal"}, "uniform or training"),
    ],
)
def test_what_cannot_be_answered(
    texts: list[str], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        infer_traits(trained(), texts, **settings)


# ---- the command ------------------------------------------------------------


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that runs ``mdlm personality infer`` on the toy."""
    import typer

    from mdlm_personality import saved
    from mdlm_personality.cli.infer import infer

    model = trained()
    config = SimpleNamespace(trait_dropout=0.3)
    model.run.config = SimpleNamespace(task=SimpleNamespace(config=config))
    monkeypatch.setattr(saved, "load", lambda *_, **__: model)
    app = typer.Typer()
    app.command()(infer)

    def call(*arguments: str, source: str | None = None) -> Any:
        return CliRunner().invoke(app, ["run", *arguments], input=source)

    call.config = config  # type: ignore[attr-defined]
    return call


def test_the_command_prints_a_table_and_what_it_is_not(command: Any) -> None:
    done = command("--text", "aaaab", "--draws", "4")
    assert done.exit_code == 0, done.output
    for name in TRAITS:
        assert name in done.stdout
    assert "no assessment of a person" in done.stdout
    assert "temperature 1 (as modelled)" in done.stdout


def test_the_command_writes_json_and_keeps_files(command: Any, tmp_path: Any) -> None:
    out, lines = tmp_path / "found.json", tmp_path / "texts.txt"
    lines.write_text("aab\n\nccd\n")
    done = command(
        "--file", str(lines), "--out", str(out), "--json", "--estimator", "any-order"
    )
    assert done.exit_code == 0, done.output
    found = json.loads(out.read_text())
    assert found == json.loads(done.stdout)
    assert [text["text"] for text in found["texts"]] == ["aab", "ccd"]
    trait = found["texts"][0]["traits"]["openness"]
    assert trait["mean"] == pytest.approx(bayes(2, 1)[0], abs=0.01)
    assert sum(trait["posterior"]) == pytest.approx(1)
    again = command("--text", "a", "--out", str(out))
    assert isinstance(again.exception, UsageError)
    assert "--force" in str(again.exception)
    forced = command("--text", "a", "--out", str(out), "--force")
    assert forced.exit_code == 0, forced.output


def test_the_command_tells_of_a_model_that_never_saw_single_traits(
    command: Any,
) -> None:
    command.config.trait_dropout = 0.0
    done = command("--text", "a", "--draws", "2")
    assert "task.trait_dropout=0" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no text"),
        (["--text", "a", "--file", "x"], "two sources"),
        (["--file", "no/such"], "cannot be read"),
        (["--text", "a", "--temperature", "2", "--calibrate", "4"], "both set T"),
        (
            ["--text", "a", "--out", "no/such/found.json"],
            "there is no folder 'no/such'",
        ),
    ],
)
def test_the_command_refuses(command: Any, arguments: list[str], message: str) -> None:
    done = command(*arguments)
    assert done.exit_code != 0
    assert message in str(done.exception)
