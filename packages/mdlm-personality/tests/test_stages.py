"""The stages of training: which weights learn when, from what, and towards what."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mdlm_core import load_catalog
from mdlm_core.config import resolve
from mdlm_core.data.batch import Batch
from mdlm_core.diffusion import Draw
from mdlm_core.diffusion.schedule import LogLinear
from mdlm_core.errors import ConfigError, UnknownNameError, UsageError
from mdlm_core.kernels.noise import Noise, global_seed
from mdlm_core.masking import UniformMasking
from mdlm_core.protocols import MaskingPolicy
from mdlm_personality.causal_diffusion import CausalDiffusion
from mdlm_personality.config import PersonalityConfig
from mdlm_personality.persona import Persona
from mdlm_personality.stages import Stage, check_stage, stage_at

from .persona_toys import disturbed, null, toy_batch, toy_config, toy_model


def module(
    *, model: dict[str, object] | None = None, **settings: object
) -> CausalDiffusion:
    structure = (model or {}).get("structure", "tiered")
    return CausalDiffusion(
        disturbed(toy_model(**(model or {}))),
        PersonalityConfig(**settings),  # type: ignore[arg-type]
        structure=str(structure),
        schedule=LogLinear(0.0),
        policy=uniform(),
    ).eval()


def uniform() -> MaskingPolicy:
    return UniformMasking()


def draw(rows: int, step: int = 0) -> Draw:
    return Draw(noise=Noise(0), rows=torch.arange(rows), of=rows, step=step)


def learned(trained: CausalDiffusion, batch: Batch) -> set[str]:
    """Return the first names of the weights that get a gradient."""
    trained.zero_grad(set_to_none=True)
    trained(batch, draw(len(batch))).total.backward()
    names = set()
    for name, parameter in trained.backbone.named_parameters():
        if parameter.grad is not None and bool(parameter.grad.any()):
            first, *rest = name.split(".")
            names.add(f"persona.{rest[0]}" if first == "persona" else first)
    return names


def test_steps_go_through_the_stages() -> None:
    config = PersonalityConfig(encoder_share=0.1, causal_share=0.2)
    with global_seed(Noise(0)):
        full = Persona(toy_config(encoder="beta-vae"))
        plain = Persona(toy_config(labels={}))
    found = [stage_at(step, 20, config, full).number for step in range(20)]
    assert found == [1] * 2 + [2] * 4 + [3] * 14
    assert stage_at(4, 20, config, full) == Stage(2, 0.5)
    # Without an encoder's weights and without labels there is nothing before stage 3.
    assert {stage_at(step, 20, config, plain).number for step in range(20)} == {3}
    one = replace(config, stage=2)
    assert {stage_at(step, 20, one, full).number for step in range(20)} == {2}


def test_every_stage_teaches_its_own_weights() -> None:
    trained = module(model={"encoder": "beta-vae"})
    batch = toy_batch()
    trained.stage = Stage(1, 0.5)
    assert learned(trained, batch) == {"persona.encoder"}
    assert int(trained.count(batch)) == 3
    trained.stage = Stage(2, 0.5)
    assert "persona.layer" in learned(trained, batch)
    known = batch.condition["known"].clone()
    known[:, 5] = False  # so that what the encoder says about it matters
    some = replace(batch, condition={**batch.condition, "known": known})
    assert learned(trained, some) == {"persona.layer"}
    trained.stage = Stage(3, 0.5)
    found = learned(trained, batch)
    assert {"persona.layer", "persona.encoder", "conditioner", "blocks"} <= found
    assert int(trained.count(batch)) == 18


def test_a_frozen_persona_gets_no_gradient() -> None:
    trained = module(model={"encoder": "beta-vae"}, freeze=True)
    found = learned(trained, toy_batch())
    assert not [name for name in found if name.startswith("persona")]
    assert {"conditioner", "blocks", "head"} <= found


def test_the_text_alone_teaches_edges_to_nodes_that_nobody_observes() -> None:
    trained = module(condition_dropout=0.0, trait_dropout=0.0)
    batch = toy_batch(columns=5)  # nothing but traits
    trained(batch, draw(3)).total.backward()
    gradient = trained.persona.layer.weight.grad
    assert gradient is not None
    assert gradient[:5, 6:].abs().min() > 0  # from traits to latent nodes


def planted(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return traits and two labels with known effects, and the effects ``(5, 2)``."""
    u = Noise(7).uniform(torch.arange(rows), 7)
    traits = u[:, :5].float()
    effects = torch.tensor(
        [[0.0, 1.0], [0.5, 0.0], [-1.0, 0.5], [0.0, 0.0], [2.0, -0.5]]
    )
    noise = 0.3 * torch.special.ndtri(u[:, 5:]).float()
    return torch.cat([traits, traits @ effects + noise], 1), effects


def test_stage_two_finds_what_least_squares_finds() -> None:
    values, _ = planted(400)
    batch = replace(
        toy_batch(400),
        condition={"traits": values, "known": torch.ones_like(values) > 0},
    )
    trained = module()
    trained.persona.set_scale(values.mean(0), values.std(0))
    trained.stage = Stage(2, 0.5)
    layer = trained.persona.layer
    optimizer = torch.optim.LBFGS(layer.parameters(), max_iter=200)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss: torch.Tensor = trained(batch, draw(400)).total / 400
        loss.backward()
        return loss

    optimizer.step(closure)
    z = ((values - values.mean(0)) / values.std(0)).double()
    # optimism on the traits, then exercise on the traits and optimism
    for column, parents in ((5, range(5)), (6, range(6))):
        expected = torch.linalg.lstsq(z[:, parents], z[:, column]).solution
        nodes = trained.persona.column_nodes
        found = layer.adjacency()[nodes[list(parents)], nodes[column]]
        assert found.tolist() == pytest.approx(expected.tolist(), abs=2e-3)
        left = z[:, column] - z[:, parents] @ expected
        scale = float(layer.scale().detach()[nodes[column]])
        assert scale == pytest.approx(float(left.square().mean().sqrt()), rel=1e-2)


def test_a_search_settles_on_a_graph_without_cycles() -> None:
    trained = module(model={"structure": "dagma", "labels": {}}, causal_share=0.5)
    assert not bool(trained.settled)
    assert not trained.persona.layer.acyclic
    for step in range(20):
        trained.advance(step, 20)
    assert bool(trained.settled)
    assert trained.persona.layer.acyclic


def test_dropout_hides_rows_and_single_columns() -> None:
    trained = module(condition_dropout=0.25, trait_dropout=0.5)
    batch = toy_batch(4000)
    told = trained._shown(batch, Noise(1), torch.arange(4000))["known"]
    kept = told.sum(1)
    assert float((kept == 7).float().mean()) == pytest.approx(0.25 + 0.5 / 8, abs=0.03)
    assert float((kept == 0).float().mean()) == pytest.approx(0.25 + 0.5 / 8, abs=0.03)
    # Every number of columns is as likely as any other, and so is every column.
    some = kept[(kept > 0) & (kept < 7)]
    assert some.float().mean().item() == pytest.approx(3.5, abs=0.2)
    assert told[(kept > 0) & (kept < 7)].float().mean(0).std().item() < 0.03


def test_a_row_that_lost_its_persona_is_the_null_of_sampling() -> None:
    batch = toy_batch()
    lost = module(condition_dropout=1.0, trait_dropout=0.0, freeze=True)
    told = module(condition_dropout=0.0, trait_dropout=0.0, freeze=True)
    expected = told(null(batch), draw(3)).total
    assert lost(batch, draw(3)).total.equal(expected)
    assert not told(batch, draw(3)).total.allclose(expected)
    # The batch is as it was.
    assert bool(batch.condition["known"].all())


def test_the_joint_loss_is_text_and_columns_together() -> None:
    batch = toy_batch()
    joint = module(condition_dropout=0.0, trait_dropout=0.0)
    alone = module(condition_dropout=0.0, trait_dropout=0.0, freeze=True)
    joint.stage = alone.stage = Stage(3, 0.0)
    both, text = joint(batch, draw(3)), alone(batch, draw(3))
    joint.stage = Stage(2, 1.0)
    columns = joint(batch, draw(3)).total
    assert both.total.item() == pytest.approx((text.total + columns).item(), rel=1e-5)
    assert both.extra["columns"].item() == pytest.approx(columns.item() / 3, rel=1e-5)


def test_columns_are_scored_in_rows_that_are_shown_without_them() -> None:
    batch = toy_batch()
    joint = module(condition_dropout=1.0, trait_dropout=0.0)
    found = joint(batch, draw(3)).extra["columns"]
    joint.stage = Stage(2, 1.0)
    expected = joint(batch, draw(3)).total / 3
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_stage_without_anything_to_learn_is_refused() -> None:
    with global_seed(Noise(0)):
        plain = Persona(toy_config(labels={}))
    with pytest.raises(ConfigError, match=r"model\.encoder=beta-vae"):
        check_stage(PersonalityConfig(stage=1), plain)
    with pytest.raises(ConfigError, match=r"data\.labels"):
        check_stage(PersonalityConfig(stage=2), plain)
    check_stage(PersonalityConfig(stage=3), plain)


def test_stages_before_the_third_need_traits() -> None:
    trained = module()
    trained.stage = Stage(2, 0.0)
    with pytest.raises(ConfigError, match="learns from traits"):
        trained(replace(toy_batch(), condition={}), draw(3))


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("task.stage=4", "task.stage"),
        ("task.encoder_share=0.95", "no step"),
        ("task.condition_dropout=0.9", "add up"),
        ("model.latent_dim=30", "multiple of 4"),
        ("model.structure=fixed", r"model\.edges"),
        ("data.labels=3", r"data\.labels"),
    ],
)
def test_settings_that_cannot_work_are_refused(setting: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        resolve(load_catalog(), plugin="personality", sets=[setting])


def test_sampling_is_told_traits_by_name() -> None:
    config = resolve(load_catalog(), plugin="personality").config
    catalog = load_catalog()
    task = catalog.build("task", config.task, run=config, catalog=catalog)
    told = task.condition({"openness": "0.8", "e": "0.2", "optimism": "0.4"}, 2)
    assert told["known"].shape == (2, 10)
    assert told["known"][0].nonzero()[:, 0].tolist() == [0, 2, 5]
    assert told["traits"][1, [0, 2, 5]].tolist() == pytest.approx([0.8, 0.2, 0.4])
    assert not task.condition({}, 1)["known"].any()


def test_labels_of_data_and_model_are_both_observed() -> None:
    sets = ["data.labels=true", 'model.labels={"calm": "actions"}']
    config = resolve(load_catalog(), plugin="personality", sets=sets, tiny=True).config
    catalog = load_catalog()
    task = catalog.build("task", config.task, run=config, catalog=catalog)
    source = catalog.build("dataset", config.data)
    columns = task.build(source).persona.columns
    assert columns[5:] == (*source.labels, "calm")


def test_the_null_is_measured_apart() -> None:
    config = resolve(load_catalog(), plugin="personality", tiny=True).config
    catalog = load_catalog()
    task = catalog.build("task", config.task, run=config, catalog=catalog)
    source = catalog.build("dataset", config.data)
    built = task.build(source)
    disturbed(built.backbone)
    found = task.evaluate(built.eval(), source)
    assert abs(found["loss"] - found["unconditional"]) > 1e-3
    for name in ("optimizm", "wellness"):
        with pytest.raises(UnknownNameError, match=r"labels of this model: optimism"):
            task.condition({name: "0.4"}, 1)
    with pytest.raises(UsageError, match="exercise is 'much', which is no number"):
        task.condition({"exercise": "much"}, 1)


def test_the_encoder_learns_from_parts_of_the_traits() -> None:
    """It is asked about parts when texts are written, and so has to meet them."""
    trained = module(
        model={"encoder": "beta-vae"}, condition_dropout=0.0, trait_dropout=1.0
    )
    trained.stage = Stage(1, 0.5)
    batch = toy_batch(8)
    seen: list[torch.Tensor] = []
    encoder = trained.persona.encoder
    assert encoder is not None
    loss = encoder.loss

    def watched(x: torch.Tensor, known: torch.Tensor, *rest: object, **more: object):
        seen.append(known)
        return loss(x, known, *rest, **more)  # type: ignore[arg-type]

    encoder.loss = watched  # type: ignore[method-assign]
    trained(batch, draw(8))
    shown = trained._shown(batch, Noise(0).child("persona", 0), torch.arange(8))
    assert seen[0].equal(shown["known"][:, :5])
    assert 0 < int(seen[0].sum()) < 40


def test_a_frozen_persona_is_that_of_sampling_in_bf16() -> None:
    trained = module(model={"encoder": "beta-vae"}, freeze=True, condition_dropout=0.0)
    batch = toy_batch()
    plain = trained._shown(batch, Noise(1), torch.arange(3))["persona"]
    with torch.autocast("cpu", torch.bfloat16):
        found = trained._shown(batch, Noise(1), torch.arange(3))["persona"]
    assert found.equal(plain)


def test_flags_of_nodes_that_no_data_tell_say_nothing() -> None:
    """No row of training knows them, so that nothing could be learned of them."""
    told = toy_model().conditioner.to_tokens.weight
    assert told[:, :20].abs().min() > 0
    assert told[:, 20:].abs().max() == 0


def test_the_causal_layer_does_not_teach_the_encoder() -> None:
    """Also not where a column follows from a node that the encoder speaks of."""
    edges = ("beliefs.3 -> exercise",)
    model = {"encoder": "beta-vae", "structure": "fixed", "edges": edges}
    trained = module(model=model)
    trained.stage = Stage(2, 0.5)
    assert learned(trained, toy_batch()) == {"persona.layer"}
