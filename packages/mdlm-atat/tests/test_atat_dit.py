"""The model under the original's names: it is the run's, its steps the sampler's."""

import pytest
import torch

from mdlm_atat.atat_dit import ATATDiT, build
from mdlm_atat.config import AtatConfig, ATATDiTConfig, ImportanceConfig
from mdlm_atat.policy import AdaptiveMasking
from mdlm_atat.sampler import uncertainty_guided
from mdlm_core.catalog import load_catalog
from mdlm_core.config import resolve
from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import Cosine, LogLinear, Times, corrupt
from mdlm_core.diffusion.parameterization import subs
from mdlm_core.errors import ConfigError, UsageError
from mdlm_core.kernels.noise import Noise, global_seed
from mdlm_core.masking import UniformMasking
from mdlm_core.samplers import Denoiser
from mdlm_core.tasks.pretrain import MaskedDiffusion
from mdlm_core.testing import tiny_batch, tiny_canvas, tiny_source

SIZES = {"dim": 32, "n_layers": 1, "n_heads": 2, "importance_hidden_dim": 32}
STEPS = 1000


@pytest.fixture
def source():
    return tiny_source()


def new(source, *, seed=0, moved=True, **settings):
    with global_seed(Noise(seed)):
        model = ATATDiT.from_sizes(source, **(SIZES | settings)).eval()
        if moved:
            with torch.no_grad():
                for parameter in model.backbone.parameters():
                    parameter.add_(0.2 * torch.randn(parameter.shape))
    return model


def rows(source, **settings):
    tokenizer = source.tokenizer
    return tiny_batch(
        vocab_size=tokenizer.vocab_size, mask_id=tokenizer.mask_id, **settings
    )


# ---- forward ------------------------------------------------------------------


def test_forward_gives_the_law_of_masked_positions_and_carries_the_rest_over(source):
    model, batch = new(source), rows(source)
    canvas = tiny_canvas(batch, model.backbone.mask_id)
    logits = model(canvas, 0.5)
    hidden = model.backbone.hidden(canvas)
    masked = canvas.tokens == model.backbone.mask_id
    law = subs(model.backbone.logits(hidden[masked]), model.backbone.mask_id)
    torch.testing.assert_close(logits[masked], law)
    probs = logits.exp()
    torch.testing.assert_close(probs.sum(-1), torch.ones(masked.shape))
    assert torch.equal(logits[~masked].argmax(-1), canvas.tokens[~masked])
    assert (logits[~masked].exp().amax(-1) == 1).all()
    assert (probs[..., model.backbone.mask_id] == 0).all()


def test_cross_entropy_with_the_clean_rows_counts_hidden_positions_alone(source):
    model, batch = new(source), rows(source)
    canvas = tiny_canvas(batch, model.backbone.mask_id)
    masked = canvas.tokens == model.backbone.mask_id
    logits = model(canvas.tokens, 0.5)
    loss = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), batch.tokens.flatten(), reduction="none"
    ).view(masked.shape)
    assert (loss[~masked] == 0).all()
    loss.sum().backward()
    gradient = model.backbone.head.weight.grad
    assert gradient.isfinite().all()
    assert gradient.abs().sum() > 0


def test_importance_is_the_policy_s(source):
    model, batch = new(source), rows(source)
    t = torch.linspace(0.1, 0.9, len(batch))
    logits, importance = model(batch, t, return_importance=True)
    torch.testing.assert_close(importance, model.policy.importance(batch, t.double()))
    assert torch.equal(logits, model(batch, t))
    assert importance.shape == batch.tokens.shape
    assert importance.std() > 0


@pytest.mark.parametrize("policy", [UniformMasking(), None])
def test_importance_is_refused_where_there_is_none(source, policy):
    model = new(source, use_importance=False)
    if policy is not None:
        model = ATATDiT(model.backbone, policy)
    with pytest.raises(UsageError, match="importance"):
        model(rows(source), 0.5, return_importance=True)


# ---- masks --------------------------------------------------------------------


def test_the_forward_process_is_that_of_training(source):
    """Bit for bit, at a step at which importance counts, and with what it says."""
    model, batch = new(source), rows(source)
    t = torch.linspace(0.2, 0.8, len(batch), dtype=torch.float64)
    noise = Noise(3).child("mask", 0)
    x_t, importance, masked = model.adaptive_forward_diffusion(
        batch, t, 600, noise=noise, steps=STEPS
    )
    assert model.policy.curriculum.kappa != 0
    expected = corrupt(
        batch,
        Times(t, torch.ones_like(t)),
        schedule=LogLinear(),
        policy=model.policy,
        noise=noise,
        mask_id=model.backbone.mask_id,
    )
    assert torch.equal(masked, expected.masked)
    assert torch.equal(x_t, expected.batch.tokens)
    assert torch.equal(importance, model.policy.importance(batch, t))
    uniform, _, plain = model.adaptive_forward_diffusion(
        batch, t, 0, noise=noise, steps=STEPS
    )
    assert (plain != masked).any()
    assert torch.equal(
        plain, (noise.uniform(batch.sample_id, 16) < 0.999 * t[:, None]) & batch.free
    )
    assert torch.equal(uniform == model.backbone.mask_id, plain)


def test_the_mean_chance_to_be_hidden_is_the_schedule_s(source):
    model = new(source)
    batch = rows(source, rows=1000)
    _, importance, masked = model.adaptive_forward_diffusion(
        batch, 0.4, 600, noise=Noise(1), steps=STEPS
    )
    rate = masked[batch.free].double().mean()
    # 16000 free positions: a standard error of 0.004
    assert rate == pytest.approx(0.999 * 0.4, abs=0.015)
    centred = importance - importance.mean(1, keepdim=True)
    more = masked[batch.free & (centred > 0)].double().mean()
    assert more - masked[batch.free & (centred < 0)].double().mean() > 0.02


def test_without_importance_masks_are_uniform(source):
    model, batch = new(source, use_adaptive_masking=False), rows(source)
    x_t, importance, masked = model.adaptive_forward_diffusion(
        batch, 0.5, 600, noise=Noise(1), steps=STEPS
    )
    expected = (Noise(1).uniform(batch.sample_id, 16) < 0.999 * 0.5) & batch.free
    assert torch.equal(masked, expected)
    assert torch.equal(x_t == model.backbone.mask_id, masked)
    assert importance is None


def test_a_policy_that_sees_what_is_visible_is_shown_that(source):
    config = AtatConfig(
        importance=ImportanceConfig(width=32, heads=2, context="visible")
    )
    with global_seed(Noise(0)):
        policy = AdaptiveMasking(config, source=source)
    model, batch = ATATDiT(new(source).backbone, policy).eval(), rows(source)
    x_t, importance, _ = model.adaptive_forward_diffusion(
        batch, 0.5, 600, noise=Noise(1), steps=STEPS
    )
    t = torch.full((len(batch),), 0.5, dtype=torch.float64)
    assert torch.equal(importance, policy.importance(batch.with_tokens(x_t), t))
    assert (importance != policy.importance(batch, t)).any()


# ---- sampling -----------------------------------------------------------------


@pytest.mark.parametrize("entropy_bound", [-1.0, 2.0])
@pytest.mark.parametrize("order", ["confident_first", "importance", "random"])
def test_steps_from_1_to_0_are_the_sampler(source, order, entropy_bound):
    """Bit for bit; rows with a prompt, and rows with different numbers of masks."""
    model = new(source)
    canvas = tiny_canvas(rows(source), model.backbone.mask_id)
    settings = {"order": order, "entropy_bound": entropy_bound}
    steps = 7
    expected = uncertainty_guided(
        Denoiser(model.backbone, policy=model.policy),
        canvas,
        schedule=model.schedule,
        noise=Noise(4),
        steps=steps,
        **settings,
    ).tokens
    batch, t = canvas, 1.0
    for _ in range(steps if entropy_bound < 0 else canvas.length):
        before = batch.tokens == model.backbone.mask_id
        tokens, doubt = model.uncertainty_guided_sample_step(
            batch, t, 1 / steps, model.backbone.mask_id, noise=Noise(4), **settings
        )
        assert (doubt[~before | batch.frozen] == 0).all()
        batch = batch.with_tokens(tokens)
        if entropy_bound < 0:
            t -= 1 / steps
    assert torch.equal(tokens, expected)
    again, doubt = model.uncertainty_guided_sample_step(
        batch, 0.5, 0.1, model.backbone.mask_id, noise=Noise(4)
    )
    assert torch.equal(again, expected)
    assert (doubt == 0).all()


def test_steps_ask_a_model_that_sees_t_as_the_sampler_does(source):
    config = ATATDiTConfig(blocks=1, width=32, heads=2, time_conditioned=True)
    tokenizer = source.tokenizer
    with global_seed(Noise(0)), torch.no_grad():
        backbone = build(
            config,
            vocab_size=tokenizer.vocab_size,
            mask_id=tokenizer.mask_id,
            length=source.length,
        )
        for parameter in backbone.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    model = ATATDiT(backbone, UniformMasking(), schedule=Cosine()).eval()
    canvas = tiny_canvas(rows(source), tokenizer.mask_id)
    expected = uncertainty_guided(
        Denoiser(backbone), canvas, schedule=Cosine(), noise=Noise(4), steps=4
    )
    batch = canvas
    for step in range(4):
        tokens, _ = model.uncertainty_guided_sample_step(
            batch, 1 - step / 4, 1 / 4, tokenizer.mask_id, noise=Noise(4)
        )
        batch = batch.with_tokens(tokens)
    assert torch.equal(tokens, expected.tokens)


def test_a_step_counts_each_row_by_itself(source):
    model = new(source)
    mask = model.backbone.mask_id
    tokens = torch.zeros(3, 16, dtype=torch.int64)
    for row, masked in enumerate([16, 9, 1]):
        tokens[row, :masked] = mask
    after, doubt = model.uncertainty_guided_sample_step(
        tokens, 0.3, 0.1, mask, noise=Noise(0)
    )
    assert (after == mask).sum(1).tolist() == [16 - 6, 9 - 3, 0]
    assert ((tokens == mask) == (doubt > 0)).all()


@pytest.mark.parametrize(("t", "dt"), [(0.5, 0.6), (0.5, 0.0), (1.1, 0.1), (0.0, 0.1)])
def test_times_that_are_no_step_are_refused(source, t, dt):
    model = new(source)
    tokens = torch.full((1, 16), model.backbone.mask_id)
    with pytest.raises(UsageError, match=r"0 < dt <= t <= 1"):
        model.uncertainty_guided_sample_step(
            tokens, t, dt, model.backbone.mask_id, noise=Noise(0)
        )


def test_another_mask_is_refused(source):
    model = new(source)
    with pytest.raises(UsageError, match="mask_index is 0"):
        model.uncertainty_guided_sample_step(
            torch.zeros(1, 16, dtype=torch.int64), 1.0, 0.1, 0, noise=Noise(0)
        )


# ---- building -----------------------------------------------------------------


def test_the_original_s_settings_are_ours(source):
    model = new(source, moved=False, use_curriculum=False)
    assert model.backbone.config.width == 32
    assert model.backbone.config.blocks == 1
    assert model.policy.config.importance.width == 32
    assert model.policy.config.curriculum.preset == "none"
    assert model.policy.estimator is not None
    assert new(source, use_importance=False).policy.estimator is None
    with pytest.raises(ConfigError, match="heads"):
        new(source, n_heads=3)


def test_weights_are_those_of_what_a_run_trains(source):
    model, other = new(source), new(source, seed=1)
    trained = MaskedDiffusion(
        other.backbone, schedule=other.schedule, policy=other.policy
    )
    model.load_state_dict(trained.state_dict())
    batch = tiny_canvas(rows(source), model.backbone.mask_id)
    assert torch.equal(model(batch, 0.5), other(batch, 0.5))


def test_a_run_is_loaded(tmp_path):
    from mdlm_core.train import load_run, train

    catalog = load_catalog()
    sets = ["train.steps=1", "train.precision=fp32", "data.max_documents=20"]
    config = resolve(catalog, preset="atat/default", sets=sets, tiny=True).config
    train(config, out=tmp_path / "run", device="cpu", catalog=catalog)
    model = ATATDiT.from_run(tmp_path / "run")
    loaded = load_run(tmp_path / "run")
    assert not model.training
    found, expected = model.state_dict(), loaded.module.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)
    length = loaded.source.length
    blank = Batch.of(torch.full((1, length), model.backbone.mask_id))
    assert model(blank, 1.0).shape == (1, length, model.backbone.vocab_size)
