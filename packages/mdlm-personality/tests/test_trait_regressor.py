"""The regressor of traits, its loss and its task."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from scipy.stats import norm, pearsonr
from torch import Tensor

from mdlm_core.catalog import load_catalog
from mdlm_core.config import resolve
from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import Draw, corrupt_for_training
from mdlm_core.errors import ConfigError, UsageError
from mdlm_core.kernels.noise import Noise
from mdlm_core.testing.tiny import tiny_source
from mdlm_core.train import train
from mdlm_core.train.runs import load_run
from mdlm_personality.config import PersonalityDiTConfig
from mdlm_personality.nn.personality_dit import PersonalityDiT
from mdlm_personality.regressor.model import TraitLaw, TraitRegressor, traits_of
from mdlm_personality.regressor.saved import load_regressor
from mdlm_personality.regressor.task import correlation
from mdlm_personality.traits import TRAITS

from .regressor_toy import MASK, canvas, regressor, schedule, trunk


def clean(rows: int = 4) -> Batch:
    """Return rows without a mask, some of whose traits are known."""
    batch = canvas(rows)
    u = Noise(4).uniform(torch.arange(rows), 7)
    known = torch.ones(rows, 7, dtype=torch.bool)
    known[0, 2] = False
    known[1] = False
    return Batch.of(
        batch.tokens.masked_fill(batch.tokens == MASK, 4),
        frozen=batch.frozen,
        pad=batch.pad,
        condition={"traits": u.float(), "known": known},
    )


def test_log_prob_is_that_of_scipy() -> None:
    law = TraitLaw(torch.tensor([[0.1, 0.5]]), torch.tensor([[0.2, 0.4]]))
    values = torch.tensor([[0.3, 0.9]])
    each = norm.logpdf([0.3, 0.9], [0.1, 0.5], [0.2, 0.4])
    assert float(law.log_prob(values)[0]) == pytest.approx(each.sum(), abs=1e-5)
    one = law.log_prob(values, torch.tensor([[False, True]]))
    assert float(one[0]) == pytest.approx(each[1], abs=1e-5)


def test_the_persona_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    judge, batch = regressor(), clean()
    seen = []
    before = judge.trunk.trunk

    def watch(x: Tensor, rows: Batch, t: Tensor | None) -> Tensor:
        seen.append(dict(rows.condition))
        return before(x, rows, t)

    monkeypatch.setattr(judge.trunk, "trunk", watch)
    judge(batch, Draw(Noise(0), torch.arange(4), 4))
    assert seen == [{}]
    told = PersonalityDiT(
        PersonalityDiTConfig(blocks=1, width=16, heads=2, latent_dim=20),
        vocab_size=6,
        mask_id=MASK,
        length=5,
    )
    with pytest.raises(ConfigError, match="is told them"):
        TraitRegressor(told, schedule=schedule())


def test_padding_is_not_read() -> None:
    judge, batch = regressor(), clean()
    changed = batch.tokens.masked_fill(batch.pad, 1)
    t = torch.full((4,), 0.5)
    one, two = judge.law(batch, t), judge.law(batch.with_tokens(changed), t)
    assert torch.equal(one.mean, two.mean)


def test_the_loss_is_the_density_of_standardised_traits() -> None:
    judge, batch = regressor(), clean()
    judge.mean.copy_(torch.tensor([0.2, 0.4, 0.5, 0.6, 0.3]))
    judge.std.copy_(torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5]))
    draw = Draw(Noise(0), torch.arange(4), 4)
    loss = judge(batch, draw)
    noised = corrupt_for_training(batch, schedule=schedule(), draw=draw, mask_id=MASK)
    with torch.no_grad():
        law = judge.law(noised.batch, noised.t)
    total = 0.0
    for row in range(4):
        for k in range(5):
            if batch.condition["known"][row, k]:
                std = float(judge.std[k])
                y = (float(batch.condition["traits"][row, k]) - judge.mean[k]) / std
                centre = (float(law.mean[row, k]) - judge.mean[k]) / std
                total -= norm.logpdf(
                    float(y), float(centre), float(law.sd[row, k]) / std
                )
    assert float(loss.total.detach()) == pytest.approx(total, rel=1e-4)
    assert int(loss.count) == 14 == int(judge.count(batch))
    assert len(loss.nll) == 3 == int(loss.masked.sum())
    assert float(loss.nll.sum()) == pytest.approx(total, rel=1e-4)


def test_rows_without_text_do_not_count() -> None:
    judge, batch = regressor(), clean()
    frozen = batch.frozen.clone()
    frozen[2] = True
    none = replace(batch, frozen=frozen)
    assert int(judge.count(none)) == 9
    assert int(judge(none, Draw(Noise(0), torch.arange(4), 4)).count) == 9


def test_the_head_of_tokens_is_left_alone() -> None:
    judge = TraitRegressor(trunk(), schedule=schedule())
    assert not any(p.requires_grad for p in judge.trunk.head.parameters())
    with pytest.raises(ConfigError, match=r"set model\.name=dit"):
        TraitRegressor(torch.nn.Linear(1, 1), schedule=schedule())


def test_spreads_stay_within_bounds() -> None:
    judge = regressor()
    with torch.no_grad():
        judge.head.bias[5:] = torch.tensor([1e6, -1e6, 0.0, 50.0, -50.0])
        sd = judge.law(canvas(), torch.full((3,), 0.5)).sd
    assert bool(torch.isfinite(sd).all())
    assert float(sd.min()) > 0.04 * 12**-0.5


def test_correlation_is_pearsons() -> None:
    x, y = Noise(0).uniform(torch.arange(2), 9)
    assert correlation(x, y) == pytest.approx(pearsonr(x, y).statistic)
    assert correlation(x, torch.ones(9)) is None
    assert correlation(x[:1], y[:1]) is None


def test_data_without_traits_is_refused() -> None:
    with pytest.raises(UsageError, match="have no traits"):
        traits_of({})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run of a few steps on a few invented persons."""
    out = tmp_path_factory.mktemp("regressor") / "run"
    catalog = load_catalog()
    resolved = resolve(
        catalog,
        preset="personality/regressor",
        sets=[
            "model.width=32",
            "model.heads=2",
            "model.blocks=1",
            "model.cond_width=16",
            "data.length=48",
            "data.authors=300",
            "data.sentences=12",
            "data.effect=16",
            "data.tokenizer=bpe:400",
            "train.steps=60",
            "train.warmup=5",
            "train.lr=4e-3",
            "train.eval_every=60",
            "train.save_every=60",
            "train.batch_size=32",
            "train.ema=0.0",
        ],
    )
    train(resolved.config, out=out, catalog=catalog, device="cpu")
    return out


def test_it_learns_what_words_say_of_traits(run: Path) -> None:
    """Better than the law of the traits alone, which has 1.42 nats."""
    found = load_regressor(run, device="cpu")
    assert isinstance(found, TraitRegressor)
    assert not found.training
    lines = (run / "metrics.jsonl").read_text().splitlines()
    held = [n for n in map(json.loads, lines) if n["kind"] == "validation"][-1]
    assert held["loss"] < 1.40
    assert held["r"] > 0.15
    each = [held[f"r_{name}"] for name in TRAITS]
    assert held["r"] == pytest.approx(sum(each) / 5)
    assert torch.allclose(found.mean, torch.full((5,), 0.5), atol=0.1)


def test_another_tokenizer_and_another_task_are_refused(run: Path) -> None:
    with pytest.raises(UsageError, match="tokenizer"):
        load_regressor(run, device="cpu", tokenizer=tiny_source().tokenizer)


def test_it_makes_no_text_and_has_no_bound() -> None:
    catalog = load_catalog()
    config = resolve(catalog, preset="personality/regressor", tiny=True).config
    task = catalog.build("task", config.task, run=config, catalog=catalog)
    with pytest.raises(UsageError, match="no likelihood"):
        task.bound()
    with pytest.raises(UsageError, match="--regressor THIS"):
        task.condition({}, 1)
    with pytest.raises(ConfigError, match="has no traits"):
        task.start(regressor(), tiny_source())


def test_samples_quote_no_text_of_people(run: Path) -> None:
    loaded = load_run(run, device="cpu")
    task = loaded.catalog.build(
        "task", loaded.config.task, run=loaded.config, catalog=loaded.catalog
    )
    shown = task.samples(loaded.module, loaded.source, seed=0)
    assert len(shown) == 3
    own = {*TRAITS, "row", "told"}
    words = {word for line in shown for word in re.findall(r"[a-z]{3,}", line)}
    assert words == own
    told = loaded.source.windows("validation").values
    row = int(shown[1].split()[1].rstrip(":"))
    assert f"(told {told[row, 0]:.2f})" in shown[1].split(",")[0]


def test_padding_tells_nothing() -> None:
    model = regressor()
    with torch.no_grad():
        for weight in model.head.parameters():
            weight.normal_(generator=torch.Generator().manual_seed(1))
    tokens = canvas().tokens[:1]
    pad = torch.zeros_like(tokens, dtype=torch.bool)
    longer = torch.cat([tokens, torch.ones_like(tokens)], 1)
    padded = Batch.of(longer, pad=torch.cat([pad, ~pad], 1))
    with torch.no_grad():
        short, long = model.law(Batch.of(tokens)), model.law(padded)
    assert torch.allclose(short.mean, long.mean, atol=1e-6)
    assert torch.allclose(short.sd, long.sd, atol=1e-6)
