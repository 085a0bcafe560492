"""Texts of personas: what rows are told, and how strongly."""

from dataclasses import replace

import pytest
import torch

from mdlm_core.config.components import DiTConfig
from mdlm_core.data.batch import Batch
from mdlm_core.errors import UnknownNameError, UsageError
from mdlm_core.kernels.noise import Noise, global_seed
from mdlm_core.nn.dit import DiT
from mdlm_core.samplers import Denoiser
from mdlm_core.samplers.guidance import Guidance
from mdlm_personality.config import GuidanceConfig
from mdlm_personality.generation.personas import Change, Given
from mdlm_personality.generation.views import told
from mdlm_personality.generation.writing import Pull, generate, shown, telling
from mdlm_personality.regressor.model import TraitRegressor

from .generation_toy import LENGTH, SOMEBODY, manner, toy

OTHER = (0.1, 0.9, 0.2, 0.4, None)


@pytest.fixture(scope="module")
def trained():
    return toy()


def law_of(trained, course, t=0.5):
    """Return the law ``(N, V)`` of a half hidden canvas, and the canvas."""
    rows = torch.full((len(course), LENGTH), trained.backbone.mask_id)
    rows[:, ::2] = torch.arange(0, LENGTH, 2) % 9
    canvas = telling(trained, Batch.of(rows), course)
    denoiser = course.denoiser(trained.backbone)
    times = torch.full((len(course),), t)
    with denoiser.evaluating():
        where = denoiser.masked(canvas)
        return torch.cat(list(denoiser.laws(canvas, where, times)))


def plain(trained, values, do=None):
    given = Given.of(trained.persona, values)
    change = None if do is None else Change(do=(do,))
    settings = GuidanceConfig(scale=1.0)
    return law_of(trained, told(trained.persona, given, change, settings=settings))


def mixed(*terms):
    total = sum(weight * law.masked_fill(law.isneginf(), 0.0) for weight, law in terms)
    never = terms[0][1].isneginf()
    return total.masked_fill(never, -torch.inf).log_softmax(-1)


def guided(trained, values, t=0.5, do=None, contrast=0.0, **settings):
    given = Given.of(trained.persona, values)
    change = None if do is None else Change(do=(do,))
    course = told(
        trained.persona,
        given,
        change,
        settings=GuidanceConfig(**settings),
        contrast=contrast,
    )
    return law_of(trained, course, t)


def close(a, b):
    torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-5)


def test_the_personas_differ_in_their_laws(trained):
    own, none = plain(trained, SOMEBODY), plain(trained, {})
    assert (own.exp() - none.exp()).abs().max() > 0.05


@pytest.mark.parametrize("scale", [0.0, 0.5, 2.0, 4.0])
def test_guidance_against_nobody(trained, scale):
    own, none = plain(trained, SOMEBODY), plain(trained, {})
    found = guided(trained, SOMEBODY, scale=scale)
    close(found, mixed((scale, own), (1 - scale, none)))


def test_a_guidance_of_one_is_the_plain_model_and_of_zero_is_nobody(trained):
    given = Given.of(trained.persona, SOMEBODY)
    course = told(trained.persona, given, settings=GuidanceConfig())
    assert type(course.denoiser(trained.backbone)) is Denoiser
    assert course.passes == 1
    none = GuidanceConfig(scale=0.0)
    as_nobody = generate(trained, SOMEBODY, num=3, guidance=none, manner=manner())
    nobody = generate(trained, {}, num=3, manner=manner())
    assert torch.equal(as_nobody.tokens, nobody.tokens)
    assert torch.equal(as_nobody.nfe, nobody.nfe)


def test_guidance_away_from_a_persona(trained):
    found = guided(trained, SOMEBODY, scale=3.0, negative=OTHER)
    own, away = plain(trained, SOMEBODY), plain(trained, OTHER)
    close(found, mixed((3.0, own), (-2.0, away)))


def test_guidance_by_single_traits(trained):
    found = guided(trained, SOMEBODY, per_trait={"e": 3.0, "openness": 0.5})
    own = plain(trained, SOMEBODY)
    no_e = plain(trained, (*SOMEBODY[:2], None, *SOMEBODY[3:]))
    no_o = plain(trained, (None, *SOMEBODY[1:]))
    close(found, mixed((2.5, own), (-2.0, no_e), (0.5, no_o)))


def test_guidance_by_the_sum_of_single_traits(trained):
    values = {"openness": 0.8, "extraversion": 0.1, "neuroticism": 0.4}
    scales = {"e": 3.1, "openness": 0.7}  # whose weights add up to 4e-16, and not to 0
    found = guided(trained, values, per_trait=scales, per_trait_form="sum")
    o, e, n = (plain(trained, {name: value}) for name, value in values.items())
    none = plain(trained, {})
    close(found, mixed((0.7, o), (3.1, e), (1.0, n), (1 - 4.8, none)))
    settings = GuidanceConfig(per_trait=scales, per_trait_form="sum")
    given = Given.of(trained.persona, values)
    assert told(trained.persona, given, settings=settings).passes == 4
    with pytest.raises(UsageError, match="something is set"):
        generate(trained, values, do={"a": 0.5}, guidance=settings, manner=manner())


def test_guidance_by_a_trait_that_is_set_leaves_the_setting_out(trained):
    values = {"openness": 0.8, "neuroticism": 0.3}
    do = {"extraversion": 0.1}
    found = guided(trained, values, do=do, per_trait={"extraversion": 2.0})
    own, rest = plain(trained, values, do), plain(trained, values)
    close(found, mixed((2.0, own), (-1.0, rest)))


def test_contrast_with_the_factual_persona(trained):
    do = {"extraversion": 0.1}
    found = guided(trained, SOMEBODY, do=do, scale=2.0, contrast=1.5)
    own, fact = plain(trained, SOMEBODY, do), plain(trained, SOMEBODY)
    none = plain(trained, {})
    close(found, mixed((3.5, own), (-1.0, none), (-1.5, fact)))


def test_schedules_of_guidance(trained):
    own, none = plain(trained, SOMEBODY), plain(trained, {})
    for t, g in ((1.0, 1.0), (0.25, 2.5), (0.0, 3.0)):
        found = guided(trained, SOMEBODY, t=t, scale=3.0, schedule="linear")
        close(found, mixed((g, own), (1 - g, none)))
    for t, g in ((0.9, 1.0), (0.3, 3.0)):
        inside = {"schedule": "interval", "interval": (0.0, 0.6)}
        found = guided(trained, SOMEBODY, t=t, scale=3.0, **inside)
        close(found, mixed((g, own), (1 - g, none)))


def test_guidance_costs_a_pass_for_each_view(trained):
    given = Given.of(trained.persona, SOMEBODY)
    for settings, passes in (
        (GuidanceConfig(scale=2.0), 2),
        (GuidanceConfig(scale=0.0), 1),
        (GuidanceConfig(scale=2.0, schedule="linear"), 2),
        (GuidanceConfig(per_trait={"o": 2.0, "e": 3.0}), 3),
    ):
        course = told(trained.persona, given, settings=settings)
        denoiser = course.denoiser(trained.backbone)
        assert isinstance(denoiser, Guidance)
        assert (course.passes, denoiser.passes) == (passes, passes)
    once = generate(trained, SOMEBODY, manner=manner())
    twice = generate(
        trained, SOMEBODY, guidance=GuidanceConfig(scale=2.0), manner=manner()
    )
    assert twice.nfe.item() == 2 * once.nfe.item()


def test_a_row_has_its_own_persona_whatever_stands_beside_it(trained):
    guidance = GuidanceConfig(scale=2.0, negative=OTHER)
    ways = {"guidance": guidance, "manner": manner(batch_size=2)}
    both = generate(trained, [SOMEBODY, OTHER, SOMEBODY], **ways)
    alone = generate(trained, [OTHER, OTHER], **ways)
    assert torch.equal(both.tokens[1], alone.tokens[1])
    twin = generate(trained, SOMEBODY, num=3, **ways)
    assert torch.equal(both.tokens[[0, 2]], twin.tokens[[0, 2]])


def test_texts_of_a_persona_follow_each_other(trained):
    pairs = generate(trained, [SOMEBODY, OTHER], num=2, manner=manner())
    assert torch.equal(pairs.personas.z[0], pairs.personas.z[1])
    assert not torch.equal(pairs.personas.z[1], pairs.personas.z[2])
    assert len(pairs.texts) == 4


def test_values_come_as_sequences_mappings_and_tensors(trained):
    by_name = dict(zip("ocean", SOMEBODY, strict=True))
    for values in (list(SOMEBODY), by_name, torch.tensor(SOMEBODY).double()):
        given = Given.of(trained.persona, values)
        assert len(given) == 1
        torch.testing.assert_close(given.values[0, :5], torch.tensor(SOMEBODY))
    many = Given.of(trained.persona, torch.tensor([SOMEBODY, SOMEBODY]))
    assert len(many) == 2
    labelled = Given.of(trained.persona, [{"e": 0.1, "wellness": 3.0}, SOMEBODY])
    assert labelled.known.tolist() == [
        [False, False, True, False, False, True, False],
        [True] * 5 + [False] * 2,
    ]


@pytest.mark.parametrize(
    ("values", "error", "match"),
    [
        ((0.1, 0.2), UsageError, "5 traits"),
        ((0.1, 0.2, 1.3, 0.1, 0.1), UsageError, "extraversion is 1.3"),
        ((0.1, 0.2, float("nan"), 0.1, 0.1), UsageError, "extraversion is nan"),
        ({"extravesion": 0.2}, UnknownNameError, "extraversion"),
        ({"e": 0.2, "extraversion": 0.3}, UsageError, "twice"),
        ([], UsageError, "no persona"),
    ],
)
def test_values_that_do_not_fit(trained, values, error, match):
    with pytest.raises(error, match=match):
        generate(trained, values, manner=manner())


def test_guidance_that_does_not_fit(trained):
    no_value = GuidanceConfig(per_trait={"neuroticism": 2.0})
    with pytest.raises(UsageError, match="guidance by neuroticism needs its value"):
        generate(trained, OTHER, guidance=no_value, manner=manner())
    latent = GuidanceConfig(per_trait={"beliefs.3": 2.0})
    with pytest.raises(UsageError, match="not observed"):
        generate(trained, SOMEBODY, guidance=latent, manner=manner())
    both = GuidanceConfig(scale=2.0, per_trait={"e": 2.0})
    with pytest.raises(UsageError, match="stands alone"):
        generate(trained, SOMEBODY, guidance=both, manner=manner())


def test_an_intervention_draws_what_nobody_knows(trained):
    persona, rows = trained.persona, [{"e": 0.9}] * 400
    given = Given.of(persona, rows)
    change = Change(do=({"e": 0.2},), kind="intervene", noise=Noise(3).child("persona"))
    found = change(persona, given)
    wellness = persona.node("wellness")
    assert found.z[:, wellness].std() > 0.3
    assert bool((found.z[:, persona.node("e")] == found.z[0, persona.node("e")]).all())
    kept = Change(do=({"e": 0.2},))(persona, given)
    assert kept.z[:, wellness].std() < 1e-6
    assert bool(kept.known[:, persona.node("e")].all())


def test_a_latent_node_that_is_set_makes_a_persona(trained):
    given = Given.of(trained.persona, {})
    one = Change(do=({"beliefs.3": 1.0},))(trained.persona, given)
    assert one.known.sum() == 1
    assert float(one.z[0, trained.persona.node("beliefs.3")]) == 1.0


def test_every_row_may_have_its_own_intervention(trained):
    persona, given = trained.persona, Given.of(trained.persona, [SOMEBODY] * 3)
    dos = ({"e": 0.2}, {}, {"o": 0.1, "n": 0.9})
    found = Change(do=dos)(persona, given)
    for row, do in enumerate(dos):
        alone = Change(do=(do,))(persona, Given.of(persona, SOMEBODY))
        torch.testing.assert_close(found.z[row], alone.z[0])
    with pytest.raises(UsageError, match="2 interventions were given for 3 personas"):
        Change(do=dos[:2])(persona, given)
    with pytest.raises(UsageError, match="no way to change"):
        Change(do=dos, kind="wish")


def test_a_new_line_stands_for_the_end_of_a_document(trained):
    tokenizer = trained.tokenizer
    ids = [*tokenizer.encode("ab"), tokenizer.eod_id, *tokenizer.encode("c.")]
    assert shown(tokenizer, ids) == "ab\nc."


def test_a_prompt_stays(trained):
    found = generate(trained, SOMEBODY, prompt="abc ___{3}fed", manner=manner())
    text = trained.tokenizer.decode(found.tokens[0].tolist())
    assert text.startswith("abc ")
    assert found.tokens[0, 7:10].tolist() == trained.tokenizer.encode("fed")


def test_a_regressor_is_asked_for_the_persona_of_its_row(trained):
    with global_seed(Noise(5)):
        config = DiTConfig(blocks=1, width=16, heads=2, cond_width=8, dropout=0.0)
        trunk = DiT(config, vocab_size=12, mask_id=11, length=LENGTH)
        regressor = TraitRegressor(trunk, schedule=trained.schedule).eval()
        for weight in regressor.parameters():
            torch.nn.init.normal_(weight, std=0.5)
    pull = Pull(regressor, gamma=2.0)
    ways = replace(manner(batch_size=3), regressor=pull, coupled=True)
    guidance = GuidanceConfig(scale=0.0)
    many = [SOMEBODY, OTHER, {}]
    found = generate(trained, many, guidance=guidance, manner=ways)
    for row, values in enumerate(many):
        given = Given.of(trained.persona, values)
        course = told(trained.persona, given, settings=guidance)
        canvas = telling(trained, Batch.of(found.tokens[row : row + 1]), course)
        assert torch.equal(canvas.condition["known"][:, :5], given.known[:, :5])
        asked = canvas.condition["traits"][:, :5][given.known[:, :5]]
        close(asked, given.values[:, :5][given.known[:, :5]])
    nobody = generate(trained, [{}] * 3, manner=manner(batch_size=3, coupled=True))
    assert torch.equal(found.tokens[2], nobody.tokens[2])  # nothing to be drawn to
    assert not torch.equal(found.tokens[:2], nobody.tokens[:2])
    assert torch.equal(found.nfe, 2 * nobody.nfe)
