"""The original's names do what they say, and correctly."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import mdlm_msa.original as original
from mdlm_core.diffusion.schedule import LogLinear
from mdlm_core.errors import ConfigError, DataError, UnknownNameError, UsageError
from mdlm_core.kernels.noise import Noise, global_seed
from mdlm_core.nn.rotary import angles, rotate
from mdlm_msa import layout
from mdlm_msa.alphabet import GAP, MASK, SEPARATOR, SOP, WRITTEN, encode
from mdlm_msa.original import (
    MSAGPT_MDLM,
    LogLinearNoise,
    MSADataset,
    MSAPreferenceDataset,
    ProteinDiffusion,
    ProteinDIT,
    ProteinRotary2D,
    compute_diffusion_loss,
    diffusion_sampling,
    get_diffusion_strategy,
    proteinglm_tokenizer,
)
from mdlm_msa.original.diffusion import banned
from mdlm_msa.original.rotary import even_rotation, sat_order

from .score_toys import write_run

QUERY = "ACDEFGHIKL"


@pytest.fixture(scope="module")
def model() -> ProteinDIT:
    with global_seed(Noise(0)):
        return ProteinDIT(hidden_size=16, num_heads=2, num_layers=1, cond_dim=8).eval()


@pytest.fixture
def wrapper(model: ProteinDIT) -> MSAGPT_MDLM:
    return MSAGPT_MDLM(SimpleNamespace(backbone=model, schedule=LogLinear(0.0)))


def canvas(*rows: str, given: int = 1) -> layout.Canvas:
    return layout.Canvas(np.stack([encode(row) for row in rows]), given)


def sat_rotary(
    x: torch.Tensor, place: torch.Tensor, block: torch.Tensor
) -> torch.Tensor:
    """SwissArmyTransformer's formula, half a head for each axis."""

    def turn(part: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        size = part.shape[-1]
        frequency = 10000.0 ** (-torch.arange(0, size, 2).float() / size)
        angle = at[..., None].float() * torch.cat([frequency, frequency])
        a, b = part[..., : size // 2], part[..., size // 2 :]
        cos, sin = angle.cos()[:, :, None], angle.sin()[:, :, None]
        return part * cos + torch.cat([-b, a], -1) * sin

    half = x.shape[-1] // 2
    return torch.cat([turn(x[..., :half], place), turn(x[..., half:], block)], -1)


def test_rotary_is_that_of_msagpt_in_another_order() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 7, 3, 64, generator=generator)
    places = torch.randint(0, 300, (2, 2, 7), generator=generator)
    order = sat_order(64)
    theirs = sat_rotary(x, *places)
    ours = ProteinRotary2D(64)(x[..., order], *places)
    assert ours == pytest.approx(theirs[..., order], abs=1e-5)
    by = angles(torch.stack([*places], -1), 64)
    assert torch.equal(ours, rotate(x[..., order].unsqueeze(2), by).squeeze(2))


@pytest.mark.parametrize("turn", ["ours", "even"])
def test_rotary_depends_on_differences_alone(turn: str) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 1, 1, 1, 16, generator=generator)
    rotary = ProteinRotary2D(16) if turn == "ours" else even_rotation

    def product(column: int, row: int, shift: int) -> float:
        at = [torch.tensor([[value + shift]]) for value in (column, row)]
        zero = [torch.tensor([[shift]])] * 2
        return float((rotary(q, *at) * rotary(k, *zero)).sum())

    assert product(5, 2, 0) == pytest.approx(product(5, 2, 40), abs=1e-4)
    assert abs(product(5, 2, 0) - product(2, 5, 0)) > 1e-3


def test_code_of_the_original_uses_half_of_its_frequencies() -> None:
    """Eight of sixteen, each twice."""
    x = torch.zeros(1, 1, 1, 64)
    x[..., ::2] = 1.0
    one, zero = torch.ones(1, 1), torch.zeros(1, 1)
    turned = even_rotation(x, one, zero)[0, 0, 0, :32]
    angle = torch.atan2(turned[1::2], turned[::2])
    every = 10000.0 ** (-np.arange(0, 32, 2) / 32)
    assert len(np.unique(angle.numpy().round(6))) == 8
    assert angle.numpy() == pytest.approx(np.tile(every[::2], 2), abs=1e-5)


def test_backbone_is_called_with_the_original_tensors(model: ProteinDIT) -> None:
    batch = layout.batch([canvas(QUERY, "ACDEFGHIKW")])
    logits = model(batch.tokens, torch.tensor([0.5]), *batch.positions.unbind(-1))
    assert logits.shape == (1, batch.length, 37)
    states = model.hidden(batch)
    assert torch.equal(logits[0], model.logits(states[0]))
    with pytest.raises(ConfigError, match="vocab_size is 100; it must be 37"):
        ProteinDIT(vocab_size=100)
    with pytest.raises(ConfigError, match="or neither"):
        model(batch.tokens, position_ids=batch.positions[..., 0])


def test_schedule_of_the_original_is_turned_round() -> None:
    noise = LogLinearNoise()
    t = torch.linspace(0, 1, 5)
    assert noise(t) == pytest.approx(1 - (1 - 1e-3) * t, abs=1e-6)
    assert noise.schedule.mask_rate(1 - t) == pytest.approx(noise(t))


def test_noise_hides_the_share_that_is_asked_for(model: ProteinDIT) -> None:
    diffusion = ProteinDiffusion(model)
    row = QUERY * 40
    tokens = layout.batch([canvas(row, row)]).tokens
    mask = torch.zeros_like(tokens).bool()
    mask[:, : tokens.shape[1] // 2] = True
    noised = diffusion.q_xt(tokens, 0.3, mask)
    hidden = noised == MASK
    assert not hidden[mask].any()
    assert not hidden[(tokens == SEPARATOR) | (tokens == SOP)].any()
    assert float(hidden[~mask].float().mean()) == pytest.approx(0.3, abs=0.07)
    assert torch.equal(noised[~hidden], tokens[~hidden])
    assert torch.equal(noised, diffusion.q_xt(tokens, torch.tensor([0.3]), mask))
    assert not torch.equal(noised, diffusion.q_xt(tokens, 0.3, mask, seed=1))


def test_posterior_carries_visible_tokens_over(model: ProteinDIT) -> None:
    diffusion = ProteinDiffusion(model)
    batch = layout.batch([canvas(QUERY, "ACDEFGHIKW")])
    sigma = torch.tensor([0.5])
    places = batch.positions.unbind(-1)
    with torch.no_grad():
        log_p = diffusion(batch.tokens, sigma, *places, batch.frozen)
    noised = diffusion.q_xt(batch.tokens, sigma, batch.frozen)
    assert log_p.exp().sum(-1) == pytest.approx(torch.ones(1, batch.length), abs=1e-5)
    assert torch.isneginf(log_p[..., MASK]).all()
    seen = noised != MASK
    assert (log_p.gather(-1, noised[..., None])[..., 0][seen] == 0).all()
    with pytest.raises(ConfigError, match="mask_token_id is 28; it must be 36"):
        ProteinDiffusion(model, mask_token_id=28)
    with pytest.raises(ConfigError, match="there is one, 'subs'"):
        ProteinDiffusion(model, parameterization="d3pm")


def test_loss_of_a_uniform_model_is_its_entropy() -> None:
    with global_seed(Noise(0)):
        model = ProteinDIT(
            hidden_size=16, num_heads=2, num_layers=1, cond_dim=8, profile=False
        )
    with torch.no_grad():
        model.head.bias.fill_(-60.0)
        model.head.bias[list(WRITTEN)] = 0.0
    batch = layout.batch([canvas(QUERY, "ACDEFGHIKW"), canvas(QUERY, "ACDEFG--KW")])
    found = compute_diffusion_loss(
        model, batch.tokens, *batch.positions.unbind(-1), context_mask=batch.frozen
    )
    assert float(found["loss"].detach()) == pytest.approx(math.log(21), rel=1e-5)
    assert float(found["nll"]) == pytest.approx(math.log(21), rel=1e-5)
    assert int(found["tokens"]) == 20
    found["loss"].backward()
    assert model.head.bias.grad.abs().sum() > 0
    again = compute_diffusion_loss(
        ProteinDiffusion(model), batch.tokens, *batch.positions.unbind(-1),
        LogLinearNoise(), batch.frozen,
    )  # fmt: skip
    assert torch.equal(again["loss"], found["loss"])


@pytest.mark.parametrize("name", ["sample", "sample_ddpm_caching"])
def test_samples_keep_their_context(model: ProteinDIT, name: str) -> None:
    batch = layout.batch([canvas(QUERY, QUERY)])
    given = batch.frozen
    found = getattr(ProteinDiffusion(model), name)(
        2, batch.length, 8, context_tokens=batch.tokens, context_mask=given,
        position_ids=batch.positions[..., 0],
        block_position_ids=batch.positions[..., 1],
        invalid_slices=[GAP, *range(37, 128)],
    )  # fmt: skip
    assert torch.equal(found[:, given[0]], batch.tokens[:, given[0]].expand(2, -1))
    assert ((found[:, ~given[0]] >= 1) & (found[:, ~given[0]] <= 20)).all()
    assert not torch.equal(found[0], found[1])
    with pytest.raises(UsageError, match="context_tokens and context_mask"):
        ProteinDiffusion(model).sample(1, 4, context_tokens=batch.tokens)


def test_documented_example_runs(wrapper: MSAGPT_MDLM) -> None:
    tokenizer = proteinglm_tokenizer()
    seq = [tokenizer.get_command("[gMASK]"), tokenizer.get_command("sop")]
    seq += [*tokenizer.tokenize(QUERY), tokenizer.get_command("<M>")]
    context = torch.tensor([seq])
    settings = {
        "context_tokens": context,
        "msa_len": len(QUERY) + 1,
        "max_gen_length": 40,
        "num_steps": 8,
        "msa_delimiter_id": tokenizer.get_command("<M>"),
    }
    output = wrapper.generate(**settings)
    assert output.shape == (1, len(seq) + 3 * (len(QUERY) + 1))
    assert torch.equal(output[0, : len(seq)], context[0])
    text = tokenizer.detokenize(output[0].tolist())
    query, *rows = text.removesuffix("<M>").split("<M>")
    assert query == QUERY
    assert [len(row) for row in rows] == [len(QUERY)] * 3
    assert set("".join(rows)) <= set("ACDEFGHIKLMNPQRSTVWY-")
    assert torch.equal(output, wrapper.generate(**settings))
    assert not torch.equal(output, wrapper.generate(**settings, seed=1))
    without = wrapper.generate(**settings, invalid_slices=[GAP])
    assert GAP not in without


def test_runs_are_loaded_by_their_folder(tmp_path: Path) -> None:
    args = SimpleNamespace(device="cpu", anything=1)
    loaded, same = MSAGPT_MDLM.from_pretrained(write_run(tmp_path / "run"), args)
    assert same is args
    context = layout.tokens(canvas(QUERY).rows)[None]
    found = loaded.cpu().eval().generate(context, 11, 11, num_steps=2)
    assert found.shape == (1, 24)
    with pytest.raises(ConfigError, match="is no run"):
        MSAGPT_MDLM.from_pretrained(tmp_path / "none")


def test_what_no_row_consists_of_is_never_drawn() -> None:
    assert set(range(37)) - set(banned([])) == set(WRITTEN)
    assert set(banned([33, 34, 36, *range(37, 128)])) == set(banned([]))
    assert GAP in banned([GAP])


def test_contexts_of_another_form_are_refused(wrapper: MSAGPT_MDLM) -> None:
    good = layout.tokens(canvas(QUERY, QUERY).rows)
    rows = {"msa_len": 11, "max_gen_length": 11, "num_steps": 2}
    assert wrapper.generate(good[None], **rows).shape == (1, len(good) + 11)
    for tokens, message in (
        (good[1:], "begins with the ids"),
        (good[:-1], "no multiple of msa_len=11"),
        (torch.cat([good[:2], good[3:], good[2:3]]), "separators of the context"),
        (good.masked_fill(good == 1, 0), "padding or a mask"),
    ):
        with pytest.raises(DataError, match=message):
            wrapper.generate(tokens[None], **rows)
    with pytest.raises(UsageError, match="a row with its separator takes msa_len=11"):
        wrapper.generate(good[None], 11, 10)
    with pytest.raises(UsageError, match="msa_delimiter_id is 34"):
        wrapper.generate(good[None], 11, 11, msa_delimiter_id=34)
    with pytest.raises(UsageError, match=r"invalid_slices has \[128\]"):
        wrapper.generate(good[None], 11, 11, invalid_slices=[128])


def test_strategies_and_chat_sampling(wrapper: MSAGPT_MDLM) -> None:
    invalid = [33, 34, 36, *range(37, 128)]
    strategy = get_diffusion_strategy("remask", 6, 1.0, invalid)
    text = diffusion_sampling(
        SimpleNamespace(max_gen_length=22),
        [QUERY, "ACDEFG--KL"],
        wrapper,
        proteinglm_tokenizer(),
        strategy,
    )
    rows = text.split("<M>")
    assert rows[:2] == [QUERY, "ACDEFG--KL"]
    assert [len(row) for row in rows] == [10] * 4
    with pytest.raises(UnknownNameError, match="ddpm"):
        get_diffusion_strategy("dppm")
    with pytest.raises(UsageError, match="letters"):
        diffusion_sampling(
            SimpleNamespace(max_gen_length=22), [QUERY, "ACD"], wrapper,
            proteinglm_tokenizer(), strategy,
        )  # fmt: skip


def test_items_of_alignments() -> None:
    data = MSADataset(max_length=256, max_rows=4, families=4)
    item = data[0]
    assert set(item) == {
        "input_ids",
        "position_ids",
        "block_position_ids",
        "context_mask",
    }
    columns = int(item["position_ids"].max())
    rows = (len(item["input_ids"]) - 2) // (columns + 1)
    assert 2 <= rows <= 4
    assert torch.equal(
        torch.stack([item["position_ids"], item["block_position_ids"]], -1),
        layout.positions(rows, columns),
    )
    assert item["context_mask"][: columns + 3].all()  # [gMASK] sop query <M>
    assert not item["context_mask"].all()
    assert torch.equal(item["input_ids"], data[-len(data)]["input_ids"])
    with pytest.raises(IndexError):
        data[len(data)]


def test_items_of_pairs(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    pair = {"query": QUERY, "winner": ["ACDEFGHIKW"], "loser": [QUERY, "AC-EFGHIKL"]}
    path.write_text(json.dumps(pair) + "\n")
    data = MSAPreferenceDataset(path)
    item = data[0]
    assert len(data) == 1
    assert len(item["winner_input_ids"]) == layout.size(2, 10)
    assert len(item["loser_input_ids"]) == layout.size(3, 10)
    assert int(item["loser_context_mask"].sum()) == layout.size(3, 10) - 20
    assert item["winner_position_ids"].max() == 10
    assert len(MSAPreferenceDataset(path, max_length=30)) == 0


def test_every_name_is_there() -> None:
    for name in original.__all__:
        assert getattr(original, name).__name__ in (name, "proteinglm_tokenizer")
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        original.nothing  # noqa: B018
