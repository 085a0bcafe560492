"""Models of transformers as backbones, against transformers' own answers."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from mdlm_core.config.components import HuggingFaceModelConfig
from mdlm_core.data.batch import Batch
from mdlm_core.errors import CheckpointError, ConfigError, UsageError
from mdlm_core.interop.hugging_face import HuggingFaceBackbone, build
from mdlm_core.kernels.noise import Noise, global_seed
from mdlm_core.testing.tiny import tiny_batch

transformers = pytest.importorskip("transformers")

V, MASK, L = 40, 11, 12
SIZES = {
    "vocab_size": V,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
FEW_KEYS = {"num_key_value_heads": 1}
MASKED = {
    "Bert": {},
    "Roberta": {"pad_token_id": 1},
    "ModernBert": {
        "cls_token_id": 1,
        "sep_token_id": 2,
        "local_attention": 4,
        "global_attn_every_n_layers": 2,
    },
    "DistilBert": {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 48},
}
CAUSAL = {
    "Llama": FEW_KEYS,
    "Qwen2": FEW_KEYS,
    "Qwen3": {**FEW_KEYS, "head_dim": 16},
    "GPT2": {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64},
    "Granite": {**FEW_KEYS, "logits_scaling": 3.0},
}
QUERIES = ("query", "q_proj", "c_attn")
LINEAR_HEADS = {"Llama", "Qwen2", "Qwen3", "GPT2"}


def new(name, head, **settings):
    """Return a small model whose weights are far from zero."""
    config = getattr(transformers, f"{name}Config")(**{**SIZES, **settings})
    with global_seed(Noise(0).child(name)):
        model = getattr(transformers, f"{name}{head}")(config)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    nn.init.normal_(parameter, std=0.2)
    return model.eval()


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Return the folder and the model of each name."""
    made = {}
    for name, settings in {**MASKED, **CAUSAL}.items():
        head = "ForMaskedLM" if name in MASKED else "ForCausalLM"
        model = new(name, "LMHeadModel" if name == "GPT2" else head, **settings)
        folder = tmp_path_factory.mktemp(name)
        model.save_pretrained(folder)
        made[name] = (str(folder), model)
    return made


def backbone(path, *, mask_id=MASK, vocab_size=V, length=L, **settings):
    config = HuggingFaceModelConfig(path=path, **settings)
    made = build(config, vocab_size=vocab_size, mask_id=mask_id, length=length)
    return made.eval()


def logits(model, batch):
    """Return ``(B, L, V)``."""
    with torch.no_grad():
        states = model.hidden(batch)
        return model.logits(states.flatten(0, 1)).view(*states.shape[:2], -1)


def counter(calls):
    return lambda *_: calls.append(1)


def rows():
    return tiny_batch(length=L, vocab_size=V, mask_id=MASK)


# ---- the same numbers -------------------------------------------------------


@pytest.mark.parametrize("name", MASKED)
def test_a_masked_model_answers_as_in_transformers(models, name):
    path, model = models[name]
    batch = rows()
    tokens = batch.tokens.masked_fill(batch.tokens == 1, 2)  # 1 pads for RoBERTa
    batch = batch.with_tokens(tokens)
    tokens = tokens.masked_fill(batch.pad, 1 if name == "Roberta" else MASK)
    with torch.no_grad():
        expected = model(tokens, attention_mask=(~batch.pad).long()).logits
    found = logits(backbone(path), batch)
    torch.testing.assert_close(found[~batch.pad], expected[~batch.pad])


@pytest.mark.parametrize("name", CAUSAL)
def test_a_causal_model_answers_one_further_and_sees_both_ways(models, name):
    path, model = models[name]
    tokens = rows().tokens[:2]
    both = torch.ones(1, 1, L, L, dtype=torch.bool)
    with torch.no_grad():
        expected = model(tokens, attention_mask=both, use_cache=False).logits
    found = logits(backbone(path), Batch.of(tokens))
    torch.testing.assert_close(found[:, 1:], expected[:, :-1])
    torch.testing.assert_close(found[:, 0], expected[:, 0])
    straight = logits(backbone(path, shift=False), Batch.of(tokens))
    torch.testing.assert_close(straight, expected)


@pytest.mark.parametrize("name", [*MASKED, *CAUSAL])
def test_a_row_is_the_same_with_and_without_padding(models, name):
    model = backbone(models[name][0])
    batch = rows()
    keep = int((~batch.pad[-1]).sum())
    alone = logits(model, Batch.of(batch.tokens[-1:, :keep]))
    torch.testing.assert_close(logits(model, batch)[-1:, :keep], alone)


@pytest.mark.parametrize("name", [*MASKED, *CAUSAL])
def test_a_head_that_is_one_layer_is_known(models, name):
    model = backbone(models[name][0])
    assert (type(model.head) is nn.Linear) == (name in LINEAR_HEADS)


@pytest.mark.parametrize(("kind", "reach"), [("masked", 2), ("causal", 1)])
def test_a_window_stays_a_window_both_ways(tmp_path, kind, reach):
    """A layer sees `reach` tokens to each side; of a causal one the window is half."""
    if kind == "masked":
        settings = {**MASKED["ModernBert"], "global_attn_every_n_layers": 100}
        model = new("ModernBert", "ForMaskedLM", num_hidden_layers=2, **settings)
        model.config.layer_types = ["sliding_attention"] * 2
    else:
        model = new("Mistral", "ForCausalLM", sliding_window=2, **FEW_KEYS)
    model.save_pretrained(tmp_path)
    made = backbone(str(tmp_path), shift=False)
    tokens = rows().tokens[:1]
    for place in (0, 6, L - 1):
        other = tokens.clone()
        other[0, place] = (other[0, place] + 1) % 10
        differ = logits(made, Batch.of(tokens)) != logits(made, Batch.of(other))
        seen = differ.any(-1)[0].nonzero()[:, 0].tolist()
        near = range(max(0, place - 2 * reach), min(L, place + 2 * reach + 1))
        assert seen == list(near)  # two layers


# ---- settings ---------------------------------------------------------------


def test_the_embedding_grows_for_a_mask_of_its_own(models):
    path, model = models["Llama"]
    grown = backbone(path, vocab_size=V + 2, mask_id=V + 1)
    assert (grown.vocab_size, grown.mask_id) == (V + 2, V + 1)
    table = grown.model.get_input_embeddings().weight
    old = model.get_input_embeddings().weight
    torch.testing.assert_close(table[:V], old)
    torch.testing.assert_close(table[V:], old.mean(0).expand(2, -1))
    assert logits(grown, rows()).shape[-1] == V + 2


def test_weights_can_be_new(models):
    path, model = models["Llama"]
    made = backbone(path, random=True)
    found = made.model.get_input_embeddings().weight
    assert found.shape == model.get_input_embeddings().weight.shape
    assert not torch.allclose(found, model.get_input_embeddings().weight)


def test_the_type_of_the_weights_is_chosen(models):
    path, _ = models["Qwen2"]
    made = backbone(path, dtype="bfloat16")
    assert {p.dtype for p in made.parameters()} == {torch.bfloat16}
    assert torch.isfinite(logits(made, rows())[~rows().pad]).all()


@pytest.mark.parametrize("name", ["Bert", "Llama", "GPT2"])
def test_gradients_are_the_same_if_blocks_are_computed_twice(models, name):
    path, _ = models[name]
    batch, found = rows(), []
    for again in (False, True):
        model = backbone(path)
        model.gradient_checkpointing = again
        assert model.gradient_checkpointing == again
        model.train()
        for part in model.modules():
            if isinstance(part, nn.Dropout):
                part.p = 0.0
            elif hasattr(part, "attention_dropout"):
                part.attention_dropout = 0.0
        calls = []
        query = next(n for n, _ in model.named_modules() if n.endswith(QUERIES))
        model.get_submodule(query).register_forward_hook(counter(calls))
        loss = model.logits(model.hidden(batch)[batch.free]).logsumexp(-1).sum()
        loss.backward()
        assert len(calls) == (2 if again else 1)
        found.append(model.model.get_input_embeddings().weight.grad)
    torch.testing.assert_close(*found)


# ---- refusals ---------------------------------------------------------------


def saved(folder, model):
    model.save_pretrained(folder)
    return str(folder)


def test_layers_that_are_no_attention_are_refused(tmp_path):
    model = transformers.MambaForCausalLM(
        transformers.MambaConfig(vocab_size=V, hidden_size=16, num_hidden_layers=1)
    )
    with pytest.raises(CheckpointError, match="linear_attention"):
        backbone(saved(tmp_path, model))


def test_a_model_without_masks_for_pairs_is_refused(tmp_path):
    model = new("DebertaV2", "ForMaskedLM", num_hidden_layers=1)
    with pytest.raises(CheckpointError, match="who sees whom"):
        backbone(saved(tmp_path, model))


def test_a_model_that_does_not_look_ahead_is_refused(models, monkeypatch):
    below = torch.ones(L, L, dtype=torch.bool).tril()

    def only_back(self, batch):
        return below[None, None, : batch.length, : batch.length]

    monkeypatch.setattr(HuggingFaceBackbone, "_attention_mask", only_back)
    with pytest.raises(CheckpointError, match="does not see those that follow"):
        backbone(models["Llama"][0])


def test_a_model_that_sees_padding_is_refused(models, monkeypatch):
    monkeypatch.setattr(HuggingFaceBackbone, "_attention_mask", lambda *_: None)
    with pytest.raises(CheckpointError, match="sees padding"):
        backbone(models["Bert"][0])


def test_an_encoder_with_a_decoder_is_refused(tmp_path):
    config = transformers.T5Config(
        vocab_size=V, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2
    )
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    with pytest.raises(ConfigError, match="an encoder and a decoder"):
        backbone(str(tmp_path))


def test_a_checkpoint_without_a_head_is_refused(tmp_path):
    path = saved(tmp_path, new("Bert", "Model"))
    with pytest.raises(ConfigError, match=r"set model\.kind"):
        backbone(path)
    with pytest.raises(CheckpointError, match=r"lacks \d+ weights .*cls\.predictions"):
        backbone(path, kind="masked")


def test_what_is_no_model_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        backbone(str(tmp_path))
    with pytest.raises(ConfigError, match=r"model\.path is empty"):
        backbone("")


def test_masks_that_disagree_are_refused(models):
    with pytest.raises(ConfigError, match=r"model\.mask_token_id is 5"):
        backbone(models["Bert"][0], mask_token_id=5)
    assert backbone(models["Bert"][0], mask_token_id=MASK).mask_id == MASK


@pytest.mark.parametrize(("name", "longest"), [("Bert", 64), ("Roberta", 62)])
def test_rows_beyond_the_learned_positions_are_refused(models, name, longest):
    path = models[name][0]
    with pytest.raises(ConfigError, match=f"learned {longest} positions"):
        backbone(path, length=longest + 1)
    model = backbone(path, length=longest)
    tokens = torch.full((1, longest), 3)
    assert logits(model, Batch.of(tokens)).shape == (1, longest, V)
    with pytest.raises(UsageError, match=f"has {longest + 1} positions"):
        model.hidden(Batch.of(torch.full((1, longest + 1), 3)))


def test_two_position_axes_are_refused(models):
    tokens = torch.full((1, 4), 3)
    batch = Batch.of(tokens, positions=torch.zeros(1, 4, 2, dtype=torch.long))
    with pytest.raises(UsageError, match="one position axis"):
        backbone(models["Llama"][0]).hidden(batch)
