"""A pretrained model in a folder, with the tokenizer of its words."""

from __future__ import annotations

import transformers
from tokenizers import Tokenizer, models, pre_tokenizers

from mdlm_core.kernels.noise import Noise, global_seed

SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 34,
}
HEADS = {"Roberta": "ForMaskedLM", "GPT2": "LMHeadModel"}


def write(folder, texts, *, name):
    """Write a tiny RoBERTa or GPT-2 and its tokenizer; return the ids of the words."""
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    known = sorted({word for text in texts for word in text.split()})
    words = {word: number for number, word in enumerate([*special, *known])}
    inner = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    more = {"mask_token": "<mask>", "pad_token": "<pad>"} if name == "Roberta" else {}
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="</s>", unk_token="<unk>", **more
    ).save_pretrained(folder)
    config = getattr(transformers, f"{name}Config")(
        vocab_size=len(words),
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
        **SIZES,
    )
    with global_seed(Noise(2).child(name)):
        model = getattr(transformers, f"{name}{HEADS[name]}")(config).eval()
    model.save_pretrained(folder)
    return words, model
