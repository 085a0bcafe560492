"""A tokenizer of 256 bytes and some special tokens, written to a folder."""

from __future__ import annotations

import json
from pathlib import Path

LLADA = (
    "<|startoftext|>",
    "<|endoftext|>",
    "<|mdm_mask|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
)
BEGIN, END, MASK, HEAD, TAIL, TURN = range(256, 262)
"""The ids of `LLADA`."""


def write_tokenizer(folder: Path, special=LLADA, config=None, **named) -> str:
    """Write it; id i of the first 256 is no byte, but one piece for each byte."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE({piece: i for i, piece in enumerate(alphabet)}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens([AddedToken(token, special=True) for token in special])
    if "<|endoftext|>" in special:
        named.setdefault("eos_token", "<|endoftext|>")
    PreTrainedTokenizerFast(tokenizer_object=inner, **named).save_pretrained(folder)
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return str(folder)
