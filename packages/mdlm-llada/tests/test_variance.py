"""The measured decomposition, against closed forms, enumeration and simulation."""

import json
import math
from itertools import product

import numpy as np
import pytest
import torch
from scipy import integrate

from mdlm_core.cli import run
from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import LogLinear
from mdlm_core.errors import ConfigError, DataError, TrainingError
from mdlm_core.kernels.noise import Noise
from mdlm_core.masking import UniformMasking
from mdlm_core.train import load_run
from mdlm_llada.checkpoint.tiny import tiny_checkpoint
from mdlm_llada.config import TimesConfig
from mdlm_llada.sft.density import Density, midpoints
from mdlm_llada.sft.measure import TimeLaw
from mdlm_llada.variance import Draws, measure_draws, report
from mdlm_llada.variance.decompose import Cells, between_strata, decompose
from mdlm_llada.variance.gains import fitted
from mdlm_llada.variance.measure import Grid, grid_of

from .sft_run import MIRROR
from .sft_run import run as train
from .sft_toy import MASK, ToyBackbone, V
from .sft_toy import rows as toy_rows

T_MIN = 1e-3
P, CE = 40, math.log(50)


class ZeroLogits(torch.nn.Module):
    """Every token costs ln 50 nats, whatever is visible."""

    vocab_size, mask_id, time_conditioned = 51, 50, False

    def hidden(self, batch, t=None):
        return torch.zeros(*batch.tokens.shape, 1)

    def logits(self, hidden):
        return torch.zeros(len(hidden), 51)


def pattern(p):
    """Return v at the mask rate p, of zero logits."""
    return CE**2 * (1 - p) / (P * p)


def mirror(p):
    """Return the variance of the mean over a mask and its mirror image."""
    return (
        CE**2 * (1 - 2 * p) / (2 * P * p)
        if p <= 0.5
        else CE**2 * (1 - p) * (2 * p - 1) / (2 * P * p * p)
    )


def integral(f):
    """Return the integral over tau in [0, 1]."""
    value, _ = integrate.quad(
        lambda p: f(p) / (1 - T_MIN), T_MIN, 1, points=[0.01, 0.1, 0.5], limit=200
    )
    return value


@pytest.fixture(scope="module")
def zero():
    return measure_draws(
        ZeroLogits(),
        Batch.of(torch.zeros(24, P, dtype=torch.int64)),
        schedule=LogLinear(eps=0.0),
        times=24,
        masks=24,
        noise=Noise(0),
    )


@pytest.fixture(scope="module")
def found(zero):
    config = TimesConfig(loss_max=1e9, starts=4)
    return report(zero, config=config, batch=64, noise=Noise(1))


def method(found, name):
    return next(each for each in found.methods if each.name == name)


def near(number, expected, error=None):
    """Return whether a number is where it must be, within its error."""
    width = 4 * (number.se if error is None else error)
    return abs(number.value - expected) < width < 0.2 * max(abs(expected), 0.2)


def test_the_grid_integrates_what_grows_like_one_over_t():
    grid = grid_of(24, T_MIN)
    assert float(grid.shares.sum()) == pytest.approx(1)
    t = T_MIN + (1 - T_MIN) * grid.times
    for f in (lambda t: 1 / t, lambda t: t**2, lambda t: t**-0.5):
        # The rule of the middles has an error of 1 / b^2.
        found = float(f(t) @ grid.shares)
        assert found == pytest.approx(integral(f), rel=0.01)


def test_parts_of_zero_logits(found):
    """A = c^2 (ln(1 / t_min) ... - 1) / P by quadrature, B = C = 0, the mean ln 50."""
    a = integral(pattern)
    assert a == pytest.approx(2.26, abs=0.01)
    assert near(found.a, a)
    assert found.loss.value == pytest.approx(CE, abs=4 * found.loss.se)
    assert abs(found.b.value) < 4 * found.b.se < 0.05
    assert abs(found.c.value) < 0.01
    assert near(found.alone, a, found.a.se)  # tokens cost the same and are independent
    assert abs(found.together.value) < 4 * found.together.se < 0.2


def test_curves_of_zero_logits(zero, found):
    cells = Cells.of(zero)
    p = zero.t
    expected = torch.tensor([pattern(x) for x in p.tolist()])
    ratio = cells.single.mean(0) / expected
    seen = p > 0.02  # below, few masks hide anything
    assert float((ratio[seen] - 1).abs().max()) < 0.35
    assert float(ratio[seen].mean()) == pytest.approx(1, abs=0.05)
    rho = torch.where(p <= 0.5, -p / (1 - p), -(1 - p) / p)
    assert float((cells.correlation() - rho)[seen].abs().max()) < 0.2
    assert float((cells.correlation() - rho)[seen].mean()) == pytest.approx(0, abs=0.03)
    pairs = torch.tensor([mirror(x) for x in p.tolist()])
    assert float((cells.pair.mean(0)[seen] / pairs[seen]).mean()) == pytest.approx(
        1, abs=0.06
    )
    for at in found.curve:
        if math.isnan(at.context):
            assert at.t * 24 < 2
        else:  # one thing alone varies: whether a token is hidden
            assert at.hidden == pytest.approx(pattern(at.t), rel=0.3)
            assert abs(at.context) < 0.3 * pattern(at.t)


def test_methods_of_zero_logits(found):
    a, pair = integral(pattern), integral(mirror)
    normal = method(found, "Normal")
    assert normal.gain.value == 1
    assert near(method(found, "MultiSample-2").variance, a / 2)
    assert near(method(found, "MIRROR").variance, pair)
    assert near(method(found, "MIRROR").gain, a / pair / 2)
    assert near(method(found, "MIRROR").gain_per_row, a / pair)
    for name in ("P-POTS (EPR)", "P-POTS (AP)"):  # the least is 1.732
        least = CE**2 * integral(lambda p: math.sqrt(1 + (1 - p) / (P * p))) ** 2
        least -= CE**2
        assert least == pytest.approx(1.732, abs=0.01)
        assert method(found, name).variance.value == pytest.approx(least, rel=0.07)


# ---- Theorem 1 by enumeration -----------------------------------------------


def exact_parts(backbone, batch, row, p):
    """Return the three terms of a row, by summing over all its masks."""
    free = batch.free[row].nonzero()[:, 0].tolist()
    patterns = list(product([False, True], repeat=len(free)))
    tokens = batch.tokens[row].repeat(len(patterns), 1)
    hidden = torch.zeros_like(tokens, dtype=torch.bool)
    hidden[:, free] = torch.tensor(patterns)
    rows = batch.select(torch.full((len(patterns),), row))
    states = backbone.hidden(rows.with_tokens(tokens.masked_fill(hidden, MASK)))
    logits = backbone.logits(states.flatten(0, 1)).view(*tokens.shape, V)
    logits[..., MASK] = -math.inf
    nll = -logits.log_softmax(-1).gather(-1, tokens[..., None])[..., 0]
    nll, hidden = (x[:, free].detach().numpy() for x in (nll, hidden))
    chance = np.prod(np.where(hidden, p, 1 - p), axis=1)
    mu = (chance[:, None] * hidden * nll).sum(0) / p
    square = (chance[:, None] * hidden * nll**2).sum(0) / p
    z = hidden * nll / p
    mean = chance @ z
    covariance = np.einsum("m,mi,mj->ij", chance, z, z) - np.outer(mean, mean)
    n = len(free)
    context = (square - mu**2).sum() / (n * n * p)
    itself = (1 - p) / (n * n * p) * (mu**2).sum()
    together = (covariance.sum() - np.trace(covariance)) / (n * n)
    assert context + itself + together == pytest.approx(covariance.sum() / n**2)
    return np.array([context, itself, together])


@pytest.mark.parametrize("policy", [None, UniformMasking()])
def test_the_terms_of_theorem_1_are_those_of_enumeration(policy):
    backbone, batch = ToyBackbone(), toy_rows(2)
    draws = measure_draws(
        backbone,
        batch,
        schedule=LogLinear(eps=0.0),
        policy=policy,
        times=5,
        masks=2000,
        max_tokens=50_000,
        noise=Noise(2),
    )
    identity = (draws.plain.var(2) + draws.mirrored.var(2)) / 2
    torch.testing.assert_close(draws.parts.sum(2), identity)
    for place, p in list(enumerate(draws.t.tolist()))[2:]:
        for row in range(3):
            expected = exact_parts(backbone, batch, row, p)
            whole = expected.sum()
            for copy in (row, row + 3):
                met = draws.parts[copy, place].numpy()
                np.testing.assert_allclose(met, expected, atol=0.12 * whole)


# ---- synthetic losses -------------------------------------------------------


def synthetic(seed, rows=24, times=16, masks=3, spread=0.7):
    """Return draws of l = x + k t + s e, with row effects x and k, and noise e.

    Mirrored noise is -e / 2 and something of its own: A = s^2, and s^2 / 4 for pairs;
    B = E[k^2] Var(t), C = Var(x + k / 2).
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*size):
        return torch.randn(*size, generator=generator).double()

    grid = Grid(midpoints(times), torch.full((times,), 1 / times).double())
    x, slope = 3 + 0.5 * normal(rows), 2 + normal(rows)
    g = x[:, None] + slope[:, None] * grid.times
    e, other = normal(rows, times, masks), normal(rows, times, masks)
    plain = g[..., None] + spread * e
    mirrored = g[..., None] + spread * (-e / 2 + math.sqrt(3) / 2 * other)
    return Draws(grid, grid.times, plain, mirrored, torch.zeros(rows, times, 3))


def test_the_parts_are_unbiased():
    """With two masks for each row and time, uncorrected squares would be far off."""
    few = {"times": 6, "masks": 2, "spread": 2.0}
    met = np.array(
        [
            [float(x) for x in decompose(Cells.of(synthetic(i, **few)))]
            for i in range(200)
        ]
    )
    among_times = (1 - 1 / 36) / 12
    expected = np.array([4, 1, 5 * among_times, 0.25 + 1 / 4])
    error = met.std(0) / math.sqrt(200)
    assert (np.abs(met.mean(0) - expected) < 4 * error).all()
    assert (4 * error < [0.5, 0.5, 0.2, 1 / 13]).all()  # what masks would add to B, C


def test_the_parts_under_a_density():
    law = Density.of(torch.tensor([0, 1]).double(), torch.tensor([0.5, 1.5]).double())
    met = []
    for seed in range(100):
        cells = Cells.of(synthetic(seed))
        weight = (1 / law.at(cells.grid.times)).expand_as(cells.mean)
        met.append([float(x) for x in decompose(cells, weight)])
    met = np.array(met)

    def over(f):
        return integrate.quad(lambda t: f(t) / (0.5 + t), 0, 1)[0]

    # E g^2 = E (x + k t)^2 with independent x ~ N(3, 0.5^2) and k ~ N(2, 1).
    square = over(lambda t: 9.25 + 12 * t + 5 * t * t)
    whole = 9.25 + 6 + 5 / 4
    expected = np.array([0.49 * over(lambda t: 1), 0, square - whole, 0.5])
    expected[1] = expected[0] / 4
    error = met.std(0) / math.sqrt(100)
    assert (np.abs(met.mean(0) - expected) < 4 * error + 0.004).all()


def test_standard_errors_are_those_of_repeated_measurements():
    config = TimesConfig(starts=1)
    found = [
        report(synthetic(i, rows=12), config=config, batch=16, noise=Noise(0))
        for i in range(10)
    ]
    spread = np.std([each.loss.value for each in found], ddof=1)
    stated = np.mean([each.loss.se for each in found])
    assert 0.4 < spread / stated < 2
    # The error of a mean over rows is the plain one.
    cells = Cells.of(synthetic(0, rows=12))
    each = cells.mean @ cells.grid.shares
    assert found[0].loss.se == pytest.approx(float(each.std()) / math.sqrt(12))


def test_densities_are_judged_on_other_rows():
    draws = synthetic(0, rows=8)
    laws = fitted(draws, TimesConfig(), "AP", Noise(0))
    plain = draws.plain.clone()
    plain[0] *= torch.linspace(1, 9, 16).double()[:, None]
    changed = Draws(draws.grid, draws.t, plain, draws.mirrored, draws.parts)
    others = fitted(changed, TimesConfig(), "AP", Noise(0))
    for row in range(8):
        same = torch.equal(laws[row].values, others[row].values)
        assert same == (row % 2 == 0)


@pytest.mark.parametrize("k", [2, 5])
def test_what_strata_take_off(k):
    """The mean loss is 3 + 2 t: over k strata it varies by (1 - 1 / k^2) / 3."""
    uniform = Density.uniform()
    met = [
        float(
            between_strata(Cells.of(synthetic(i, rows=8, times=30)), [uniform] * 8, k)
        )
        for i in range(300)
    ]
    error = np.std(met) / math.sqrt(300)
    assert np.mean(met) == pytest.approx((1 - 1 / k**2) / 3, abs=4 * error)
    assert 4 * error < 0.04  # the spread of rows would add 0.06 and more


def test_the_variance_of_batches_is_the_predicted_one(zero):
    """Simulate batches of P-POTS with strata, as a run draws them."""
    n, k, batches = 16, 4, 600
    config = TimesConfig(
        model="custom", custom=(3.0, 1.2, 0.9, 0.8, 0.7), stratified=True, strata=k
    )
    law = TimeLaw(config, t_min=T_MIN)
    cells = Cells.of(zero)
    weight = (1 / law.law.at(cells.grid.times)).expand_as(cells.mean)
    parts = decompose(cells, weight)
    taken = between_strata(cells, [law.law] * 24, k)
    everyone = torch.arange(n)
    times = [law.draw(Noise(3, (i,)), everyone, n) for i in range(batches)]
    t = torch.stack([each.t for each in times]).flatten()
    hidden = Noise(4).uniform(torch.arange(n * batches), P) < t[:, None]
    losses = CE * hidden.sum(1) / (P * t)
    losses = losses.view(batches, n) * torch.stack([each.weight for each in times])
    for each, less in ((losses.flatten().var(), 0), (n * losses.mean(1).var(), taken)):
        expected = parts.single + parts.rate + parts.data - less
        assert float(each) == pytest.approx(float(expected), rel=0.2)
    assert float(taken) > 0.15  # the weights differ, so that strata do help


# ---- refusals and the command -----------------------------------------------


def test_too_little_to_measure_is_refused():
    batch = Batch.of(torch.zeros(6, 4, dtype=torch.int64))
    few = {"schedule": LogLinear(eps=0.0), "noise": Noise(0), "times": 3, "masks": 2}
    with pytest.raises(ConfigError, match="there are 5 rows"):
        measure_draws(ZeroLogits(), batch.select(slice(5)), **few)
    with pytest.raises(ConfigError, match="1 masks"):
        measure_draws(ZeroLogits(), batch, **few | {"masks": 1})
    frozen = Batch.of(batch.tokens, frozen=torch.arange(6)[:, None].expand(6, 4) == 2)
    with pytest.raises(DataError, match="row 2 has no token"):
        measure_draws(ZeroLogits(), frozen, **few)
    model = ToyBackbone()
    torch.nn.init.constant_(model.head.bias, torch.nan)
    with pytest.raises(TrainingError, match=r"row 0 at time .* not a finite"):
        measure_draws(model, toy_rows(2), **few)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A checkpoint, and rows of ids."""
    folder = tmp_path_factory.mktemp("variance")
    tiny_checkpoint(folder / "model", blocks=1, width=16)
    lines = [
        json.dumps({"input_ids": [*range(5, 9 + i), 7], "prompt_length": 2})
        for i in range(8)
    ]
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def ask(*options):
    return run(["llada", "variance", *map(str, options)])


def test_the_command_prints_a_table_and_writes_the_numbers(files, capsys):
    small = ["--rows", 6, "--times", 4, "--masks", 2, "--seed", 3]
    model = ["--model", files / "model", "--data", files / "rows.jsonl"]
    assert ask(*model, *small, "--out", files / "out" / "found.json") == 0
    shown = capsys.readouterr().out
    card = json.loads((files / "out" / "found.json").read_text())
    assert "(loss_norm=sequence)" in shown
    assert card["loss_norm"] == "sequence"
    for words in ("A masks", "B times", "C rows", "MIRROR", "P-POTS (EPR)", "rho"):
        assert words in shown
    assert card["a"]["value"] + card["b"]["value"] + card["c"]["value"] == (
        pytest.approx(card["total"]["value"])
    )
    assert card["loss"]["value"] > 0
    assert [card[name] for name in ("rows", "times", "masks", "strata")] == [6, 4, 2, 5]


def test_the_command_refuses_what_cannot_be(files, capsys):
    rows = files / "rows.jsonl"
    for options, words in (
        ((), "give a run, or a checkpoint"),
        (("--model", files / "model"), "--model needs --data"),
        (("--model", files / "model", "--data", rows, "--rows", 9), "there are 8 rows"),
        (("--model", files / "model", "--data", rows, "--samples", 1), "samples is 1"),
    ):
        assert ask(*options) == 2 or "8 rows" in words
        assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "least"),
    [("rows", -4, 6), ("times", 0, 2), ("masks", 1, 2), ("samples", -1, 2)],
)
def test_numbers_that_are_too_small_are_refused_at_once(
    files, capsys, option, value, least
):
    # Neither the run nor the file is there: nothing has been looked for.
    assert ask(files / "none", "--data", files / "none", f"--{option}", value) == 2
    said = f"error: --{option} is {value}; it must be at least {least}\n"
    assert capsys.readouterr().err == said


def test_a_run_is_judged_by_its_own_times(tmp_path, capsys):
    few = {"train__steps": 1, "train__save_every": 1, "train__eval_every": 0}
    train(tmp_path / "run", MIRROR, **few)
    options = ["--rows", 6, "--times", 4, "--masks", 2, "--json"]
    assert ask(tmp_path / "run", *options) == 0
    card = json.loads(capsys.readouterr().out)
    names = [each["name"] for each in card["methods"]]
    assert "P-POTS of the run + MIRROR" in names
    assert card["batch"] == 8
    stored = load_run(tmp_path / "run", checkpoint="last").module.times.law
    at = torch.tensor([each["t"] for each in card["curve"]], dtype=torch.float64)
    own = [each["density"]["own"] for each in card["curve"]]
    np.testing.assert_allclose(own, stored.at((at - T_MIN) / (1 - T_MIN)), rtol=1e-9)
