"""Every law about a heavy component catches a component that breaks it."""

from dataclasses import make_dataclass, replace

import pytest
import torch
from torch import nn

from mdlm_core import load_catalog
from mdlm_core.data.source import PackedSource
from mdlm_core.data.tokenizers import CharTokenizer
from mdlm_core.diffusion import LogLinear
from mdlm_core.kernels.noise import Noise
from mdlm_core.masking import UniformMasking
from mdlm_core.protocols import Rates, Sampled
from mdlm_core.samplers import Denoiser, ancestral
from mdlm_core.testing import BrokenLaw, tiny_source
from mdlm_core.testing.law import laws_of
from mdlm_core.testing.subject import Subject

NAMES = {
    "backbone": "dit",
    "schedule": "loglinear",
    "masking": "uniform",
    "sampler": "ancestral",
    "dataset": "python-docs",
    "task": "pretrain",
}
BROKEN = {}


def breaks(law):
    """Note a function that makes what the law is about, broken."""

    def note(function):
        assert law not in BROKEN
        BROKEN[law] = function
        return function

    return note


def subject_of(kind):
    catalog = load_catalog()
    core = catalog.plugins.records[0]
    given = {"source": tiny_source} if kind == "dataset" else None
    return Subject(catalog, core, catalog.get(kind, NAMES[kind]), given)


HEAVY_LAWS = [law for kind in NAMES for law in laws_of(kind)]


@pytest.mark.parametrize("law", HEAVY_LAWS, ids=lambda law: f"{law.kind}-{law.name}")
def test_catches(law):
    subject = subject_of(law.kind)
    sound = {name: subject.argument(name) for name in law.arguments}
    bad = BROKEN[f"{law.kind}-{law.name}"](subject)
    if law.kind == "masking" and law.name == "learned_parameters_learn":
        sound["policy"] = Tilted()
    law.function(**sound)
    with pytest.raises(BrokenLaw) as caught:
        law.function(**{**sound, **bad})
    assert str(caught.value)


def test_every_law_is_a_sentence():
    for law in HEAVY_LAWS:
        first = law.text.split(". ")[0]
        assert first[0].isupper() or first.startswith(("`", "time_of", "alpha")), first
        assert law.text.endswith("."), law.text


# ---- backbones --------------------------------------------------------------


class Wrapped(nn.Module):
    """A denoiser around another one, with one thing changed."""

    def __init__(self, subject, *, hidden=None, logits=None, time=False, seed=0):
        super().__init__()
        self.inner = subject.new_backbone(seed).eval()
        self.vocab_size, self.mask_id = self.inner.vocab_size, self.inner.mask_id
        self.time_conditioned = time
        self._hidden = hidden or (lambda inner, batch: inner.hidden(batch))
        self._logits = logits or (lambda inner, states: inner.logits(states))

    def hidden(self, batch, t=None):
        return self._hidden(self.inner, batch)

    def logits(self, states):
        return self._logits(self.inner, states)


def wrapped(law, **changes):
    breaks(f"backbone-{law}")(lambda s: {"backbone": Wrapped(s, **changes)})


def no_padding(inner, batch):
    nothing = torch.zeros_like(batch.pad)
    return inner.hidden(replace(batch, pad=nothing))


def drifting(inner, batch):
    inner.calls = getattr(inner, "calls", 0) + 1
    return inner.hidden(batch) + inner.calls


def nan_in_bf16(inner, states):
    logits = inner.logits(states)
    return logits * (torch.nan if torch.is_autocast_enabled("cpu") else 1)


wrapped("shapes_are_right", hidden=lambda m, b: m.hidden(b)[:, :-1])
wrapped("logits_are_finite", logits=lambda m, h: m.logits(h) / 0)
wrapped("logits_stand_alone", logits=lambda m, h: m.logits(h) - m.logits(h).mean(0))
wrapped("padding_changes_nothing", hidden=no_padding)
wrapped("padding_can_be_cut_off", hidden=lambda m, b: m.hidden(b) + b.length)
wrapped("rows_are_independent", hidden=lambda m, b: m.hidden(b) + m.hidden(b).mean(0))
wrapped("documents_are_walls", hidden=lambda m, b: m.hidden(replace(b, documents=None)))
wrapped("sees_t_if_it_says_so", time=True)
wrapped("evaluation_is_deterministic", hidden=drifting)
wrapped("works_in_bf16", logits=nan_in_bf16)


@breaks("backbone-is_a_backbone")
def _(subject):
    backbone = subject.new_backbone()
    backbone.mask_id = backbone.vocab_size
    return {"backbone": backbone}


@breaks("backbone-head_is_the_logits")
def _(subject):
    backbone = subject.new_backbone().eval()
    backbone.logits = lambda states: 2 * backbone.head(states)
    return {"backbone": backbone}


@breaks("backbone-every_parameter_gets_a_gradient")
def _(subject):
    backbone = subject.new_backbone().eval()
    backbone.forgotten = nn.Parameter(torch.ones(3))
    return {"backbone": backbone}


@breaks("backbone-state_dict_is_everything")
def _(subject):
    def build(seed):
        return Wrapped(subject, hidden=lambda m, b: m.hidden(b) + seed, seed=seed)

    return {"build": build, "backbone": build(0)}


# ---- schedules --------------------------------------------------------------


def schedule_with(law, **methods):
    cls = type("Odd", (LogLinear,), methods)
    breaks(f"schedule-{law}")(lambda subject: {"schedule": cls()})


half = LogLinear()
schedule_with(
    "starts_visible_and_ends_masked", alpha=lambda self, t: 0.5 * half.alpha(t)
)
schedule_with("alpha_falls", alpha=lambda self, t: half.alpha(t).clamp(min=0.3))
schedule_with("mask_rate_is_what_alpha_leaves", mask_rate=lambda self, t: half.alpha(t))
schedule_with("dalpha_is_the_derivative", dalpha=lambda self, t: -1.01 + 0 * t)
schedule_with("weight_is_finite_and_follows", weight=lambda self, t: 1.01 / t)
schedule_with("time_of_inverts_the_mask_rate", time_of=lambda self, rate: rate)
schedule_with("keeps_shape_and_type", alpha=lambda self, t: half.alpha(t.double()))


# ---- masking ----------------------------------------------------------------


def policy_with(law, change):
    """Change mask probabilities: ``change(policy, batch, t, chances (B, L))``."""

    class Odd(UniformMasking):
        def rates(self, batch, t, schedule):
            found = super().rates(batch, t, schedule)
            chances = found.mask_prob.expand(batch.tokens.shape)
            return Rates(change(self, batch, t, chances), found.weight)

    breaks(f"masking-{law}")(lambda subject: {"policy": Odd()})


def thaw(policy, batch, t, chances):
    batch.frozen[:] = False
    return chances


def moody(policy, batch, t, chances):
    policy.calls = getattr(policy, "calls", 0) + 1
    return chances * (policy.calls % 2)


policy_with("rates_are_rates", lambda p, b, t, c: 1.5 * c)
policy_with("masks_nothing_at_zero_and_all_at_one", lambda p, b, t, c: 0.9 * c)
policy_with("frozen_tokens_stay", thaw)
policy_with("mean_rate_follows_the_schedule", lambda p, b, t, c: c.square())
policy_with("monotone", lambda p, b, t, c: c * (1 - 0.8 * (t > 0.6).double())[:, None])
policy_with("rows_are_independent", lambda p, b, t, c: c.mean(0).expand_as(c))
policy_with(
    "padding_changes_nothing",
    lambda p, b, t, c: c / (1 + b.tokens.sum(1, keepdim=True)),
)
policy_with("same_noise_same_mask", moody)
policy_with(
    "global_randomness_is_untouched", lambda p, b, t, c: c * torch.rand(1).item()
)


class Tilted(nn.Module):
    """A small learned policy: the last positions are masked later."""

    def __init__(self):
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(0.1))

    def rates(self, batch, t, schedule):
        place = torch.linspace(-1, 1, batch.length)
        chance = schedule.mask_rate(t)[:, None] * (1 - self.slope * place)
        return Rates(chance.clamp(0, 1), schedule.weight(t)[:, None] * chance)


@breaks("masking-learned_parameters_learn")
def _(subject):
    policy = Tilted()
    policy.forgotten = nn.Parameter(torch.ones(2))
    return {"policy": policy}


# ---- samplers ---------------------------------------------------------------


def sampler_with(law):
    """Note a sampler that is called with (denoiser, canvas, run, callback)."""

    def note(function):
        def odd(denoiser, canvas, *, schedule, noise, steps, callback=None):
            def run(denoiser=denoiser, canvas=canvas, noise=noise, callback=callback):
                return ancestral(
                    denoiser,
                    canvas,
                    schedule=schedule,
                    noise=noise,
                    steps=steps,
                    callback=callback,
                )

            return function(denoiser, canvas, run, callback)

        breaks(f"sampler-{law}")(lambda subject: {"sampler": odd})
        return function

    return note


@breaks("sampler-settings_are_those_of_a_sampler")
def _(subject):
    odd = make_dataclass("Odd", ["steps", "temperature", "batch_size"])
    return {"settings": odd}


@sampler_with("what_is_known_stays")
def _(denoiser, canvas, run, callback):
    found = run()
    tokens = torch.where(canvas.frozen, canvas.tokens + 1, found.tokens)
    return Sampled(tokens, found.nfe)


@sampler_with("no_mask_is_left")
def _(denoiser, canvas, run, callback):
    found = run()
    found.tokens[0, 3] = denoiser.mask_id
    return found


@sampler_with("committed_tokens_stay")
def _(denoiser, canvas, run, callback):
    found = run(callback=None)
    callback(0, found.tokens)
    callback(1, canvas.tokens)
    callback(2, found.tokens)
    return found


@sampler_with("same_noise_same_tokens")
def _(denoiser, canvas, run, callback):
    return run(noise=Noise(0))


@sampler_with("rows_are_independent")
def _(denoiser, canvas, run, callback):
    return run(canvas=replace(canvas, sample_id=torch.arange(len(canvas))))


@sampler_with("padding_changes_nothing")
def _(denoiser, canvas, run, callback):
    return run(noise=Noise(int(canvas.tokens.sum())))


@sampler_with("banned_tokens_never_appear")
def _(denoiser, canvas, run, callback):
    return run(denoiser=Denoiser(denoiser.backbone))


@sampler_with("callback_sees_every_change")
def _(denoiser, canvas, run, callback):
    return run(callback=None)


@sampler_with("counts_its_evaluations")
def _(denoiser, canvas, run, callback):
    found = run()
    return Sampled(found.tokens, 2 * found.nfe)


@sampler_with("canvas_is_not_changed")
def _(denoiser, canvas, run, callback):
    found = run()
    canvas.tokens.copy_(found.tokens)
    return found


# ---- data sets --------------------------------------------------------------


def source_with(law, **changes):
    """Change a source: its methods, given by name as functions of (source, ...)."""

    def make(subject):
        source = tiny_source()
        source.__class__ = type("Odd", (PackedSource,), changes)
        return {"source": source}

    breaks(f"dataset-{law}")(make)


def batches_with(change):
    """Change each batch: ``change(batch, split, index)``."""

    def batches(self, split, *, start=0, **more):
        found = PackedSource.batches(self, split, start=start, **more)
        for index, batch in enumerate(found, start):
            yield change(batch, split, index)

    return batches


def fixed_order(self, split, *, seed, **more):
    return PackedSource.batches(self, split, seed=0, **more)


def deaf_to_start(self, split, *, start=0, **more):
    return PackedSource.batches(self, split, **more)


def deaf_to_rank(self, split, *, rank=0, world=1, **more):
    return PackedSource.batches(self, split, rank=0, world=world, **more)


def with_mask(batch, split, index):
    return batch.with_tokens(batch.tokens.masked_fill(batch.tokens == 2, 11))


def first_row_again(batch, split, index):
    return replace(batch, sample_id=torch.zeros_like(batch.sample_id))


class Forgetful(CharTokenizer):
    """Loses its last letter on the way to the disk."""

    def save(self, folder):
        CharTokenizer(self.alphabet[:-1]).save(folder)


class Loud(CharTokenizer):
    def decode(self, ids, *, mask="▒"):
        return super().decode(ids, mask=mask) + "a"


def tokenizer_of(law, cls):
    def make(subject):
        source = tiny_source()
        source.tokenizer = cls(source.tokenizer.alphabet)
        return {"source": source}

    breaks(f"dataset-{law}")(make)


source_with(
    "batches_are_batches",
    batches=batches_with(lambda b, split, index: b.with_tokens(b.tokens.int())),
)
source_with("tokens_are_in_the_vocabulary", batches=batches_with(with_mask))
source_with("order_depends_on_the_seed_alone", batches=fixed_order)
source_with("any_batch_can_be_the_first", batches=deaf_to_start)
source_with("processes_share_a_batch", batches=deaf_to_rank)
source_with("an_epoch_has_each_row_once", batches=batches_with(first_row_again))
source_with("validation_ends", size=lambda self, split: 1000)
source_with("card_can_be_written", card=lambda self: {"rows": 3})
tokenizer_of("text_comes_back", Loud)
tokenizer_of("tokenizer_survives_saving", Forgetful)


# ---- tasks ------------------------------------------------------------------


def module_with(law, change):
    """Change the loss: ``change(loss, batch)``."""

    def make(subject):
        module = subject.module
        forward = type(module).forward

        class Odd(type(module)):
            def forward(self, batch, draw):
                return change(forward(self, batch, draw), batch)

        other = subject.task.build(subject.source)
        other.__class__ = Odd
        return {"module": other}

    breaks(f"task-{law}")(make)


def scaled(factor):
    return lambda loss, batch: replace(loss, total=loss.total * factor)


module_with("loss_is_finite_with_a_gradient", scaled(torch.nan))
module_with(
    "parts_add_up", lambda loss, batch: replace(loss, total=loss.total / len(batch))
)
module_with(
    "five_steps_lower_the_loss",
    lambda loss, batch: replace(loss, total=2 * loss.total.detach() - loss.total),
)


@breaks("task-module_has_a_backbone")
def _(subject):
    return {"module": nn.ModuleDict({"model": nn.Linear(2, 2)})}


class Odd:
    """A task whose numbers and texts are as given."""

    def __init__(self, numbers=None, texts=None):
        self.numbers, self.texts = numbers, texts

    def evaluate(self, module, source):
        return self.numbers

    def samples(self, module, source, *, seed):
        return self.texts


breaks("task-evaluation_is_numbers")(lambda s: {"task": Odd({"bound": 1.0})})
breaks("task-samples_are_texts")(lambda s: {"task": Odd(texts=[3])})
