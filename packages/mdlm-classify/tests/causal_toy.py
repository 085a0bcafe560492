"""Small causal models, far from zero."""

from __future__ import annotations

import torch
import transformers
from torch import nn

from mdlm_classify.causal.model import build
from mdlm_classify.config import ClassHuggingFaceConfig
from mdlm_core.kernels.noise import Noise, global_seed

KINDS = {"GPT2": "LMHeadModel", "Llama": "ForCausalLM"}


class Ids:
    """A tokenizer whose text is ids with blanks between them; the mask is the last."""

    name = "ids"

    def __init__(self, vocab_size):
        self.vocab_size = vocab_size
        self.mask_id = vocab_size - 1
        self.eod_id = self.pad_id = vocab_size - 2

    def encode(self, text):
        return [int(word) for word in text.split()]


def folder_of(name, place, vocab_size, **settings):
    """Save a model and return where; its classes differ by the seed."""
    config = getattr(transformers, f"{name}Config")(
        **{
            "vocab_size": vocab_size,
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 24,
            "max_position_embeddings": 32,
            "pad_token_id": None,
            "bos_token_id": None,
            "eos_token_id": None,
            **settings,
        }
    )
    with global_seed(Noise(3).child(name)):
        model = getattr(transformers, f"{name}{KINDS[name]}")(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    nn.init.normal_(parameter, std=0.4)
    model.save_pretrained(place)
    return str(place), model


def models_of(path, tokenizer, *, classes=2, length=8, **settings):
    """Return the models; those after the first have a changed embedding."""
    config = ClassHuggingFaceConfig(path=path, **settings)
    made = build(config, tokenizer=tokenizer, length=length)
    made.add_classes(classes)
    with torch.no_grad():
        for number, model in enumerate(made.models):
            table = model.model.get_input_embeddings().weight
            table.mul_(1 - 0.3 * number)
    return made.eval()
