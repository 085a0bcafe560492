"""The fitted density: EPR and AP, measured on losses that are known."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import approx_fprime

from mdlm_core.data.batch import Batch
from mdlm_core.errors import TrainingError
from mdlm_core.kernels.noise import Noise
from mdlm_llada.config import TimesConfig
from mdlm_llada.sft.curves import Curves, measure_losses
from mdlm_llada.sft.density import midpoints
from mdlm_llada.sft.fit import EPR, FLOOR, _divergence, fit_density, fit_epr
from mdlm_llada.sft.measure import TimeLaw

T_MIN = 1e-3
CE = float(np.log(50))


def rows(count=6, length=10):
    tokens = torch.arange(count)[:, None].expand(count, length)
    return Batch.of(tokens.contiguous())


def zero_logits(batch, tau, noise, ce=CE):
    """Return the losses of a model whose logits are all zero: -log p is `ce`."""
    p = T_MIN + (1 - T_MIN) * tau
    masked = noise.uniform(batch.sample_id, batch.length) < p[:, None]
    return ce * masked.sum(1) / (p * batch.length)


def best(times, eligible):
    """Return sqrt(1 + (1 - p) / (P p)): the best density for P eligible tokens."""
    p = T_MIN + (1 - T_MIN) * times
    return (1 + (1 - p) / (eligible * p)).sqrt()


def test_the_gradient_of_the_divergence():
    t, generator = midpoints(25).numpy(), np.random.default_rng(0)
    w = generator.uniform(0.5, 2, 25)
    cells = generator.uniform(0.5, 1.5, 25)
    cells /= cells.sum()
    w /= cells @ w
    for z in generator.normal(size=(5, 7)):
        value, gradient = _divergence(z, t, w, cells)
        numeric = approx_fprime(z, lambda x: _divergence(x, t, w, cells)[0], 1e-7)
        np.testing.assert_allclose(gradient, numeric, atol=2e-6)
        assert value > 0


def test_a_curve_of_the_family_is_found_again():
    times = midpoints(70)
    truth = EPR(a=0.8, b=0.3, scale=0.5, kappa=0.9, r=1.4, q=3.0, m=2.5, kl=0.0)
    wanted = truth(times)
    found = fit_epr(times, wanted, starts=8, noise=Noise(0))
    assert 0 <= found.kl < 1e-6
    curve = found(times)
    torch.testing.assert_close(
        curve / curve.mean(), wanted / wanted.mean(), rtol=5e-3, atol=0
    )


def test_epr_follows_the_best_density_of_a_known_model():
    times = midpoints(70)
    wanted = best(times, 40)
    curve = fit_epr(times, wanted, starts=8, noise=Noise(0))
    p, q = wanted / wanted.mean(), curve(times) / curve(times).mean()
    assert float((p * (p / q).log()).mean()) == pytest.approx(curve.kl, abs=1e-9)
    assert curve.kl < 1e-3
    # Second moment over the least possible one: what the fit costs.
    assert float((p.square() / q).mean()) < 1.002


def test_more_starts_are_never_worse_and_a_seed_decides():
    times = midpoints(40)
    wanted = 1 + (times * 7).sin().square()
    few = fit_epr(times, wanted, starts=2, noise=Noise(1))
    many = fit_epr(times, wanted, starts=6, noise=Noise(1))
    assert many.kl <= few.kl
    assert fit_epr(times, wanted, starts=2, noise=Noise(1)) == few


def test_unequal_cells_weigh_the_divergence():
    """Halving a cell, with its value in both halves, changes nothing."""
    times, wanted = midpoints(10), best(midpoints(10), 5)
    shares = torch.full((10,), 0.1).double()
    doubled = shares.repeat_interleave(2) / 2
    z = np.linspace(-1, 1, 7)
    one = _divergence(z, times.numpy(), wanted.numpy(), shares.numpy())
    two = _divergence(
        z,
        times.repeat_interleave(2).numpy(),
        wanted.repeat_interleave(2).numpy(),
        doubled.numpy(),
    )
    assert one[0] == pytest.approx(two[0])
    np.testing.assert_allclose(one[1], two[1])


def test_ap_goes_through_the_measured_points():
    generator = torch.Generator().manual_seed(0)
    losses = torch.rand(4, 12, 5, generator=generator, dtype=torch.float64) + 0.5
    curves = Curves(midpoints(12), losses)
    law = fit_density(TimesConfig(ppots=True, model="AP"), curves, Noise(0))
    g = losses.numpy().mean((0, 2))
    v = losses.numpy().var(2, ddof=1).mean(0)
    wanted = np.sqrt(g**2 + v)
    ratio = law.at(midpoints(12)).numpy() / wanted
    np.testing.assert_allclose(ratio, ratio[0])
    assert float(law.at(torch.tensor(0.0))) == float(law.at(midpoints(12)[0]))


@pytest.mark.parametrize("model", ["AP", "EPR"])
def test_times_without_a_measured_loss_are_still_drawn(model):
    losses = torch.ones(2, 20, 3).double()
    losses[:, :4] = 0
    config = TimesConfig(ppots=True, model=model, starts=3)
    law = fit_density(config, Curves(midpoints(20), losses), Noise(0))
    assert float(law.values.min()) > FLOOR / 1.06
    config = TimesConfig(ppots=True, model=model, starts=3, mix_uniform=0.5)
    nothing = fit_density(config, Curves(midpoints(20), 0 * losses), Noise(0))
    torch.testing.assert_close(
        nothing.values, torch.ones_like(nothing.values), rtol=0.02, atol=0
    )


# ---- measuring --------------------------------------------------------------


def test_measured_curves_are_those_of_a_known_model():
    """g = c and v = c^2 (1 - p) / (P p), where every token costs c nats."""
    length, c = 10, np.log(50)
    curves = measure_losses(
        zero_logits,
        rows(40, length),
        times=midpoints(6),
        masks=200,
        loss_max=1e9,
        max_tokens=5000,
        noise=Noise(0),
    )
    p = T_MIN + (1 - T_MIN) * midpoints(6)
    v = c**2 * (1 - p) / (length * p)
    torch.testing.assert_close(curves.v, v, rtol=0.08, atol=0)
    error = (v / (40 * 200)).sqrt()
    assert bool(((curves.g - c).abs() < 4 * error).all())


def test_each_row_time_and_mask_has_its_own_place():
    seen = []

    def losses(batch, tau, noise):
        seen.append(batch.sample_id)
        return batch.tokens[:, 0] + tau + 1e-6 * batch.sample_id

    curves = measure_losses(
        losses,
        rows(3),
        times=midpoints(4),
        masks=2,
        loss_max=1e9,
        max_tokens=70,
        noise=Noise(0),
    )
    row, when = torch.arange(3).view(3, 1, 1), midpoints(4).view(1, 4, 1)
    job = torch.arange(24).view(3, 4, 2)
    torch.testing.assert_close(curves.losses, row + when + 1e-6 * job)
    assert [len(ids) for ids in seen] == [7, 7, 7, 3]
    assert len(torch.cat(seen).unique()) == 24


def test_measured_losses_are_capped():
    curves = measure_losses(
        lambda batch, tau, noise: 100 * tau,
        rows(2),
        times=midpoints(4),
        masks=2,
        loss_max=10.0,
        max_tokens=10**6,
        noise=Noise(0),
    )
    assert curves.losses.max() == 10


def test_a_loss_that_is_no_number_is_refused():
    with pytest.raises(TrainingError, match=r"row 0 at time 0\.125 is nan"):
        TimeLaw(TimesConfig(ppots=True, samples_t=4)).measure(
            lambda batch, tau, noise: tau * torch.nan, rows(), Noise(0)
        )


def test_a_measured_law_is_the_best_one_and_is_kept():
    config = TimesConfig(
        ppots=True, model="AP", samples_t=10, samples_x0=20, samples_xt=60, loss_max=1e9
    )
    law = TimeLaw(config)
    assert law.due(0)
    law.measure(zero_logits, rows(20, 10), Noise(0), step=7)
    wanted = best(midpoints(10), 10)
    wanted = wanted / torch.trapezoid(law.density, law.grid)
    found = law.density[1:-1] / wanted
    torch.testing.assert_close(found, found.mean().expand(10), rtol=0.06, atol=0)
    assert not law.due(8)
    other = TimeLaw(config)
    other.load_state_dict(law.state_dict())
    assert not other.due(1000)
    mine, its = (x.draw(Noise(1), torch.arange(9), 9) for x in (law, other))
    assert torch.equal(mine.t, its.t)
    assert torch.equal(mine.weight, its.weight)


def test_when_a_measurement_is_due():
    every = TimeLaw(TimesConfig(ppots=True, refresh_every=50, samples_t=4, starts=1))
    assert every.due(3)
    every.measure(zero_logits, rows(), Noise(0), step=3)
    assert next(step for step in range(120) if every.due(step)) == 53
    for quiet in (TimesConfig(), TimesConfig(ppots=True, model="uniform")):
        assert not TimeLaw(quiet).due(0)


def test_weighted_losses_of_a_measured_law_stay_unbiased():
    """P-POTS has the mean ln V and the variance c^2 [(int w)^2 - 1], to MC error."""
    c, length, n = np.log(50), 40, 60_000
    config = TimesConfig(
        ppots=True, samples_t=70, samples_x0=15, samples_xt=15, starts=4, loss_max=1e9
    )
    law = TimeLaw(config)
    law.measure(zero_logits, rows(15, length), Noise(0))
    times = law.draw(Noise(1), torch.arange(n), n)
    hidden = (Noise(2).uniform(torch.arange(n), length) < times.t[:, None]).sum(1)
    losses = c * hidden / (times.t * length) * times.weight
    assert float(losses.mean()) == pytest.approx(c, abs=4 * 1.4 / n**0.5)
    fine = best(midpoints(200_000), length)
    least = c**2 * (float(fine.mean()) ** 2 - 1)
    assert least == pytest.approx(1.732, abs=0.01)
    uniform = c**2 * (float(fine.square().mean()) - 1)
    assert uniform == pytest.approx(2.26, abs=0.01)
    assert float(losses.var()) == pytest.approx(least, rel=0.08)
    assert float(losses.var()) < 0.9 * uniform


# ---- several processes ------------------------------------------------------

PROGRAM = """
import json, sys
import torch
from accelerate import PartialState
from mdlm_core.kernels.noise import Noise
from mdlm_core.train.processes import leave
from mdlm_llada.config import TimesConfig
from mdlm_llada.sft.measure import TimeLaw
sys.path.insert(0, sys.argv[1])
from test_time_fit import rows, zero_logits

calls = 0
def losses(batch, tau, noise):
    global calls
    calls += 1
    return zero_logits(batch, tau, noise)

state = PartialState(cpu=True)
torch.set_num_threads(1)
config = TimesConfig(
    ppots=True, samples_t=5, samples_x0=3, samples_xt=3, starts=1,
    max_tokens_per_forward=40,
)
found = []
for seed in (0, 1 + state.process_index):
    law = TimeLaw(config)
    law.measure(losses, rows(), Noise(seed))
    found += [law.density.tolist(), law.g.tolist()]
print(json.dumps([state.process_index, calls, *found]))
leave()
"""


def two_processes():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    running = []
    for rank in range(2):
        settings = {
            "RANK": rank,
            "LOCAL_RANK": rank,
            "WORLD_SIZE": 2,
            "LOCAL_WORLD_SIZE": 2,
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
            "OMP_NUM_THREADS": 1,
            "ACCELERATE_USE_CPU": "true",
            "CUDA_VISIBLE_DEVICES": "",
        }
        running.append(
            subprocess.Popen(
                [sys.executable, "-c", PROGRAM, str(Path(__file__).parent)],
                env={**os.environ, **{k: str(v) for k, v in settings.items()}},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    ended = [process.communicate(timeout=120) for process in running]
    for process, (_, err) in zip(running, ended, strict=True):
        assert process.returncode == 0, err
    return sorted(json.loads(out.splitlines()[-1]) for out, _ in ended)


def test_all_processes_have_one_density():
    """Each measures a part, as often as the other one, and none keeps its own p.

    Of the two measurements, the second has another seed on each process.
    """
    (_, calls, *first), (_, its_calls, *second) = two_processes()
    assert calls == its_calls == 2 * 6  # 12 forward passes of 4 rows make 45
    assert first == second
    config = TimesConfig(ppots=True, samples_t=5, samples_x0=3, samples_xt=3, starts=1)
    alone = TimeLaw(config)
    alone.measure(zero_logits, rows(), Noise(0))
    np.testing.assert_allclose(first[0], alone.density, rtol=1e-12)
    np.testing.assert_allclose(first[1], alone.g, rtol=1e-12)
